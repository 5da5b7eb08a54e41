"""Lines of a container's output as they come. Must not know which container, nor who reads them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from moorings.containers.host import DockerHost, Output
from moorings.engines.logintake import LINE_BYTES
from moorings.lib.logfile import LONGEST_LINE_BYTES, Line, parsed
from moorings.lib.redaction import Redactor

logger = logging.getLogger(__name__)

CHUNKS_AHEAD = 64
"""Chunks of output that are read before whoever follows has taken them."""


class Lines:
    """Read on a thread that waits for a slow reader."""

    def __init__(self, host: DockerHost, name: str, since: float, redactor: Redactor) -> None:
        self.last_at = since
        self._redactor = redactor
        self.gone = False
        """Whether there is no such container any more."""
        self._host, self._name, self._since = host, name, since
        self._output: Output | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._room = threading.Semaphore(CHUNKS_AHEAD)
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def read(self) -> AsyncIterator[Line]:
        loop = asyncio.get_running_loop()

        def put(data: bytes | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody reads any more
                loop.call_soon_threadsafe(self._queue.put_nowait, data)

        threading.Thread(target=self._pump, args=(put,), name="follow", daemon=True).start()
        rest = b""
        while (data := await self._queue.get()) is not None:
            self._room.release()
            self.last_at = time.time()
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield self._shown(line)
            if len(rest) > LONGEST_LINE_BYTES:
                yield self._shown(rest)
                rest = b""
        if rest:
            yield self._shown(rest)

    def _shown(self, raw: bytes) -> Line:
        return shortened(parsed(self._redactor.redact(raw)))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._output is not None:
                self._output.cut()
        self._room.release()

    def _pump(self, put: Callable[[bytes | None], None]) -> None:
        try:
            output = self._host.follow(self._name, self._since)
            if output is None:
                self.gone = True
                return
            with self._lock:
                self._output = output
                if self._closed:
                    output.cut()
            try:
                for chunk in output:
                    self._room.acquire()
                    if self._closed:
                        break
                    put(chunk)
            finally:
                with self._lock:
                    self._output = None
                    output.close()
        except Exception as problem:  # noqa: BLE001 - the stream breaks in many ways when either side closes it
            logger.debug("the log of %s has ended: %s", self._name, problem)
        finally:
            put(None)


def shortened(line: Line) -> Line:
    """A line of a server that is not ours, no longer than lines of ours are."""
    if "\r" in line.text:
        line = line._replace(text=line.text.rstrip("\r").rpartition("\r")[2])
    if len(line.text) <= LINE_BYTES:
        return line
    cut = len(line.text) - LINE_BYTES
    return line._replace(text=f"{line.text[:LINE_BYTES]} [moorings: line cut, {cut} more characters]")


def parsed_at(text: str) -> float:
    """A time of the container runtime in Unix seconds; 0 when there is none yet."""
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        return 0.0
