"""The driver of level-triggered loops: one key at a time, many keys at once, back-off per key. Knows nothing of its keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from moorings.lib.timing import Backoff

logger = logging.getLogger(__name__)

Reconcile = Callable[[str], Awaitable[float | None]]
"""Looks at a key, does the next step, and says after how many seconds to look again; None: the key is gone."""


OnStuck = Callable[[str], Awaitable[None]]
"""Told of a key that has failed `STUCK_AFTER` times in a row, at every further failure."""
STUCK_AFTER = 5


class Loop:
    """Runs `reconcile` for every key. A hint says *look*; losing it costs at most one period."""

    def __init__(
        self, name: str, reconcile: Reconcile, backoff: Backoff, on_stuck: OnStuck | None = None
    ) -> None:
        self._on_stuck = on_stuck
        self._name = name
        self._reconcile = reconcile
        self._backoff = backoff
        self._wakes: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    def watch(self, keys: Iterable[str]) -> None:
        """Begin to look after keys; known ones are left alone."""
        for key in keys:
            if key not in self._tasks and not self._closed:
                self._wakes[key] = asyncio.Event()
                self._tasks[key] = asyncio.create_task(self._run(key), name=f"{self._name}:{key}")

    def hint(self, key: str) -> None:
        """Look at `key` now (call on the event loop)."""
        self.watch([key])
        if key in self._wakes:
            self._wakes[key].set()

    async def close(self) -> None:
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: str) -> None:
        wake, failures = self._wakes[key], 0
        while True:
            wake.clear()  # before looking: a hint that comes meanwhile is kept
            try:
                delay = await self._reconcile(key)
                failures = 0
            except Exception:
                logger.exception("reconcile %s %s failed", self._name, key)
                failures += 1
                delay = self._backoff.delay_s(failures)
                if failures >= STUCK_AFTER and self._on_stuck is not None:
                    await self._tell(self._on_stuck, key)
            if delay is None and not wake.is_set():
                del self._tasks[key], self._wakes[key]
                return
            try:
                await asyncio.wait_for(wake.wait(), delay or 0.0)
            except TimeoutError:
                continue

    async def _tell(self, on_stuck: OnStuck, key: str) -> None:
        try:
            await on_stuck(key)
        except Exception:  # loop boundary: telling must not end the loop
            logger.exception("telling that %s %s is stuck failed", self._name, key)
