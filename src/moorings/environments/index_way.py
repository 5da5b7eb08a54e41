"""Environments from the package index: an interpreter of this machine, a virtual environment, packages by uv."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from moorings.environments.installer import without_credentials
from moorings.environments.interpreters import OLDEST, Interpreter, Interpreters, choose, minor_of
from moorings.environments.locked import Locked, build_key, parse_lock
from moorings.environments.recipe import SERVER, stays_below
from moorings.environments.work import Work, write_private
from moorings.errors.exceptions import error
from moorings.lib import procs

INDEX = "index"
REQUIREMENTS_LOCK = "requirements.lock"
PYTHON_DOWNLOAD_TIMEOUT_S = 180.0
COMPILE = ("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url")


@dataclass(frozen=True)
class IndexResolved:
    """A list of packages for one interpreter."""

    work: Work
    interpreter: Interpreter
    text: str
    locked: Locked
    key: str
    notes: tuple[str, ...]
    solver: str = INDEX

    @property
    def packages(self) -> int:
        return len(self.locked.packages)

    @property
    def python_version(self) -> str:
        return self.interpreter.version

    @property
    def locks(self) -> Mapping[str, str]:
        return {REQUIREMENTS_LOCK: self.text}

    async def fill(self, folder: Path, held: procs.Held) -> Mapping[str, str]:
        base = str(self.interpreter.path)
        await self.work.checked_uv(["venv", str(folder), "--python", base, "--no-project"], held)
        await install_locked(self.work, folder, self.text, self.locked, held)
        return {}


async def install_locked(work: Work, folder: Path, text: str, locked: Locked, held: procs.Held) -> None:
    """Install a list of requirements, each by its hash, into the environment at `folder`."""
    lock_file = folder / REQUIREMENTS_LOCK
    write_private(lock_file, text)
    hashes = ["--require-hashes"] if locked.hashed else []
    python = folder / "bin" / "python"
    await work.checked_uv(
        [
            *("pip", "install", "--python", str(python), "--no-deps", "-r", str(lock_file)),
            *("--compile-bytecode", "--link-mode", "hardlink", *hashes),
        ],
        held,
    )


async def resolve_from_index(work: Work, interpreters: Interpreters, *, download: bool) -> IndexResolved:
    """Choose an interpreter and resolve the recipe's requirements for it. Raises MooringsError."""
    interpreter, note = await _interpreter(work, interpreters, download)
    work.fields["python"] = interpreter.version
    work.log.line(f"Python {interpreter.version}: {interpreter.path}")
    if note is not None:
        work.log.line(f"note: {note}")
    count = len(work.recipe.requirements)
    work.progress(f"resolving {count} requirement{'' if count == 1 else 's'}")
    source = work.shelf.requirements(work.recipe_key)
    wanted = [*work.recipe.requirements, f"{SERVER} @ {work.wheel.path.as_uri()}"]
    write_private(source, "\n".join(wanted) + "\n")
    run = await work.checked_uv(["pip", "compile", str(source), "--python", str(interpreter.path), *COMPILE])
    locked = parse_lock(run.out)
    key = build_key(
        locked,
        server=SERVER,
        server_sha256=work.wheel.sha256,
        python_version=interpreter.version,
        platform=work.platform,
    )
    return IndexResolved(work, interpreter, run.out, locked, key, () if note is None else (note,))


async def _interpreter(
    work: Work, interpreters: Interpreters, download: bool
) -> tuple[Interpreter, str | None]:
    wanted = work.recipe.python
    if stays_below(SpecifierSet(wanted), OLDEST):
        message = f"Python {wanted} is asked for, and the inference server needs {OLDEST} or newer"
        raise error("PythonUnsupported", message, target="environment.conda_file")
    found = await asyncio.to_thread(interpreters.find)
    chosen = choose(wanted, found)
    lines: tuple[str, ...] = ()
    version = minor_of(wanted) or "3.12"
    if chosen is None and download:
        work.progress(f"fetching Python {version}")
        lines = await _fetch_python(work, version)
        found = await asyncio.to_thread(interpreters.find)
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


async def _fetch_python(work: Work, version: str) -> tuple[str, ...]:
    """The installer's words when it failed, nothing when there is a new Python now."""
    limits = {"UV_HTTP_TIMEOUT": "15", "UV_HTTP_RETRIES": "1", "UV_PYTHON_DOWNLOADS": "manual"}
    try:
        run = await work.uv(
            ["python", "install", "--no-bin", version], extra=limits, timeout_s=PYTHON_DOWNLOAD_TIMEOUT_S
        )
    except TimeoutError:
        return (f"fetching Python {version} took longer than {PYTHON_DOWNLOAD_TIMEOUT_S:.0f} s",)
    return () if run.code == 0 else run.lines
