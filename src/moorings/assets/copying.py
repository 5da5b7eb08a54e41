"""Copy content and hash it in the same pass, in constant memory. Must not know the store's layout."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from moorings.assets.intake import SourceFile
from moorings.assets.tree import shown
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import atomic

CHUNK_BYTES = 1 << 20
"""Small enough for both buffers to stay in a CPU's cache: larger ones are read, hashed and written from memory."""

Tell = Callable[[int], None]
"""Takes how many bytes more were copied."""


@dataclass(frozen=True)
class Taken:
    """What was copied."""

    sha256: str
    size_bytes: int
    executable: bool


def copy_file(found: SourceFile, copy: Path, tell: Tell) -> Taken | None:
    """A copy (0444) of `found` that is on disk, or None when the file changed meanwhile.

    Raises MooringsError `AssetUnreadable` for trouble with the source, OSError for trouble with the copy.
    """
    return _read(found, lambda chunks: write_hashed(chunks, copy, tell))


def hash_file(found: SourceFile) -> Taken | None:
    """What a copy would be, without making one; see `copy_file`."""

    def consume(chunks: Iterable[memoryview]) -> tuple[str, int]:
        digest, size_bytes = hashlib.sha256(), 0
        for chunk in chunks:
            digest.update(chunk)
            size_bytes += len(chunk)
        return digest.hexdigest(), size_bytes

    return _read(found, consume)


def _read(found: SourceFile, consume: Callable[[Iterable[memoryview]], tuple[str, int]]) -> Taken | None:
    """The file handed to `consume`, which says its digest and size; None when it changed meanwhile."""
    try:
        # O_NONBLOCK: should the name have become a pipe since it was listed, opening it does not hang.
        source_fd = os.open(found.real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as problem:
        raise _unreadable(found, problem) from None
    with os.fdopen(source_fd, "rb", buffering=0):
        before = os.fstat(source_fd)
        sha256, size_bytes = consume(_chunks(found, source_fd, before.st_size))
        after = os.fstat(source_fd)
        if (
            not stat.S_ISREG(after.st_mode)
            or _version(before) != _version(after)
            or size_bytes != after.st_size
        ):
            return None
    return Taken(sha256, size_bytes, bool(before.st_mode & stat.S_IXUSR))


def write_hashed(chunks: Iterable[memoryview | bytes], copy: Path, tell: Tell) -> tuple[str, int]:
    """Write all chunks to the new file `copy` (0444, synced); (sha256, bytes).

    A chunk is hashed while it is being written, and the one after it read meanwhile; a chunk's memory may be
    used again once the second one after it is asked for. Raises OSError for trouble with the copy.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    with copy.open("xb", buffering=0) as sink, ThreadPoolExecutor(1, "copy") as writer:
        writing: Future[None] | None = None
        for chunk in chunks:
            if writing is not None:
                writing.result()
                writing = None
            if len(chunk) < CHUNK_BYTES // 4:  # not worth a second thread
                _write(sink.fileno(), chunk)
            else:
                writing = writer.submit(_write, sink.fileno(), chunk)
            digest.update(chunk)
            size_bytes += len(chunk)
            tell(len(chunk))
        if writing is not None:
            writing.result()
        os.fchmod(sink.fileno(), 0o444)
        atomic.sync(sink.fileno(), copy)
    return digest.hexdigest(), size_bytes


def _write(fd: int, chunk: memoryview | bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _chunks(found: SourceFile, fd: int, size_bytes: int) -> Iterator[memoryview]:
    """The file's content in two buffers that take turns."""
    room = min(CHUNK_BYTES, max(size_bytes, 1) + 1)
    buffers = [memoryview(bytearray(room)) for _ in range(2 if size_bytes >= CHUNK_BYTES else 1)]
    turn = 0
    while True:
        buffer = buffers[turn % len(buffers)]
        try:
            count = os.readv(fd, [buffer])
        except OSError as problem:
            raise _unreadable(found, problem) from None
        if not count:
            return
        yield buffer[:count]
        turn += 1


def _version(info: os.stat_result) -> tuple[int, int, int]:
    return (info.st_size, info.st_mtime_ns, info.st_ino)


def _unreadable(found: SourceFile, problem: OSError) -> MooringsError:
    return error(
        "AssetUnreadable",
        f"cannot read {shown(found.path)}: {problem.strerror}",
        target=str(found.real),
        evidence=(f"{shown(found.path)}: {problem.strerror}",),
        fields={"path": found.real},
    )
