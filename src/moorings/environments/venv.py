"""Building environments: a recipe is resolved, locked and installed once, and kept by what is in it.

It must not know deployments. Environments are built where they will stay (they hold absolute paths), under a
lock; one without its `meta.json` is garbage of a killed build and is built again.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from moorings.environments.buildlog import BuildLog, held_lock
from moorings.environments.index_way import resolve_from_index
from moorings.environments.installer import Installer
from moorings.environments.interpreters import Interpreters
from moorings.environments.inventory import Inventory
from moorings.environments.leases import Leases
from moorings.environments.recipe import Recipe, recipe_key
from moorings.environments.server_wheel import ServerWheel, ServerWheels
from moorings.environments.shelf import Complete, Shelf
from moorings.environments.solving import AUTO, Solving
from moorings.environments.verdict import verdict
from moorings.environments.work import Progress, Resolved, Work
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import procs
from moorings.spec.assets import EnvironmentSpec

VERIFY_TIMEOUT_S = 120.0

_VERIFY = (
    "import importlib.metadata as m, json, moorings_server;"
    "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions() if d.metadata['Name']}))"
)


@dataclass(frozen=True)
class BuiltEnvironment:
    """An environment that is ready to run instances."""

    key: str
    """16 hex digits: names the content."""
    recipe_key: str
    """16 hex digits: names what was asked for; the build log is kept by it."""
    python: Path
    """Interpreter inside the environment."""
    python_version: str
    packages: Mapping[str, str]
    """Name -> version of everything installed that Python knows of."""
    reused: bool
    """Whether nothing had to be installed."""
    seconds: float
    notes: tuple[str, ...]
    solver: str
    """`conda` or `index`: which of the two it came from."""
    solver_reason: str
    """Why, for people."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that activating it would set; its processes need them."""


class EnvironmentBuilder:
    """Builds environments below `root`. Any number of builders, in any number of processes, may share it."""

    def __init__(
        self,
        root: Path,
        *,
        uv: Path | None,
        allow_python_download: bool,
        home: Path,
        environ: Mapping[str, str] | None = None,
        solver: str = AUTO,
        leases: Leases | None = None,
    ) -> None:
        """`uv`: the program; None for the one installed with us. `solver`: one of `SOLVERS`. `leases`: where it is
        noted what has been handed out; None when nothing is ever pruned.

        `environ`: where PATH, proxies and UV_* come from.
        """
        env = os.environ if environ is None else environ
        self._shelf = Shelf(root)
        self._leases = leases or Leases()
        self._wheels = ServerWheels(root / "wheels")
        self._installer = Installer(uv, home=home, environ=env)
        self._interpreters = Interpreters(env)
        self._allow_python_download = allow_python_download
        self._solving = Solving(solver)
        self._platform = f"{platform.system().lower()}-{platform.machine()}"

    async def ensure(
        self, spec: EnvironmentSpec, *, progress: Progress, said: Progress | None = None
    ) -> BuiltEnvironment:
        """The environment of `spec`: kept from before, or built now. It is leased: it will not be pruned until
        `release(key)` is called, or for `leases.LEASE_S`.

        `progress` gets short texts as the work goes on, `said` each line of the log of a build. The user's fault:
        `EnvironmentNotTranslatable`,
        `EnvironmentNeedsContainer`, `PythonUnsupported`, `EnvironmentUnsatisfiable`, `PackageNotFound`,
        `PackageVersionNotFound`, `NoWheelForPython`, `PackageBuildFailed`, `EnvironmentBuildFailed`,
        `CondaSpecInvalid`, `CondaPackageNotFound`, `CondaUnsatisfiable`. The machine's: `PythonNotFound`,
        `IndexUnreachable`, `CondaChannelUnreachable`, `CondaInstallFailed`, `EnvironmentDiskFull`,
        `InstallerNotFound`, `InferenceServerMissing`.
        """
        began = time.monotonic()
        recipe = self._solving.recipe(spec)
        try:
            wheel, key = await asyncio.to_thread(self._identify, recipe)
            kept = self._kept(recipe, key)
            if kept is None:
                async with held_lock(self._shelf, key, progress):
                    kept = self._kept(recipe, key)
                    if kept is None:
                        with BuildLog(self._shelf.log_file(key), said) as log:
                            means = (self._shelf, self._installer, recipe, key, wheel, self._platform)
                            work = Work(*means, log, progress)
                            return await self._build(work, began)
        except OSError as problem:
            raise self._broken(problem) from None
        return _answer(kept, key, recipe.notes, reused=True, began=began)

    def recipe_key(self, spec: EnvironmentSpec) -> str | None:
        """The key by which the build log of `spec` is kept; None when nothing can be made of it at all."""
        try:
            return self._identify(self._solving.recipe(spec))[1]
        except (MooringsError, OSError):
            return None

    def log(self, key: str) -> str | None:
        """The build log of a recipe key or build key (or of its first digits, when only one begins so)."""
        return self._shelf.log(key)

    def release(self, key: str) -> None:
        """Give back the lease of an environment: who uses it is written down now."""
        self._leases.release(key)

    def inventory(self) -> Inventory:
        """What has been built, for people and for pruning."""
        return Inventory(self._shelf, self._leases)

    def sweep(self) -> int:
        """Remove what killed builds left unfinished; how many there were. Blocking."""
        return self._shelf.sweep()

    # --- one build ---

    async def _build(self, work: Work, began: float) -> BuiltEnvironment:
        """Raises MooringsError; the log then ends with it."""
        try:
            work.headline()
            resolved, reason = await self._solving.resolve(work, lambda: self._from_index(work))
            work.log.line(f"solver: {resolved.solver} ({reason})")
            return await self._finish(work, resolved, reason, began)
        except MooringsError as problem:
            work.log.line(f"FAILED {problem.failure.code}: {problem.failure.message}")
            raise
        except OSError as problem:
            work.log.line(f"FAILED: {problem}")
            raise
        except asyncio.CancelledError:
            work.log.line("CANCELED")
            raise

    async def _from_index(self, work: Work) -> Resolved:
        return await resolve_from_index(work, self._interpreters, download=self._allow_python_download)

    async def _finish(self, work: Work, resolved: Resolved, reason: str, began: float) -> BuiltEnvironment:
        """Install what was resolved, unless it is there."""
        key, notes = resolved.key, (*work.recipe.notes, *resolved.notes)
        async with held_lock(self._shelf, key, work.progress) as held:
            complete = self._shelf.complete(key)
            reused = complete is not None
            if complete is None:
                complete = await self._install(work, resolved, reason, notes, held)
            self._shelf.keep_locks(work.recipe_key, resolved.locks)
            self._shelf.remember(work.recipe_key, key)
            self._leases.take(key)
        word = "already built" if reused else "built"
        work.log.line(f"{word}: environment {key} in {time.monotonic() - began:.1f} s")
        return _answer(complete, work.recipe_key, notes, reused=reused, began=began)

    async def _install(
        self, work: Work, resolved: Resolved, reason: str, notes: tuple[str, ...], held: procs.Held
    ) -> Complete:
        began = time.monotonic()
        key = resolved.key
        folder = self._shelf.folder(key)
        await asyncio.to_thread(self._shelf.discard, key)
        try:
            work.progress(f"installing {resolved.packages} packages")
            variables = await resolved.fill(folder, held)
            work.progress("checking the environment")
            packages = await _verify(work, folder / "bin" / "python")
            meta = {
                "key": key,
                "recipe_key": work.recipe_key,
                "python_version": resolved.python_version,
                "packages": packages,
                "notes": list(notes),
                "variables": dict(variables),
                "solver": resolved.solver,
                "solver_reason": reason,
                "seconds": round(time.monotonic() - began, 3),
                "built_at": time.time(),
            }
            await asyncio.to_thread(self._shelf.finish, key, meta)
        except BaseException:
            self._shelf.discard(key)
            raise
        complete = self._shelf.complete(key)
        assert complete is not None, "it has just been finished under its lock"
        return complete

    # --- means ---

    def _kept(self, recipe: Recipe, key: str) -> Complete | None:
        """What a recipe has led to, leased in the same step."""
        with self._leases.guard:
            kept = self._shelf.of_recipe(key)
            if kept is None or not self._solving.accepts(recipe, kept.solver):
                return None
            self._leases.take(kept.key)
            return kept

    def _identify(self, recipe: Recipe) -> tuple[ServerWheel, str]:
        self._shelf.prepare()
        wheel = self._wheels.current()
        return wheel, recipe_key(recipe, server_wheel_sha256=wheel.sha256, platform=self._platform)

    def _broken(self, problem: OSError) -> MooringsError:
        place = problem.filename or self._shelf.root
        lines = [f"error: {problem.strerror} (os error {problem.errno}): {place}"]
        return MooringsError(verdict(lines, fields={"path": self._shelf.root, "key": ""}))


async def _verify(work: Work, python: Path) -> dict[str, str]:
    """Import the inference server in the new environment; name -> version of all packages."""
    lines: tuple[str, ...] = ()
    try:
        run = await work.python(python, _VERIFY, timeout_s=VERIFY_TIMEOUT_S)
    except TimeoutError:
        last = f"no end after {VERIFY_TIMEOUT_S:g} s"
    else:
        if run.code == 0:
            packages: dict[str, str] = json.loads(run.out)
            return dict(sorted(packages.items()))
        lines = run.lines
        last = lines[-1] if lines else f"exit status {run.code}"
    message = f"the inference server does not start in the new environment: {last}"
    raise error("EnvironmentBuildFailed", message, evidence=lines[-20:], fields=work.fields)


def _answer(
    complete: Complete, recipe_key: str, notes: tuple[str, ...], *, reused: bool, began: float
) -> BuiltEnvironment:
    return BuiltEnvironment(
        key=complete.key,
        recipe_key=recipe_key,
        python=complete.python,
        python_version=complete.python_version,
        packages=complete.packages,
        reused=reused,
        seconds=time.monotonic() - began,
        notes=notes or complete.notes,
        solver=complete.solver,
        solver_reason=complete.solver_reason,
        variables=complete.variables,
    )
