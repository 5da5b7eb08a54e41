"""Which files of a folder belong to an asset: ignore rules, symbolic links and refusals.

Reads names, never content.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pathspec

from moorings.assets.tree import shown
from moorings.errors.exceptions import Failure, MooringsError, failure

IGNORE_FILES = (".amlignore", ".gitignore")
"""The first one that is there counts, at the root of the folder only."""
ALWAYS_LEFT_OUT = frozenset({".git", "__pycache__"})
LONGEST_EVIDENCE = 20

Ignored = Callable[[str, bool], bool]
"""(path relative to the root, is it a folder) -> is it left out."""

_WHAT = {
    "AssetLinkEscapes": "links that lead out of the folder",
    "AssetLinkBroken": "links that lead nowhere",
    "AssetNotAFile": "entries that are neither files nor folders",
    "AssetUnreadable": "entries that cannot be read",
}


@dataclass(frozen=True)
class SourceFile:
    """One file to store."""

    path: str
    """Relative to the root, with `/`."""
    real: Path
    """Where its content is (behind all links)."""
    size_bytes: int


@dataclass
class Listing:
    """What a walk found."""

    files: list[SourceFile] = field(default_factory=list)
    empty_folders: list[str] = field(default_factory=list)
    ignored: int = 0
    """How many files and folders were left out (a folder counts once)."""


def list_folder(root: Path, *, use_ignore: bool, go_on: Callable[[], bool] = lambda: True) -> Listing:
    """All files of `root` (a real folder) that belong to the asset.

    Links to files and folders inside the root are followed and stored as what they lead to. Raises one error
    that names every entry that cannot be stored: `AssetLinkEscapes`, `AssetLinkBroken`, `AssetNotAFile`,
    `AssetUnreadable` (the user's fault); where there are several kinds, the others are its details; TimeoutError when
    `go_on`, asked at each folder, says no.
    """
    walk = _Walk(root, ignore_rules(root) if use_ignore else lambda _path, _is_folder: False, go_on)
    walk.folder(root, "", (root,))
    if walk.problems:
        raise _refusal(root, walk.problems)
    return walk.listing


def ignore_rules(root: Path) -> Ignored:
    """The rules of `.amlignore`, else of `.gitignore`, at `root`.

    Raises `AssetUnreadable` (the user's fault).
    """
    for name in IGNORE_FILES:
        path = root / name
        if not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            spec = pathspec.GitIgnoreSpec.from_lines(lines)
        except OSError as problem:
            raise _refusal(root, {"AssetUnreadable": [f"{name}: {problem.strerror}"]}) from None
        except ValueError as problem:
            raise _refusal(
                root, {"AssetUnreadable": [f"{name}: a pattern is not valid: {problem}"]}
            ) from None
        return lambda relative, is_folder: spec.match_file(relative + "/" if is_folder else relative)
    return lambda _path, _is_folder: False


class _Walk:
    def __init__(self, root: Path, ignored: Ignored, go_on: Callable[[], bool]) -> None:
        self.root = root
        self.go_on = go_on
        self.ignored = ignored
        self.listing = Listing()
        self.problems: dict[str, list[str]] = {}

    def folder(self, real: Path, prefix: str, above: tuple[Path, ...]) -> None:
        if not self.go_on():
            raise TimeoutError
        try:
            with os.scandir(real) as found:
                entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        except OSError as problem:
            self._refuse("AssetUnreadable", prefix.rstrip("/") or ".", problem.strerror)
            return
        if prefix and not entries:
            self.listing.empty_folders.append(prefix.rstrip("/"))
        for entry in entries:
            self._entry(Path(entry.path), prefix + entry.name, above)

    def _entry(self, path: Path, relative: str, above: tuple[Path, ...]) -> None:
        name = path.name
        try:
            info = path.lstat()
            is_link = stat.S_ISLNK(info.st_mode)
            leads_to_folder = path.is_dir()
        except OSError as problem:
            self._refuse("AssetUnreadable", relative, problem.strerror)
            return
        left_out = name in ALWAYS_LEFT_OUT or (name.endswith(".pyc") and not leads_to_folder)
        if left_out or self.ignored(relative, leads_to_folder and not is_link):
            self.listing.ignored += 1
            return
        real = path
        if is_link:
            behind = self._behind(path, relative, above)
            if behind is None:
                return
            real, info = behind
        if stat.S_ISDIR(info.st_mode):
            self.folder(real, f"{relative}/", (*above, real))
        elif not stat.S_ISREG(info.st_mode):
            self._refuse("AssetNotAFile", relative, _kind(info.st_mode))
        elif not os.access(real, os.R_OK):
            self._refuse("AssetUnreadable", relative, "permission denied")
        else:
            self.listing.files.append(SourceFile(relative, real, info.st_size))

    def _behind(
        self, link: Path, relative: str, above: tuple[Path, ...]
    ) -> tuple[Path, os.stat_result] | None:
        """What the link leads to, or None (and a refusal noted) where it may not be followed."""
        leads = ""
        try:
            leads = f"-> {link.readlink()}"
            real = link.resolve(strict=True)
            info = real.stat()
        except (OSError, RuntimeError):
            # Where it would lead decides the words: a link out of the folder is wrong even if nothing is
            # there.
            target = link.parent / leads.removeprefix("-> ")
            outside = bool(leads) and not _inside(Path(os.path.normpath(target)), self.root)
            self._refuse("AssetLinkEscapes" if outside else "AssetLinkBroken", relative, leads)
            return None
        if not _inside(real, self.root):
            self._refuse("AssetLinkEscapes", relative, leads)
            return None
        if real in above:
            self._refuse("AssetLinkBroken", relative, f"{leads} (a loop)")
            return None
        return real, info

    def _refuse(self, code: str, relative: str, why: str | None) -> None:
        self.problems.setdefault(code, []).append(f"{shown(relative)}: {why or 'unknown reason'}")


def _inside(path: Path, root: Path) -> bool:
    return path == root or root in path.parents


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"


def _refusal(root: Path, problems: dict[str, list[str]]) -> MooringsError:
    made: list[Failure] = []
    for code, lines in problems.items():
        more = [f"... and {len(lines) - LONGEST_EVIDENCE} more"] if len(lines) > LONGEST_EVIDENCE else []
        made.append(
            failure(
                code,
                f"{root}: {len(lines)} {_WHAT[code]}: {lines[0]}",
                target=str(root),
                evidence=[*lines[:LONGEST_EVIDENCE], *more],
                fields={"path": root},
            )
        )
    first, *others = made
    if not others:
        return MooringsError(first)
    whole = replace(first, details=tuple(made))
    return MooringsError(whole)
