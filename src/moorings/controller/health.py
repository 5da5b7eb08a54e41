"""Readiness probing: asks every worker over a new connection and counts, as the deployment's readiness probe says.

Decides nothing but "may traffic come?". A worker's socket appears only when it is ready, so a first success counts at
once: `initial_delay` and the failure budget bound how long a silent instance is waited for, they do not delay a good one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from moorings.contract import ROUTE_HEALTH
from moorings.engines.base import Instance, Phase, ProbeTimes
from moorings.errors.diagnosis.evidence import SAID_CLOSED, SAID_NO_HTTP, SAID_OK, SAID_REFUSED, SAID_SILENT
from moorings.lib.timing import Clock

STARTING_PERIOD_S = 0.05
"""How often an address that has not been ready yet is asked."""


Ask = Callable[[str, float], Awaitable[str]]
"""(address, time-out in seconds) -> what it says: one of `errors.diagnosis.evidence.SAID_*`, or an HTTP status."""


@dataclass
class _Track:
    started_at: float
    ready: bool = False
    successes: int = 0
    failures: int = 0
    said: str = ""
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
        for address, said in zip(due, answers, strict=True):
            self._note(tracks[address], said, times)
        return frozenset(
            i.id
            for i in instances
            if i.phase is Phase.RUNNING and i.addresses and all(tracks[a].ready for a in i.addresses)
        )

    def told(self, owner: str, address: str) -> tuple[str, int]:
        """What was said at `address` last, and how often in a row it has not been 200; `("", 0)` when it was never
        asked."""
        track = self._tracks.get(owner, {}).get(address)
        return ("", 0) if track is None else (track.said, track.failures)

    def is_silent(self, instance: Instance) -> bool:
        """Whether a worker of an instance that runs takes connections, and did not answer the last probe with 200."""
        told = [self.told(instance.owner, address) for address in instance.addresses]
        return instance.phase is Phase.RUNNING and any(
            failures and (said == SAID_SILENT or said.isdigit()) for said, failures in told
        )

    def forget(self, owner: str) -> None:
        """The owner is gone."""
        self._tracks.pop(owner, None)

    def _note(self, track: _Track, said: str, times: ProbeTimes) -> None:
        good = said == SAID_OK
        track.said = said
        track.successes = track.successes + 1 if good else 0
        track.failures = 0 if good else track.failures + 1
        if track.successes >= times.success_threshold:
            track.ready = True
        elif track.failures >= times.failure_threshold:
            track.ready = False
        period = times.period_s if track.ready else STARTING_PERIOD_S
        track.next_at = self._clock.monotonic() + period


async def answers_probe(address: str, timeout_s: float) -> str:
    """What is answered to `GET /` at a socket path, or to `GET` at `host:port[/path]`, within `timeout_s` seconds."""
    connected = False
    try:
        async with asyncio.timeout(timeout_s):
            if address.startswith("/"):
                route = ROUTE_HEALTH
                reader, writer = await asyncio.open_unix_connection(address)
            else:
                where, _, path = address.partition("/")
                route = f"/{path}"
                host, _, port = where.rpartition(":")
                reader, writer = await asyncio.open_connection(host, int(port))
            connected = True
            try:
                request = f"GET {route} HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n"
                writer.write(request.encode())
                return _said(await reader.readline())
            finally:
                writer.close()
    except TimeoutError:
        return SAID_SILENT
    except (OSError, ValueError):
        return SAID_CLOSED if connected else SAID_REFUSED


def _said(line: bytes) -> str:
    if not line:
        return SAID_CLOSED
    protocol, _, rest = line.partition(b" ")
    status = rest[:3]
    if not protocol.startswith(b"HTTP/") or not status.isdigit():
        return SAID_NO_HTTP
    return SAID_OK if status == b"200" else status.decode()
