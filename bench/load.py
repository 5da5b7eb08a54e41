"""An open-loop load generator: requests leave at a fixed rate whatever the answers do. Loopback only, bounded, stops by itself.

`python bench/load.py URL --key KEY --rate 200 --seconds 60 --body '{"data": 1}'` prints one JSON object: sent, failed,
a count per status (connection failures are status 0), latency percentiles in ms and up to ten samples of failures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Tally:
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)
    bodies: Counter[str] = field(default_factory=Counter)

    def note(self, status: int, latency_s: float, what: str) -> None:
        self.statuses[status] += 1
        self.latencies_ms.append(latency_s * 1000)
        if status == 200:
            self.bodies[what[:80]] += 1
        elif len(self.samples) < 10:
            self.samples.append(f"{status}: {what[:300]}")

    def report(self) -> dict[str, object]:
        ordered = sorted(self.latencies_ms) or [0.0]

        def quantile(q: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 2)

        sent = sum(self.statuses.values())
        return {
            "sent": sent,
            "failed": sent - self.statuses[200],
            "statuses": {str(k): v for k, v in sorted(self.statuses.items())},
            "p50_ms": quantile(0.5),
            "p99_ms": quantile(0.99),
            "max_ms": quantile(1.0),
            "bodies": dict(self.bodies.most_common(5)),
            "samples": self.samples,
        }


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
        self.tally = Tally()

    async def run(self, rate: float, seconds: float) -> Tally:
        start = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        for i in range(int(rate * seconds)):
            delay = start + i / rate - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            task = asyncio.create_task(self._one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        for _, writer in self._idle:
            writer.close()
        return self.tally

    async def _one(self) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                status, body = await self._exchange()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as problem:
            status, body = 0, f"{type(problem).__name__}: {problem}"
        self.tally.note(status, time.monotonic() - began, body)

    async def _exchange(self) -> tuple[int, str]:
        connection = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
        reader, writer = connection
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ", 2)[1])
        fields = {
            k.strip().lower(): v.strip()
            for k, _, v in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        body = await _body(reader, fields)
        if fields.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append(connection)
        return status, body.decode(errors="replace")


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
