"""What the control plane does for a deployment, line by line: planning, builds, pulls, probes, traffic. One bounded file for
each life of a deployment, which outlives it.

    <root>/<endpoint>.<deployment>/control.log[.n]      while it is there
    <root>/<endpoint>.<deployment>~<uid>/               once it is deleted: the same, with the logs of its instances

A line is `<stamp> <phase> <instance or -> <text>`. It must not know what the phases mean.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from moorings.lib.logfile import Line, RotatingWriter, backwards, stamp
from moorings.lib.redaction import Redactor

CONTROL = "control.log"
FILE_BYTES = 2 * 1024 * 1024
FILES = 2
LINE_CHARS = 16 * 1024
NOBODY = "-"
YOUNGEST_S = 60.0
"""A folder that was made less long ago may belong to a deployment that is just being made."""
GRAVE = "~"
"""Between the name of a deployment that was and its uid: no name holds one."""


@dataclass(frozen=True)
class Told:
    """One thing that has happened."""

    phase: str
    text: str
    instance: str = ""


class Journal:
    """Written by the daemon alone, from any of its threads. Losing a line (a full disk) disturbs nobody."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._redactor = Redactor()

    def folder(self, owner: str) -> Path:
        return self.root / owner.replace("/", ".")

    def note(self, owner: str, told: Iterable[Told], now: float) -> None:
        """Write down what happened to `<endpoint>/<deployment>` at `now` (Unix seconds)."""
        mark = stamp(now)
        data = b"".join(
            b"%s%s %s %s\n" % (mark, t.phase.encode(), (t.instance or NOBODY).encode(), self._safe(line))
            for t in told
            for line in t.text.splitlines() or [""]
        )
        if not data:
            return
        with self._lock, contextlib.suppress(OSError):
            folder = self.folder(owner)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            writer = RotatingWriter(folder / CONTROL, file_bytes=FILE_BYTES, files=FILES)
            writer.write(data)
            writer.close()

    def end(self, owner: str, uid: str, now: float) -> None:
        """The deployment is no more: what is known of it is put aside, and the next of this name begins with nothing."""
        grave = self.root / f"{self.folder(owner).name}{GRAVE}{uid or f'{now:.0f}'}"
        with self._lock, contextlib.suppress(OSError):
            if grave.exists():  # we were killed after this: what came since tells nothing new
                shutil.rmtree(self.folder(owner), ignore_errors=True)
            else:
                self.folder(owner).rename(grave)
            os.utime(grave, (now, now))

    def end_others(self, owners: Collection[str], now: float) -> None:
        """Put aside what there is of deployments that are none of `owners`: nobody was there when they went."""
        known = {self.folder(owner).name for owner in owners}
        with contextlib.suppress(FileNotFoundError):
            for folder in self.root.iterdir():
                young = now - folder.stat().st_mtime < YOUNGEST_S
                if GRAVE not in folder.name and folder.name not in known and not young:
                    self.end(folder.name.replace(".", "/"), f"{now:.0f}", now)

    def graves(self, owner: str) -> list[Path]:
        """The folders of deployments of this name that were deleted, the latest first."""
        return buried(self.root, owner)

    def _safe(self, text: str) -> bytes:
        return self._redactor.text(text[:LINE_CHARS]).encode()


def buried(root: Path, owner: str) -> list[Path]:
    """The folders of deleted deployments of this name, the latest first."""
    found = [(path.stat().st_mtime, path) for path in root.glob(f"{owner.replace('/', '.')}{GRAVE}*")]
    return [path for _, path in sorted(found, reverse=True)]


def entries(path: Path) -> Iterator[tuple[Line, Told]]:
    """The lines of a journal, the newest first."""
    for line in backwards(path):
        found = told(line)
        if found is not None:
            yield line, found


def told(line: Line) -> Told | None:
    """What a line of a journal says; None for one that is none."""
    phase, _, rest = line.text.partition(" ")
    instance, space, text = rest.partition(" ")
    return Told(phase, text, "" if instance == NOBODY else instance) if space and line.at else None
