"""The content-addressed store of models and code: same content is kept once, for ever unchanged.

Blocking: call it from a thread. It must not know what a model or a deployment is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorings.assets.copying import Taken, Tell, copy_file, hash_file
from moorings.assets.intake import SourceFile, list_folder
from moorings.assets.objects import NO_SPACE, Objects, free_bytes, human_size
from moorings.assets.tree import FileEntry, Tree, make_tree, manifest_of, shown
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import atomic, procs

READ_ATTEMPTS = 3
"""How often a file that changes under our hands is read before giving up."""

LARGE_BYTES = 64 << 20
"""From this size on a file is looked for in the store before it is copied."""

Progress = Callable[[int, int, str], None]
"""(bytes taken in so far, bytes in all, the file they are of)."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a store elsewhere."""

    path: str
    """Relative, with `/`; checked to lead nowhere else."""
    size_bytes: int
    copy: Callable[[Path, Tell], Taken | None]
    """Copies it to a new file; None when it changed meanwhile. Raises a coded failure of the source, OSError
    of the copy."""


@dataclass(frozen=True)
class RemoteTree:
    """A file or folder of a store elsewhere: what is there, before anything is read."""

    uri: str
    """Without credentials."""
    name: str
    """Of the file or folder, as it will be laid out."""
    is_file: bool
    files: Sequence[RemoteFile]


Found = SourceFile | RemoteFile


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
        self._gate = threading.Lock()
        self._users = 0

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
        name = source.name if keep_name else ""
        self._check_room(sum(found.size_bytes for found in files))
        notes = _notes(str(source), files, ignored)
        return self._keep(files, empty, name=name, is_file=is_file, notes=notes, progress=progress)

    def ingest_remote(self, found: RemoteTree, *, keep_name: bool, progress: Progress | None = None) -> Tree:
        """Store what a store elsewhere has; see `ingest`.

        Raises the codes of `found`'s reading, `ArtifactsTooLarge` (before anything is read),
        `AssetStoreFull`, `AssetStoreUnwritable`.
        """
        total_bytes = sum(file.size_bytes for file in found.files)
        free = free_bytes(self.root)
        if free is not None and total_bytes > free:
            raise error(
                "ArtifactsTooLarge",
                f"{found.uri} has {human_size(total_bytes)}; the disk of the workspace has {human_size(free)} free",
                target=found.uri,
                evidence=(
                    f"{len(found.files)} files, {total_bytes} bytes; free {free} bytes below {self.root}",
                ),
                fields={"store": self.root},
            )
        name = found.name if keep_name else ""
        notes = _notes(found.uri, found.files, 0)
        return self._keep(found.files, [], name=name, is_file=found.is_file, notes=notes, progress=progress)

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """As long as this lasts, nothing is discarded: for whoever stores content and has not yet said so in
        the state."""
        with self._gate:
            self._users += 1
        try:
            yield
        finally:
            with self._gate:
                self._users -= 1

    def discard(self, digest: str, *, unless: Callable[[str], bool]) -> bool:
        """Forget stored content, with the blobs that no other tree has; whether it is gone.

        It stays when `unless(digest)` says that somebody has it, and while anybody is `using` the store
        (`sweep` finds it later). Only one process of a workspace may discard: its daemon.
        """
        with self._gate:
            if self._users or unless(digest):
                return False
            self.manifest(digest).unlink(missing_ok=True)
            self._drop_unused_blobs()
        return True

    def _keep(
        self,
        files: Sequence[Found],
        empty: Sequence[str],
        *,
        name: str,
        is_file: bool,
        notes: tuple[str, ...],
        progress: Progress | None,
    ) -> Tree:
        """Copy everything aside; only when all of it is there it gets its names, the manifest last."""
        prefix = f"{name}/" if name and not is_file else ""
        meter = _Meter(sum(found.size_bytes for found in files), progress)
        taken: list[tuple[Found, Taken, Path | None]] = []
        try:
            with self.using(), self._incoming() as scratch:
                for found in files:
                    taken.append((found, *self._take(found, scratch, meter.of(found.path))))
                folders = [prefix + folder for folder in empty]
                if prefix and not taken and not folders:
                    folders = [name]
                entries = [
                    FileEntry(prefix + found.path, got.sha256, got.size_bytes, got.executable)
                    for found, got, _ in taken
                ]
                tree = make_tree(entries, folders, name=name, is_file=is_file, notes=notes)
                for _, got, copy in taken:
                    self._keep_blob(copy, got)
                self._keep_manifest(tree)
        except OSError as problem:
            raise self._failed(problem, meter.total_bytes) from None
        return tree

    def _check_room(self, total_bytes: int) -> None:
        free = free_bytes(self.root)
        if free is not None and total_bytes > free:
            raise self._failed(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), total_bytes)

    def sweep(self, in_use: Callable[[str], bool] | None = None) -> int:
        """Remove what killed processes left half-made; how many there were. Harmless while others take files in.

        With `in_use` (digest -> whether anybody has it) also stored content that nobody has; that is for the
        start of the daemon, before anything is taken in.
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
        if in_use is not None:
            for manifest in sorted((self.root / "trees").glob("*.json")):
                if not in_use(manifest.stem):
                    manifest.unlink(missing_ok=True)
                    swept += 1
            # Blobs get their names before the scratch folder goes: where nothing was swept, none is left over.
            if swept:
                swept += self._drop_unused_blobs()
        return swept

    def _drop_unused_blobs(self) -> int:
        """Remove the blobs that no tree has. A tree that cannot be read keeps them all."""
        wanted: set[str] = set()
        for manifest in (self.root / "trees").glob("*.json"):
            try:
                wanted.update(entry.sha256 for entry in self.tree(manifest.stem).files)
            except MooringsError:
                return 0
        dropped = 0
        for blob in (self.root / "objects").glob("??/*"):
            if blob.name not in wanted:
                blob.unlink(missing_ok=True)
                dropped += 1
        return dropped

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

    def _take(self, found: Found, scratch: Path, tell: Tell) -> tuple[Taken, Path | None]:
        """A copy of the file in `scratch`; none of a large file whose content is stored already."""
        known = self._stored(found) if isinstance(found, SourceFile) else None
        if known is not None:
            tell(known.size_bytes)
            return known, None
        for _attempt in range(READ_ATTEMPTS):
            copy = scratch / secrets.token_hex(8)
            told = 0

            def note(count: int) -> None:
                nonlocal told
                told += count
                tell(count)

            taken = copy_file(found, copy, note) if isinstance(found, SourceFile) else found.copy(copy, note)
            if taken is not None:
                return taken, copy
            copy.unlink()
            tell(-told)
        where = str(found.real) if isinstance(found, SourceFile) else found.path
        raise error(
            "AssetChanging",
            f"{shown(found.path)} changed while it was read, {READ_ATTEMPTS} times",
            target=where,
            evidence=(f"{shown(found.path)}: size or time of change moved during each read",),
            fields={"path": where},
        )

    def _stored(self, found: SourceFile) -> Taken | None:
        """What is stored of a large file already. Reading is far cheaper than writing, so where something of its
        size is stored the file is hashed before it is copied."""
        if found.size_bytes < LARGE_BYTES:
            return None
        for blob in (self.root / "objects").glob("??/*"):
            if blob.stat().st_size == found.size_bytes:
                taken = hash_file(found)
                here = taken is not None and self.blob(taken.sha256).is_file()
                return taken if here else None
        return None

    def _keep_blob(self, copy: Path | None, taken: Taken) -> None:
        if copy is None:
            return
        final = self.blob(taken.sha256)
        with contextlib.suppress(OSError):
            if final.stat().st_size == taken.size_bytes:
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


class _Meter:
    """Adds up what was copied, over all files."""

    def __init__(self, total_bytes: int, progress: Progress | None) -> None:
        self.total_bytes = total_bytes
        self._progress = progress
        self._done_bytes = 0

    def of(self, path: str) -> Tell:
        def tell(count: int) -> None:
            self._done_bytes += count
            if self._progress is not None:
                self._progress(self._done_bytes, self.total_bytes, path)

        tell(0)
        return tell


def _notes(source: str, files: Sequence[Found], ignored: int) -> tuple[str, ...]:
    notes: list[str] = []
    if not files:
        notes.append(f"{source} has no files")
    if ignored:
        notes.append(
            f"{ignored} files or folders of {source} were left out (ignore rules, .git, __pycache__, *.pyc)"
        )
    return tuple(notes)
