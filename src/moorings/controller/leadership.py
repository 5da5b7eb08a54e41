"""Who of several daemons with one state leads: a lease that is kept alive by signs of life, and taken over without them.

No clock of one machine is compared with that of another: whoever waits watches the lease, and takes it when it has not
changed for `TERM_S` by its own clock. That may be wrong about a holder who is only slow; the token settles that, since
nothing can be written under an older one (`state.database.Fence`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import Clock
from moorings.state.database import Database, Fence
from moorings.state.lease_rows import Lease

logger = logging.getLogger(__name__)

NAME = "leader"
BEAT_PERIOD_S = 1.0
LOOK_PERIOD_S = 0.5
TERM_S = 5.0
"""A lease without a sign of life for so long is free."""


@dataclass(frozen=True)
class Sight:
    """A lease, and since when it has been seen like this (monotonic seconds)."""

    lease: Lease | None
    since: float

    def free(self, holder: str, now: float) -> bool:
        """Whether `holder` may take it: at once what is nobody's or was its own before it was started anew. Pure."""
        return self.lease is None or self.lease.holder in ("", holder) or now - self.since >= TERM_S

    def then(self, lease: Lease | None, now: float) -> Sight:
        """What is known after one more look. Pure."""
        return self if lease == self.lease else Sight(lease, now)


class Election:
    """One daemon's part in it."""

    def __init__(self, database: Database, fence: Fence, holder: str, clock: Clock) -> None:
        """`database`: not fenced. `fence` gets the lease that is won. `holder`: what this daemon is called, not empty; nobody
        else who lives is called so."""
        self._database = database
        self._fence = fence
        self._holder = holder
        self._clock = clock
        self.leader = ""
        """The holder that was seen last."""

    @property
    def leads(self) -> bool:
        return self._fence.lease is not None

    async def win(self) -> None:
        """Returns when this daemon leads."""
        sight: Sight | None = None
        while True:
            try:
                sight = await asyncio.to_thread(self._look, sight)
            except MooringsError as problem:
                logger.error("the lease cannot be seen: %s", problem)
                sight = None  # how long nothing was seen says nothing about its holder
            if self.leads:
                return
            await asyncio.sleep(LOOK_PERIOD_S)

    async def keep(self, lost: Callable[[], None]) -> None:
        """Give signs of life until another one has taken over; then calls `lost` and returns."""
        while True:
            await asyncio.sleep(BEAT_PERIOD_S)
            try:
                still = await asyncio.to_thread(self._beat)
            except MooringsError as problem:  # nobody else can take over either, or the token will tell
                logger.error("no sign of life could be given: %s", problem)
                continue
            except Exception:  # a defect: without signs of life nothing is led for long
                logger.exception("no sign of life could be given")
                still = False
            if not still:
                logger.error("another daemon leads the workspace, or will")
                lost()
                return

    def end(self) -> None:
        """Give it up, so that nobody has to wait. Blocks. Raises MooringsError."""
        held, self._fence.lease = self._fence.lease, None
        if held is not None:
            with self._database.write() as tx:
                tx.beat_lease(held, end=True)

    def _look(self, before: Sight | None) -> Sight:
        with self._database.read() as tx:
            found = tx.lease(NAME)
        now = self._clock.monotonic()
        sight = Sight(found, now) if before is None else before.then(found, now)
        self.leader = found.holder if found is not None else ""
        if sight.free(self._holder, now):
            with self._database.write() as tx:
                taken = tx.take_lease(NAME, self._holder, found)
            if taken is not None:
                self._fence.lease, self.leader = taken, self._holder
                logger.info("%s leads, token %d", self._holder, taken.token)
        return sight

    def _beat(self) -> bool:
        held = self._fence.lease
        if held is None:
            return False
        with self._database.write() as tx:
            return tx.beat_lease(held) is not None
