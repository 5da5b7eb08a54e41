"""The phases of an endpoint: published, accepted by the gateway; and its going away after its deployments."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from moorings.controller.glance import Glance, Look, of_endpoints
from moorings.controller.marks import Marks
from moorings.controller.publisher import GatewayView, Publisher
from moorings.controller.status import ENDPOINT_PHASES, Status, fail_operations
from moorings.errors.exceptions import failure
from moorings.lib.timing import Clock
from moorings.spec.status import GATEWAY_ACCEPTED, READY, Truth
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, ROLLOUT, OperationStatus, Resource


@dataclass(frozen=True)
class EndpointReconciler:
    database: Database
    marks: Marks
    clock: Clock
    publisher: Publisher
    resync_s: float
    busy_s: float
    _settled: dict[str, Look] = field(default_factory=dict)
    """By name: the last look, where there was nothing to do."""

    async def reconcile(self, key: str) -> float | None:
        """Look at an endpoint and do the next step."""
        known = self._settled.pop(key, None)
        if known is not None and await self._glance.same(key, known):
            self._settled[key] = known
            return self.resync_s
        row, waiting = await asyncio.to_thread(self._load, key)
        if row is None:
            return None
        if row.deleting:
            return await self._delete(row)
        status = Status(row, self.clock.now())
        if status.begin(ENDPOINT_PHASES):
            self.publisher.changed(row.name)
        view = await self.publisher.publish()
        self._judge(row, status, view)
        outcome = OperationStatus.SUCCEEDED if status.is_true(READY) else None
        if status.gave_up:
            outcome = OperationStatus.FAILED
        if status.changed or (waiting and outcome):
            await asyncio.to_thread(self._write, row, status, outcome)
        if waiting and outcome is None and view.stuck:
            await asyncio.to_thread(fail_operations, self.database, row, view.stuck)
        if outcome is None:
            return self.busy_s
        if not status.changed and not waiting:
            self._settled[key] = self._glance.look(row, view)
        return self.resync_s

    @property
    def _glance(self) -> Glance:
        return of_endpoints(self.marks, self.clock, self.publisher)

    def _judge(self, row: Resource, status: Status, view: GatewayView) -> None:
        refused = view.rejected(row.name)
        if refused:
            failed = failure("GatewayRejected", refused, target=f"endpoint {row.name}")
            status.mark(GATEWAY_ACCEPTED, Truth.FALSE, failed.code, refused, failed)
            if not status.is_true(READY) and not status.gave_up:
                status.fail("gateway", failed)
        elif view.settled(row.name):
            status.data["gave_up"] = None
            status.mark(GATEWAY_ACCEPTED, Truth.TRUE, "Accepted")
            status.phase("gateway", "done", "accepted")
            status.mark(READY, Truth.TRUE, "Accepted")
        elif not status.is_true(READY):
            why = "the gateway to accept it"
            if view.status is None:
                why = "the gateway to start"
            elif view.status.failure:
                why = f"the gateway: {view.status.failure}"
            status.data["waitingFor"] = why
            status.phase("gateway", "running", why)
            status.mark(GATEWAY_ACCEPTED, Truth.UNKNOWN, "Publishing", why)
            status.mark(READY, Truth.UNKNOWN, "Progressing", why)

    async def _delete(self, row: Resource) -> float | None:
        self.publisher.changed(row.name)
        view = await self.publisher.publish()

        def drop() -> bool:
            with self.database.write() as tx:
                if tx.resources(DEPLOYMENT, below=row.name) or not tx.drop(row):
                    return False
                for rollout in tx.resources(ROLLOUT, below=row.name):
                    tx.forget(rollout)
                tx.finish_operations(row, OperationStatus.SUCCEEDED)
                return True

        if (view.settled(row.name) or view.status is None) and await asyncio.to_thread(drop):
            return None
        return self.busy_s

    def _load(self, key: str) -> tuple[Resource | None, bool]:
        with self.database.read() as tx:
            return tx.resource(ENDPOINT, key), bool(tx.running_operations(ENDPOINT, key))

    def _write(self, row: Resource, status: Status, outcome: OperationStatus | None) -> None:
        with self.database.write() as tx:
            if not tx.set_status(row, status.data):
                return
            before = row.status.get("conditions", {}).get(READY, {}).get("reason")
            after = status.data["conditions"][READY]
            if after["reason"] != before:
                tx.add_event(ENDPOINT, row.name, after["reason"], after["message"])
            if outcome is not None:
                failed = status.gave_up
                tx.finish_operations(row, outcome, failed.to_json() if failed else None)
