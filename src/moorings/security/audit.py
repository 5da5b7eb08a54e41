"""The audit log: who did what, when, with what result; one JSON object a line. Only ever appended to.

Each line carries a digest of the one before it, so that a line that was changed or taken out later is noticed. The file is
0600 and rotated by size; the oldest goes when there are too many. Must not know HTTP.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moorings.lib import atomic

NAME = "audit.jsonl"
PREVIOUS = "prev"
_DIGITS = 16
_TAIL_BYTES = 64 * 1024


@dataclass
class AuditLog:
    """One workspace's log. Safe to use from any thread of one process."""

    folder: Path
    """0700."""
    file_bytes: int = 8 * 1024 * 1024
    """A file that is larger is put aside."""
    files: int = 10
    """How many are kept, the one that is written to among them."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _last: str | None = field(default=None, init=False, repr=False)

    @property
    def path(self) -> Path:
        return self.folder / NAME

    def add(self, record: Mapping[str, Any]) -> None:
        """Append it; it is on disk then. Raises OSError (disk full): nothing was added."""
        with self._lock:
            self._rotate()
            if self._last is None:
                self._last = self._digest_of_last()
            line = json.dumps({**record, PREVIOUS: self._last}, separators=(",", ":")).encode() + b"\n"
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, line)
                atomic.sync(fd, self.path, data_only=True)
            finally:
                os.close(fd)
            self._last = digest(line)

    def tail(self, lines: int) -> list[dict[str, Any]]:
        """The last records, oldest first."""
        found: list[bytes] = []
        with self._lock:
            for path in self._paths():
                found = path.read_bytes().splitlines()[-(lines - len(found)) :] + found
                if len(found) >= lines:
                    break
        return [record for line in found[-lines:] if (record := _record(line)) is not None]

    def broken_at(self) -> str | None:
        """Where the chain of digests does not hold: `file:line`; None when all of it does."""
        before: str | None = None
        for path in reversed(self._paths()):
            for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
                record = _record(line)
                if record is None or (before is not None and record.get(PREVIOUS) != before):
                    return f"{path}:{number}"
                before = digest(line)
        return None

    def _paths(self) -> Sequence[Path]:
        """Newest first."""
        aside = [self._aside(number) for number in range(1, self.files)]
        return [path for path in (self.path, *aside) if path.exists()]

    def _aside(self, number: int) -> Path:
        return self.folder / f"audit.{number}.jsonl"

    def _rotate(self) -> None:
        try:
            if self.path.stat().st_size < self.file_bytes:
                return
        except FileNotFoundError:
            return
        for number in range(self.files - 1, 0, -1):
            source = self.path if number == 1 else self._aside(number - 1)
            if source.exists():
                source.replace(self._aside(number))

    def _digest_of_last(self) -> str:
        for path in self._paths():
            with path.open("rb") as handle:
                handle.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                lines = handle.read().splitlines(keepends=True)
            if lines:
                if not lines[-1].endswith(b"\n"):
                    # Cut short by a kill: it gets its end, and is no record.
                    with path.open("ab") as handle:
                        handle.write(b"\n")
                    lines[-1] += b"\n"
                return digest(lines[-1])
        return "0" * _DIGITS


def digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:_DIGITS]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
