"""What is put on a base image: packages for the Python of the image, or a whole conda environment.

It is made in a folder of this machine that becomes `ENV_FOLDER` inside, so that indexes, their credentials and the cache
of packages are those of every other build. It must not know how folders become images.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from moorings.environments import dockerfile as texts
from moorings.environments.conda_way import CONDA, CondaResolved
from moorings.environments.image_python import ImagePython
from moorings.environments.index_way import COMPILE, INDEX, REQUIREMENTS_LOCK
from moorings.environments.installer import without_credentials
from moorings.environments.interpreters import Interpreter, Interpreters
from moorings.environments.locked import Locked, build_key, parse_lock
from moorings.environments.recipe import SERVER
from moorings.environments.relocation import relocate
from moorings.environments.work import Resolved, Work, write_private
from moorings.lib import procs

PYTHON = f"{texts.ENV_FOLDER}/bin/python"
_OUR_WHEEL = re.compile(rf"^{SERVER} @ \S+", re.MULTILINE)


@dataclass(frozen=True)
class ResolvedForImage:
    """A list of packages for one Python of an image."""

    work: Work
    python: ImagePython
    on_host: Interpreter | None
    """A Python of this machine that is like it: it compiles what has to be compiled."""
    isolated: bool
    """Whether the packages of the image itself stay out of sight."""
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
        return self.python.version

    @property
    def locks(self) -> Mapping[str, str]:
        return {REQUIREMENTS_LOCK: self.text}

    async def fill(self, folder: Path, held: procs.Held) -> Mapping[str, str]:
        minor = ".".join(self.python.version.split(".")[:2])
        packages = folder / "lib" / f"python{minor}" / "site-packages"
        await asyncio.to_thread(packages.mkdir, parents=True)
        lock_file = folder / REQUIREMENTS_LOCK
        write_private(lock_file, self.text)
        arguments = ["pip", "install", "--target", str(packages), *_target(self.python, self.on_host)]
        arguments += ["--no-deps", "-r", str(lock_file), "--link-mode", "hardlink"]
        if self.locked.hashed:
            arguments.append("--require-hashes")
        if self.on_host is not None:
            arguments.append("--compile-bytecode")
        await self.work.checked_uv(arguments, held)
        await asyncio.to_thread(self._as_venv, folder, packages)
        return {}

    def _as_venv(self, folder: Path, packages: Path) -> None:
        """What makes a folder of packages a virtual environment of the image's Python."""
        binaries = folder / "bin"
        if (packages / "bin").is_dir():
            (packages / "bin").rename(binaries)
        binaries.mkdir(exist_ok=True)
        for name in ("python", "python3"):
            (binaries / name).symlink_to(self.python.path)
        config = texts.venv_config(self.python.path, self.python.version, system_packages=not self.isolated)
        (folder / "pyvenv.cfg").write_text(config)
        (packages / ".lock").unlink(missing_ok=True)


async def resolve_for_image(
    work: Work, interpreters: Interpreters, python: ImagePython, note: str | None, *, isolated: bool
) -> ResolvedForImage:
    """Resolve the recipe's requirements for a Python of an image. Raises MooringsError."""
    work.fields["python"] = python.version
    work.log.line(f"Python {python.version}: {python.path}")
    if note is not None:
        work.log.line(f"note: {note}")
    on_host = await asyncio.to_thread(_like, interpreters, python)
    count = len(work.recipe.requirements)
    work.progress(f"resolving {count} requirement{'' if count == 1 else 's'}")
    source = work.shelf.requirements(work.recipe_key)
    wanted = [*work.recipe.requirements, f"{SERVER} @ {work.wheel.path.as_uri()}"]
    write_private(source, "\n".join(wanted) + "\n")
    run = await work.checked_uv(["pip", "compile", str(source), *_target(python, on_host), *COMPILE])
    locked = parse_lock(run.out)
    key = build_key(
        locked,
        server=SERVER,
        server_sha256=work.wheel.sha256,
        python_version=python.version,
        platform=work.platform,
    )
    notes = () if note is None else (note,)
    return ResolvedForImage(work, python, on_host, isolated, run.out, locked, key, notes)


async def fill_for_image(resolved: Resolved, folder: Path, held: procs.Held) -> Mapping[str, str]:
    """Make the folder, as it has to be inside the image; the variables that activating it would set there."""
    variables = await resolved.fill(folder, held)
    await asyncio.to_thread(_finish, folder, moved=resolved.solver == CONDA)
    return {name: value.replace(str(folder), texts.ENV_FOLDER) for name, value in variables.items()}


def packages_of(resolved: Resolved) -> dict[str, str]:
    """Name -> version (or address)."""
    found: dict[str, str] = {}
    if isinstance(resolved, CondaResolved):
        found = {one.name: one.version for one in resolved.packages_of_conda}
    if isinstance(resolved, (CondaResolved, ResolvedForImage)):
        found |= dict(_name_and_version(head) for head, _ in resolved.locked.packages)
    return dict(sorted(found.items()))


def _like(interpreters: Interpreters, wanted: ImagePython) -> Interpreter | None:
    found = interpreters.find()
    same = [one for one in found if one.version == wanted.version]
    alike = [one for one in found if one.version.split(".")[:2] == wanted.version.split(".")[:2]]
    return next(iter(same or alike), None)


def _target(python: ImagePython, on_host: Interpreter | None) -> list[str]:
    wheels = texts.manylinux(python.machine, python.glibc)
    target = ["--python-version", python.version, "--python-platform", wheels]
    # Without such a Python nothing can be compiled here: wheels or nothing.
    return [*target, *(("--python", str(on_host.path)) if on_host else ("--no-build",))]


def _name_and_version(head: str) -> tuple[str, str]:
    name, found, version = head.partition("==")
    if found:
        return name.strip(), version.split(";")[0].strip()
    name, _, address = head.partition(" @ ")
    return name.strip(), address.strip()


def _finish(folder: Path, *, moved: bool) -> None:
    for script in (folder / "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            _with_interpreter(script)
    if moved:
        relocate(folder, texts.ENV_FOLDER)
    _keep_to_ourselves(folder)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            # Whoever runs inside is nobody in particular. Files are links into caches: never change those.
            _readable(path)


def _keep_to_ourselves(folder: Path) -> None:
    """Neither credentials in addresses nor the place of our wheel get into an image, which others may pull."""
    origins = [*folder.rglob("*.dist-info/direct_url.json"), *(folder / "conda-meta").glob("*.json")]
    for path in (folder / REQUIREMENTS_LOCK, *origins):
        text = path.read_text("utf-8", "surrogateescape")
        if path.parent.name.startswith(f"{SERVER.replace('-', '_')}-"):
            path.unlink()
            continue
        safe = _OUR_WHEEL.sub(SERVER, without_credentials(text))
        if safe != text:
            path.unlink()  # it may be a link into a cache
            path.write_text(safe, "utf-8", "surrogateescape")


def _with_interpreter(script: Path) -> None:
    """A console script begins with the Python it was installed by: make that the environment's."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = script.read_text(encoding="utf-8")
        first, newline, rest = text.partition("\n")
        if first.startswith("#!") and "python" in first:
            mode = script.stat().st_mode & 0o777
            script.unlink()  # a link into a cache
            script.write_text(f"#!{PYTHON}{newline}{rest}", encoding="utf-8")
            script.chmod(mode | 0o555)


def _readable(path: Path) -> None:
    mode = path.stat().st_mode
    wanted = mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444)
    if wanted == mode:
        return
    if path.is_file() and path.stat().st_nlink > 1:
        copy = path.with_name(f".{path.name}.copy")
        shutil.copy2(path, copy)
        copy.chmod(wanted)
        copy.replace(path)
    else:
        path.chmod(wanted)
