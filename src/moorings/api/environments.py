"""Built environments over HTTP: what is there, who uses it, and pruning what nobody uses. What they are is not known
here; which deployment uses which is read from the state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Body

from moorings.engines.base import Engine
from moorings.environments.installer import without_credentials
from moorings.environments.inventory import Build, Fate, Inventory
from moorings.errors.exceptions import error
from moorings.lib.timing import rfc3339
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT

Json = dict[str, Any]


@dataclass(frozen=True)
class EnvironmentBuilds:
    """What the handlers work with."""

    database: Database
    inventory: Inventory
    engine: Engine
    key_of: Callable[[Mapping[str, Any]], str | None]
    """The recipe key of the properties of a registered environment."""

    def users(self) -> dict[str, list[str]]:
        """Build key -> deployments that use it: what they run now, and what they ran before as long as instances of
        that are left."""
        found: dict[str, set[str]] = {}
        with self.database.read() as tx:
            for row in tx.resources(DEPLOYMENT):
                keys = {str(one.get("environment_key")) for one in row.status.get("templates", {}).values()}
                keys.add(str((row.status.get("environment") or {}).get("key")))
                for key in keys:
                    found.setdefault(key, set()).add(row.name)
        return {key: sorted(names) for key, names in found.items()}

    def list_json(self) -> Json:
        users = self.users()
        return {"value": [build_json(one, users, whole=False) for one in self.inventory.builds()]}

    def build_json(self, key: str) -> Json:
        """Raises `AssetNotFound`."""
        found = self.inventory.find(key)
        if found is None:
            message = f"no built environment has the key {key} (or several keys begin so)"
            raise error("AssetNotFound", message, target=key, fields={"reference": key})
        return build_json(found, self.users(), whole=True)

    def of_properties(self, properties: Mapping[str, Any]) -> Json | None:
        """The build of a registered environment; None when it has not been built."""
        key = self.key_of(properties)
        found = None if key is None else self.inventory.find(key)
        return None if found is None else build_json(found, self.users(), whole=True)

    async def prune_json(self, *, dry_run: bool) -> Json:
        """Remove what no deployment uses; `dry_run`: say what would be removed."""
        instances = await self.engine.observe()
        fates = await asyncio.to_thread(self._prune, {one.owner for one in instances}, dry_run)
        gone = [one for one in fates if one.removed or not one.reason]
        return {
            "dryRun": dry_run,
            "removed": [fate_json(one) for one in gone],
            "kept": [fate_json(one) for one in fates if one not in gone],
            "sizeBytes": sum(one.size_bytes for one in gone),
            "freedBytes": sum(one.freed_bytes for one in gone),
        }

    def _prune(self, owners: set[str], dry_run: bool) -> list[Fate]:
        with self.database.read() as tx:
            orphans = sorted(owners - {row.name for row in tx.resources(DEPLOYMENT)})
        if not orphans:
            return self.inventory.prune(self.users, dry_run=dry_run)
        # Instances of a deployment that is gone are still ending, and only they know in which environment.
        everywhere = {one.complete.key: orphans for one in self.inventory.builds()}
        return self.inventory.prune(lambda: everywhere, dry_run=dry_run)


def build_json(build: Build, users: Mapping[str, list[str]], *, whole: bool) -> Json:
    """`whole`: with the packages and the locks."""
    one = build.complete
    found: Json = {
        "key": one.key,
        "recipeKeys": list(build.recipe_keys),
        "pythonVersion": one.python_version,
        "solver": one.solver,
        "solverReason": one.solver_reason,
        "packageCount": len(one.packages),
        "sizeBytes": one.size_bytes,
        "buildSeconds": one.seconds,
        "builtAt": rfc3339(one.built_at) if one.built_at else None,
        "usedBy": users.get(one.key, []),
        "location": str(build.folder),
        "buildLog": str(build.log),
    }
    if whole:
        locks = {name: without_credentials(text) for name, text in build.locks.items()}
        found |= {"packages": dict(one.packages), "notes": list(one.notes), "locks": locks}
    return found


def fate_json(fate: Fate) -> Json:
    return {
        "key": fate.key,
        "sizeBytes": fate.size_bytes,
        "freedBytes": fate.freed_bytes,
        "reason": fate.reason,
        "usedBy": list(fate.used_by),
    }


def routes(builds: EnvironmentBuilds) -> APIRouter:
    """Below the path of the workspace."""
    router = APIRouter(prefix="/environmentBuilds")

    @router.get("")
    def list_builds() -> Json:
        return builds.list_json()

    @router.post("/prune")
    async def prune(body: Json | None = Body(default=None)) -> Json:
        dry_run = (body or {}).get("dryRun", True)
        if not isinstance(dry_run, bool):
            raise error("RequestInvalid", "dryRun: expected true or false", target="dryRun")
        return await builds.prune_json(dry_run=dry_run)

    @router.get("/{key}")
    def get_build(key: str) -> Json:
        return builds.build_json(key)

    return router
