"""Reading of logs and tracebacks: which lines prove something, and where in the user's code it was. Pure text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_LINES = 40
"""Evidence is at most a screenful."""
LONGEST_LINE_CHARS = 500
OUR_PREFIX = "moorings: "
"""Begins the lines a supervisor writes into the log."""

_TRACEBACK = "Traceback (most recent call last)"
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+),? in (?P<function>.+)$')
_DUMP = re.compile(r"^(?:Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):")
_STACKS = "Where its threads are:"
_PLACES = re.compile(r"(?:/[^\s\"':,]*)?/(?:site-packages|dist-packages)/")


@dataclass(frozen=True)
class Frame:
    """One line of a stack."""

    file: str
    line: int
    function: str
    text: str = ""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def text_of(value: object) -> str:
    """Any text of a report or a log as text that can be stored and sent: half characters are shown as escapes."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def shown(text: str, roots: Mapping[str, str]) -> str:
    """`text` with what stands before the user's own paths left out: `roots` maps folders to what is written instead."""
    for root, name in roots.items():
        if root:
            text = text.replace(f"{root.rstrip('/')}/", name)
            if name.startswith("$"):
                text = text.replace(root.rstrip("/"), name.rstrip("/"))
    return _PLACES.sub("site-packages/", text)


def frames_of(lines: Sequence[str]) -> list[Frame]:
    """The frames of a traceback (or of a dump), in the order they stand there."""
    found: list[Frame] = []
    for n, line in enumerate(lines):
        match = _FRAME.match(line)
        if match:
            following = lines[n + 1].strip() if n + 1 < len(lines) else ""
            is_source = bool(following) and not _FRAME.match(lines[n + 1]) and lines[n + 1].startswith("    ")
            found.append(
                Frame(match["file"], int(match["line"]), match["function"], following if is_source else "")
            )
    return found


def last_traceback(lines: Sequence[str]) -> tuple[str, ...]:
    """The last traceback of a log, from its first line to the exception's own; () when there is none."""
    starts = [n for n, line in enumerate(lines) if _TRACEBACK in line]
    if not starts:
        return ()
    block = [_TRACEBACK + ":"]
    for line in lines[starts[-1] + 1 :]:
        block.append(line)
        if line and not line[0].isspace():
            break
    return tuple(block)


def last_dump(lines: Sequence[str]) -> list[Frame]:
    """The frames of the main thread in the newest dump of all stacks, innermost first; [] when there is none.

    Two kinds: what the inference server prints of a `run()` without end (outermost first), and what the interpreter
    itself prints when it is asked or crashes (innermost first, the main thread last).
    """
    starts = [n for n, line in enumerate(lines) if _STACKS in line]
    dumps = [n for n, line in enumerate(lines) if _DUMP.match(line)]
    if starts and (not dumps or starts[-1] > dumps[-1]):
        return frames_of(_indented(lines[starts[-1] + 2 :]))[::-1]
    if not dumps:
        return []
    current = [n for n in dumps if lines[n].startswith("Current thread")]
    crashed = bool(current) and dumps[-1] - current[-1] < 4 * MOST_LINES and _died_of(lines) >= 0
    start = current[-1] if crashed else dumps[-1]
    return frames_of(_indented(lines[start + 1 :]))


def _indented(lines: Sequence[str]) -> list[str]:
    block: list[str] = []
    for line in lines:
        if not line.startswith(" "):
            break
        block.append(line)
    return block


def _died_of(lines: Sequence[str]) -> int:
    return max((n for n, line in enumerate(lines) if line.startswith("Fatal Python error:")), default=-1)


def fatal_line(lines: Sequence[str]) -> str:
    """What the interpreter said of the signal that ended it: `Fatal Python error: Segmentation fault`."""
    at = _died_of(lines)
    return lines[at] if at >= 0 else ""


def tail(lines: Sequence[str], count: int = 12) -> tuple[str, ...]:
    return tuple(line for line in lines if line.strip())[-count:]


def log_evidence(lines: Sequence[str]) -> tuple[str, ...]:
    """The last traceback of the log to its end, else its last lines."""
    kept = [line for line in lines if line.strip()]
    starts = [n for n, line in enumerate(kept) if _TRACEBACK in line]
    if starts and len(kept) - starts[-1] <= MOST_LINES:
        return tuple(kept[starts[-1] :])
    return tail(kept)


def model_tree(lines: Sequence[str]) -> tuple[str, ...]:
    """What the server listed of the model folder."""
    starts = [n for n, line in enumerate(lines) if "Model Directory Contents:" in line]
    if not starts:
        return ()
    found = []
    for line in lines[starts[-1] + 1 : starts[-1] + MOST_LINES - 10]:
        if not line.strip() or line.startswith(OUR_PREFIX):
            break
        found.append(line)
    return ("Model Directory Contents:", *found)


def traceback_of(report: Mapping[str, Any]) -> tuple[str, ...]:
    trace = report.get("traceback")
    lines = trace.splitlines() if isinstance(trace, str) else [str(line).rstrip("\n") for line in trace or ()]
    return tuple(line for line in lines if line.strip())


def place_of(report: Mapping[str, Any]) -> str | None:
    """`file:line` of the user's code that a report names."""
    if not report.get("file"):
        return None
    return f"{report['file']}:{report['line']}" if report.get("line") else str(report["file"])


def fitted(lines: Sequence[str]) -> tuple[str, ...]:
    """At most a screenful, no line longer than one can read: the first line and the last ones stay."""
    kept = list(lines)
    if len(kept) > MOST_LINES:
        kept = [kept[0], f"... {len(kept) - MOST_LINES + 1} lines left out", *kept[-(MOST_LINES - 2) :]]
    return tuple(
        line
        if len(line) <= LONGEST_LINE_CHARS
        else f"{line[:LONGEST_LINE_CHARS]} ... ({len(line)} characters)"
        for line in kept
    )
