"""Which logs of what is no more are let go of, and letting go of them. What lives is never touched: its logs are bounded by
their writers."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorings.observe.journal import GRAVE

YOUNGEST_S = 60.0
"""What was written less long ago stays: it may belong to an instance that is just being made."""


@dataclass(frozen=True)
class Ended:
    """The logs of an instance that has ended, or of a whole deployment that was deleted."""

    path: Path
    at: float
    """When it was written last; Unix seconds."""
    size_bytes: int


def expired(ended: Sequence[Ended], now: float, *, kept_s: float, kept_bytes: int) -> list[Ended]:
    """What has to go: all that is older than `kept_s`, then the oldest until the rest is within `kept_bytes`."""
    newest_first = sorted(ended, key=lambda each: each.at, reverse=True)
    gone, total = [], 0
    for each in newest_first:
        total += each.size_bytes
        if now - each.at < YOUNGEST_S:
            continue
        if now - each.at > kept_s or total > kept_bytes:
            gone.append(each)
            total -= each.size_bytes
    return gone


def ended(root: Path, living: Collection[str]) -> list[Ended]:
    """All that could be let go of, `living` being the ids of instances that are there."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for folder in root.iterdir():
            if GRAVE in folder.name:
                found.append(_measured(folder))
            else:
                found += [_measured(f) for f in folder.iterdir() if f.is_dir() and f.name not in living]
    return found


def sweep(root: Path, living: Collection[str], now: float, *, kept_s: float, kept_bytes: int) -> int:
    """Let go of what has to go; how many folders that were."""
    gone = expired(ended(root, living), now, kept_s=kept_s, kept_bytes=kept_bytes)
    for each in gone:
        shutil.rmtree(each.path, ignore_errors=True)
    return len(gone)


def _measured(folder: Path) -> Ended:
    at, size = 0.0, 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found = path.stat()
            if path.is_file():
                at, size = max(at, found.st_mtime), size + found.st_size
    with contextlib.suppress(OSError):
        at = at or folder.stat().st_mtime
    return Ended(folder, at, size)
