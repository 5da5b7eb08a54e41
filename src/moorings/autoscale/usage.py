"""What the instances of a deployment use of this machine: processor time and memory of their processes.

Only for instances that are processes of this machine; it knows no policy and keeps nothing but counters.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psutil

from moorings.engines.base import Engine, Instance, Phase


@dataclass(frozen=True)
class Usage:
    processor_s: float
    """Seconds of processor time used since it was asked before, by processes that were there then."""
    memory_bytes: int
    instances: int


@dataclass
class InstanceUsage:
    engine: Engine
    _before: dict[str, dict[tuple[int, float], float]] = field(default_factory=dict)
    """Deployment -> (pid, when it began) -> seconds used."""

    async def of(self, owner: str) -> Usage | None:
        """None the first time, and while nothing runs."""
        instances = [one for one in await self.engine.observe(owner) if one.phase is Phase.RUNNING]
        return await asyncio.to_thread(self._measure, owner, instances)

    def _measure(self, owner: str, instances: Sequence[Instance]) -> Usage | None:
        before, now = self._before.get(owner), {}
        memory = 0
        for process in _processes(instances):
            with contextlib.suppress(psutil.Error), process.oneshot():
                times = process.cpu_times()
                now[process.pid, process.create_time()] = times.user + times.system
                memory += process.memory_info().rss
        self._before[owner] = now
        if before is None or not instances:
            return None
        used = sum(spent - before[key] for key, spent in now.items() if key in before)
        return Usage(used, memory, len(instances))


def _processes(instances: Sequence[Instance]) -> Iterator[psutil.Process]:
    """The workers of these instances and all that they have started."""
    for instance in instances:
        for role, pid in instance.pids.items():
            if role.startswith("worker"):
                with contextlib.suppress(psutil.Error):
                    worker = psutil.Process(pid)
                    yield worker
                    yield from worker.children(recursive=True)
