"""The logs that instances of one workspace have left in files, found again by name. Shared by the engines of one machine;
must not know which containers there are.

    <root>/<endpoint>.<deployment>/<instance id>/<container>.log[.n]
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

from moorings.engines import layout
from moorings.lib.logfile import Follower, Line, LogSource, backwards

FOLLOW_PERIOD_S = 0.2


class LogFolder:
    """Looks only; supervisors and starters write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def instance(self, owner: str, instance: str) -> Path:
        return layout.owner_folder(self.root, owner) / instance

    def path(self, owner: str, source: LogSource) -> Path:
        return self.instance(owner, source.instance) / f"{source.container}.log"

    def sources(self, owner: str) -> list[LogSource]:
        found = []
        for path in sorted(layout.owner_folder(self.root, owner).glob("*/*.log")):
            with contextlib.suppress(OSError):
                found.append(LogSource(path.parent.name, path.stem, last_at=path.stat().st_mtime))
        return found

    def lines(self, owner: str, source: LogSource) -> Iterator[Line]:
        """The newest first."""
        return backwards(self.path(owner, source))

    async def follow(
        self, owner: str, source: LogSource, *, after: float, there: Callable[[], bool]
    ) -> AsyncGenerator[Line, None]:
        """`there` says whether the instance is; it may look at files. All it has written by then is given."""
        follower = Follower(self.path(owner, source), after=after)
        try:
            while True:
                going_on = await asyncio.to_thread(
                    there
                )  # before the look: after it all there is has been seen
                lines = await asyncio.to_thread(follower.poll)
                for line in lines:
                    yield line
                if not lines:
                    if not going_on:
                        return
                    await asyncio.sleep(FOLLOW_PERIOD_S)
        finally:
            follower.close()
