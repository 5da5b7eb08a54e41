"""Watches the load of deployments that scale by themselves and writes down how many instances they shall have.

It reads the state and the gateway's figures, asks the policy and writes one column of one row; the controller's loop does
the rest. What it remembers may be lost at any time: after a start it has seen nothing, and does not scale down on that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from moorings.autoscale.policy import Decision, Moment, Policy, policy_of
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import Clock
from moorings.spec.autoscale import CAPACITY, CONCURRENCY, RATE, REJECTED, UTILIZATION, setting_from_arm
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.scaling import count_of, scales
from moorings.spec.status import is_ready
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, Resource

logger = logging.getLogger(__name__)

SAMPLE_S = 0.25
"""How often the gateway is asked; a look of a policy sees the mean since its last look."""
LIST_S = 1.0
"""How often the deployments are read anew."""


class Load(Protocol):
    @property
    def active(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def refused(self) -> int: ...


class Gateway(Protocol):
    async def loads(self) -> Mapping[tuple[str, str], Load] | None:
        """(Endpoint, deployment) -> load; None when it does not answer."""


@dataclass
class _Watch:
    """One deployment that scales by itself, and what has been seen of it."""

    row: Resource
    spec: DeploymentSpec
    policy: Policy
    series: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)
    looked_s: float = 0.0
    sampled: list[int] = field(default_factory=list)
    """Requests in flight at each sample since the last look."""
    before: Load | None = None
    """Counters at the last look."""
    said: str = ""

    def note(self, metric: str, at_s: float, value: float) -> None:
        points = self.series.setdefault(metric, deque())
        points.append((at_s, value))
        while len(points) > 1 and at_s - points[1][0] > self.policy.memory_s:
            points.popleft()


class Scaler:
    def __init__(
        self, database: Database, gateway: Gateway, clock: Clock, hint: Callable[[str, str], None]
    ) -> None:
        """`hint(kind, name)` wakes the loop of a deployment whose count has changed; losing it costs latency only."""
        self._database = database
        self._gateway = gateway
        self._clock = clock
        self._hint = hint
        self._watched: dict[str, _Watch] = {}
        self._listed_s: float | None = None

    async def run(self) -> None:
        """For ever; what fails is tried again."""
        while True:
            try:
                await self.look()
            except (MooringsError, OSError) as problem:
                logger.error("scaling goes on later: %s", problem)
            await asyncio.sleep(SAMPLE_S)

    async def look(self) -> None:
        """One sample of everything that scales, and the decisions that are due."""
        now_s = self._clock.monotonic()
        if self._listed_s is None or now_s - self._listed_s >= LIST_S:
            self._listed_s = now_s
            self._watch(await asyncio.to_thread(self._rows))
        if not self._watched:
            return
        loads = await self._gateway.loads()
        if loads is None:
            return  # a gap in the series: nothing is decided on what was not seen
        for key, watch in self._watched.items():
            endpoint, _, deployment = key.partition("/")
            load = loads.get((endpoint, deployment))
            if load is not None:
                watch.sampled.append(load.active)
                await self._consider(watch, load)

    def _rows(self) -> list[Resource]:
        with self._database.read() as tx:
            return [
                row
                for row in tx.resources(DEPLOYMENT)
                if not row.deleting and scales(row.spec, row.autoscale)
            ]

    def _watch(self, rows: list[Resource]) -> None:
        watched: dict[str, _Watch] = {}
        for row in rows:
            known = self._watched.get(row.name)
            if known is not None and _same(known.row, row):
                known.row = row
                watched[row.name] = known
                continue
            spec = DeploymentSpec.model_validate(row.spec)
            setting = setting_from_arm(row.autoscale["name"], row.autoscale) if row.autoscale else None
            policy = policy_of(spec, setting)
            if policy is None:
                continue
            series = known.series if known is not None and known.row.uid == row.uid else {}
            watched[row.name] = _Watch(row, spec, policy, series, looked_s=self._clock.monotonic())
        self._watched = watched

    async def _consider(self, watch: _Watch, load: Load) -> None:
        now_s = self._clock.monotonic()
        row = watch.row
        count = count_of(watch.spec, row.autoscale, row.scale)
        # A request that waits for a first instance is not kept waiting for the next look.
        at_once = count == 0 and load.active > 0
        if now_s - watch.looked_s < watch.policy.period_s - SAMPLE_S / 2 and not at_once:
            return
        self._measure(watch, load, now_s, at_once=at_once)
        changed_at = row.scale["at"] if row.scale else None
        moment = Moment(now_s, self._clock.now(), count, changed_at)
        decision = watch.policy.decide(watch.series, moment)
        if decision.count < count and not is_ready(row.status, row.generation):
            return  # it is not known yet what it can do with the instances it was given
        if decision.count == count:
            self._say(watch, decision)
            return
        written = await asyncio.to_thread(self._write, row, count, decision)
        if written is not None:
            watch.row = written
            logger.info("%s: %s -> %s instances: %s", row.name, count, decision.count, decision.message)
            self._hint(DEPLOYMENT, row.name)

    def _measure(self, watch: _Watch, load: Load, now_s: float, *, at_once: bool) -> None:
        """Add what has been seen since the last look to the series."""
        since_s = max(now_s - watch.looked_s, SAMPLE_S)
        samples = watch.sampled or [load.active]
        in_flight = float(load.active) if at_once else sum(samples) / len(samples)
        slots = watch.spec.request_settings.max_concurrent_requests_per_instance
        serving = sum(bool(one.get("ready")) for one in watch.row.status.get("instances", ()))
        watch.note(CONCURRENCY, now_s, in_flight)
        watch.note(UTILIZATION, now_s, 100 * in_flight / (slots * max(1, serving)))
        watch.note(CAPACITY, now_s, float(serving))
        before = watch.before
        # Counters begin anew with Envoy: then this look has no rate.
        if before is not None and load.total >= before.total and load.refused >= before.refused:
            watch.note(RATE, now_s, 60 * (load.total - before.total) / since_s)
            watch.note(REJECTED, now_s, 60 * (load.refused - before.refused) / since_s)
        watch.before, watch.looked_s, watch.sampled = load, now_s, []

    def _say(self, watch: _Watch, decision: Decision) -> None:
        """A reason why nothing happens is worth a line when it is a new one."""
        if decision.reason != watch.said:
            watch.said = decision.reason
            logger.info("%s: %s: %s", watch.row.name, decision.reason, decision.message)

    def _write(self, row: Resource, before: int, decision: Decision) -> Resource | None:
        """Store the decision; None when the deployment has changed meanwhile: then it is looked at anew."""
        decided: dict[str, Any] = {
            "count": decision.count,
            "at": self._clock.now(),
            "reason": decision.reason,
            "message": decision.message,
        }
        with self._database.write() as tx:
            if not tx.set_scale(row, decided):
                return None
            text = f"{before} -> {decision.count} instances: {decision.message}"
            tx.add_event(DEPLOYMENT, row.name, "Scaled", text)
            return tx.resource(DEPLOYMENT, row.name)


def _same(known: Resource, row: Resource) -> bool:
    return known.uid == row.uid and known.generation == row.generation and known.autoscale == row.autoscale
