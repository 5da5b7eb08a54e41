"""How a deployment goes away: no traffic, no instances, no row, in that order and one step at a look, whether its
deletion is asked for or its row is already gone. It must not know how a deployment comes to be or what its status says;
of what it ran it knows only what the engine still shows.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from moorings.controller.health import Prober
from moorings.controller.preparation import Preparer
from moorings.controller.publisher import Publisher
from moorings.engines.base import Engine
from moorings.lib.timing import Clock
from moorings.observe.journal import Journal, Told
from moorings.observe.phases import PLAN
from moorings.spec.deployment import DeploymentSpec
from moorings.state.database import Database
from moorings.state.transaction import OperationStatus, Resource

GRACE_EXTRA_S = 5.0
"""Added to the request time-out for an instance that goes away."""


def grace_s(spec: DeploymentSpec) -> float:
    """How long an instance that goes away may take to finish what it has."""
    return spec.request_settings.request_timeout_ms / 1000 + GRACE_EXTRA_S


@dataclass(frozen=True)
class Remover:
    """Both of its verbs say after how many seconds to look again; None: nothing is left."""

    database: Database
    clock: Clock
    engine: Engine
    publisher: Publisher
    prober: Prober
    journal: Journal
    preparer: Preparer
    busy_s: float

    async def delete(self, row: Resource) -> float | None:
        """The next step of a deletion: out of the gateway, then the instances, then the row with its operations."""
        await self.preparer.end(row.name)
        self.publisher.route(row.name, None)
        self.publisher.changed(row.name.partition("/")[0])
        view = await self.publisher.publish()
        endpoint = row.name.partition("/")[0]
        instances = await self.engine.observe(row.name)
        if instances:
            if view.settled(endpoint) or view.status is None:
                grace = grace_s(DeploymentSpec.model_validate(row.spec))
                for revision in {i.revision for i in instances}:
                    await self.engine.remove(row.name, revision, grace_s=grace)
            return self.busy_s
        await self.engine.forget(row.name)
        now = self.clock.now()
        self.journal.note(row.name, (Told(PLAN, "deleted"),), now)
        await asyncio.to_thread(self.journal.end, row.name, row.uid, now)

        def drop() -> bool:
            with self.database.write() as tx:
                if not tx.drop(row):
                    return False
                tx.finish_operations(row, OperationStatus.SUCCEEDED)
                return True

        if not await asyncio.to_thread(drop):
            return self.busy_s
        await self.preparer.forget(row.name)
        self.prober.forget(row.name)
        return None

    async def vanished(self, key: str) -> float | None:
        """Nothing desires it: end what the engine still has of it."""
        await self.preparer.forget(key)
        self.prober.forget(key)
        self.publisher.route(key, None)
        instances = await self.engine.observe(key)
        for revision in {i.revision for i in instances}:
            await self.engine.remove(key, revision, grace_s=GRACE_EXTRA_S)
        if instances:
            return self.busy_s
        await self.engine.forget(key)
        await asyncio.to_thread(self.journal.end, key, "", self.clock.now())
        return None
