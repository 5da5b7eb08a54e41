"""What a look at a deployment leaves behind: which instances there are and what they hold, in its status; and the status, its
events, its operations and its journal, written when they differ. It must not decide anything, nor ask engine or gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moorings.controller.generations import good_of
from moorings.controller.held import released, type_name
from moorings.controller.plan import Plan
from moorings.controller.status import Status, fail_operations
from moorings.controller.story import told
from moorings.engines.base import Instance
from moorings.errors.exceptions import Failure
from moorings.lib.timing import Clock
from moorings.observe.journal import Journal
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.status import READY
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, OperationStatus, Resource

PROGRESS_PERIOD_S = 0.3
"""Progress texts alone are written at most this often."""


def describe(
    status: Status,
    instances: Sequence[Instance],
    ready: frozenset[str],
    step: Plan,
    resolved: bool,
) -> None:
    """Which instances there are, what older revisions are made of, and what is waited for. `ready`: ids. `resolved`: whether
    what the instances of this generation are made of is known."""
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


def hold(
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


@dataclass(frozen=True)
class Records:
    """Of all deployments, by key (`<endpoint>/<deployment>`). `load` and `write` block and are for a thread."""

    database: Database
    clock: Clock
    journal: Journal
    _written_at: dict[str, float] = field(default_factory=dict)

    def forget(self, key: str) -> None:
        self._written_at.pop(key, None)

    def load(self, key: str) -> tuple[Resource | None, bool]:
        """The row, and whether anybody waits for it."""
        with self.database.read() as tx:
            return tx.resource(DEPLOYMENT, key), bool(tx.running_operations(DEPLOYMENT, key))

    async def store(self, row: Resource, status: Status, *, waiting: bool, stuck: Failure | None) -> None:
        """Write what differs, and end who waits (`waiting`: somebody does) where all has been done, or failed, or `stuck`
        keeps the gateway from it."""
        outcome: OperationStatus | None = None
        failed: Failure | None = status.gave_up
        if failed is not None:
            outcome = OperationStatus.FAILED
        elif status.is_true(READY):
            outcome = OperationStatus.SUCCEEDED
        resolved = (status.data.get("resolved") or {}).get("generation") == row.generation
        if waiting and outcome is None and stuck and resolved:
            await asyncio.to_thread(fail_operations, self.database, row, stuck)
        now = self.clock.monotonic()
        quiet = outcome is None and now - self._written_at.get(row.name, 0.0) < PROGRESS_PERIOD_S
        if (not status.changed and not (waiting and outcome)) or quiet:
            return
        self._written_at[row.name] = now
        await asyncio.to_thread(self.write, row, status, outcome)

    def write(self, row: Resource, status: Status, outcome: OperationStatus | None = None) -> None:
        """Write the status as it is now; `outcome`: how what waits for it has ended."""
        before: Mapping[str, Any] = row.status.get("conditions", {}).get(READY, {})
        after: Mapping[str, Any] = status.data.get("conditions", {}).get(READY, {})
        with self.database.write() as tx:
            if not tx.set_status(row, status.data):
                return
            if after.get("reason") != before.get("reason"):
                tx.add_event(DEPLOYMENT, row.name, after.get("reason", ""), after.get("message", ""))
            if outcome is not None:
                failed = status.gave_up
                tx.finish_operations(row, outcome, failed.to_json() if failed else None)
        self.journal.note(row.name, told(status.before, status.data), self.clock.now())
        status.stored()
