"""The output of all processes of one container-equivalent: one pipe, one rotated log. Must not care what is in it."""

from __future__ import annotations

import os
from pathlib import Path

from moorings.engines.logfile import RotatingWriter

READ_BYTES = 64 * 1024
READS_PER_TURN = 16
"""A flood of output must not keep the reader from its other duties."""
EVERYTHING = 10_000
"""Reads that outlast any pipe."""


class Output:
    """The pipe is never closed by a process that ends: it serves the next one too."""

    def __init__(self, path: Path, *, file_bytes: int, files: int) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._log = RotatingWriter(path, file_bytes=file_bytes, files=files)

    def pump(self, reads: int = READS_PER_TURN) -> None:
        """Move what has come into the log; never blocks."""
        for _ in range(reads):
            try:
                data = os.read(self.reader, READ_BYTES)
            except BlockingIOError:
                return
            self._log.write(data)

    def say(self, text: str) -> None:
        """A line of our own, after what the processes have said so far."""
        self.pump(reads=EVERYTHING)
        self._log.write(f"moorings: {text}\n".encode(errors="replace"))
