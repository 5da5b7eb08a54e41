"""Reading the store: blobs and manifests by digest, laid out again as files and folders.

It must stay quick to import (an instance waits for it), so taking files in is elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path

from moorings.assets.tree import FileEntry, Tree, shown, tree_of
from moorings.errors.exceptions import MooringsError, error

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""EFBIG: a file size limit of the process or of the file system is a lack of space to the user."""
NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES})

PARTIAL = ".partial"
REPLACED = ".replaced"


class Objects:
    """The stored content below `root`: `objects/<ab>/<sha256>` (0444) and `trees/<digest>.json`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob(self, sha256: str) -> Path:
        return self.root / "objects" / sha256[:2] / sha256

    def text(self, sha256: str, most_bytes: int) -> str:
        """The beginning of a stored file as text; what is no UTF-8 is replaced."""
        with self.blob(sha256).open("rb") as file:
            return file.read(most_bytes).decode("utf-8", "replace")

    def manifest(self, digest: str) -> Path:
        return self.root / "trees" / f"{digest}.json"

    def exists(self, digest: str) -> bool:
        """Whether the tree is stored. (It is written after all of its blobs.)"""
        return self.manifest(digest).is_file()

    def tree(self, digest: str) -> Tree:
        """The stored tree.

        Raises `ArtifactsUnavailable` (the machine's fault) when it is missing or is not what was stored.
        """
        try:
            data = self.manifest(digest).read_bytes()
        except OSError as problem:
            raise _unavailable(
                digest, f"its list of files cannot be read: {problem.strerror}", self
            ) from None
        try:
            tree = tree_of(data)
        except ValueError as problem:
            raise _unavailable(digest, f"its list of files is damaged: {problem}", self) from None
        if tree.digest != digest:
            raise _unavailable(digest, "its list of files is damaged: the digest differs", self)
        return tree

    def materialise(self, digest: str, target: Path, *, link: bool) -> Tree:
        """Make `target` a folder that holds exactly the tree; what was there is replaced, in one step.

        `link=True` hard-links the (read-only) blobs where the file system allows it; a file that is
        executable, and everything with `link=False`, is a copy that may be written to. One caller at a time
        per target; what a killed one left behind is removed. Raises `ArtifactsUnavailable` or
        `ArtifactsNoSpace`, both the machine's fault; then `target` is as it was.
        """
        tree = self.tree(digest)
        self._check_blobs(tree)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(target)
            partial = _beside(target, PARTIAL)
            try:
                self._fill(tree, partial, link=link)
                _swap(partial, target)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        except OSError as problem:
            raise _layout_failed(problem, tree, target) from None
        return tree

    def holds(self, tree: Tree, target: Path) -> bool:
        """Whether every file of the tree is below `target` with its size (the content is not read)."""
        try:
            return target.is_dir() and all(
                (target / entry.path).lstat().st_size == entry.size_bytes for entry in tree.files
            )
        except OSError:
            return False

    def _check_blobs(self, tree: Tree) -> None:
        wrong: list[str] = []
        for entry in tree.files:
            try:
                size = self.blob(entry.sha256).stat().st_size
            except OSError as problem:
                wrong.append(f"{shown(entry.path)}: {problem.strerror} ({entry.sha256[:12]})")
                continue
            if size != entry.size_bytes:
                wrong.append(f"{shown(entry.path)}: has {size} bytes instead of {entry.size_bytes}")
        if wrong:
            reason = f"{len(wrong)} of {len(tree.files)} files are missing or damaged"
            raise _unavailable(tree.digest, reason, self, wrong)

    def _fill(self, tree: Tree, folder: Path, *, link: bool) -> None:
        folder.mkdir(mode=0o755)
        made = {folder}
        for empty in tree.empty_folders:
            (folder / empty).mkdir(parents=True, exist_ok=True)
        for entry in tree.files:
            place = folder / entry.path
            if place.parent not in made:
                place.parent.mkdir(parents=True, exist_ok=True)
                made.add(place.parent)
            self._place(entry, place, link=link)

    def _place(self, entry: FileEntry, place: Path, *, link: bool) -> None:
        blob = self.blob(entry.sha256)
        if link and not entry.executable:
            try:
                os.link(blob, place)
            except OSError as problem:
                if problem.errno not in NO_LINK:
                    raise
            else:
                return
        shutil.copyfile(blob, place)
        place.chmod(0o755 if entry.executable else 0o644)


def remove_leftovers(target: Path) -> None:
    """Remove what a killed `materialise` of this target left beside it."""
    prefix = f".{target.name}."
    for found in target.parent.iterdir():
        if found.name.startswith(prefix) and found.name.endswith((PARTIAL, REPLACED)):
            shutil.rmtree(found, ignore_errors=True)


def free_bytes(path: Path) -> int | None:
    """Free space for this user on the disk of `path` (or of its nearest existing parent); None when
    unknown.
    """
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(place).free
    return None


def human_size(size_bytes: int) -> str:
    """`532 B`, `1.5 MB`: decimal units, as disks are sold."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.95 or unit == "TB":
            break
    return f"{size:.1f} {unit}"


def _beside(target: Path, suffix: str) -> Path:
    return target.parent / f".{target.name}.{secrets.token_hex(4)}{suffix}"


def _swap(partial: Path, target: Path) -> None:
    if target.is_symlink() or target.exists():
        replaced = _beside(target, REPLACED)
        target.rename(replaced)
        partial.rename(target)
        if replaced.is_symlink() or not replaced.is_dir():
            replaced.unlink()
        else:
            shutil.rmtree(replaced, ignore_errors=True)
    else:
        partial.rename(target)


def _unavailable(
    digest: str, reason: str, store: Objects, evidence: list[str] | None = None
) -> MooringsError:
    shown_lines = (evidence or [])[:20]
    return error(
        "ArtifactsUnavailable",
        f"stored content {digest[:12]} is not available: {reason}",
        target=str(store.manifest(digest)),
        evidence=shown_lines or (str(store.manifest(digest)),),
    )


def _layout_failed(problem: OSError, tree: Tree, target: Path) -> MooringsError:
    free = free_bytes(target)
    free_text = "unknown" if free is None else human_size(free)
    figures = f"needs up to {human_size(tree.size_bytes)}, free {free_text}"
    lines = (f"{problem.strerror}: {problem.filename or target}", figures)
    if problem.errno in NO_SPACE:
        message = f"no space to lay out {human_size(tree.size_bytes)} at {target}"
        return error(
            "ArtifactsNoSpace", message, target=str(target), evidence=lines, fields={"target": target.parent}
        )
    message = f"cannot lay out files at {target}: {problem.strerror}"
    return error("ArtifactsUnavailable", message, target=str(target), evidence=lines)
