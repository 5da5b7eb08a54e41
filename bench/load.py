"""An open-loop load generator: requests leave at a fixed rate whatever the answers do. Loopback only, bounded, stops by itself.

`python bench/load.py URL --key KEY --rate 200 --seconds 60 --body '{"data": 1}'` prints one JSON object: sent, failed,
a count per status (connection failures are status 0), latency percentiles in ms, and the failures. A request's time counts
from when it was due, so that a generator or a server that is held up is not left out. SIGTERM ends it early.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MOST_FAILURES = 5_000
"""So many are listed; all are counted."""


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    """Of what was answered 200, and of the rest."""
    failures: list[tuple[float, int, str]] = field(default_factory=list)
    """(end by `time.monotonic`, status, body): the clock is the same in every process of the machine."""
    uncoded: int = 0
    """Answers other than 200 that have no error code of ours."""
    bodies: Counter[str] = field(default_factory=Counter)

    def note(self, status: int, due_s: float, what: str) -> None:
        now = time.monotonic()
        self.statuses[status] += 1
        self.latencies_ms[status == 200].append((now - due_s) * 1000)
        if status == 200:
            self.bodies[what[:80]] += 1
            return
        self.uncoded += status != 0 and not _coded(what)
        if len(self.failures) < MOST_FAILURES:
            self.failures.append((now, status, what[:300]))

    def report(self) -> dict[str, object]:
        sent = sum(self.statuses.values())
        good, bad = sorted(self.latencies_ms[True]), sorted(self.latencies_ms[False])
        return {
            "sent": sent,
            "failed": sent - self.statuses[200],
            "statuses": {str(k): v for k, v in sorted(self.statuses.items())},
            "uncoded": self.uncoded,
            "p50_ms": _quantile(good, 0.5),
            "p99_ms": _quantile(good, 0.99),
            "max_ms": _quantile(good, 1.0),
            "failed_p99_ms": _quantile(bad, 0.99),
            "bodies": dict(self.bodies.most_common(5)),
            "failures": self.failures,
        }


def _quantile(ordered: list[float], q: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 2) if ordered else 0.0


def _coded(body: str) -> bool:
    try:
        return bool(json.loads(body)["error"]["code"])
    except (ValueError, TypeError, KeyError):
        return False


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


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
        self._idle: deque[Connection] = deque()
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
        await asyncio.gather(*tasks)
        for _, writer in self._idle:
            writer.close()
        return self.tally

    def _end(self) -> None:
        self._over = True

    async def _one(self, due_s: float) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                status, body = await self._exchange()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as problem:
            status, body = 0, f"{type(problem).__name__}: {problem}"
        self.tally.note(status, due_s, body)

    async def _exchange(self) -> tuple[int, str]:
        reader, writer = await self._connection()
        try:
            status, body, closes = await self._answer(reader, writer)
        except BaseException:
            writer.transport.abort()
            raise
        if closes:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return status, body

    async def _connection(self) -> Connection:
        """One that is idle, unless the server has closed it meanwhile; else a new one."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int, str, bool]:
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ", 2)[1])
        fields = {
            k.strip().lower(): v.strip()
            for k, _, v in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        body = await _body(reader, fields)
        return status, body.decode(errors="replace"), fields.get("connection", "").lower() == "close"


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if fields.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(fields.get("content-length", "0")))
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readline()
    return b"".join(parts)


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
    generator = Generator(options.url, options.body.encode(), headers, options.timeout)
    tally = asyncio.run(generator.run(options.rate, min(options.seconds, 3600)))
    json.dump(tally.report(), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
