"""What is said of a rollout, and of what serves: which conditions follow from what the plan saw, and how long nothing has
got further. It must not start, end or route anything, and keeps nothing that may not be forgotten at a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from moorings.controller.health import Prober
from moorings.controller.plan import Plan, Seen
from moorings.controller.publisher import GatewayView
from moorings.controller.status import Status
from moorings.controller.verdict import Verdicts
from moorings.engines.base import Instance, Phase
from moorings.engines.policy import crash_loops
from moorings.errors.exceptions import Failure, failure
from moorings.lib.timing import Clock
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.own_settings import PROGRESS_DEADLINE_S, whole_numbers
from moorings.spec.status import GATEWAY_ACCEPTED, INSTANCES_HEALTHY, READY, Truth
from moorings.state.transaction import Resource


@dataclass
class _Known:
    """Of one deployment."""

    generation: int = 0
    progress: tuple[int, ...] = ()
    """How far the rollout is: instances that are ready, that serve, and older ones that are left."""
    progress_at: float = 0.0
    judged: dict[tuple[str, float, bool], Failure] = field(default_factory=dict)
    """Verdicts on instances while the deployment serves: (instance, when it ended, whether it is silent) -> why."""


@dataclass(frozen=True)
class Judge:
    """Of all deployments, by key (`<endpoint>/<deployment>`)."""

    clock: Clock
    prober: Prober
    verdicts: Verdicts
    progress_deadline_s: float
    """Of the workspace; 0: as long as the readiness probe allows."""
    _known: dict[str, _Known] = field(default_factory=dict)

    def forget(self, key: str) -> None:
        self._known.pop(key, None)

    def _of(self, key: str) -> _Known:
        return self._known.setdefault(key, _Known())

    def overdue_s(
        self, row: Resource, spec: DeploymentSpec, seen: Sequence[Seen], revision: str
    ) -> float | None:
        """How long nothing has got further, when that is longer than the rollout allows."""
        now, known = self.clock.monotonic(), self._of(row.name)
        mine = [s for s in seen if s.revision == revision]
        progress = (
            sum(s.ready for s in mine),
            sum(s.ready and s.in_gateway for s in mine),
            sum(s.phase is not Phase.STOPPING for s in seen if s.revision != revision),
            len(seen) - len(mine),
        )
        if known.generation != row.generation or known.progress != progress:
            known.generation, known.progress, known.progress_at = row.generation, progress, now
        probe = spec.readiness_probe
        allowed = float(
            whole_numbers(spec.properties, PROGRESS_DEADLINE_S).get(PROGRESS_DEADLINE_S, 0)
            or self.progress_deadline_s
            or probe.initial_delay + probe.period * probe.failure_threshold
        )
        waited = now - known.progress_at
        return waited if progress[1] < spec.instance_count and waited > allowed else None

    async def judge(
        self,
        key: str,
        spec: DeploymentSpec,
        status: Status,
        instances: Sequence[Instance],
        step: Plan,
        overdue_s: float | None,
        view: GatewayView,
        revision: str,
        untrusted: Failure | None,
    ) -> None:
        """Turn what the plan saw into conditions; a rollout that failed gets its verdict here, once. `untrusted`: what an
        instance that may not take traffic for it answered to the sample request."""
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
            await self._judge_serving(key, spec, status, current, away, step, untrusted)
        elif step.complete:
            self._complete(status, step)
        elif step.failed is not None:
            instance = next(i for i in instances if i.id == step.failed)
            failed = await self.verdicts.of(instance, spec, waited_s=overdue_s)
            status.mark(INSTANCES_HEALTHY, Truth.FALSE, failed.code, failed.message, failed)
            status.fail("instances", failed)
        else:
            status.mark(INSTANCES_HEALTHY, Truth.UNKNOWN, "Starting", step.waiting_for)
            status.mark(READY, Truth.UNKNOWN, "Progressing", step.waiting_for)
            status.phase("instances", "running", step.waiting_for)

    async def _judge_serving(
        self,
        key: str,
        spec: DeploymentSpec,
        status: Status,
        instances: Sequence[Instance],
        away: Sequence[Instance],
        step: Plan,
        untrusted: Failure | None,
    ) -> None:
        """It has been ready: an instance that is `away` now, or does not stay, is told with why, once for each end."""
        now, known = self.clock.now(), self._of(key)
        looping = [i for i in instances if crash_loops([(e.at, e.served_s) for e in i.exits], now)]
        if step.serving >= spec.instance_count and not looping:
            known.judged.clear()
            status.mark(INSTANCES_HEALTHY, Truth.TRUE, "Serving", step.waiting_for)
            return
        if untrusted is not None and not looping:
            status.mark(INSTANCES_HEALTHY, Truth.FALSE, untrusted.code, untrusted.message, untrusted)
            return
        telling = [i for i in (looping or away) if i.exit or self.prober.is_silent(i)]
        last = max(telling, key=lambda i: i.exit.at if i.exit else 0.0, default=None)
        if last is None:
            # Nothing has ended: what is missing was asked for only now.
            scaling = step.serving > 0 or spec.scale_settings.min_instances == 0
            reason = "Scaling" if scaling else "Degraded"
            status.mark(INSTANCES_HEALTHY, Truth.FALSE, reason, step.waiting_for)
            return
        silent = last not in looping and self.prober.is_silent(last)
        end = (last.id, last.exit.at if last.exit else 0.0, silent)
        if end not in known.judged:
            # One that answers is judged by how it ended before.
            failed = await self.verdicts.of(last, spec, waited_s=None, ready=not silent)
            known.judged = {end: failed}
        failed = known.judged[end]
        status.mark(INSTANCES_HEALTHY, Truth.FALSE, failed.code, failed.message, failed)

    def _complete(self, status: Status, step: Plan) -> None:
        status.phase("instances", "done", f"{step.serving} serving")
        status.phase("gateway", "done", "accepted")
        status.mark(INSTANCES_HEALTHY, Truth.TRUE, "Serving")
        status.mark(GATEWAY_ACCEPTED, Truth.TRUE, "Accepted")
        status.mark(READY, Truth.TRUE, "Serving")

    def exceeded(self, key: str, spec: DeploymentSpec, status: Status, step: Plan, overdue_s: float) -> None:
        """Nothing has got further for too long, and neither an instance nor the engine is to blame: this alone is what can
        be said."""
        if step.complete or status.gave_up or status.is_true(READY):
            return
        failed = failure(
            "ProgressDeadlineExceeded",
            f"the rollout has made no progress for {overdue_s:.0f} s; it waits for: {step.waiting_for}",
            target=key,
            fields={"endpoint": spec.endpoint_name, "deployment": spec.name},
        )
        status.mark(INSTANCES_HEALTHY, Truth.FALSE, failed.code, failed.message, failed)
        status.fail("instances", failed)

    def not_started(self, status: Status, failed: Failure, *, overdue: bool) -> None:
        """The engine cannot even begin: said at once, final when trying again is hopeless or has lasted too long."""
        if status.gave_up or status.is_true(READY):
            return
        status.mark(INSTANCES_HEALTHY, Truth.FALSE, failed.code, failed.message, failed)
        if overdue or not failed.entry.retryable:
            status.fail("instances", failed)
        else:
            status.data["waitingFor"] = failed.message
