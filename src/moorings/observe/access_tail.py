"""The gateway's access log as it grows, from a moment on: the requests of one endpoint, counted by deployment.

It reads each line once, whatever becomes of the file meanwhile: the log is renamed when it is full, and what was written
to it before then is read to its end. It must not know who writes, or what the figures are for.
"""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from moorings.observe.outcomes import Outcomes

LATE_S = 300.0
"""A line is written when its request ends: so long before the moment lines are looked at, for order."""
MOST_AT_ONCE_BYTES = 8 * 1024 * 1024
"""What one look reads at most; the rest is read at the next one."""
_PROBE_BYTES = 65536


class AccessTail:
    """Requests of `endpoint` that began at `since` (Unix seconds) or later. Blocks while it reads: for a thread."""

    def __init__(self, log: Path, endpoint: str, since: float) -> None:
        self.since = since
        self.outcomes: dict[str, Outcomes] = {}
        """By deployment, of what has been read so far."""
        self._log = log
        self._endpoint = endpoint
        self._needle = f'"{endpoint}"'.encode()
        self._rest = b""
        self._open: IO[bytes] | None = None
        self._pending: list[IO[bytes]] | None = None
        """Opened together, so that a log that is renamed while the one before it is read is read all the same."""

    def read(self) -> bool:
        """Take in what was written since the last look; whether all of it was."""
        left = MOST_AT_ONCE_BYTES
        while left > 0:
            if self._open is None and not self._next():
                return True
            assert self._open is not None
            data = self._open.read(left)
            if data:
                left -= len(data)
                self._take(data)
            elif self._pending or self._replaced():
                self._leave()
            else:
                return True
        return False

    def close(self) -> None:
        """Let go of the files."""
        self._leave()
        for handle in self._pending or ():
            handle.close()
        self._pending = []

    def _leave(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
            self._rest = b""

    def _next(self) -> bool:
        """Open the next file: what was there at first, then whatever has the log's name."""
        if self._pending is None:
            self._pending = _opened(self._log, self._log.with_name(f"{self._log.name}.1"))
        if not self._pending:
            self._pending = _opened(self._log)
        if not self._pending:
            return False
        self._open = self._pending.pop(0)
        self._open.seek(first_offset(self._open, self.since - LATE_S))
        return True

    def _replaced(self) -> bool:
        """Whether the open file is not the one that is written to now."""
        assert self._open is not None
        try:
            now = self._log.stat()
        except OSError:
            return False
        return _identity(os.fstat(self._open.fileno())) != _identity(now)

    def _take(self, data: bytes) -> None:
        whole, _, self._rest = (self._rest + data).rpartition(b"\n")
        for line in whole.split(b"\n"):
            if self._needle not in line:
                continue
            with contextlib.suppress(ValueError, AttributeError):
                entry: Any = json.loads(line)
                ours = entry.get("endpoint") == self._endpoint and entry.get("deployment")
                if ours and seconds_of(entry.get("time")) >= self.since:
                    self.outcomes.setdefault(str(entry["deployment"]), Outcomes()).add(entry)


def _opened(*paths: Path) -> list[IO[bytes]]:
    """Those that can be opened, the last first; one that has got another's name meanwhile only once."""
    found: dict[tuple[int, int], IO[bytes]] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            handle = path.open("rb")
            if found.setdefault(_identity(os.fstat(handle.fileno())), handle) is not handle:
                handle.close()
    return list(reversed(found.values()))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def first_offset(handle: IO[bytes], since: float) -> int:
    """Where lines of `since` or later begin, at a line's beginning; lines are nearly in order. 0 when in doubt."""
    low, high = 0, handle.seek(0, os.SEEK_END)
    while high - low > _PROBE_BYTES:
        middle = (low + high) // 2
        handle.seek(middle)
        handle.readline()
        at = handle.tell()
        line = handle.readline()
        time = 0.0
        with contextlib.suppress(ValueError, AttributeError):
            time = seconds_of(json.loads(line).get("time"))
        if at >= high or not time:
            return low
        if time < since:
            low = at
        else:
            high = middle
    return low


def seconds_of(time: object) -> float:
    """Unix seconds of an entry's time; 0 for what is none."""
    try:
        return datetime.strptime(str(time), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
