"""Readiness probing: asks every worker over a new connection and counts, as the deployment's readiness probe says.

Decides nothing but "may traffic come?". A worker's socket appears only when it is ready, so a first success counts at
once: `initial_delay` and the failure budget bound how long a silent instance is waited for, they do not delay a good one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from moorings.contract import ROUTE_HEALTH
from moorings.engines.base import Instance, Phase, ProbeTimes
from moorings.lib.timing import Clock

STARTING_PERIOD_S = 0.05
"""How often an address that has not been ready yet is asked."""


Ask = Callable[[str, float], Awaitable[bool]]
"""(address, time-out in seconds) -> whether it answers."""


@dataclass
class _Track:
    started_at: float
    ready: bool = False
    successes: int = 0
    failures: int = 0
    next_at: float = 0.0


class Prober:
    """Remembers, per owner and address, what its probes said. Lost with the daemon, found again by probing."""

    def __init__(self, clock: Clock, ask: Ask | None = None) -> None:
        self._clock = clock
        self._ask = ask or answers_probe
        self._tracks: dict[str, dict[str, _Track]] = {}

    async def probe(
        self,
        owner: str,
        instances: Sequence[Instance],
        times: ProbeTimes,
        *,
        known_ready: Collection[str] = (),
    ) -> frozenset[str]:
        """Probe what is due of all the owner's instances; returns the ids of those all of whose workers are ready.

        `known_ready`: ids that were ready when the daemon ended. At the first look they count as ready until they
        have failed as often as the probe allows: a restart takes nothing out of service. Takes at most a time-out.
        """
        before = self._tracks.get(owner)
        tracks: dict[str, _Track] = {}
        for instance in instances:
            if instance.phase is not Phase.RUNNING:
                continue
            for address in instance.addresses:
                old = (before or {}).get(address)
                if old is None or old.started_at != instance.started_at:
                    old = _Track(instance.started_at, ready=before is None and instance.id in known_ready)
                tracks[address] = old
        self._tracks[owner] = tracks
        now = self._clock.monotonic()
        due = [address for address, track in tracks.items() if track.next_at <= now]
        asked = {a: i.probes.get(a, a) for i in instances for a in i.addresses}
        answers = await asyncio.gather(*(self._ask(asked[a], times.timeout_s) for a in due))
        for address, good in zip(due, answers, strict=True):
            self._note(tracks[address], good, times)
        return frozenset(
            i.id
            for i in instances
            if i.phase is Phase.RUNNING and i.addresses and all(tracks[a].ready for a in i.addresses)
        )

    def forget(self, owner: str) -> None:
        """The owner is gone."""
        self._tracks.pop(owner, None)

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
    """Whether `GET /` at a socket path, or `GET` at `host:port[/path]`, is answered with 200 within `timeout_s` seconds."""
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(timeout_s):
            if address.startswith("/"):
                route = ROUTE_HEALTH
                reader, writer = await asyncio.open_unix_connection(address)
            else:
                where, _, path = address.partition("/")
                route = f"/{path}"
                host, _, port = where.rpartition(":")
                reader, writer = await asyncio.open_connection(host, int(port))
            try:
                request = f"GET {route} HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n"
                writer.write(request.encode())
                status = await reader.readline()
                return status.split(b" ")[1:2] == [b"200"]
            finally:
                writer.close()
    return False
