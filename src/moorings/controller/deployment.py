"""The phases of a deployment: assets, environment, instances, gateway. Each look does the next step and writes down why.

Load -> observe -> plan -> persist -> act. Slow work (building an environment) runs beside the loop, so that what
serves is looked after meanwhile. What it decides is in `plan.py`, what instances are made of comes from
`preparation.py`, and `removal.py` ends what nobody desires; it never talks HTTP and knows no engine by name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moorings.controller.access import Access
from moorings.controller.generations import bounds_of, good_of, note_served
from moorings.controller.glance import Instances, Look, of_deployments
from moorings.controller.health import Prober
from moorings.controller.held import granted, released, type_name
from moorings.controller.marks import Marks
from moorings.controller.plan import Desired, Plan, Seen, plan
from moorings.controller.preparation import ContentStore, Environments, Preparer
from moorings.controller.publisher import GatewayView, Publisher
from moorings.controller.removal import Remover, grace_s
from moorings.controller.scaled import wanted
from moorings.controller.status import DEPLOYMENT_PHASES, Status, fail_operations
from moorings.controller.story import told
from moorings.controller.templates import probe_times, revision_of, template_from_json
from moorings.controller.trials import Trials
from moorings.controller.verdict import Verdicts
from moorings.engines.base import Engine, GroupSpec, Instance, InstanceTemplate, Phase
from moorings.engines.policy import crash_loops
from moorings.errors.exceptions import Failure, MooringsError, failure
from moorings.lib.timing import Clock
from moorings.observe.journal import Journal, Told
from moorings.observe.phases import PLAN
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.own_settings import PROGRESS_DEADLINE_S, SAMPLE_REQUEST, pace_of, whole_numbers
from moorings.spec.scaling import most_of, scales
from moorings.spec.status import (
    GATEWAY_ACCEPTED,
    INSTANCES_HEALTHY,
    QUOTA_GRANTED,
    READY,
    Truth,
)
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, OperationStatus, Resource

logger = logging.getLogger(__name__)

AWAY_PERIOD_S = 0.5
"""How often an engine that does not answer is asked again."""
AWAY_PATIENCE_S = 5.0
"""How long an engine may not answer before who waits for it is told so."""
PROGRESS_PERIOD_S = 0.3
"""Progress texts alone are written at most this often."""


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
    """What may be forgotten at a restart: deadlines, when progress was last written."""

    generation: int = 0
    progress: tuple[int, ...] = ()
    """How far the rollout is: instances that are ready, that serve, and older ones that are left."""
    took_over: int = 0
    """The generation all of which has served: its own limits and times hold."""
    progress_at: float = 0.0
    written_at: float = 0.0
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
    judged: dict[tuple[str, float, bool], Failure] = field(default_factory=dict)
    """Verdicts on instances while the deployment serves: (instance, when it ended, whether it is silent) -> why."""


@dataclass
class DeploymentReconciler:
    tools: Tools
    _memories: dict[str, _Memory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        t = self.tools
        self._preparer = Preparer(t.database, t.clock, t.environments, t.store, t.access, t.journal, t.busy_s)
        self._glance = of_deployments(t.marks, t.clock, t.publisher, t.engine, t.prober)
        self._remover = Remover(
            t.database, t.clock, t.engine, t.publisher, t.prober, t.journal, self._preparer, t.busy_s
        )

    async def reconcile(self, key: str) -> float | None:
        """Look at `<endpoint>/<deployment>` and do the next step."""
        known = self._memories.get(key)
        if known is not None and known.settled is not None and await self._glance.same(key, known.settled):
            return self.tools.resync_s
        row, waiting = await asyncio.to_thread(self._load, key)
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
        await self._store(row, status, memory, waiting)
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
        overdue_s = self._overdue_s(row, spec, seen, revision, memory) if not gave_up else None
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
            await self._judge(spec, status, instances, step, overdue_s, view, revision, memory)
            if step.complete and status.is_true(READY):
                note_served(
                    status.data,
                    row.generation,
                    revision,
                    row.spec,
                    spec.instance_count,
                    self.tools.clock.now(),
                )
        self._describe(status, instances, tried, step, template is not None)
        self._held(row, spec, status, instances, step, revision)
        await self._act(row, spec, status, step, overdue=overdue_s is not None)
        if overdue_s is not None and not (step.complete or status.gave_up or status.is_true(READY)):
            # Neither an instance nor the engine is to blame: this alone is what can be said.
            failed = failure(
                "ProgressDeadlineExceeded",
                f"the rollout has made no progress for {overdue_s:.0f} s; it waits for: {step.waiting_for}",
                target=row.name,
                fields={"endpoint": spec.endpoint_name, "deployment": spec.name},
            )
            status.mark(INSTANCES_HEALTHY, Truth.FALSE, failed.code, failed.message, failed)
            status.fail("instances", failed)
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

    def _overdue_s(
        self, row: Resource, spec: DeploymentSpec, seen: Sequence[Seen], revision: str, memory: _Memory
    ) -> float | None:
        """How long nothing has got further, when that is longer than the rollout allows."""
        now = self.tools.clock.monotonic()
        mine = [s for s in seen if s.revision == revision]
        progress = (
            sum(s.ready for s in mine),
            sum(s.ready and s.in_gateway for s in mine),
            sum(s.phase is not Phase.STOPPING for s in seen if s.revision != revision),
            len(seen) - len(mine),
        )
        if memory.generation != row.generation or memory.progress != progress:
            memory.generation, memory.progress, memory.progress_at = row.generation, progress, now
        probe = spec.readiness_probe
        allowed = float(
            whole_numbers(spec.properties, PROGRESS_DEADLINE_S).get(PROGRESS_DEADLINE_S, 0)
            or self.tools.progress_deadline_s
            or probe.initial_delay + probe.period * probe.failure_threshold
        )
        waited = now - memory.progress_at
        return waited if progress[1] < spec.instance_count and waited > allowed else None

    async def _judge(
        self,
        spec: DeploymentSpec,
        status: Status,
        instances: Sequence[Instance],
        step: Plan,
        overdue_s: float | None,
        view: GatewayView,
        revision: str,
        memory: _Memory,
    ) -> None:
        """Turn what the plan saw into conditions; a rollout that failed gets its verdict here, once."""
        refused = view.rejected(spec.endpoint_name)
        if refused and not status.is_true(READY):
            fields = {"endpoint": spec.endpoint_name}
            failed = failure(
                "GatewayRejected", refused, target=f"endpoint {spec.endpoint_name}", fields=fields
            )
            status.mark(GATEWAY_ACCEPTED, Truth.FALSE, failed.code, refused, failed)
            current = [i for i in instances if i.revision == revision]
            if current and all(i.id in step.routed for i in current):
                # Only the gateway is in the way, and Envoy says the same of the same routes for ever.
                status.fail("gateway", failed)
                return
        if status.is_true(READY):
            current = [i for i in instances if i.revision == revision and i.ordinal < spec.instance_count]
            healthy = view.healthy(spec.endpoint_name, spec.name)
            away = [i for i in current if i.id not in step.routed or not healthy.issuperset(i.addresses)]
            await self._judge_serving(spec, status, current, away, step, memory)
        elif step.complete:
            self._complete(status, step)
        elif step.failed is not None:
            instance = next(i for i in instances if i.id == step.failed)
            failed = await self.tools.verdicts.of(instance, spec, waited_s=overdue_s)
            status.mark(INSTANCES_HEALTHY, Truth.FALSE, failed.code, failed.message, failed)
            status.fail("instances", failed)
        else:
            status.mark(INSTANCES_HEALTHY, Truth.UNKNOWN, "Starting", step.waiting_for)
            status.mark(READY, Truth.UNKNOWN, "Progressing", step.waiting_for)
            status.phase("instances", "running", step.waiting_for)

    async def _judge_serving(
        self,
        spec: DeploymentSpec,
        status: Status,
        instances: Sequence[Instance],
        away: Sequence[Instance],
        step: Plan,
        memory: _Memory,
    ) -> None:
        """It has been ready: an instance that is `away` now, or does not stay, is told with why, once for each end."""
        now = self.tools.clock.now()
        looping = [i for i in instances if crash_loops([(e.at, e.served_s) for e in i.exits], now)]
        if step.serving >= spec.instance_count and not looping:
            memory.judged.clear()
            status.mark(INSTANCES_HEALTHY, Truth.TRUE, "Serving", step.waiting_for)
            return
        if memory.untrusted is not None and not looping:
            failed = memory.untrusted
            status.mark(INSTANCES_HEALTHY, Truth.FALSE, failed.code, failed.message, failed)
            return
        telling = [i for i in (looping or away) if i.exit or self.tools.prober.is_silent(i)]
        last = max(telling, key=lambda i: i.exit.at if i.exit else 0.0, default=None)
        if last is None:
            # Nothing has ended: what is missing was asked for only now.
            scaling = step.serving > 0 or spec.scale_settings.min_instances == 0
            reason = "Scaling" if scaling else "Degraded"
            status.mark(INSTANCES_HEALTHY, Truth.FALSE, reason, step.waiting_for)
            return
        silent = last not in looping and self.tools.prober.is_silent(last)
        key = (last.id, last.exit.at if last.exit else 0.0, silent)
        if key not in memory.judged:
            # One that answers is judged by how it ended before.
            failed = await self.tools.verdicts.of(last, spec, waited_s=None, ready=not silent)
            memory.judged = {key: failed}
        failed = memory.judged[key]
        status.mark(INSTANCES_HEALTHY, Truth.FALSE, failed.code, failed.message, failed)

    def _complete(self, status: Status, step: Plan) -> None:
        status.phase("instances", "done", f"{step.serving} serving")
        status.phase("gateway", "done", "accepted")
        status.mark(INSTANCES_HEALTHY, Truth.TRUE, "Serving")
        status.mark(GATEWAY_ACCEPTED, Truth.TRUE, "Accepted")
        status.mark(READY, Truth.TRUE, "Serving")

    def _describe(
        self,
        status: Status,
        instances: Sequence[Instance],
        ready: frozenset[str],
        step: Plan,
        resolved: bool,
    ) -> None:
        status.data["instances"] = [
            {
                "id": i.id,
                "revision": i.revision,
                "phase": str(i.phase),
                "ready": i.id in ready,
                "restarts": i.restarts,
                "limits": dict(i.limits),
            }
            for i in instances
        ]
        if resolved:
            wanted = {i.revision for i in instances} | {status.data["resolved"]["revision"]}
            wanted |= {each.revision for each in (good_of(status.data),) if each}
            templates = status.data.get("templates", {})
            status.data["templates"] = {k: v for k, v in templates.items() if k in wanted}
            status.data["waitingFor"] = step.waiting_for
        elif status.gave_up:
            status.data["waitingFor"] = ""

    def _held(
        self,
        row: Resource,
        spec: DeploymentSpec,
        status: Status,
        instances: Sequence[Instance],
        step: Plan,
        revision: str,
    ) -> None:
        """Note whose quota is free again. Written before the engine is asked for more."""
        types = {**status.data.get("instanceTypes", {}), **({revision: type_name(spec)} if revision else {})}
        kept = {i.revision for i in instances} | {revision}
        status.data["instanceTypes"] = {rev: name for rev, name in types.items() if rev in kept}
        held = released(
            row.generation,
            revision,
            spec.instance_count,
            status.data["instanceTypes"],
            instances,
            step.apply,
            ended=step.complete,
            gave_up=status.gave_up is not None,
        )
        if held is not None:
            status.data["held"] = held

    async def _act(
        self, row: Resource, spec: DeploymentSpec, status: Status, step: Plan, *, overdue: bool
    ) -> None:
        grace = grace_s(spec)
        if step.apply:
            # The decision is on disk before the side effect: a crash repeats the act instead of forgetting it.
            await asyncio.to_thread(self._write, row, status, None)
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
                        GroupSpec(row.name, revision, count, template, grace, private)
                    )
                except MooringsError as problem:
                    self._not_started(status, problem.failure, overdue=overdue)
        for revision in step.remove:
            await self.tools.engine.remove(row.name, revision, grace_s=grace)

    def _not_started(self, status: Status, failed: Failure, *, overdue: bool) -> None:
        """The engine cannot even begin: said at once, final when trying again is hopeless or has lasted too long."""
        if status.gave_up or status.is_true(READY):
            return
        status.mark(INSTANCES_HEALTHY, Truth.FALSE, failed.code, failed.message, failed)
        if overdue or not failed.entry.retryable:
            status.fail("instances", failed)
        else:
            status.data["waitingFor"] = failed.message

    # --- state ---

    def _load(self, key: str) -> tuple[Resource | None, bool]:
        with self.tools.database.read() as tx:
            return tx.resource(DEPLOYMENT, key), bool(tx.running_operations(DEPLOYMENT, key))

    async def _store(self, row: Resource, status: Status, memory: _Memory, waiting: bool) -> None:
        outcome: OperationStatus | None = None
        failed: Failure | None = status.gave_up
        if failed is not None:
            outcome = OperationStatus.FAILED
        elif status.is_true(READY):
            outcome = OperationStatus.SUCCEEDED
        stuck = self.tools.publisher.stuck
        resolved = (status.data.get("resolved") or {}).get("generation") == row.generation
        if waiting and outcome is None and stuck and resolved:
            await asyncio.to_thread(fail_operations, self.tools.database, row, stuck)
        now = self.tools.clock.monotonic()
        quiet = outcome is None and now - memory.written_at < PROGRESS_PERIOD_S
        if (not status.changed and not (waiting and outcome)) or quiet:
            return
        memory.written_at = now
        await asyncio.to_thread(self._write, row, status, outcome)

    def _write(self, row: Resource, status: Status, outcome: OperationStatus | None) -> None:
        before: Mapping[str, Any] = row.status.get("conditions", {}).get(READY, {})
        after: Mapping[str, Any] = status.data.get("conditions", {}).get(READY, {})
        with self.tools.database.write() as tx:
            if not tx.set_status(row, status.data):
                return
            if after.get("reason") != before.get("reason"):
                tx.add_event(DEPLOYMENT, row.name, after.get("reason", ""), after.get("message", ""))
            if outcome is not None:
                failed = status.gave_up
                tx.finish_operations(row, outcome, failed.to_json() if failed else None)
        self.tools.journal.note(row.name, told(status.before, status.data), self.tools.clock.now())
        status.stored()
