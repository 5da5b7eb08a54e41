"""Which image each recipe has led to, kept in a file per recipe. Must not know how images are built."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from moorings.lib import atomic


@dataclass(frozen=True)
class BuiltImage:
    """An image that is on this machine. JSON-safe through `dataclasses.asdict`."""

    key: str
    """16 hex digits: names the content; that of the venv where the Python is the same. Empty: taken as it is."""
    recipe_key: str
    reference: str
    """By which it can be had again: in the workspace's registry where there is one."""
    image_id: str
    base_id: str
    python: str
    python_version: str
    packages: Mapping[str, str]
    size_bytes: int
    reused: bool = True
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that activating it would set."""
    solver: str = "index"
    solver_reason: str = ""
    own_bytes: int = 0
    """What it adds to its base."""
    tags: tuple[str, ...] = ()
    """Names that we have given to it, and to the image of its build context; () when it is the user's own."""
    built_at: float = 0.0
    """Unix seconds."""

    @property
    def build_key(self) -> str:
        """Names it among the environments of the workspace."""
        return self.key or self.image_id.removeprefix("sha256:")[:16]


class ImageMemory:
    """Which image each recipe has led to: a file per recipe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, recipe_key: str) -> tuple[str, BuiltImage] | None:
        """(base image by the name it was asked for, "" for none; the image)."""
        try:
            data: dict[str, Any] = json.loads((self.folder / f"{recipe_key}.json").read_bytes())
            asked = str(data.pop("base"))
            lists = {name: tuple(data.get(name, ())) for name in ("notes", "tags")}
            return asked, BuiltImage(**{**data, **lists})
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write(self, recipe_key: str, base: str, built: BuiltImage) -> None:
        data = {**asdict(built), "base": base}
        atomic.write(self.folder / f"{recipe_key}.json", json.dumps(data).encode())

    def forget(self, recipe_key: str) -> None:
        (self.folder / f"{recipe_key}.json").unlink(missing_ok=True)

    def all(self) -> dict[str, tuple[str, BuiltImage]]:
        """By recipe key."""
        paths = sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []
        found = {path.stem: self.read(path.stem) for path in paths}
        return {key: value for key, value in found.items() if value is not None}
