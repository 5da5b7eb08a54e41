"""What a traceback tells: the exceptions of a chain, and which of them say why. Pure text.

A script's own words prove nothing: who writes `raise RuntimeError("... No module named 'torch'")` has another failure
than one whose import raises that. So an exception that the script raises by itself is looked through, to what it was made
of; what it merely met on its way is not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from moorings.errors.diagnosis import lines
from moorings.errors.diagnosis.lines import Frame

_HEAD = "Traceback (most recent call last)"
_FROM = "The above exception was the direct cause of the following exception:"
_MEANWHILE = "During handling of the above exception, another exception occurred:"
_UNREADABLE = re.compile(r'^\s*File "(?P<file>[^"<]+)", line (?P<line>\d+)$')
_SAYS_ITSELF = re.compile(r"(?:raise|assert)\b|(?:sys\.)?exit\(|quit\(")
_INSTALLED = re.compile(r"/(?:site|dist)-packages/")


@dataclass(frozen=True)
class Raised:
    """One exception."""

    frames: tuple[Frame, ...]
    """Outermost first."""
    words: str
    """`Type: what it says`, maybe of several lines."""
    is_from: bool = False
    """Whether it says that the one before it is its cause (`raise ... from ...`)."""
    syntax_at: tuple[str, int] | None = None
    """(file, line) of what is no Python, where it is about that."""

    @property
    def name(self) -> str:
        """Its type, without the module."""
        return self.words.partition(":")[0].strip().rpartition(".")[2]

    @property
    def inner(self) -> Frame | None:
        return self.frames[-1] if self.frames else None


def chain_of(trace: Sequence[str]) -> tuple[Raised, ...]:
    """The exceptions of a traceback, the one that ended it last."""
    return _read(trace, in_log=False)[0]


def trace_in(log: Sequence[str]) -> tuple[str, ...]:
    """The traceback that a piece of a log begins with."""
    _, end = _read(log, in_log=True)
    return tuple(line for line in log[:end] if line.strip())


def _read(trace: Sequence[str], *, in_log: bool) -> tuple[tuple[Raised, ...], int]:
    """(exceptions, where they end). `in_log`: what follows the first line of the last one's words is not theirs."""
    found: list[Raised] = []
    at, is_from, end = _skip_blank(trace, 0), False, 0
    while at < len(trace):
        begun = at = at + (
            _HEAD in trace[at]
        )  # one that was never outside of the server's code has no frames
        while at < len(trace) and (not trace[at].strip() or trace[at].startswith(" ")):
            at += 1
        frames, said_at = trace[begun:at], at
        while at < len(trace) and not _leads_on(trace[at]) and not (in_log and at > said_at):
            at += 1
        end, words = at, "\n".join(trace[said_at:at]).strip()
        found.append(Raised(tuple(lines.frames_of(frames)), words, is_from, _syntax_at(frames)))
        at = _skip_blank(trace, at)
        if at >= len(trace) or not _leads_on(trace[at]):
            break
        is_from, at = trace[at].strip() == _FROM, _skip_blank(trace, at + 1)
    return tuple(found), end


def _syntax_at(frames: Sequence[str]) -> tuple[str, int] | None:
    found = [match for line in frames if (match := _UNREADABLE.match(line))]
    return (found[-1]["file"], int(found[-1]["line"])) if found else None


def _leads_on(line: str) -> bool:
    """Whether it stands between two exceptions of a chain."""
    return line.strip() in (_FROM, _MEANWHILE)


def _skip_blank(trace: Sequence[str], at: int) -> int:
    while at < len(trace) and not trace[at].strip():
        at += 1
    return at


def telling(code_root: str, chain: Sequence[Raised]) -> tuple[Raised, ...]:
    """Those of a chain that somebody else than the script has raised and that led to its end, the last one first."""
    found = []
    for raised in reversed(chain):
        own = is_own(code_root, raised)
        if not own:
            found.append(raised)
        if not own and not raised.is_from:
            break
    return tuple(found)


def is_own(code_root: str, raised: Raised) -> bool:
    """Whether the script itself has chosen the words."""
    inner, root = raised.inner, code_root.rstrip("/")
    if inner is None or not root or not inner.file.startswith(f"{root}/"):
        return False
    return not _INSTALLED.search(inner.file) and bool(_SAYS_ITSELF.match(inner.text.strip()))
