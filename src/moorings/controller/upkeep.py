"""What is looked after at intervals and belongs to no resource: the gateway's agent, old logs, the keys of the directory of
users. Each runs until it is cancelled, and goes on when a look fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from moorings.engines.base import Engine
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import Clock
from moorings.observe import retention
from moorings.observe.journal import Journal
from moorings.security.directory import AT_MOST_EVERY_S, FRESH_S, Directory

logger = logging.getLogger(__name__)

GATEWAY_PERIOD_S, LONGEST_GATEWAY_PERIOD_S = 1.0, 30.0
LOGS_PERIOD_S = 60.0
DAY_S = 86400


async def keep_gateway(ensure: Callable[[], object]) -> None:
    """Have the agent run. `ensure` starts it when it is not there; it may block, and raise MooringsError or OSError."""
    failures = 0
    while True:
        try:
            await asyncio.to_thread(ensure)
            failures = 0
        except (MooringsError, OSError) as problem:
            failures += 1
            logger.error("the gateway agent cannot be started: %s", problem)
        await asyncio.sleep(min(LONGEST_GATEWAY_PERIOD_S, GATEWAY_PERIOD_S * 2**failures))


@dataclass(frozen=True)
class LogKeeper:
    """Lets go of old logs, and puts aside those of deployments that went unseen."""

    engine: Engine
    journal: Journal
    deployments: Callable[[], Iterable[str]]
    """The names of all deployments there are; called on a thread."""
    clock: Clock
    kept_days: float
    kept_bytes: int

    async def run(self) -> None:
        while True:
            try:
                instances = await self.engine.observe()
                await asyncio.to_thread(self._sweep, [(i.owner, i.id) for i in instances])
            except (MooringsError, OSError) as problem:
                logger.warning("old logs stay for now: %s", problem)
            await asyncio.sleep(LOGS_PERIOD_S)

    def _sweep(self, living: Iterable[tuple[str, str]]) -> None:
        owners = {*self.deployments(), *(owner for owner, _ in living)}
        now = self.clock.now()
        self.journal.end_others(owners, now)
        ids = {id_ for _, id_ in living}
        kept_s = self.kept_days * DAY_S
        retention.sweep(self.journal.root, ids, now, kept_s=kept_s, kept_bytes=self.kept_bytes)


async def keep_directory(directory: Directory | None, changed: Callable[[], None]) -> None:
    """Fetch the keys of the directory of users now and then; what is known counts on while it is away."""
    while directory is not None:
        period_s = FRESH_S
        try:
            if await asyncio.to_thread(directory.refresh):
                changed()
        except (OSError, ValueError, KeyError, TypeError) as problem:
            logger.error("the keys of %s cannot be fetched: %s", directory.issuer, problem)
            period_s = AT_MOST_EVERY_S
        await asyncio.sleep(period_s)
