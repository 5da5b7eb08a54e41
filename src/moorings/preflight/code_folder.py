"""The Python files of a code folder, as the instance will see them: which module is which file. Which files belong to it
is handed in; of these it reads the content, and decides nothing about it."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

MAX_FILE_BYTES = 4 << 20
"""More is no source that a person wrote."""


@dataclass(frozen=True)
class Local:
    """A module of the code folder. A package without `__init__.py` has no file."""

    files: tuple[str, ...]
    """What importing it runs, outermost package first; relative to the code folder."""
    whole: bool
    """Whether each part of its name is there."""


@dataclass(frozen=True)
class CodeFolder:
    """`files`: path relative to the folder -> where its content is. `script`: path of the scoring script."""

    folder: Path
    files: Mapping[str, Path]
    script: str

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """Folders on `sys.path`, as the inference server puts them: the script's own, then the code folder."""
        return tuple(dict.fromkeys((posixpath.dirname(posixpath.normpath(self.script)), "")))

    def find(self, module: str) -> Local | None:
        """What importing `module` (dotted) means here; None where its first name is not here at all."""
        parts = module.split(".")
        root = next((each for each in self.roots if self._has(posixpath.join(each, parts[0]))), None)
        if root is None:
            return None
        files: list[str] = []
        here = root
        for index, part in enumerate(parts):
            here = posixpath.join(here, part)
            if (package := f"{here}/__init__.py") in self.files:
                files.append(package)
            elif (file := f"{here}.py") in self.files:
                return Local((*files, file), index == len(parts) - 1)
            elif here not in self._folders:
                return Local(tuple(files), here in self._compiled)
        return Local(tuple(files), whole=True)

    def absolute(self, file: str, level: int, module: str) -> str | None:
        """The absolute name of `from ..module import` in `file`; None where it leads out of every root."""
        base = posixpath.dirname(file)
        for _ in range(level - 1):
            if not base:
                return None
            base = posixpath.dirname(base)
        for root in self.roots:
            if root and base != root and not base.startswith(f"{root}/"):
                continue
            inner = base[len(root) :].strip("/")
            parts = [*inner.split("/"), *([module] if module else [])]
            return ".".join(part for part in parts if part) or None
        return None

    def read(self, file: str) -> bytes:
        """Raises OSError, KeyError; a file beyond any source has nothing in it."""
        with self.files[file].open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES + 1)
        return data if len(data) <= MAX_FILE_BYTES else b""

    def shown(self, file: str) -> str:
        """The file as the user would name it."""
        return shown(self.folder / file)

    def _has(self, path: str) -> bool:
        return f"{path}.py" in self.files or path in self._folders or path in self._compiled

    @cached_property
    def _folders(self) -> frozenset[str]:
        """Those with a module somewhere in them."""
        found: set[str] = set()
        for file in self.files:
            folder = posixpath.dirname(file) if file.endswith((".py", ".so")) else ""
            while folder and folder not in found:
                found.add(folder)
                folder = posixpath.dirname(folder)
        return frozenset(found)

    @cached_property
    def _compiled(self) -> frozenset[str]:
        """Paths of compiled modules without their endings, whatever Python they were made for."""
        return frozenset(
            posixpath.join(posixpath.dirname(file), posixpath.basename(file).partition(".")[0])
            for file in self.files
            if file.endswith(".so")
        )


def shown(path: Path | str) -> str:
    """A path as the user would name it: from the current folder, where it lies below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
