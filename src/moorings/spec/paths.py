"""Local files and folders that a spec names: found from the folder of the file that names them, checked, made
absolute.

Reads names and sizes of files only, never their content.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from moorings.spec.problems import FieldPath, Problem, path_text, shown
from moorings.spec.references import is_local_path, is_reference

MAX_LISTED = 12
"""Names of a folder that a message lists."""


@dataclass
class PathChecker:
    """Resolves the paths of one document whose relative paths start at `folder`; gathers the problems it
    meets."""

    folder: Path
    problems: list[Problem] = field(default_factory=list)

    def resolve(self, value: Any, path: FieldPath, *, want: str) -> str | None:
        """The absolute path of a local path, or None after noting a problem.

        `want` is `file`, `folder` or `any`. References and addresses come back as they are; other values as
        None
        without a problem (their type is checked elsewhere).
        """
        if not isinstance(value, str):
            return None
        text = strip_file_prefix(value)
        if text is None:
            self._note(path, f"`{path_text(path)}`: {shown(value)} is not an address of this machine")
            return None
        if text is value and (is_reference(value) or not is_local_path(value)):
            return value
        return self._local(text, path, want)

    def local(self, value: Any, path: FieldPath, *, want: str) -> Path | None:
        """As `resolve`, for keys that take local paths only."""
        found = self.resolve(value, path, want=want)
        if found is None:
            return None
        if found == value and not is_local_path(found):
            self._note(path, f"`{path_text(path)}`: found {shown(value)}; expected a local {want}")
            return None
        return Path(found)

    def script(self, code: str | None, script: Any, path: FieldPath) -> None:
        """Check a scoring script: relative, below the code folder, a file."""
        if not isinstance(script, str):
            return
        name = path_text(path)
        pure = PurePosixPath(script)
        if not script.strip() or pure.is_absolute() or "\0" in script:
            self._note(path, f"`{name}`: found {shown(script)}; expected a path relative to the code folder")
            return
        if code is None or is_reference(code) or not is_local_path(code):
            if ".." in pure.parts:
                self._note(path, f"`{name}`: {shown(script)} leads out of the code folder")
            return
        folder = Path(code)
        file = folder / script
        try:
            if not file.resolve().is_relative_to(folder.resolve()):
                self._note(path, f"`{name}`: {shown(script)} leads out of the code folder {folder}")
                return
        except (OSError, RuntimeError, ValueError) as wrong:
            self._note(path, f"`{name}`: {file} cannot be used: {_reason(wrong)}", folder)
            return
        self._local(str(file), path, "file")

    def _local(self, text: str, path: FieldPath, want: str) -> str | None:
        name = path_text(path)
        if not text.strip() or "\0" in text:
            self._note(path, f"`{name}`: found {shown(text)}; expected the path of a {_kind(want)}")
            return None
        try:
            absolute = _absolute(self.folder, text)
        except (OSError, RuntimeError, ValueError) as wrong:
            self._note(path, f"`{name}`: {shown(text)} cannot be used: {_reason(wrong)}")
            return None
        try:
            mode = absolute.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            self._missing(absolute, path)
            return None
        except (OSError, RuntimeError, ValueError) as wrong:
            self._note(path, f"`{name}`: {shown(text)} cannot be used: {_reason(wrong)}")
            return None
        if not (
            stat.S_ISREG(mode)
            if want == "file"
            else stat.S_ISDIR(mode)
            if want == "folder"
            else _either(mode)
        ):
            self._note(
                path, f"`{name}`: {absolute} is {_what(mode)}; expected a {_kind(want)}", absolute.parent
            )
            return None
        if not os.access(absolute, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
            self._note(path, f"`{name}`: {absolute} may not be read by this user", absolute.parent)
            return None
        return str(absolute)

    def _missing(self, absolute: Path, path: FieldPath) -> None:
        nearest = next((parent for parent in absolute.parents if _is_folder(parent)), Path("/"))
        problem = Problem(
            path,
            f"`{path_text(path)}`: {absolute} does not exist; {nearest} holds {listing(nearest)}",
            "SpecPathNotFound",
            fields={"folder": nearest},
        )
        self.problems.append(problem)

    def _note(self, path: FieldPath, message: str, folder: Path | None = None) -> None:
        self.problems.append(
            Problem(path, message, "SpecPathUnusable", fields={"folder": folder or self.folder})
        )


def strip_file_prefix(value: str) -> str | None:
    """`file:<path>` and `file:///<path>` as a plain path; other text as it is; None for a file address of
    another host."""
    if value.startswith("file://"):
        try:
            parts = urlsplit(value)
        except ValueError:
            return None
        return unquote(parts.path) if parts.netloc in ("", "localhost") else None
    return value.removeprefix("file:") if value.startswith("file:") else value


def listing(folder: Path) -> str:
    """The first names of a folder in one line."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                _clean(entry.name) + ("/" if entry.is_dir() else "")
                for entry, _ in zip(entries, range(500), strict=False)
            )
    except OSError:
        return "nothing that may be listed"
    if not names:
        return "nothing"
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _absolute(folder: Path, text: str) -> Path:
    """`..` is taken as the file system takes it, across links; everything else by the text alone."""
    path = folder.absolute() / Path(text).expanduser()
    path = Path(os.path.realpath(path) if ".." in path.parts else os.path.normpath(path))
    str(
        path
    ).encode()  # a name that is not UTF-8 could neither be sent nor shown: UnicodeEncodeError is a ValueError
    return path


def _clean(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _either(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _kind(want: str) -> str:
    return "file or folder" if want == "any" else want


def _what(mode: int) -> str:
    kinds: tuple[tuple[Callable[[int], bool], str], ...] = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISREG, "a file"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for test, name in kinds if test(mode)), "a device")


def _reason(wrong: Exception) -> str:
    return (wrong.strerror if isinstance(wrong, OSError) and wrong.strerror else str(wrong)).lower()
