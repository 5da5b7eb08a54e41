"""Show on stderr how an operation goes: a live table on a terminal, plain lines elsewhere. Never touches
stdout."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from moorings.cli.terminal import clean

if TYPE_CHECKING:
    from rich.console import RenderableType

    from moorings.client.intake import Intake
    from moorings.client.operations import Phase, Report

_MARKS = {"done": "✓", "failed": "✗", "running": "•", "waiting": " "}
_STYLES = {"done": "green", "failed": "red", "running": "cyan", "waiting": "dim"}


class Progress(Protocol):
    """Takes every report of an operation."""

    def __call__(self, report: Report) -> None: ...
    def __enter__(self) -> Progress: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Timing:
    """How long each phase has taken, by our own clock while it runs and by the server's once it ended."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began: dict[str, float] = {}

    def seconds(self, phase: Phase) -> float | None:
        if phase.status == "waiting":
            return None
        began = self._began.setdefault(phase.name, self._now())
        return phase.seconds if phase.seconds is not None else self._now() - began


class PlainProgress:
    """A line whenever a phase begins, says something new, or ends."""

    def __init__(self, write: Callable[[str], None], *, now: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._seen: dict[str, tuple[str, str]] = {}
        self._timing = Timing(now)
        self._waiting_for = ""

    def __call__(self, report: Report) -> None:
        for phase in report.phases:
            seconds = self._timing.seconds(phase)
            state = (phase.status, phase.message)
            if phase.status == "waiting" or self._seen.get(phase.name) == state:
                continue
            self._seen[phase.name] = state
            elapsed = f" {seconds:.1f} s" if seconds is not None and phase.status != "running" else ""
            message = f"  {clean(phase.message)}" if phase.message else ""
            self._write(
                f"  {_MARKS.get(phase.status, ' ')} {phase.name:<12} {phase.status}{elapsed}{message}"
            )
        if _waits(report) and report.waiting_for != self._waiting_for:
            self._waiting_for = report.waiting_for
            self._write(f"    waiting for: {clean(report.waiting_for)}")

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class LiveProgress:
    """A table that stays in place, one row a phase, redrawn while the operation goes on."""

    def __init__(self, stream: TextIO, *, now: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.live import Live

        self._report: Report | None = None
        self._timing = Timing(now)
        console = Console(file=stream, highlight=False)
        self._live: Any = Live(get_renderable=self._draw, console=console, refresh_per_second=8)

    def __call__(self, report: Report) -> None:
        self._report = report
        for phase in report.phases:
            self._timing.seconds(phase)

    def __enter__(self) -> LiveProgress:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, value, trace)

    def _draw(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        report = self._report
        if report is None:
            return Text("  sending ...", style="dim")
        for phase in report.phases:
            seconds = self._timing.seconds(phase)
            style = _STYLES.get(phase.status, "")
            table.add_row(
                Text(f"  {_MARKS.get(phase.status, ' ')} {phase.name}", style=style),
                Text("" if seconds is None else f"{seconds:.1f} s", justify="right"),
                Text(clean(phase.message), overflow="ellipsis", no_wrap=True),
            )
        if _waits(report):
            table.add_row(
                Text("    waiting for", style="dim"), "", Text(clean(report.waiting_for), style="dim")
            )
        return table


class NoProgress(PlainProgress):
    """Says nothing."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)


class ByteMeter:
    """One line on how much of a transfer is done: redrawn in place on a terminal, a line now and then elsewhere."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        done: str,
        live: bool,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._done = done
        self._live = live
        self._now = now
        self._began: float | None = None
        self._next = 0.0
        self._drawn = False

    def __call__(self, seen: Intake | None) -> None:
        """`None` says that it is over."""
        if seen is None:
            if self._live and self._drawn:
                self._write("\r\x1b[K")
            self._began, self._drawn = None, False
            return
        now = self._now()
        if self._began is None:
            # What is over in a moment needs no line.
            self._began, self._next = now, now + (0.2 if self._live else 5.0)
        if now < self._next:
            return
        self._next = now + (0.2 if self._live else 5.0)
        text = self._text(seen, now - self._began)
        self._write(f"\r\x1b[K{text}" if self._live else f"{text}\n")
        self._drawn = True

    def _text(self, seen: Intake, seconds: float) -> str:
        if not seen.total_bytes:
            return f"  • looking at {clean(seen.file)}" if seen.file else "  • looking"
        share = min(100, seen.done_bytes * 100 // seen.total_bytes)
        speed = f", {_size(seen.done_bytes / seconds)}/s" if seconds > 0.5 else ""
        file = f"  {clean(seen.file)[-40:]}" if seen.file else ""
        return (
            f"  • {_size(seen.done_bytes)} of {_size(seen.total_bytes)} {self._done}, {share} %{speed}{file}"
        )


def _size(count: float) -> str:
    """`532 B`, `1.5 MB`: decimal units, as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.95:
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.1f} TB"


def _waits(report: Report) -> bool:
    """Whether the report says what it waits for, beyond what its phases say."""
    said = {phase.message for phase in report.phases}
    return bool(report.waiting_for) and not report.ended and report.waiting_for not in said
