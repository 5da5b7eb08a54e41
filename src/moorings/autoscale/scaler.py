"""Watches the load of deployments that scale by themselves and writes down how many instances they shall have.

It reads the state and the gateway's figures, asks the policy and writes one column of one row; the controller's loop does
the rest. What it remembers may be lost at any time: after a start it has seen nothing, and does not scale down on that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import psutil

from moorings.autoscale.policy import Decision, Moment, Policy, of_endpoint, policy_of
from moorings.autoscale.usage import Usage
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import Clock
from moorings.spec.autoscale import (
    CAPACITY,
    CONCURRENCY,
    CPU,
    LATENCY,
    MEMORY,
    RATE,
    REJECTED,
    UTILIZATION,
    setting_from_arm,
)
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.instance_types import lookup
from moorings.spec.scaling import TARGET_UTILIZATION, count_of, scales
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
    @property
    def timed(self) -> int: ...
    @property
    def time_ms(self) -> float: ...


class Gateway(Protocol):
    async def loads(self, *, timed: bool) -> Mapping[tuple[str, str], Load] | None:
        """(Endpoint, deployment) -> load, with times of answers if asked for; None when it does not answer."""


class Usages(Protocol):
    async def of(self, owner: str) -> Usage | None:
        """What its instances use; None where that is not known."""


@dataclass(frozen=True)
class _Sum:
    """The load of several deployments."""

    active: int
    total: int
    refused: int
    timed: int
    time_ms: float

    @staticmethod
    def of(loads: Iterable[Load]) -> _Sum:
        active = total = refused = timed = 0
        time_ms = 0.0
        for one in loads:
            active, total, refused = active + one.active, total + one.total, refused + one.refused
            timed, time_ms = timed + one.timed, time_ms + one.time_ms
        return _Sum(active, total, refused, timed, time_ms)


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
    before: dict[str, tuple[float, Load]] = field(default_factory=dict)
    """When counters were looked at last, and how they stood: of the deployment (``), of its endpoint, of times."""
    said: str = ""

    def note(self, metric: str, at_s: float, value: float) -> None:
        points = self.series.setdefault(metric, deque())
        points.append((at_s, value))
        while len(points) > 1 and at_s - points[1][0] > self.policy.memory_s:
            points.popleft()


class Scaler:
    def __init__(
        self,
        database: Database,
        gateway: Gateway,
        clock: Clock,
        hint: Callable[[str, str], None],
        usages: Usages | None = None,
    ) -> None:
        """`hint(kind, name)` wakes the loop of a deployment whose count has changed; losing it costs latency only.
        `usages`: None where instances are not processes of this machine."""
        self._usages = usages
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
        timed = any({LATENCY, of_endpoint(LATENCY)} & w.policy.metrics for w in self._watched.values())
        loads = await self._gateway.loads(timed=timed)
        if loads is None:
            return  # a gap in the series: nothing is decided on what was not seen
        for key, watch in self._watched.items():
            endpoint, _, deployment = key.partition("/")
            load = loads.get((endpoint, deployment))
            if load is not None:
                watch.sampled.append(load.active)
                await self._consider(
                    watch, load, _Sum.of(one for key, one in loads.items() if key[0] == endpoint)
                )

    def _rows(self) -> list[Resource]:
        with self._database.read() as tx:
            return [
                row
                for row in tx.may_scale(f'"{TARGET_UTILIZATION}"')
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
            try:
                setting = setting_from_arm(row.autoscale["name"], row.autoscale) if row.autoscale else None
            except MooringsError as problem:  # written by another version: the others go on
                logger.error("%s is not scaled: %s", row.name, problem)
                continue
            policy = policy_of(spec, setting)
            if policy is None:
                continue
            series = known.series if known is not None and known.row.uid == row.uid else {}
            watched[row.name] = _Watch(row, spec, policy, series, looked_s=self._clock.monotonic())
        self._watched = watched

    async def _consider(self, watch: _Watch, load: Load, endpoint: Load) -> None:
        now_s = self._clock.monotonic()
        row = watch.row
        count = count_of(watch.spec, row.autoscale, row.scale)
        # A request that waits for a first instance is not kept waiting for the next look.
        at_once = count == 0 and load.active > 0
        if now_s - watch.looked_s < watch.policy.period_s - SAMPLE_S / 2 and not at_once:
            return
        self._measure(watch, load, now_s, at_once=at_once)
        self._count(watch, "", load, now_s, lambda metric: metric)
        self._count(watch, "endpoint", endpoint, now_s, of_endpoint)
        await self._measure_usage(watch, now_s)
        watch.looked_s, watch.sampled = now_s, []
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
        samples = watch.sampled or [load.active]
        in_flight = float(load.active) if at_once else sum(samples) / len(samples)
        slots = watch.spec.request_settings.max_concurrent_requests_per_instance
        serving = sum(bool(one.get("ready")) for one in watch.row.status.get("instances", ()))
        watch.note(CONCURRENCY, now_s, in_flight)
        watch.note(UTILIZATION, now_s, 100 * in_flight / (slots * max(1, serving)))
        watch.note(CAPACITY, now_s, float(serving))

    def _count(self, watch: _Watch, what: str, load: Load, now_s: float, named: Callable[[str], str]) -> None:
        """Add what has been counted since the last look to the series."""
        if what:
            watch.note(named(CONCURRENCY), now_s, float(load.active))
        then_s, before = watch.before.get(what, (now_s, load))
        watch.before[what] = now_s, load
        # Counters begin anew with Envoy: then this look has no rate.
        if now_s > then_s and load.total >= before.total and load.refused >= before.refused:
            minutes = (now_s - then_s) / 60
            watch.note(named(RATE), now_s, (load.total - before.total) / minutes)
            watch.note(named(REJECTED), now_s, (load.refused - before.refused) / minutes)
        if named(LATENCY) not in watch.policy.metrics:
            return
        # Times come every five seconds: in between, and while nobody calls, the last ones still hold.
        _, timed = watch.before.setdefault(f"{what} times", (now_s, load))
        if load.timed > timed.timed:
            watch.note(named(LATENCY), now_s, (load.time_ms - timed.time_ms) / (load.timed - timed.timed))
            watch.before[f"{what} times"] = now_s, load
        elif load.timed < timed.timed:
            watch.before[f"{what} times"] = now_s, load
        elif points := watch.series.get(named(LATENCY)):
            watch.note(named(LATENCY), now_s, points[-1][1])

    async def _measure_usage(self, watch: _Watch, now_s: float) -> None:
        if self._usages is None or not {CPU, MEMORY} & watch.policy.metrics:
            return
        try:
            used = await self._usages.of(watch.row.name)
        except MooringsError:  # the engine is away: a gap in these series alone
            return
        if used is None:
            return
        size = lookup(watch.spec.instance_type) if watch.spec.instance_type else None
        vcpus = size.vcpus if size else psutil.cpu_count() or 1
        memory_bytes = size.memory_bytes if size else psutil.virtual_memory().total
        since_s = max(now_s - watch.looked_s, SAMPLE_S)
        watch.note(CPU, now_s, 100 * used.processor_s / (since_s * vcpus * used.instances))
        watch.note(MEMORY, now_s, 100 * used.memory_bytes / (memory_bytes * used.instances))

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
