"""The output of all processes of one container-equivalent: one pipe, one log. Must not care what is in it."""

from __future__ import annotations

import os
import select
from typing import Protocol

READ_BYTES = 64 * 1024
PATIENCE_S = 0.3
"""How long a slow reader of our own output is waited for."""
READS_PER_TURN = 16
"""A flood of output must not keep the reader from its other duties."""
EVERYTHING = 10_000
"""Reads that outlast any pipe."""


class Log(Protocol):
    """Where output goes. Never blocks, never raises."""

    def write(self, data: bytes) -> None: ...


class Console:
    """Our own standard output, which the container runtime keeps.

    A reader that is slow is waited for, but not for long: while nobody reads (the runtime is being restarted) what does
    not fit is dropped and counted. A log never stops the process it is about.
    """

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self._lost_bytes = 0
        os.set_blocking(fd, False)

    def write(self, data: bytes) -> None:
        if self._lost_bytes:
            note = f"\nmoorings: {self._lost_bytes} bytes of output were lost\n".encode()
            if self._put(note, 0.0) != len(note):
                self._lost_bytes += len(data)
                return
            self._lost_bytes = 0
        self._lost_bytes += len(data) - self._put(data, PATIENCE_S)

    def _put(self, data: bytes, patience_s: float) -> int:
        """How much of it could be written; waits at most so long for room, each time there is none."""
        written = 0
        while written < len(data):
            try:
                written += os.write(self._fd, data[written:])
            except BlockingIOError:
                if not select.select((), (self._fd,), (), patience_s)[1]:
                    break
            except OSError:
                break
        return written


class Output:
    """The pipe is never closed by a process that ends: it serves the next one too."""

    def __init__(self, log: Log) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._log = log

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
