"""Readiness probing: asks every worker over a new connection and counts, as the deployment's readiness probe says.

Decides nothing but "may traffic come?". A worker's socket appears only when it is ready, so a first success counts at
once: `initial_delay` and the failure budget bound how long a silent instance is waited for, they do not delay a good one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moorings.contract import ROUTE_HEALTH
from moorings.engines.base import Instance, Phase, ProbeTimes
from moorings.lib.timing import Clock

STARTING_PERIOD_S = 0.05
"""How often an address that has not been ready yet is asked."""


@dataclass
class _Track:
    ready: bool = False
    successes: int = 0
    failures: int = 0
    next_at: float = 0.0


class Prober:
    """Remembers, per address, what its probes said. Lost with the daemon, found again by probing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tracks: dict[str, _Track] = {}

    async def probe(self, instances: Sequence[Instance], times: ProbeTimes) -> frozenset[str]:
        """Probe what is due; returns the ids of instances all of whose workers are ready. Takes at most a time-out."""
        due: list[str] = []
        now = self._clock.monotonic()
        for instance in instances:
            if instance.phase is not Phase.RUNNING:
                for address in instance.addresses:
                    self._tracks.pop(address, None)
                continue
            due += [a for a in instance.addresses if self._tracks.setdefault(a, _Track()).next_at <= now]
        answers = await asyncio.gather(*(answers_probe(a, times.timeout_s) for a in due))
        for address, good in zip(due, answers, strict=True):
            self._note(self._tracks[address], good, times)
        return frozenset(
            i.id
            for i in instances
            if i.phase is Phase.RUNNING and i.addresses and all(self._tracks[a].ready for a in i.addresses)
        )

    def forget(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            self._tracks.pop(address, None)

    def _note(self, track: _Track, good: bool, times: ProbeTimes) -> None:
        track.successes = track.successes + 1 if good else 0
        track.failures = 0 if good else track.failures + 1
        if track.successes >= times.success_threshold:
            track.ready = True
        elif track.failures >= times.failure_threshold:
            track.ready = False
        period = times.period_s if track.ready else STARTING_PERIOD_S
        track.next_at = self._clock.monotonic() + period


async def answers_probe(address: str, timeout_s: float) -> bool:
    """Whether `GET /` at a socket path or `host:port` is answered with 200 within `timeout_s` seconds."""
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(timeout_s):
            if address.startswith("/"):
                reader, writer = await asyncio.open_unix_connection(address)
            else:
                host, _, port = address.rpartition(":")
                reader, writer = await asyncio.open_connection(host, int(port))
            try:
                request = f"GET {ROUTE_HEALTH} HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n"
                writer.write(request.encode())
                status = await reader.readline()
                return status.split(b" ")[1:2] == [b"200"]
            finally:
                writer.close()
    return False
