"""The loops over all kinds of resources: which keys they look after, who may wake them, and what is told when one is stuck.

It must not know what a look at a resource does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from moorings.controller.loop import Loop, Reconcile
from moorings.controller.marks import Marks
from moorings.controller.publisher import Publisher
from moorings.controller.status import fail_operations
from moorings.engines.base import Engine
from moorings.errors.exceptions import MooringsError, failure
from moorings.lib.timing import Backoff
from moorings.spec.rollout import goes_on
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, ROLLOUT

logger = logging.getLogger(__name__)

SCAN_PERIOD_S = 1.0
"""How often all resources are listed; hints make it faster, this makes it certain."""
FIRST_RETRY_S, LONGEST_RETRY_S, JITTER = 0.2, 30.0, 0.1


class Loops:
    """One loop for each kind of resource. All methods belong to one event loop, but for what `hinter` gives."""

    def __init__(
        self,
        database: Database,
        marks: Marks,
        publisher: Publisher,
        reconcilers: Mapping[str, Reconcile],
    ) -> None:
        """`reconcilers`: by kind, for deployments, endpoints and rollouts."""
        self._database = database
        self._marks = marks
        self._publisher = publisher
        backoff = Backoff(first_s=FIRST_RETRY_S, cap_s=LONGEST_RETRY_S, jitter=JITTER)
        self._loops = {
            kind: Loop(kind, reconcile, backoff, self._stuck(kind)) for kind, reconcile in reconcilers.items()
        }

    async def expect(self, engine: Engine) -> None:
        """Whatever is desired or still there must be looked at once before anything is published."""
        try:
            instances = await engine.observe()
        except MooringsError as problem:  # the engine is away: each deployment says so when it is looked at
            logger.error("the instances cannot be seen yet: %s", problem)
            instances = []
        names = await asyncio.to_thread(self.deployments)
        self._publisher.expect(names)
        self._loops[DEPLOYMENT].watch(sorted({*names, *(i.owner for i in instances)}))

    async def scan(self) -> None:
        """Look after whatever is in the state, for ever."""
        while True:
            try:
                found = await self._marks.refresh()
                found[ROLLOUT] = await asyncio.to_thread(self._rollouts)
                for kind, names in found.items():
                    self._loops[kind].watch(names)
            except MooringsError as problem:
                logger.error("cannot list resources: %s", problem)
            await asyncio.sleep(SCAN_PERIOD_S)

    async def publish(self) -> None:
        """Publish what time alone has changed, for ever: nobody else does. One that fails is said once, for the disk may be
        full; whoever has changed something tells of it anyway."""
        failing = False
        while True:
            try:
                await self._publisher.publish()
                failing = False
            except Exception:  # loop boundary
                if not failing:
                    logger.exception("publishing failed")
                failing = True
            await asyncio.sleep(SCAN_PERIOD_S)

    def wake(self, kind: str, name: str) -> None:
        """Have `(kind, name)` looked at now; on the event loop."""
        self._marks.forget(kind, name)
        self._loops[kind].hint(name)

    def hinter(self) -> Callable[[str, str], None]:
        """What wakes the loop of `(kind, name)`, from any thread."""
        loop = asyncio.get_running_loop()

        def hint(kind: str, name: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closing: the next start looks anyway
                loop.call_soon_threadsafe(self.wake, kind, name)

        return hint

    def deployments(self) -> Sequence[str]:
        """The names of all. On a thread."""
        with self._database.read() as tx:
            return tx.names(DEPLOYMENT)

    def _rollouts(self) -> list[str]:
        """Those that there is still something to decide for."""
        with self._database.read() as tx:
            return [r.name for r in tx.resources(ROLLOUT) if goes_on(r.status)]

    async def close(self) -> None:
        for each in self._loops.values():
            await each.close()

    def _stuck(self, kind: str) -> Callable[[str], Awaitable[None]]:
        """Whoever waits for a resource that we fail to look after is told so, with a code."""

        def tell(name: str) -> None:
            with self._database.read() as tx:
                row = tx.resource(kind, name)
            if row is not None:
                message = f"{kind} {name} cannot be worked on: a defect, or a fault of this machine"
                failed = failure("InternalServerError", message)
                fail_operations(self._database, row, failed)

        async def stuck(name: str) -> None:
            if kind == DEPLOYMENT:
                self._publisher.presume(name)
            await asyncio.to_thread(tell, name)

        return stuck
