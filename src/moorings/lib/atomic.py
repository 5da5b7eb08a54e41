"""Replace a file in one step, so that a reader sees the old or the new content and a crash leaves no third thing.

The audit events raised here (and by the interpreter at every rename, open and spawn) are where tests kill the process.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from moorings.lib.procs import start_ticks

_TEMPORARY = re.compile(r"^\..+\.(\d+)-(\d+)-[^.]+$")
"""`.<name>.<pid>-<start ticks>-<random>`: tells whether the process that was writing still lives."""


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on a clean exit it is synced to disk and renamed over `path`.

    An exception inside the block removes the temporary file and leaves `path` as it was.
    Raises OSError (disk full, no permission): the machine's fault, nothing was changed.
    """
    writer = os.getpid()
    prefix = f".{path.name}.{writer}-{start_ticks(writer)}-"
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=prefix)
    try:
        with os.fdopen(fd, "wb") as handle:
            os.fchmod(handle.fileno(), mode)
            yield handle
            handle.flush()
            sync(handle.fileno(), path)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    sync_folder(path.parent)


def write(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Make `path` hold exactly `data`."""
    with replacing(path, mode=mode) as handle:
        handle.write(data)


def write_if_changed(path: Path, data: bytes, *, mode: int = 0o600) -> bool:
    """Like `write`, but touches nothing when the content is equal already. True when it wrote."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return False
    write(path, data, mode=mode)
    return True


def sweep(folder: Path, name: str = "") -> int:
    """Remove the temporary files that killed writers left in `folder` (of `name` alone, if given); how many there were.
    Those of the living stay."""
    swept = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.iterdir():
            found = _TEMPORARY.match(path.name)
            if found and path.name.startswith(f".{name}") and start_ticks(int(found[1])) != int(found[2]):
                path.unlink(missing_ok=True)
                swept += 1
    return swept


def sync(fd: int, path: Path, *, data_only: bool = False) -> None:
    """Make what was written to `fd`, which is `path`, survive a power cut; `data_only`: its times need not. Raises OSError."""
    sys.audit("moorings.fsync", str(path))
    (os.fdatasync if data_only else os.fsync)(fd)


def sync_folder(path: Path) -> None:
    """Make renames and new names in `path` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(fd, path)
    finally:
        os.close(fd)
