"""A stored folder as a value: which files, with which content, and the digest that names it.

Must not touch the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

MANIFEST_VERSION = 1


@dataclass(frozen=True)
class FileEntry:
    """One file of a tree."""

    path: str
    """Relative, with `/`; bytes that are no UTF-8 are kept as surrogate escapes."""
    sha256: str
    """64 lower-case hex digits of the content."""
    size_bytes: int
    executable: bool = False


@dataclass(frozen=True)
class Tree:
    """A stored file or folder. Two trees with one digest are the same, byte for byte."""

    digest: str
    """64 lower-case hex digits: the SHA-256 of the manifest."""
    files: tuple[FileEntry, ...]
    """Sorted by path."""
    size_bytes: int
    """Sum of all files; content that occurs twice counts twice."""
    name: str
    """Name of the stored file or folder, with which every path begins; empty where it was stored without its
    name.
    """
    is_file: bool
    """Whether a single file was stored, not a folder."""
    empty_folders: tuple[str, ...] = ()
    """Folders without anything in them (folders with files follow from the files)."""
    notes: tuple[str, ...] = ()
    """What the user may want to know about taking it in (left out files, nothing in it).

    Not part of the digest.
    """


def make_tree(
    files: list[FileEntry], empty_folders: list[str], *, name: str, is_file: bool, notes: tuple[str, ...] = ()
) -> Tree:
    """The tree of these files, in any order, with its digest."""
    ordered = tuple(sorted(files, key=lambda entry: os.fsencode(entry.path)))
    folders = tuple(sorted(empty_folders, key=os.fsencode))
    manifest = _manifest(ordered, folders, name, is_file)
    return Tree(
        digest=hashlib.sha256(manifest).hexdigest(),
        files=ordered,
        size_bytes=sum(entry.size_bytes for entry in ordered),
        name=name,
        is_file=is_file,
        empty_folders=folders,
        notes=notes,
    )


def manifest_of(tree: Tree) -> bytes:
    """Canonical JSON; its SHA-256 is the digest."""
    return _manifest(tree.files, tree.empty_folders, tree.name, tree.is_file)


def tree_of(manifest: bytes) -> Tree:
    """The tree of a stored manifest.

    Raises ValueError when the bytes are no manifest, or one whose paths lead out of the folder it is laid
    out in.
    """
    try:
        data: dict[str, Any] = json.loads(manifest)
        files = tuple(
            FileEntry(str(path), str(sha256), int(size), bool(executable))
            for path, sha256, size, executable in data["files"]
        )
        folders = tuple(str(folder) for folder in data["empty_folders"])
        tree = Tree(
            digest=hashlib.sha256(manifest).hexdigest(),
            files=files,
            size_bytes=sum(entry.size_bytes for entry in files),
            name=str(data["name"]),
            is_file=bool(data["is_file"]),
            empty_folders=folders,
        )
    except (TypeError, KeyError, AttributeError) as problem:
        raise ValueError(f"not a manifest: {problem}") from None
    for path in (*(entry.path for entry in files), *folders):
        if unsafe_path(path):
            raise ValueError(f"a path leads out of the tree: {path!r}")
    return tree


def unsafe_path(path: str) -> bool:
    """Whether a file of this relative path would lie elsewhere than below its folder, or nowhere."""
    return "\0" in path or bool({"", ".", ".."} & set(path.split("/")))


def shown(path: str) -> str:
    """`path` for a terminal or a log: one line, no control characters."""
    return path if path.isprintable() else repr(path)


def _manifest(files: tuple[FileEntry, ...], folders: tuple[str, ...], name: str, is_file: bool) -> bytes:
    data = {
        "version": MANIFEST_VERSION,
        "name": name,
        "is_file": is_file,
        "files": [[entry.path, entry.sha256, entry.size_bytes, entry.executable] for entry in files],
        "empty_folders": list(folders),
    }
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
