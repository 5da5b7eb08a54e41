"""Whether anything has changed that a look at a settled resource depends on: what makes it cheap to look after very many.

Decides nothing else: where something has changed, or long enough has passed, the whole look is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from moorings.controller.health import Prober
from moorings.controller.marks import Marks
from moorings.controller.publisher import GatewayView, Publisher
from moorings.engines.base import Engine, Instance, ProbeTimes
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import Clock
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, Mark, Resource

LONGEST_S = 60.0
"""Glances follow one another for no longer than this; then the whole look is taken, whatever they say."""


def longest_s(key: str) -> float:
    """The same for one resource: half of it to all of it, so that very many, which are all looked at when a daemon starts,
    are not all looked at together ever after."""
    return LONGEST_S * (0.5 + crc32(key.encode()) / 2**33)


@dataclass(frozen=True)
class Instances:
    """What a look at a deployment has seen of its instances."""

    all: Sequence[Instance]
    ready: frozenset[str]
    routed: frozenset[str]
    """Addresses that took traffic."""
    times: ProbeTimes


@dataclass(frozen=True)
class Look:
    """What a look has seen, and when (monotonic)."""

    mark: Mark
    gateway: object
    at: float
    instances: Instances | None = None
    """None: of an endpoint."""


@dataclass(frozen=True)
class Glance:
    """Glances at resources of one kind."""

    kind: str
    marks: Marks
    clock: Clock
    publisher: Publisher
    engine: Engine | None = None
    prober: Prober | None = None
    """Those two for deployments alone."""

    def look(self, row: Resource, view: GatewayView, instances: Instances | None = None) -> Look:
        """What is seen now, by whoever has found nothing to do and nobody waiting."""
        names = row.name.split("/", 1)
        return Look(Mark.of(row, waiting=False), view.of(*names), self.clock.monotonic(), instances)

    async def same(self, key: str, known: Look) -> bool:
        """Whether another look would see the same. Probes what is due to be probed."""
        if self.clock.monotonic() - known.at >= longest_s(key):
            return False
        if await self.marks.of(self.kind, key) != known.mark:
            return False
        if known.instances is not None and not await self._same_instances(key, known.instances):
            return False
        return self.publisher.view().of(*key.split("/", 1)) == known.gateway

    async def _same_instances(self, key: str, known: Instances) -> bool:
        assert self.engine is not None
        assert self.prober is not None
        try:
            found = await self.engine.observe(key)
        except MooringsError:
            return False  # the whole look tells of it
        if list(found) != list(known.all) or self.publisher.routed(key) != known.routed:
            return False
        return await self.prober.probe(key, found, known.times) == known.ready


def of_endpoints(marks: Marks, clock: Clock, publisher: Publisher) -> Glance:
    return Glance(ENDPOINT, marks, clock, publisher)


def of_deployments(
    marks: Marks, clock: Clock, publisher: Publisher, engine: Engine, prober: Prober
) -> Glance:
    return Glance(DEPLOYMENT, marks, clock, publisher, engine, prober)
