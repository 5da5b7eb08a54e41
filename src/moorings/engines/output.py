"""The output of all processes of one container-equivalent: one pipe, one log. Must not care what is in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from collections.abc import Callable
from typing import Protocol

from moorings.engines.logintake import Intake

READ_BYTES = 256 * 1024
PIPE_BYTES = 1024 * 1024
"""The larger the pipe, the longer a process may write while we do something else."""
_SET_PIPE_SIZE = 1031
SETTLE_S = 0.5
"""After this long without output, half a line is written as it is."""
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

    def __init__(
        self, log: Log, *, redact: Callable[[bytes], bytes], bytes_per_s: int, stamped: bool = True
    ) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        with contextlib.suppress(OSError):  # an unprivileged user may have a limited number of large ones
            fcntl.fcntl(self.writer, _SET_PIPE_SIZE, PIPE_BYTES)
        self._intake = Intake(log.write, redact=redact, bytes_per_s=bytes_per_s, stamped=stamped)
        self._settle_at: float | None = None

    @property
    def settle_at(self) -> float | None:
        """When `settle` is to be called, monotonic seconds; None: there is no need."""
        return self._settle_at

    def pump(self, reads: int = READS_PER_TURN) -> None:
        """Move what has come into the log; never blocks."""
        now, clock = time.time(), time.monotonic()
        for _ in range(reads):
            try:
                data = os.read(self.reader, READ_BYTES)
            except BlockingIOError:
                break
            self._intake.feed(data, now, clock)
        self._settle_at = clock + SETTLE_S if self._intake.pending else None

    def settle(self) -> None:
        """Write what has been held for want of its end."""
        self._intake.settle(time.time(), time.monotonic())
        self._settle_at = time.monotonic() + SETTLE_S if self._intake.pending else None

    def say(self, text: str) -> None:
        """A line of our own, after what the processes have said so far."""
        self.pump(reads=EVERYTHING)
        self._intake.line(f"moorings: {text}", time.time())
        self._settle_at = None

    def drain(self) -> None:
        """Move everything there is into the log: nobody writes any more."""
        self.pump(reads=EVERYTHING)
        self._intake.flush(time.time())
        self._settle_at = None

    def close(self) -> None:
        """Give both ends of the pipe back."""
        os.close(self.reader)
        os.close(self.writer)
