"""Which environments are built, how big they are, and removing those that nobody uses.

It must not know deployments: who uses what is told to it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorings.environments.leases import Leases
from moorings.environments.shelf import KEY, Complete, Shelf, sizes
from moorings.lib import procs

Users = Mapping[str, Sequence[str]]
"""Build key -> who uses it (`<endpoint>/<deployment>`)."""


@dataclass(frozen=True)
class Build:
    """A built environment, as people want to know of it."""

    complete: Complete
    recipe_keys: tuple[str, ...]
    """Recipes that have led to it; the first is the one it was built for."""
    folder: Path
    log: Path
    locks: Mapping[str, str]
    """`requirements.lock`, `conda-lock.yml` -> text."""


@dataclass(frozen=True)
class Fate:
    """What pruning made of one environment (or would make of it)."""

    key: str
    size_bytes: int
    freed_bytes: int
    """What its removal gives back to the disk: files that the cache of packages holds as well give nothing back."""
    removed: bool
    reason: str
    """Why it was kept; empty when it was not."""
    used_by: tuple[str, ...] = ()


class Inventory:
    """Looks at a shelf and removes from it."""

    def __init__(self, shelf: Shelf, leases: Leases) -> None:
        self._shelf = shelf
        self._leases = leases

    def builds(self) -> list[Build]:
        """All of them, by key. Blocking."""
        recipes = self._shelf.recipes()
        return [self._build(one, recipes) for one in self._all()]

    def find(self, key: str) -> Build | None:
        """By build key or recipe key, or their first digits (4 or more) when only one begins so. Blocking."""
        recipes = self._shelf.recipes()
        matches = {
            one.key: one
            for one in self._all()
            if one.key.startswith(key) or any(recipe.startswith(key) for recipe in recipes.get(one.key, ()))
        }
        if len(key) < 4 or len(matches) != 1:
            return None
        return self._build(next(iter(matches.values())), recipes)

    def prune(self, users: Callable[[], Users], *, dry_run: bool) -> list[Fate]:
        """Remove every environment that nobody uses; what became of each. Blocking.

        `users` is asked again for each one, in the same step in which it is made unusable: whoever was given the
        environment before either shows up there or holds a lease, and whoever asks after that builds it anew. Leases
        are those of this process, so it is for the process whose builder hands environments out: the daemon.
        """
        return [self._prune(one, users, dry_run) for one in self._all()]

    def _prune(self, one: Complete, users: Callable[[], Users], dry_run: bool) -> Fate:
        size, freed = sizes(self._shelf.folder(one.key))
        held = procs.try_lock(self._shelf.lock(one.key))
        if held is None:
            return Fate(one.key, size, freed, False, "it is being built or looked at")
        try:
            with self._leases.guard:
                if self._leases.held(one.key):
                    return Fate(one.key, size, freed, False, "it has just been given to a deployment")
                used_by = tuple(users().get(one.key, ()))
                if used_by:
                    return Fate(one.key, size, freed, False, "in use", used_by)
                if dry_run:
                    return Fate(one.key, size, freed, False, "")
                self._shelf.make_incomplete(one.key)
            shutil.rmtree(self._shelf.folder(one.key), ignore_errors=True)
            self._shelf.forget(one.key)
            return Fate(one.key, size, freed, True, "")
        finally:
            held.release()

    def _all(self) -> list[Complete]:
        root = self._shelf.root
        names = sorted(path.name for path in root.iterdir() if KEY.match(path.name)) if root.is_dir() else []
        found = (self._shelf.complete(name) for name in names)
        return [one for one in found if one is not None]

    def _build(self, one: Complete, recipes: Mapping[str, Sequence[str]]) -> Build:
        others = [key for key in recipes.get(one.key, ()) if key != one.recipe_key]
        return Build(
            complete=one,
            recipe_keys=(one.recipe_key, *others),
            folder=self._shelf.folder(one.key),
            log=self._shelf.log_file(one.recipe_key),
            locks=self._shelf.locks(one.recipe_key),
        )
