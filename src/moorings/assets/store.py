"""The content-addressed store of models and code: same content is kept once, for ever unchanged.

Blocking: call it from a thread. It must not know what a model or a deployment is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from moorings.assets.intake import SourceFile, list_folder
from moorings.assets.objects import NO_SPACE, Objects, free_bytes, human_size
from moorings.assets.tree import FileEntry, Tree, make_tree, manifest_of, shown
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import atomic, procs

CHUNK_BYTES = 1 << 20
READ_ATTEMPTS = 3
"""How often a file that changes under our hands is read before giving up."""

Progress = Callable[[int, int], None]
"""(bytes taken in so far, bytes in all)."""


class AssetStore(Objects):
    """Takes files in below `root` and lays them out again.

    Layout: `objects/<ab>/<sha256>` (0444), `trees/<digest>.json`, `incoming/` for what is under way.
    Everything is 0700 and made on demand. Safe for any number of threads and processes at once.
    """

    def __init__(self, root: Path, *, home: Path | None = None) -> None:
        """`home`: the folder assets may not come from (the workspace folder); `root` itself when not
        given.
        """
        super().__init__(root)
        self.home = home or root

    def ingest(
        self, source: Path, *, keep_name: bool, use_ignore: bool, progress: Progress | None = None
    ) -> Tree:
        """Store the file or folder `source` (absolute) and return its tree, durable on disk.

        `keep_name`: every path begins with the name of `source` (models); else with its content (code).
        `use_ignore`: leave out what `.amlignore`, else `.gitignore`, at the root says; `.git`, `__pycache__`
        and `*.pyc` are always left out of a folder. Links inside the folder are stored as what they lead to.
        Raises (the user's fault) `AssetSourceMissing`, `AssetInsideHome`, `AssetLinkEscapes`,
        `AssetLinkBroken`, `AssetNotAFile`, `AssetUnreadable`, `AssetChanging`; (the machine's)
        `AssetStoreFull`, `AssetStoreUnwritable`. After an error nothing half-made is left.
        """
        real, is_file = self._look(source)
        if is_file:
            files, empty, ignored = [_single(source, real)], [], 0
        else:
            listing = list_folder(real, use_ignore=use_ignore)
            files, empty, ignored = listing.files, listing.empty_folders, listing.ignored
        prefix = f"{source.name}/" if keep_name and not is_file else ""
        notes = _notes(source, files, ignored)
        total_bytes = sum(found.size_bytes for found in files)
        entries: list[FileEntry] = []
        done_bytes = 0
        try:
            with self._incoming() as scratch:
                for found in files:
                    entry = self._take(found, prefix, scratch)
                    entries.append(entry)
                    done_bytes += entry.size_bytes
                    if progress is not None:
                        progress(done_bytes, total_bytes)
                folders = [prefix + folder for folder in empty]
                if prefix and not entries and not folders:
                    folders = [source.name]
                name = source.name if keep_name else ""
                tree = make_tree(entries, folders, name=name, is_file=is_file, notes=notes)
                self._keep_manifest(tree)
        except OSError as problem:
            raise self._failed(problem, total_bytes) from None
        return tree

    def sweep(self) -> int:
        """Remove what killed processes left half-made; how many there were.

        Harmless while others take files in.
        """
        swept = atomic.sweep(self.root / "trees")
        incoming = self.root / "incoming"
        with contextlib.suppress(FileNotFoundError):
            for lock in sorted(incoming.glob("*.lock")):
                held = procs.try_lock(lock)
                if held is None:
                    continue
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)
                held.release()
                swept += 1
            for folder in incoming.iterdir():
                # A folder is made after its lock and removed before it: without one, nobody uses it.
                if folder.suffix != ".lock" and not folder.with_suffix(".lock").exists():
                    shutil.rmtree(folder, ignore_errors=True)
                    swept += 1
        return swept

    def _look(self, source: Path) -> tuple[Path, bool]:
        fields = {"path": source}
        try:
            real = source.resolve(strict=True)
            mode = real.stat().st_mode
        except (OSError, RuntimeError, ValueError) as problem:  # ValueError: a NUL in the name
            why = (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
            message = f"cannot read {source}: {why}"
            raise error("AssetSourceMissing", message, target=str(source), fields=fields) from None
        is_file = stat.S_ISREG(mode)
        if not is_file and not stat.S_ISDIR(mode):
            message = f"{source} is neither a file nor a folder"
            raise error("AssetSourceMissing", message, target=str(source), fields=fields)
        for ours in {self.home.resolve(), self.root.resolve()}:
            if ours == real or ours in real.parents or real in ours.parents:
                message = f"{source} overlaps the workspace folder {ours}"
                raise error("AssetInsideHome", message, target=str(source), fields=fields)
        return real, is_file

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[Path]:
        """A scratch folder that `sweep` leaves alone as long as this process lives."""
        incoming = self.root / "incoming"
        incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = None
        while held is None:  # `sweep` may have got hold of the new lock for a moment
            scratch = incoming / secrets.token_hex(8)
            held = procs.try_lock(scratch.with_suffix(".lock"))
        try:
            scratch.mkdir(mode=0o700)
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            with contextlib.suppress(OSError):
                held.path.unlink()
            held.release()

    def _take(self, found: SourceFile, prefix: str, scratch: Path) -> FileEntry:
        """Copy and hash in one pass, then give the copy its name."""
        for _attempt in range(READ_ATTEMPTS):
            copy = scratch / secrets.token_hex(8)
            taken = _copy_hashed(found, copy)
            if taken is None:
                copy.unlink()
                continue
            sha256, size_bytes, executable = taken
            self._keep_blob(copy, sha256, size_bytes)
            return FileEntry(prefix + found.path, sha256, size_bytes, executable)
        raise error(
            "AssetChanging",
            f"{shown(found.path)} changed while it was read, {READ_ATTEMPTS} times",
            target=str(found.real),
            evidence=(f"{shown(found.path)}: size or time of change moved during each read",),
            fields={"path": found.real},
        )

    def _keep_blob(self, copy: Path, sha256: str, size_bytes: int) -> None:
        final = self.blob(sha256)
        with contextlib.suppress(OSError):
            if final.stat().st_size == size_bytes:
                copy.unlink()
                return
        final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        copy.replace(final)
        atomic.sync_folder(final.parent)

    def _keep_manifest(self, tree: Tree) -> None:
        path = self.manifest(tree.digest)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic.write_if_changed(path, manifest_of(tree), mode=0o400)

    def _failed(self, problem: OSError, total_bytes: int) -> MooringsError:
        free = free_bytes(self.root)
        free_text = "unknown" if free is None else human_size(free)
        lines = (
            f"{problem.strerror}: {problem.filename or self.root}",
            f"the asset has {human_size(total_bytes)}, free {free_text}",
        )
        full = problem.errno in NO_SPACE
        message = (
            "no space is left to store the asset" if full else f"cannot store the asset: {problem.strerror}"
        )
        return error(
            "AssetStoreFull" if full else "AssetStoreUnwritable",
            message,
            target=str(self.root),
            evidence=lines,
            fields={"store": self.root},
        )


def _single(source: Path, real: Path) -> SourceFile:
    return SourceFile(source.name, real, real.stat().st_size)


def _notes(source: Path, files: list[SourceFile], ignored: int) -> tuple[str, ...]:
    notes: list[str] = []
    if not files:
        notes.append(f"{source} has no files")
    if ignored:
        notes.append(
            f"{ignored} files or folders of {source} were left out (ignore rules, .git, __pycache__, *.pyc)"
        )
    return tuple(notes)


def _copy_hashed(found: SourceFile, copy: Path) -> tuple[str, int, bool] | None:
    """(sha256, size, executable) of a copy that is on disk, or None when the file changed meanwhile.

    Raises MooringsError `AssetUnreadable` for trouble with the source, OSError for trouble with the copy.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    size_bytes = 0
    try:
        # O_NONBLOCK: should the name have become a pipe since it was listed, opening it does not hang.
        source_fd = os.open(found.real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as problem:
        raise _unreadable(found, problem) from None
    with os.fdopen(source_fd, "rb", buffering=0) as source, copy.open("xb", buffering=0) as sink:
        before = os.fstat(source_fd)
        while True:
            try:
                count = source.readinto(buffer)
            except OSError as problem:
                raise _unreadable(found, problem) from None
            if not count:
                break
            digest.update(buffer[:count])
            rest = buffer[:count]
            while rest:
                rest = rest[sink.write(rest) :]
            size_bytes += count
        after = os.fstat(source_fd)
        if (
            not stat.S_ISREG(after.st_mode)
            or _version(before) != _version(after)
            or size_bytes != after.st_size
        ):
            return None
        os.fchmod(sink.fileno(), 0o444)
        os.fsync(sink.fileno())
    return digest.hexdigest(), size_bytes, bool(before.st_mode & stat.S_IXUSR)


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
