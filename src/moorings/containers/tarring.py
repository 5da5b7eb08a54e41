"""A folder as a stream of an archive, made while it is read: nothing of it is kept in memory or in a file."""

from __future__ import annotations

import contextlib
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

CHUNK_BYTES = 1024 * 1024


class UnreadableError(Exception):
    """The folder could not be read to its end."""

    def __init__(self, problem: OSError) -> None:
        super().__init__(str(problem))
        self.problem = problem


@contextlib.contextmanager
def tar_stream(folder: Path, target: str) -> Iterator[Iterator[bytes]]:
    """Chunks of an archive with `folder` as `target`; everything in it belongs to root.

    On leaving, raises UnreadableError when that cut the archive short, whatever its reader has made of it.
    """
    read_fd, write_fd = os.pipe()
    problems: list[OSError] = []

    def write() -> None:
        try:
            with (
                os.fdopen(write_fd, "wb", CHUNK_BYTES) as sink,
                tarfile.open(fileobj=sink, mode="w|", bufsize=CHUNK_BYTES) as archive,
            ):
                archive.add(folder, target.lstrip("/"), filter=_of_root)
        except BrokenPipeError:
            pass  # whoever read it has given up, and knows why
        except OSError as problem:
            problems.append(problem)

    writer = threading.Thread(target=write, name="tar", daemon=True)
    writer.start()
    try:
        with os.fdopen(read_fd, "rb", 0) as source:
            yield iter(lambda: source.read(CHUNK_BYTES), b"")
    finally:
        writer.join()
        if problems:
            raise UnreadableError(problems[0])


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
