"""Which images of environments a workspace has made, and removing those that nobody uses.

Only what this workspace remembers and has named itself is ever removed: other workspaces and other programs share the
Docker Engine. It must not know deployments: who uses what is told to it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from moorings.containers.host import DockerHost
from moorings.environments.image_memory import BuiltImage, ImageMemory
from moorings.environments.inventory import Build, Fate, Users
from moorings.environments.leases import Leases
from moorings.environments.shelf import Complete, Shelf
from moorings.lib import procs

LABEL_KEY = "moorings.environment"
Group = dict[str, tuple[str, BuiltImage]]
"""Recipe key -> (name of the base, image), of one build key."""


class ImageInventory:
    """What `Inventory` is for folders."""

    def __init__(self, shelf: Shelf, memory: ImageMemory, host: DockerHost, leases: Leases) -> None:
        self._shelf = shelf
        self._memory = memory
        self._host = host
        self._leases = leases

    def builds(self) -> list[Build]:
        """All of them, by key. Blocking."""
        return [self._build(group) for _, group in sorted(self._groups().items())]

    def find(self, key: str) -> Build | None:
        """By build key or recipe key, or their first digits (4 or more) when only one begins so. Blocking."""
        matches = [
            group
            for build_key, group in self._groups().items()
            if build_key.startswith(key) or any(recipe.startswith(key) for recipe in group)
        ]
        return self._build(matches[0]) if len(key) >= 4 and len(matches) == 1 else None

    def prune(self, users: Callable[[], Users], *, dry_run: bool) -> list[Fate]:
        """As `Inventory.prune`. Raises `DockerEngineNotAvailable`, `DockerAccessDenied` when Docker is away."""
        if not dry_run:
            self._host.check()
        return [self._prune(key, group, users, dry_run) for key, group in sorted(self._groups().items())]

    def _prune(self, key: str, group: Group, users: Callable[[], Users], dry_run: bool) -> Fate:
        size = sum({one.image_id: one.own_bytes for _, one in group.values()}.values())
        held = procs.try_lock(self._shelf.lock(key))
        if held is None:
            return Fate(key, size, size, False, "it is being built")
        try:
            with self._leases.guard:
                if self._leases.held(key):
                    return Fate(key, size, size, False, "it has just been given to a deployment")
                used_by = tuple(users().get(key, ()))
                if used_by:
                    return Fate(key, size, size, False, "in use", used_by)
                if dry_run:
                    return Fate(key, size, size, False, "")
                for recipe_key in group:
                    self._memory.forget(recipe_key)
            gone = [self._remove(recipe_key, *one) for recipe_key, one in group.items()]
            if all(gone):
                return Fate(key, size, size, True, "")
            return Fate(key, size, size, False, "the Docker Engine keeps it: a container uses it")
        finally:
            held.release()

    def _remove(self, recipe_key: str, base: str, image: BuiltImage) -> bool:
        """Whether it is gone, or is another one by now; what cannot be removed is remembered on."""
        for tag in image.tags:
            found = self._host.image(tag)
            ours = found is not None and (found.id == image.image_id or LABEL_KEY not in found.labels)
            if ours:
                self._host.remove_image(tag)
        if self._host.image(image.image_id) is None:
            return True
        self._memory.write(recipe_key, base, image)
        return False

    def _groups(self) -> dict[str, Group]:
        """By build key; images that are the user's own are none of ours."""
        found: dict[str, Group] = {}
        for recipe_key, one in self._memory.all().items():
            if one[1].tags:
                found.setdefault(one[1].build_key, {})[recipe_key] = one
        return found

    def _build(self, group: Group) -> Build:
        """The newest of a group stands for it."""
        _, newest = max(group.values(), key=lambda one: one[1].built_at)
        others = [recipe_key for recipe_key in group if recipe_key != newest.recipe_key]
        complete = Complete(
            key=newest.build_key,
            recipe_key=newest.recipe_key,
            python=Path(newest.python),
            python_version=newest.python_version,
            packages=newest.packages,
            notes=newest.notes,
            solver=newest.solver,
            solver_reason=newest.solver_reason,
            seconds=newest.seconds,
            built_at=newest.built_at,
            size_bytes=newest.own_bytes,
            variables=newest.variables,
        )
        return Build(
            complete=complete,
            recipe_keys=(newest.recipe_key, *others),
            location=newest.reference,
            log=self._shelf.log_file(newest.recipe_key),
            locks=self._shelf.locks(newest.recipe_key),
        )
