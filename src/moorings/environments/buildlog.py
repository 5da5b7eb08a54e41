"""What every build has: a log that is kept by the recipe, and a lock that keeps others from doing the same work."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

from moorings.environments.installer import without_credentials
from moorings.environments.shelf import Shelf
from moorings.lib import procs

LOCK_POLL_S = 0.1


@contextlib.asynccontextmanager
async def held_lock(shelf: Shelf, key: str, progress: Callable[[str], None]) -> AsyncIterator[procs.Held]:
    """The lock of a recipe or of an environment; whoever else holds it is waited for."""
    waiting = False
    while (held := procs.try_lock(shelf.lock(key))) is None:
        if not waiting:
            waiting = True
            progress("waiting for the same environment, which is being built already")
        await asyncio.sleep(LOCK_POLL_S)
    try:
        yield held
    finally:
        held.release()


class BuildLog:
    """A build log that is written line by line; only its owner may read it (addresses may hold secrets)."""

    def __init__(self, path: Path, said: Callable[[str], None] | None = None) -> None:
        """`said` gets each line, too."""
        self.path = path
        self._said = said
        self._lines: list[str] = []
        self._file: IO[str] | None = None

    def __enter__(self) -> BuildLog:
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(fd, "w", encoding="utf-8", errors="replace", buffering=1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            # On a full disk the log is lost, the error that is on its way must not be.
            with contextlib.suppress(OSError):
                self._file.close()

    def line(self, text: str) -> None:
        safe = without_credentials(text)
        self._lines.append(safe)
        if self._said is not None:
            self._said(safe)
        with contextlib.suppress(OSError):
            assert self._file is not None, "used inside the with block only"
            self._file.write(safe + "\n")

    def last(self, count: int) -> list[str]:
        return self._lines[-count:]
