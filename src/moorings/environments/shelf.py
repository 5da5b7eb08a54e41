"""Where built environments, their locks and logs lie, and which of them are complete. Must not know how to
build one.

    <key>/               a virtual environment; `meta.json` in it is written last and makes it complete
    recipes/<key>.json   recipe key -> build key
    recipes/<key>.in     the requirements of a recipe
    logs/<key>.log       build log of a recipe (0600)
    logs/<key>.*         beside it what it was resolved to: `requirements.lock`, `conda-lock.yml`
    locks/<key>.lock     held by whoever resolves that recipe or builds that environment
    wheels/              the inference server
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moorings.lib import atomic, procs

META = "meta.json"
KEY = re.compile(r"^[0-9a-f]{16}$")
_PREFIX = re.compile(r"^[0-9a-f]{4,16}$")


@dataclass(frozen=True)
class Complete:
    """A finished environment."""

    key: str
    recipe_key: str
    """The recipe it was built for first; others may have led to it since."""
    python: Path
    python_version: str
    packages: Mapping[str, str]
    notes: tuple[str, ...]
    solver: str = "index"
    """`conda` or `index`."""
    solver_reason: str = ""
    seconds: float = 0.0
    """What installing it took."""
    built_at: float = 0.0
    """Unix seconds; 0 when it is not known."""
    size_bytes: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that activating it would set."""


class Shelf:
    """The folder of environments."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        for folder in (self.root, *(self.root / name for name in ("recipes", "logs", "locks", "wheels"))):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, key: str) -> Path:
        return self.root / key

    def lock(self, key: str) -> Path:
        return self.root / "locks" / f"{key}.lock"

    def log_file(self, recipe_key: str) -> Path:
        return self.root / "logs" / f"{recipe_key}.log"

    def requirements(self, recipe_key: str) -> Path:
        return self.root / "recipes" / f"{recipe_key}.in"

    def recipe_file(self, recipe_key: str, name: str) -> Path:
        """A file of a recipe, kept to see later what was asked for."""
        return self.root / "recipes" / f"{recipe_key}.{name}"

    def of_recipe(self, recipe_key: str) -> Complete | None:
        """The complete environment a recipe has led to, if it is still there."""
        data = _json(self.root / "recipes" / f"{recipe_key}.json")
        return self.complete(str(data["key"])) if data is not None and "key" in data else None

    def complete(self, key: str) -> Complete | None:
        """The environment of a build key when it is finished and its interpreter is still there."""
        if not KEY.match(key):
            return None
        folder = self.folder(key)
        data = _json(folder / META)
        # The link leads out of here: whoever removed that Python has made the environment useless.
        if data is None or not (folder / "bin" / "python").exists():
            return None
        try:
            return Complete(
                key=key,
                recipe_key=str(data["recipe_key"]),
                python=folder / "bin" / "python",
                python_version=str(data["python_version"]),
                packages={str(name): str(version) for name, version in data["packages"].items()},
                notes=tuple(str(note) for note in data["notes"]),
                solver=str(data.get("solver", "index")),
                solver_reason=str(data.get("solver_reason", "")),
                seconds=float(data.get("seconds", 0.0)),
                built_at=float(data.get("built_at", 0.0)),
                size_bytes=int(data.get("size_bytes", 0)),
                variables={str(name): str(value) for name, value in data.get("variables", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def remember(self, recipe_key: str, key: str) -> None:
        text = json.dumps({"key": key}).encode()
        atomic.write_if_changed(self.root / "recipes" / f"{recipe_key}.json", text)

    def keep_locks(self, recipe_key: str, locks: Mapping[str, str]) -> None:
        """Keep what reproduces an environment beside the build log of the recipe."""
        for name, text in locks.items():
            atomic.write_if_changed(self.root / "logs" / f"{recipe_key}.{name}", text.encode())

    def locks(self, recipe_key: str) -> dict[str, str]:
        """Name of a lock file (`requirements.lock`, `conda-lock.yml`) -> text."""
        return {
            path.name.partition(".")[2]: path.read_text("utf-8", "replace")
            for path in sorted((self.root / "logs").glob(f"{recipe_key}.*lock*"))
        }

    def finish(self, key: str, meta: Mapping[str, Any]) -> None:
        """Make the environment complete: everything in it reaches the disk before the file that says so."""
        folder = self.folder(key)
        sync_file_system(folder)
        whole = {**meta, "size_bytes": sizes(folder)[0]}
        atomic.write(folder / META, json.dumps(whole, indent=1, sort_keys=True).encode())

    def discard(self, key: str) -> None:
        """Remove an environment, its sign of completeness first. The caller holds its lock."""
        self.make_incomplete(key)
        shutil.rmtree(self.folder(key), ignore_errors=True)

    def make_incomplete(self, key: str) -> None:
        """Take away its sign of completeness: nobody is given it any more, and what is left of it is garbage."""
        folder = self.folder(key)
        with contextlib.suppress(FileNotFoundError):
            (folder / META).unlink()
            atomic.sync_folder(folder)

    def recipes(self) -> dict[str, list[str]]:
        """Build key -> the recipes that have led to it, sorted."""
        found: dict[str, list[str]] = {}
        for path in sorted((self.root / "recipes").glob("*.json")):
            data = _json(path)
            if KEY.match(path.stem) and data is not None and "key" in data:
                found.setdefault(str(data["key"]), []).append(path.stem)
        return found

    def forget(self, key: str) -> None:
        """Forget which recipes led to an environment that is gone, but for one that is being built again. Their logs
        and locks stay: they tell how to make it again."""
        for recipe_key in self.recipes().get(key, ()):
            held = procs.try_lock(self.lock(recipe_key))
            if held is None:
                continue
            try:
                if recipe_key in self.recipes().get(key, ()):
                    for path in (self.root / "recipes").glob(f"{recipe_key}.*"):
                        if path.is_dir():
                            shutil.rmtree(path, ignore_errors=True)
                        else:
                            path.unlink(missing_ok=True)
            finally:
                held.release()

    def sweep(self) -> int:
        """Remove unfinished environments and files that nobody is making any more; how many there were."""
        if not self.root.is_dir():
            return 0
        swept = sum(atomic.sweep(self.root / name) for name in ("recipes", "logs"))
        for folder in sorted(self.root.iterdir()):
            if not KEY.match(folder.name) or (folder / META).exists():
                continue
            self.prepare()
            held = procs.try_lock(self.lock(folder.name))
            if held is None:
                continue
            try:
                if not (folder / META).exists():
                    self.discard(folder.name)
                    swept += 1
            finally:
                held.release()
        return swept

    def log(self, key: str) -> str | None:
        """The build log of a recipe key or of a build key; the first digits (4 or more) will do when only
        one begins so."""
        if not _PREFIX.match(key):
            return None
        logs = {path.stem: path.stem for path in (self.root / "logs").glob("*.log")}
        for folder in self.root.glob(f"{key}*"):
            complete = self.complete(folder.name)
            if complete is not None:
                logs.setdefault(complete.key, complete.recipe_key)
        matches = {recipe for name, recipe in logs.items() if name.startswith(key)}
        if key in logs:
            matches = {logs[key]}
        if len(matches) != 1:
            return None
        try:
            return self.log_file(matches.pop()).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None


def sizes(folder: Path) -> tuple[int, int]:
    """(bytes of all files, bytes that removing them gives back). Files that are linked from elsewhere stay there."""
    total = freed = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                found = Path(path, name).lstat()
            except OSError:
                continue
            total += found.st_size
            if found.st_nlink == 1 or not stat.S_ISREG(found.st_mode):
                freed += found.st_size
    return total, freed


def sync_file_system(path: Path) -> None:
    """Bring everything written to the file system of `path` to the disk, which is faster than file by
    file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(fd)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
