"""Building virtual environments: a recipe is resolved, locked and installed once, and kept by what is in it.

It must not know deployments. Environments are built where they will stay (they hold absolute paths), under a
lock; one without its `meta.json` is garbage of a killed build and is built again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from moorings.environments.buildlog import BuildLog, held_lock
from moorings.environments.installer import Installer, Run, without_credentials
from moorings.environments.interpreters import OLDEST, Interpreter, Interpreters, choose, minor_of
from moorings.environments.locked import Locked, build_key, parse_lock
from moorings.environments.recipe import SERVER, Recipe, make_recipe, recipe_key, stays_below
from moorings.environments.server_wheel import ServerWheel, ServerWheels
from moorings.environments.shelf import Complete, Shelf
from moorings.environments.verdict import verdict
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import procs
from moorings.lib.timing import rfc3339
from moorings.spec.assets import EnvironmentSpec

Progress = Callable[[str], None]

PYTHON_DOWNLOAD_TIMEOUT_S = 180.0
VERIFY_TIMEOUT_S = 120.0

_STARTED = re.compile(r"^\s*(Downloading|Building) (\S+)")
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
    """Name -> version of everything installed."""
    reused: bool
    """Whether nothing had to be installed."""
    seconds: float
    notes: tuple[str, ...]


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
    ) -> None:
        """`uv`: the program; None for the one installed with us.

        `environ`: where PATH, proxies and UV_* come from.
        """
        env = os.environ if environ is None else environ
        self._shelf = Shelf(root)
        self._wheels = ServerWheels(root / "wheels")
        self._installer = Installer(uv, home=home, environ=env)
        self._interpreters = Interpreters(env)
        self._allow_python_download = allow_python_download
        self._platform = f"{platform.system().lower()}-{platform.machine()}"

    async def ensure(self, spec: EnvironmentSpec, *, progress: Progress) -> BuiltEnvironment:
        """The environment of `spec`: kept from before, or built now.

        `progress` gets short texts as the work goes on. The user's fault: `EnvironmentNotTranslatable`,
        `EnvironmentNeedsContainer`, `PythonUnsupported`, `EnvironmentUnsatisfiable`, `PackageNotFound`,
        `PackageVersionNotFound`, `NoWheelForPython`, `PackageBuildFailed`, `EnvironmentBuildFailed`. The
        machine's: `PythonNotFound`, `IndexUnreachable`, `EnvironmentDiskFull`, `InstallerNotFound`,
        `InferenceServerMissing`.
        """
        began = time.monotonic()
        recipe = make_recipe(spec)
        try:
            wheel, key = await asyncio.to_thread(self._identify, recipe)
            kept = self._shelf.of_recipe(key)
            if kept is None:
                async with held_lock(self._shelf, key, progress):
                    kept = self._shelf.of_recipe(key)
                    if kept is None:
                        with BuildLog(self._shelf.log_file(key)) as log:
                            return await _Build(self, recipe, key, wheel, log, progress).run(began)
        except OSError as problem:
            raise self._broken(problem) from None
        return _answer(kept, key, recipe.notes, reused=True, began=began)

    def recipe_key(self, spec: EnvironmentSpec) -> str | None:
        """The key by which the build log of `spec` is kept; None when it cannot be translated at all."""
        try:
            return self._identify(make_recipe(spec))[1]
        except (MooringsError, OSError):
            return None

    def log(self, key: str) -> str | None:
        """The build log of a recipe key or build key (or of its first digits, when only one begins so)."""
        return self._shelf.log(key)

    def sweep(self) -> int:
        """Remove what killed builds left unfinished; how many there were. Blocking."""
        return self._shelf.sweep()

    def _identify(self, recipe: Recipe) -> tuple[ServerWheel, str]:
        self._shelf.prepare()
        wheel = self._wheels.current()
        return wheel, recipe_key(recipe, server_wheel_sha256=wheel.sha256, platform=self._platform)

    def _broken(self, problem: OSError) -> MooringsError:
        place = problem.filename or self._shelf.root
        lines = [f"error: {problem.strerror} (os error {problem.errno}): {place}"]
        return MooringsError(verdict(lines, fields={"path": self._shelf.root, "key": ""}))


class _Build:
    """One resolution and, where its outcome is new, one installation."""

    def __init__(
        self,
        owner: EnvironmentBuilder,
        recipe: Recipe,
        key: str,
        wheel: ServerWheel,
        log: BuildLog,
        progress: Progress,
    ) -> None:
        self.owner = owner
        self.shelf = owner._shelf
        self.recipe = recipe
        self.recipe_key = key
        self.wheel = wheel
        self.log = log
        self.progress = progress
        self.fields: dict[str, object] = {"key": key, "path": self.shelf.root}

    async def run(self, began: float) -> BuiltEnvironment:
        """Raises MooringsError; the log then ends with it."""
        try:
            return await self._run(began)
        except MooringsError as problem:
            self.log.line(f"FAILED {problem.failure.code}: {problem.failure.message}")
            raise
        except OSError as problem:
            self.log.line(f"FAILED: {problem}")
            raise
        except asyncio.CancelledError:
            self.log.line("CANCELED")
            raise

    async def _run(self, began: float) -> BuiltEnvironment:
        self._headline()
        interpreter, note = await self._interpreter()
        self.fields["python"] = interpreter.version
        notes = self.recipe.notes if note is None else (*self.recipe.notes, note)
        self.log.line(f"Python {interpreter.version}: {interpreter.path}")
        if note is not None:
            self.log.line(f"note: {note}")
        async with contextlib.AsyncExitStack() as stack:
            text, locked = await self._resolve(interpreter)
            key = build_key(
                locked,
                server=SERVER,
                server_sha256=self.wheel.sha256,
                python_version=interpreter.version,
                platform=self.owner._platform,
            )
            held = await stack.enter_async_context(held_lock(self.shelf, key, self.progress))
            complete = self.shelf.complete(key)
            reused = complete is not None
            if complete is None:
                complete = await self._install(key, text, locked, interpreter, notes, held)
            self.shelf.remember(self.recipe_key, key)
        word = "already built" if reused else "built"
        self.log.line(f"{word}: environment {key} in {time.monotonic() - began:.1f} s")
        return _answer(complete, self.recipe_key, notes, reused=reused, began=began)

    def _headline(self) -> None:
        self.log.line(f"recipe {self.recipe_key}, {rfc3339(time.time())}")
        self.log.line(f"Python asked for: {self.recipe.python or 'any'}")
        for requirement in self.recipe.requirements:
            self.log.line(f"requirement: {requirement}")
        self.log.line(f"inference server: {SERVER} {self.wheel.version}")
        for note in self.recipe.notes:
            self.log.line(f"note: {note}")

    async def _interpreter(self) -> tuple[Interpreter, str | None]:
        wanted = self.recipe.python
        if stays_below(SpecifierSet(wanted), OLDEST):
            message = f"Python {wanted} is asked for, and the inference server needs {OLDEST} or newer"
            raise error("PythonUnsupported", message, target="environment.conda_file")
        found = await asyncio.to_thread(self.owner._interpreters.find)
        chosen = choose(wanted, found)
        lines: tuple[str, ...] = ()
        version = minor_of(wanted) or "3.12"
        if chosen is None and self.owner._allow_python_download:
            self.progress(f"fetching Python {version}")
            lines = await self._fetch_python(version)
            found = await asyncio.to_thread(self.owner._interpreters.find)
            chosen = choose(wanted, found)
        if chosen is not None:
            return chosen
        there = [f"{one.version} at {one.path}" for one in found] or ["no Python at all"]
        versions = ", ".join(sorted({one.minor for one in found}, key=Version)) or "none"
        raise error(
            "PythonNotFound",
            f"no Python on this machine is {wanted or 'usable'} (there is {versions})",
            target="environment.conda_file",
            evidence=[*there, *(without_credentials(line) for line in lines[-6:])],
            fields={"version": version},
        )

    async def _fetch_python(self, version: str) -> tuple[str, ...]:
        """The installer's words when it failed, nothing when there is a new Python now."""
        limits = {"UV_HTTP_TIMEOUT": "15", "UV_HTTP_RETRIES": "1", "UV_PYTHON_DOWNLOADS": "manual"}
        try:
            run = await self._uv(
                ["python", "install", "--no-bin", version],
                extra=limits,
                timeout_s=PYTHON_DOWNLOAD_TIMEOUT_S,
            )
        except TimeoutError:
            return (f"fetching Python {version} took longer than {PYTHON_DOWNLOAD_TIMEOUT_S:.0f} s",)
        return () if run.code == 0 else run.lines

    async def _resolve(self, interpreter: Interpreter) -> tuple[str, Locked]:
        count = len(self.recipe.requirements)
        self.progress(f"resolving {count} requirement{'' if count == 1 else 's'}")
        source = self.shelf.requirements(self.recipe_key)
        wanted = [*self.recipe.requirements, f"{SERVER} @ {self.wheel.path.as_uri()}"]
        _write_private(source, "\n".join(wanted) + "\n")
        run = await self._checked(
            [
                *("pip", "compile", str(source), "--python", str(interpreter.path)),
                *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"),
            ]
        )
        return run.out, parse_lock(run.out)

    async def _install(
        self,
        key: str,
        text: str,
        locked: Locked,
        interpreter: Interpreter,
        notes: tuple[str, ...],
        held: procs.Held,
    ) -> Complete:
        began = time.monotonic()
        folder = self.shelf.folder(key)
        await asyncio.to_thread(self.shelf.discard, key)
        try:
            self.progress(f"installing {len(locked.packages)} packages")
            base = str(interpreter.path)
            await self._checked(["venv", str(folder), "--python", base, "--no-project"], held)
            lock_file = folder / "requirements.lock"
            _write_private(lock_file, text)
            hashes = ["--require-hashes"] if locked.hashed else []
            python = folder / "bin" / "python"
            await self._checked(
                [
                    *("pip", "install", "--python", str(python), "--no-deps", "-r", str(lock_file)),
                    *("--compile-bytecode", "--link-mode", "hardlink", *hashes),
                ],
                held,
            )
            self.progress("checking the environment")
            packages = await self._verify(python)
            meta = {
                "key": key,
                "recipe_key": self.recipe_key,
                "python_version": interpreter.version,
                "packages": packages,
                "notes": list(notes),
                "seconds": round(time.monotonic() - began, 3),
            }
            await asyncio.to_thread(self.shelf.finish, key, meta)
        except BaseException:
            self.shelf.discard(key)
            raise
        complete = self.shelf.complete(key)
        assert complete is not None, "it has just been finished under its lock"
        return complete

    async def _verify(self, python: Path) -> dict[str, str]:
        """Import the inference server in the new environment; name -> version of all packages."""
        process = await asyncio.create_subprocess_exec(
            *(str(python), "-I", "-c", _VERIFY),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(VERIFY_TIMEOUT_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        lines = err.decode(errors="replace").splitlines()
        for line in lines:
            self.log.line(line)
        if process.returncode != 0:
            last = lines[-1] if lines else f"exit status {process.returncode}"
            message = f"the inference server does not start in the new environment: {last}"
            raise error("EnvironmentBuildFailed", message, evidence=lines[-20:], fields=self.fields)
        packages: dict[str, str] = json.loads(out)
        return dict(sorted(packages.items()))

    async def _checked(self, arguments: list[str], held: procs.Held | None = None) -> Run:
        """Raises the failure that the output of a failed run shows."""
        try:
            run = await self._uv(arguments, held=held)
        except TimeoutError:
            message = f"uv {arguments[0]} took too long and was ended"
            raise error(
                "EnvironmentBuildFailed", message, evidence=self.log.last(20), fields=self.fields
            ) from None
        if run.code != 0:
            raise MooringsError(verdict(run.lines, fields=self.fields))
        return run

    async def _uv(
        self,
        arguments: list[str],
        *,
        held: procs.Held | None = None,
        extra: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Run:
        self.log.line(f"$ uv {' '.join(arguments)}")
        limit = {} if timeout_s is None else {"timeout_s": timeout_s}
        return await self.owner._installer.run(
            arguments,
            cwd=self.shelf.root,
            on_line=self._said,
            # Should we be killed, uv goes on for a while: the lock is held until it has ended, too.
            keep_open=() if held is None else (held.fd,),
            extra=extra,
            **limit,
        )

    def _said(self, line: str) -> None:
        self.log.line(line)
        started = _STARTED.match(line)
        if started:
            self.progress(f"{started[1].lower()} {started[2]}")


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
    )


def _write_private(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
