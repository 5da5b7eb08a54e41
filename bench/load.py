"""An open-loop load generator: requests leave at a fixed rate whatever the answers do. Loopback only, bounded, stops by itself.

`python bench/load.py URL --key KEY --rate 200 --seconds 60 --body '{"data": 1}'` prints one JSON object: sent, failed,
a count per status (connection failures are status 0), latency percentiles in ms, and the failures. A request's time counts
from when it was due, so that a generator or a server that is held up is not left out. SIGTERM ends it early.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop

MOST_FAILURES = 5_000
"""So many are listed; all are counted."""
MOST_BODIES = 100
"""So many different good answers are listed, those that came most often."""
LONGEST_S = 4 * 3600


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    """Of what was answered 200, and of the rest."""
    failures: list[tuple[float, int, str, float]] = field(default_factory=list)
    """(end by `time.monotonic`, status, body, beginning): the clock is the same in every process of the machine."""
    uncoded: int = 0
    """Answers other than 200 that have no error code of ours."""
    bodies: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    """How long requests were sent."""

    def note(self, status: int, due_s: float, began_s: float, what: str) -> None:
        """`due_s`: when it should have left; `began_s`: when it did."""
        now = time.monotonic()
        self.statuses[status] += 1
        self.latencies_ms[status == 200].append((now - due_s) * 1000)
        if status == 200:
            self.bodies[what[:80]] += 1
            return
        self.uncoded += status != 0 and not _coded(what)
        if len(self.failures) < MOST_FAILURES:
            self.failures.append((now, status, what[:300], began_s))

    def report(self) -> dict[str, object]:
        sent = sum(self.statuses.values())
        good, bad = sorted(self.latencies_ms[True]), sorted(self.latencies_ms[False])
        return {
            "sent": sent,
            "seconds": round(self.seconds, 3),
            "failed": sent - self.statuses[200],
            "statuses": {str(k): v for k, v in sorted(self.statuses.items())},
            "uncoded": self.uncoded,
            "p50_ms": _quantile(good, 0.5),
            "p99_ms": _quantile(good, 0.99),
            "max_ms": _quantile(good, 1.0),
            "failed_p50_ms": _quantile(bad, 0.5),
            "failed_p99_ms": _quantile(bad, 0.99),
            "bodies": dict(self.bodies.most_common(MOST_BODIES)),
            "failures": self.failures,
        }


def _quantile(ordered: list[float], q: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 2) if ordered else 0.0


def _coded(body: str) -> bool:
    try:
        return bool(json.loads(body)["error"]["code"])
    except (ValueError, TypeError, KeyError):
        return False


class _Connection(asyncio.Protocol):
    """One connection, one request at a time: bytes are looked at once, since the generator shares its machine with whom it
    asks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, str]] | None = None
        self.usable = True
        """Whether another request may go over it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def send(self, request: bytes, timeout_s: float) -> asyncio.Future[tuple[int, str]]:
        """Status and body of the answer; OSError or TimeoutError where there was none."""
        assert self._transport is not None
        answer = self._answer = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._fail, TimeoutError("no answer"))
        answer.add_done_callback(lambda _: timer.cancel())
        self._transport.write(request)
        return answer

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        try:
            found = parsed(self._buffer)
        except ValueError as problem:
            self._fail(ConnectionError(f"not HTTP: {problem}"))
            return
        if found is None or self._answer is None or self._answer.done():
            return
        status, body, stays = found
        self._buffer, self.usable = b"", stays
        if not stays:
            self.close()
        self._answer.set_result((status, body.decode(errors="replace")))

    def connection_lost(self, problem: Exception | None) -> None:
        self._fail(problem or ConnectionResetError("closed by the other side"))

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    def _fail(self, problem: Exception) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(problem)
        if self._transport is not None:
            self._transport.abort()


def parsed(data: bytes) -> tuple[int, bytes, bool] | None:
    """(status, body, whether the connection stays) of an HTTP/1.1 answer; None: it is not whole yet. Raises ValueError."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, rest = data[:end].lower(), data[end + 4 :]
    status = int(head[9:12])
    stays = b"\r\nconnection: close" not in head
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        size = int(head[at + 17 :].split(b"\r\n", 1)[0])
        return (status, rest[:size], stays) if len(rest) >= size else None
    if b"\r\ntransfer-encoding: chunked" not in head:
        return status, b"", stays
    body = bytearray()
    while True:
        line, there, rest = rest.partition(b"\r\n")
        if not there:
            return None
        size = int(line.split(b";")[0], 16)
        if len(rest) < size + 2:
            return None
        body += rest[:size]
        rest = rest[size + 2 :]
        if size == 0:
            return status, bytes(body), stays


class Generator:
    def __init__(self, url: str, body: bytes, headers: dict[str, str], timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.hostname not in ("127.0.0.1", "localhost", "::1") and not str(parts.hostname).endswith(
            ".localhost"
        ):
            raise SystemExit("load goes to this machine only")
        self._host, self._port = "127.0.0.1", parts.port or 80
        lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
        lines += [f"{k}: {v}" for k, v in {"Content-Type": "application/json", **headers}.items()]
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode() + body
        self._timeout_s = timeout_s
        self._idle: deque[_Connection] = deque()
        self._over = False
        self.tally = Tally()

    async def run(self, rate: float, seconds: float) -> Tally:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end)
        start = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        for i in range(int(rate * seconds)):
            due_s = start + i / rate
            delay = due_s - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            if self._over:
                break
            task = asyncio.create_task(self._one(due_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        self.tally.seconds = time.monotonic() - start
        await asyncio.gather(*tasks)
        for connection in self._idle:
            connection.close()
        return self.tally

    def _end(self) -> None:
        self._over = True

    async def _one(self, due_s: float) -> None:
        began_s = time.monotonic()
        try:
            connection = await self._connection()
            status, body = await connection.send(self._request, self._timeout_s)
            if connection.usable:
                self._idle.append(connection)
        except Exception as problem:  # noqa: BLE001 - whatever it was, the request was not answered: it counts
            status, body = 0, f"{type(problem).__name__}: {problem}"
        self.tally.note(status, due_s, began_s, body)

    async def _connection(self) -> _Connection:
        """The one that was used last, unless the server has closed it meanwhile; else a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout_s):
            _, connection = await loop.create_connection(lambda: _Connection(loop), self._host, self._port)
        return connection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--key", default="")
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds a request may take")
    parser.add_argument("--body", default='{"data": 1}')
    options = parser.parse_args()
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
    gc.disable()  # its pauses would count as the server's; the lists it would look through only grow
    generator = Generator(options.url, options.body.encode(), headers, options.timeout)
    tally = uvloop.run(generator.run(options.rate, min(options.seconds, LONGEST_S)))
    json.dump(tally.report(), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
