"""The phases of a deployment: assets, environment, instances, gateway. Each look does the next step and writes down why.

Load -> observe -> plan -> persist -> act. Slow work (building an environment) runs beside the loop, so that what
serves is looked after meanwhile. What it decides is in `plan.py`, what instances are made of comes from
`preparation.py`, what is said of it from `judgement.py`, `record.py` writes it down, and `removal.py` ends what nobody
desires; it never talks HTTP and knows no engine by name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from moorings.controller.access import Access
from moorings.controller.generations import bounds_of, good_of, has_served, note_served
from moorings.controller.glance import Instances, Look, of_deployments
from moorings.controller.health import Prober
from moorings.controller.held import granted
from moorings.controller.judgement import Judge
from moorings.controller.marks import Marks
from moorings.controller.plan import Desired, Plan, Seen, plan
from moorings.controller.preparation import ContentStore, Environments, Preparer
from moorings.controller.publisher import GatewayView, Publisher
from moorings.controller.record import Records, describe, hold
from moorings.controller.removal import Remover, grace_s
from moorings.controller.scaled import wanted
from moorings.controller.status import DEPLOYMENT_PHASES, Status, fail_operations
from moorings.controller.templates import probe_times, revision_of, template_from_json
from moorings.controller.trials import Trials
from moorings.controller.verdict import Verdicts
from moorings.engines.base import Engine, GroupSpec, Instance, InstanceTemplate
from moorings.errors.exceptions import Failure, MooringsError
from moorings.lib.timing import Clock
from moorings.observe.journal import Journal, Told
from moorings.observe.phases import PLAN
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.own_settings import SAMPLE_REQUEST, pace_of
from moorings.spec.scaling import most_of, scales
from moorings.spec.status import (
    INSTANCES_HEALTHY,
    QUOTA_GRANTED,
    READY,
    Truth,
)
from moorings.state.database import Database
from moorings.state.transaction import Resource

logger = logging.getLogger(__name__)

AWAY_PERIOD_S = 0.5
"""How often an engine that does not answer is asked again."""
AWAY_PATIENCE_S = 5.0
"""How long an engine may not answer before who waits for it is told so."""


@dataclass(frozen=True)
class Tools:
    """Everything the reconciler works with; made once, by the daemon."""

    database: Database
    marks: Marks
    clock: Clock
    engine: Engine
    environments: Environments
    store: ContentStore
    access: Access
    publisher: Publisher
    prober: Prober
    verdicts: Verdicts
    trials: Trials
    journal: Journal
    resync_s: float
    busy_s: float
    progress_deadline_s: float


@dataclass
class _Memory:
    """What may be forgotten at a restart."""

    took_over: int = 0
    """The generation all of which has served: its own limits and times hold."""
    told: int = 0
    """The generation whose acceptance is in the journal."""
    away_since: float | None = None
    """Since when the engine has not answered."""
    untrusted: Failure | None = None
    """What an instance that may not take traffic for it answered to the sample request."""
    looked: Look | None = None
    """What the last look has seen."""
    settled: Look | None = None
    """The same, where there was nothing to do."""


@dataclass
class DeploymentReconciler:
    tools: Tools
    _memories: dict[str, _Memory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        t = self.tools
        self._preparer = Preparer(t.database, t.clock, t.environments, t.store, t.access, t.journal, t.busy_s)
        self._records = Records(t.database, t.clock, t.journal)
        self._judge = Judge(t.clock, t.prober, t.verdicts, t.progress_deadline_s)
        self._glance = of_deployments(t.marks, t.clock, t.publisher, t.engine, t.prober)
        self._remover = Remover(
            t.database, t.clock, t.engine, t.publisher, t.prober, t.journal, self._preparer, t.busy_s
        )

    async def reconcile(self, key: str) -> float | None:
        """Look at `<endpoint>/<deployment>` and do the next step."""
        known = self._memories.get(key)
        if known is not None and known.settled is not None and await self._glance.same(key, known.settled):
            return self.tools.resync_s
        row, waiting = await asyncio.to_thread(self._records.load, key)
        if row is None:
            self._forget(key)
            return await self._remover.vanished(key)
        memory = self._memories.setdefault(key, _Memory())
        memory.looked = memory.settled = None
        if row.deleting:
            try:
                delay = await self._remover.delete(row)
            except MooringsError as problem:
                await self._engine_away(row, memory, problem.failure)
                return AWAY_PERIOD_S
            if delay is None:
                self._forget(key)
            return delay
        await self._preparer.end_older(row)
        spec = wanted(row)
        status = Status(row, self.tools.clock.now())
        fresh = status.begin(DEPLOYMENT_PHASES)
        if fresh:
            self.tools.publisher.changed(spec.endpoint_name)
        status.mark(QUOTA_GRANTED, Truth.TRUE, "Granted", granted(spec, most_of(row.autoscale)))
        if fresh and memory.told != row.generation:
            memory.told = row.generation
            said = Told(PLAN, f"generation {row.generation} accepted")
            self.tools.journal.note(row.name, (said,), self.tools.clock.now())
        template = await self._preparer.template(row, spec, status)
        try:
            delay = await self._instances(row, spec, status, memory, template)
            memory.away_since = None
        except MooringsError as problem:
            # What serves goes on serving where it is: nothing is decided on instances that cannot be seen.
            self.tools.publisher.presume(row.name)
            failed = problem.failure
            status.mark(INSTANCES_HEALTHY, Truth.UNKNOWN, failed.code, failed.message, failed)
            status.data["waitingFor"] = failed.message
            await self._engine_away(row, memory, failed)
            delay = AWAY_PERIOD_S
        await self._records.store(row, status, waiting=waiting, stuck=self.tools.publisher.stuck)
        if not status.changed:
            self._preparer.stored(row.name)
            # Time alone may change what is said of those that are not well.
            well = status.is_true(READY) and status.is_true(INSTANCES_HEALTHY)
            if well and delay == self.tools.resync_s and not waiting:
                memory.settled = memory.looked
        return delay

    async def _engine_away(self, row: Resource, memory: _Memory, failed: Failure) -> None:
        """Whoever waits is told when it has lasted; the work itself goes on as soon as the engine is back."""
        now = self.tools.clock.monotonic()
        memory.away_since = now if memory.away_since is None else memory.away_since
        logger.warning("%s: %s", row.name, failed.message)
        if now - memory.away_since >= AWAY_PATIENCE_S:
            await asyncio.to_thread(fail_operations, self.tools.database, row, failed)

    def _forget(self, key: str) -> None:
        self._memories.pop(key, None)
        self._records.forget(key)
        self._judge.forget(key)
        self.tools.trials.forget(key)

    async def close(self) -> None:
        """Stop running builds and trials; they are begun again at the next start."""
        await self.tools.trials.close()
        await self._preparer.close()

    # --- instances and gateway ---

    async def _instances(
        self,
        row: Resource,
        spec: DeploymentSpec,
        status: Status,
        memory: _Memory,
        template: InstanceTemplate | None,
    ) -> float:
        instances = await self.tools.engine.observe(row.name)
        times = probe_times(spec.readiness_probe)
        was_ready = {i["id"] for i in row.status.get("instances", ()) if i["ready"]}
        ready = await self.tools.prober.probe(row.name, instances, times, known_ready=was_ready)
        revision = revision_of(template) if template else ""
        tried = await self._tried(row, spec, status, memory, template, instances, ready)
        self._bound(row, status, memory, revision)
        view = await self.tools.publisher.publish()
        routed = self.tools.publisher.routed(row.name)
        memory.looked = self._glance.look(row, view, Instances(instances, ready, routed, times))
        seen = self._seen(row.name, spec, instances, tried, view)
        started = status.data.get("started") == row.generation
        gave_up = template is None or status.gave_up is not None
        overdue_s = self._judge.overdue_s(row, spec, seen, revision) if not gave_up else None
        settled = view.settled(spec.endpoint_name)
        step = plan(
            Desired(
                revision,
                spec.instance_count,
                started,
                gave_up,
                overdue_s is not None,
                settled,
                scales(row.spec, row.autoscale),
                pace_of(spec.properties),
                good_of(status.data),
            ),
            seen,
        )
        if template is not None and not started and not step.clearing:
            status.data["started"] = row.generation
        if template is not None and not gave_up and step.serving >= spec.instance_count:
            memory.took_over = row.generation
            self._bound(row, status, memory, revision)
        self._route(row.name, instances, step)
        view = await self.tools.publisher.publish()
        if template is not None and not status.gave_up:
            await self._judge.judge(
                row.name, spec, status, instances, step, overdue_s, view, revision, memory.untrusted
            )
            if step.complete and status.is_true(READY):
                note_served(
                    status.data,
                    row.generation,
                    revision,
                    row.spec,
                    spec.instance_count,
                    self.tools.clock.now(),
                )
        describe(status, instances, tried, step, template is not None)
        hold(row, spec, status, instances, step, revision)
        await self._act(row, spec, status, step, overdue=overdue_s is not None)
        if overdue_s is not None:
            self._judge.exceeded(row.name, spec, status, step, overdue_s)
        if template is None or not (step.complete or status.gave_up):
            return self.tools.busy_s
        busy = any(i.revision != revision for i in instances) or step.apply or step.remove
        return self.tools.busy_s if busy else self.tools.resync_s

    async def _tried(
        self,
        row: Resource,
        spec: DeploymentSpec,
        status: Status,
        memory: _Memory,
        template: InstanceTemplate | None,
        instances: Sequence[Instance],
        ready: frozenset[str],
    ) -> frozenset[str]:
        """Those of `ready` that may take traffic: an instance of this generation that has never done so has to answer the
        sample request first, if there is one. An answer that is wrong is the end of a rollout."""
        there = {i.id for i in instances}
        self.tools.trials.keep(row.name, there)
        if template is None or SAMPLE_REQUEST not in spec.properties:
            status.data.pop("tried", None)
            return ready
        # Where the sample request is new and the instances are not, they have taken traffic before.
        before = (i["id"] for i in row.status.get("instances", ()) if i["ready"])
        known = frozenset(status.data.get("tried", before)) & there
        mine = [i for i in instances if i.revision == revision_of(template) and i.id in ready]
        untried = [] if status.gave_up else [i for i in mine if i.id not in known]
        good, wrong = await self.tools.trials.look(row.name, row.generation, spec, template, untried)
        known |= good
        status.data["tried"] = sorted(known)
        memory.untrusted = wrong
        if wrong is not None and not status.is_true(READY):
            status.mark(INSTANCES_HEALTHY, Truth.FALSE, wrong.code, wrong.message, wrong)
            status.fail("instances", wrong)
        return ready - {i.id for i in mine if i.id not in known}

    def _bound(self, row: Resource, status: Status, memory: _Memory, revision: str) -> None:
        """Have the limits and times hold of what serves: those of an earlier generation until all of this one does."""
        mine = memory.took_over == row.generation and status.gave_up is None
        self.tools.publisher.bound(
            row.name, None if mine else bounds_of(status.data, row.generation, revision)
        )

    def _seen(
        self,
        key: str,
        spec: DeploymentSpec,
        instances: Sequence[Instance],
        ready: frozenset[str],
        view: GatewayView,
    ) -> list[Seen]:
        routed = self.tools.publisher.routed(key)
        healthy = view.healthy(spec.endpoint_name, spec.name)
        settled = view.settled(spec.endpoint_name)
        seen = []
        for i in instances:
            addresses = set(i.addresses)
            seen.append(
                Seen(
                    id=i.id,
                    revision=i.revision,
                    ordinal=i.ordinal,
                    phase=i.phase,
                    ready=i.id in ready,
                    in_gateway=bool(addresses) and addresses <= healthy,
                    gone_from_gateway=settled and not addresses & routed,
                    restarts=i.restarts,
                )
            )
        return seen

    def _route(self, key: str, instances: Sequence[Instance], step: Plan) -> None:
        routed = [i for i in instances if i.id in step.routed]
        addresses = [a for i in routed for a in i.addresses]
        self.tools.publisher.route(key, addresses, sum(bool(i.addresses) for i in routed))

    async def _act(
        self, row: Resource, spec: DeploymentSpec, status: Status, step: Plan, *, overdue: bool
    ) -> None:
        grace = grace_s(spec)
        if step.apply:
            # The decision is on disk before the side effect: a crash repeats the act instead of forgetting it.
            await asyncio.to_thread(self._records.write, row, status)
        for revision, count in step.apply.items():
            known = status.data.get("templates", {}).get(revision)
            if known is not None:
                template = template_from_json(known)
                try:
                    # Resolved when an instance starts, and kept nowhere here.
                    private = await asyncio.to_thread(
                        self.tools.access.private, spec, template.environment_variables
                    )
                    await self.tools.engine.apply(
                        GroupSpec(
                            row.name,
                            revision,
                            count,
                            template,
                            grace,
                            private,
                            proven=has_served(status.data, revision),
                        )
                    )
                except MooringsError as problem:
                    self._judge.not_started(status, problem.failure, overdue=overdue)
        for revision in step.remove:
            await self.tools.engine.remove(row.name, revision, grace_s=grace)
