"""Content that clients send, as files: written once in constant memory, hashed on the way, never changed afterwards.

Layout below `root`: `data/<ab>/<id>` (0444), `blocks/<place>/<block>` for what is sent in pieces, `incoming/`. Which
names this content has is somebody else's to remember. Blocking: call it from a thread.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorings.assets.copying import Taken, Tell
from moorings.assets.objects import NO_LINK, NO_SPACE, free_bytes, human_size
from moorings.errors.exceptions import error
from moorings.lib import atomic

CHUNK_BYTES = 1 << 20
KEEP_BLOCKS_S = 24 * 3600.0
"""How long the pieces of an upload that was never completed stay."""


@dataclass(frozen=True)
class Stored:
    """Content that is on disk for good."""

    data: str
    """Names the file; unique."""
    size_bytes: int
    sha256: str


class Uploads:
    """The files of all uploads. Safe for any number of threads; for one process of a workspace at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, data: str) -> Path:
        return self.root / "data" / data[:2] / data

    def begin(self, expected_bytes: int) -> Incoming:
        """A new file to write to.

        Raises `AssetStoreFull` (also when so many bytes cannot fit) or `AssetStoreUnwritable`: the machine's
        fault.
        """
        with _translated(self.root, expected_bytes):
            folder = self.root / "incoming"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            free = free_bytes(folder)
            if free is not None and expected_bytes > free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
            return Incoming(self.root, folder / secrets.token_hex(16), expected_bytes)

    def keep(self, incoming: Incoming) -> Stored:
        """Make what was written durable, in a place of its own. Raises as `begin`."""
        stored = incoming.finish()
        with _translated(self.root, incoming.expected_bytes):
            _place(incoming.path, self.path(stored.data))
        return stored

    def keep_block(self, incoming: Incoming, place: str, block: str) -> None:
        """Keep it as a piece of `place`; an earlier one of the same name is replaced. Raises as `begin`."""
        incoming.finish()
        with _translated(self.root, incoming.expected_bytes):
            _place(incoming.path, self._block(place, block))

    def join(self, place: str, blocks: Sequence[str]) -> Stored:
        """These pieces, in this order, as one file; they stay until `forget_blocks`.

        Raises KeyError with the name of a piece that is not there; else as `begin`.
        """
        paths = [self._block(place, block) for block in blocks]
        total_bytes = 0
        for block, path in zip(blocks, paths, strict=True):
            try:
                total_bytes += path.stat().st_size
            except FileNotFoundError:
                raise KeyError(block) from None
        incoming = self.begin(total_bytes)
        try:
            for path in paths:
                for chunk in _chunks(self.root, path, total_bytes):
                    incoming.write(chunk)
            return self.keep(incoming)
        except BaseException:
            incoming.drop()
            raise

    def forget_blocks(self, place: str) -> None:
        shutil.rmtree(self.root / "blocks" / _hashed(place), ignore_errors=True)

    def forget(self, data: str) -> None:
        self.path(data).unlink(missing_ok=True)

    def copier(self, stored: Stored) -> Callable[[Path, Tell], Taken | None]:
        """Makes the content appear under another name: without copying, where the file system can do that."""

        def copy(target: Path, tell: Tell) -> Taken | None:
            source = self.path(stored.data)
            try:
                os.link(source, target)
            except OSError as problem:
                if problem.errno not in NO_LINK:
                    raise
                shutil.copyfile(source, target)
                target.chmod(0o444)
                with target.open("rb") as handle:
                    atomic.sync(handle.fileno(), target)
            tell(stored.size_bytes)
            return Taken(stored.sha256, stored.size_bytes, False)

        return copy

    def sweep(self, known: Callable[[str], bool], now: float) -> int:
        """Remove what killed processes left, and pieces that nobody joined; how many there were.

        `known(data)`: whether somebody remembers that file. For the start of the daemon, before anything is
        taken in.
        """
        swept = 0
        for path in (self.root / "incoming").glob("*"):
            path.unlink(missing_ok=True)
            swept += 1
        for path in (self.root / "data").glob("??/*"):
            if not known(path.name):
                path.unlink(missing_ok=True)
                swept += 1
        for folder in (self.root / "blocks").glob("*"):
            if now - folder.stat().st_mtime > KEEP_BLOCKS_S:
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
        return swept

    def _block(self, place: str, block: str) -> Path:
        return self.root / "blocks" / _hashed(place) / _hashed(block)


class Incoming:
    """One file under way. Used by one thread at a time."""

    def __init__(self, root: Path, path: Path, expected_bytes: int) -> None:
        self.path = path
        self.expected_bytes = expected_bytes
        self.size_bytes = 0
        self._root = root
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, chunk: bytes | bytearray, *, md5: bool = False) -> None:
        """Raises `AssetStoreFull`, `AssetStoreUnwritable`. `md5`: also counts for `md5`."""
        with _translated(self._root, self.expected_bytes):
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        self._sha256.update(chunk)
        if md5:
            self._md5.update(chunk)
        self.size_bytes += len(chunk)

    @property
    def md5(self) -> str:
        """Of what was written with `md5`; base64, as `Content-MD5` has it."""
        return base64.b64encode(self._md5.digest()).decode()

    def finish(self) -> Stored:
        """Closed and on disk. Raises as `write`."""
        with _translated(self._root, self.expected_bytes):
            os.fchmod(self._fd, 0o444)
            atomic.sync(self._fd, self.path)
            self._close()
        return Stored(self.path.name, self.size_bytes, self._sha256.hexdigest())

    def drop(self) -> None:
        """Nothing of it stays. Harmless when it was kept."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _chunks(root: Path, path: Path, total_bytes: int) -> Iterator[bytes]:
    with _translated(root, total_bytes), path.open("rb", buffering=0) as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk


def _place(made: Path, final: Path) -> None:
    final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made.replace(final)
    atomic.sync_folder(final.parent)


def _hashed(name: str) -> str:
    """A file name for any name there may be."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


@contextlib.contextmanager
def _translated(root: Path, expected_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        free = free_bytes(root)
        free_text = "unknown" if free is None else human_size(free)
        full = problem.errno in NO_SPACE
        message = (
            f"no space is left for an upload of {human_size(expected_bytes)}"
            if full
            else f"an upload cannot be stored: {problem.strerror}"
        )
        raise error(
            "AssetStoreFull" if full else "AssetStoreUnwritable",
            message,
            target=str(root),
            evidence=(f"{problem.strerror}: {problem.filename or root}", f"free {free_text}"),
            fields={"store": root},
        ) from None
