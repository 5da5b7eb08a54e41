"""How an operation is shown."""

from __future__ import annotations

import io

from moorings.cli.progress import LiveProgress, PlainProgress
from moorings.client.operations import Phase, Report
from moorings.lib.timing import ManualClock


def report(*phases: Phase, status: str = "InProgress", waiting_for: str = "") -> Report:
    return Report(name="op", status=status, phases=phases, waiting_for=waiting_for)


def test_plain_lines_come_only_with_news() -> None:
    lines: list[str] = []
    clock = ManualClock()
    progress = PlainProgress(lines.append, now=clock.monotonic)
    waiting = Phase("probe", "waiting", "", None)
    for message in ("resolving", "resolving", "installing"):
        progress(report(Phase("environment", "running", message, None), waiting))
        clock.advance(2.0)
    progress(report(Phase("environment", "done", "", None), Phase("probe", "failed", "no answer", 1.25)))
    assert lines == [
        "  • environment  running  resolving",
        "  • environment  running  installing",
        "  ✓ environment  done 6.0 s",
        "  ✗ probe        failed 1.2 s  no answer",
    ]


def test_what_is_waited_for_is_said_once_and_not_twice_over() -> None:
    lines: list[str] = []
    progress = PlainProgress(lines.append)
    running = Phase("instances", "running", "0 of 1", None)
    for _ in range(3):
        progress(report(running, waiting_for="0 of 1"))
        progress(report(running, waiting_for="a free port"))
    assert lines == ["  • instances    running  0 of 1", "    waiting for: a free port"]


def test_live_draws_every_phase_and_what_is_waited_for() -> None:
    stream = io.StringIO()
    clock = ManualClock()
    with LiveProgress(stream, now=clock.monotonic) as progress:
        progress(report(Phase("environment", "running", "[bold]resolving", None), waiting_for="the index"))
        clock.advance(3.0)
    drawn = stream.getvalue()
    assert "environment" in drawn
    assert "[bold]resolving" in drawn
    assert "3.0 s" in drawn
    assert "the index" in drawn
