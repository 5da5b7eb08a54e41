"""The outputs of one instance, by container, on the supervisor's selector. Must not care what is in them.

It runs inside containers as well: standard library only, Python 3.8.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable

from moorings.engines.launch import Launch
from moorings.engines.output import Console, Output
from moorings.lib.logfile import RotatingWriter
from moorings.lib.redaction import Redactor


class Outputs:
    """Each appears, with its log, with the first process that writes to it."""

    def __init__(
        self, selector: selectors.BaseSelector, launch: Launch, redactor: Callable[[], Redactor]
    ) -> None:
        self._selector = selector
        self._launch = launch
        self._redactor = redactor
        self._of: dict[str, Output] = {}
        if not launch.in_container:
            launch.logs.mkdir(mode=0o700, parents=True, exist_ok=True)

    def writer(self, container: str) -> int:
        """The descriptor that the processes of a container write to."""
        if container not in self._of:
            launch = self._launch
            path = launch.logs / f"{container}.log"
            output = Output(
                Console()
                if launch.in_container
                else RotatingWriter(path, file_bytes=launch.log_file_bytes, files=launch.log_files),
                redact=self._redactor().redact,
                bytes_per_s=launch.log_bytes_per_s,
                stamped=not launch.in_container,
            )
            self._selector.register(output.reader, selectors.EVENT_READ, output)
            self._of[container] = output
        return self._of[container].writer

    def say(self, container: str, text: str) -> None:
        """A line of our own, where that container has a log."""
        if container in self._of:
            self._of[container].say(text)

    def settle(self, now: float) -> None:
        """Write what has been held for long enough."""
        for output in self._of.values():
            if output.settle_at is not None and output.settle_at <= now:
                output.settle()

    def settle_at(self) -> float | None:
        """When to settle next, monotonic seconds; None: there is no need."""
        times = [output.settle_at for output in self._of.values() if output.settle_at is not None]
        return min(times) if times else None

    def drain(self) -> None:
        """Write everything there is: nobody writes any more."""
        for output in self._of.values():
            output.drain()
