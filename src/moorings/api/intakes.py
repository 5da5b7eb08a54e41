"""How far each intake of content has come, for whoever asks while it goes on. Kept in memory: it ends with the daemon."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Progress:
    """One moment of an intake."""

    done_bytes: int = 0
    total_bytes: int = 0
    """0 while it is not known."""
    file: str = ""
    """The file that is being taken in."""


@dataclass
class Intake:
    """One intake under way; it is told of every step."""

    progress: Progress = field(default_factory=Progress)

    def step(self, done_bytes: int, total_bytes: int, file: str = "") -> None:
        self.progress = replace(
            self.progress, done_bytes=done_bytes, total_bytes=total_bytes, file=file or self.progress.file
        )


class Intakes:
    """Intakes under way, by the id that the client gave each. Safe for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, Intake] = {}

    @contextlib.contextmanager
    def begin(self, id_: str | None) -> Iterator[Intake]:
        intake = Intake()
        if id_ is None:
            yield intake
            return
        with self._lock:
            self._running[id_] = intake
        try:
            yield intake
        finally:
            with self._lock:
                if self._running.get(id_) is intake:
                    del self._running[id_]

    def progress(self, id_: str) -> Progress | None:
        """None when no such intake is under way (any more)."""
        with self._lock:
            found = self._running.get(id_)
        return found.progress if found is not None else None
