"""What tells whether a resource is still as it was, of all resources at once: one question to the database a second instead
of one for each of very many.

Whoever hears that a resource has changed says so (`forget`): then it is asked for by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from moorings.lib.timing import Clock
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, Mark

FRESH_S = 3.0
"""What was read longer ago counts no more: whoever reads all has stopped."""


class Marks:
    """Of endpoints and deployments. `read_all` blocks and is for a thread; all else belongs to one event loop."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[tuple[str, str], Mark] = {}
        self._read_at = -FRESH_S
        self._reading: asyncio.Task[dict[str, Sequence[str]]] | None = None
        self._forgotten: set[tuple[str, str]] = set()
        """While all are read: what may be older than what was heard meanwhile."""

    async def of(self, kind: str, name: str) -> Mark | None:
        """None: it is not there."""
        if self._clock.monotonic() - self._read_at >= FRESH_S:
            await self.refresh()
        if (kind, name) in self._known:
            return self._known[kind, name]
        return await asyncio.to_thread(self._read, kind, name)

    def forget(self, kind: str, name: str) -> None:
        """It may have changed."""
        self._known.pop((kind, name), None)
        self._forgotten.add((kind, name))

    async def refresh(self) -> dict[str, Sequence[str]]:
        """Read all; returns the names by kind. Whoever asks while that goes on waits for the same: where the machine is so
        busy that it takes long, very many ask."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._refresh())
            self._reading.add_done_callback(self._done)
        return await asyncio.shield(self._reading)

    def _done(self, reading: asyncio.Task[dict[str, Sequence[str]]]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # told to those who wait for it, if there are any left

    async def _refresh(self) -> dict[str, Sequence[str]]:
        self._forgotten = set()
        at = self._clock.monotonic()
        found = await asyncio.to_thread(self.read_all)
        known = {(kind, name): mark for kind, marks in found.items() for name, mark in marks.items()}
        self._known = {key: mark for key, mark in known.items() if key not in self._forgotten}
        self._read_at = at
        return {kind: list(marks) for kind, marks in found.items()}

    def read_all(self) -> dict[str, dict[str, Mark]]:
        with self._database.read() as tx:
            return {kind: tx.marks(kind) for kind in (ENDPOINT, DEPLOYMENT)}

    def _read(self, kind: str, name: str) -> Mark | None:
        with self._database.read() as tx:
            return tx.marks(kind, name).get(name)
