"""Environments solved as conda: packages of channels, Python among them, and what the file lists under `pip:` on top."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from moorings.environments import conda_child
from moorings.environments.conda_names import RENAMED
from moorings.environments.conda_request import CondaRequest
from moorings.environments.conda_stand_ins import mentioned, write_stand_in
from moorings.environments.index_way import COMPILE, REQUIREMENTS_LOCK, install_locked
from moorings.environments.installer import without_credentials
from moorings.environments.interpreters import OLDEST
from moorings.environments.locked import Locked, build_key, parse_lock
from moorings.environments.recipe import SERVER
from moorings.environments.verdict import is_disk_full, verdict
from moorings.environments.work import Work, write_private
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import procs

CONDA = "conda"
CONDA_LOCK = "conda-lock.yml"
_OF_INDEX = frozenset(
    {
        *("PackageNotFound", "PackageVersionNotFound", "NoWheelForPython"),
        *("PackageBuildFailed", "EnvironmentUnsatisfiable"),
    }
)
"""Failures that may come from the package index not having what conda has."""


class ChannelsUnreachableError(Exception):
    """No answer of a channel; the text says of which, and why."""


@dataclass(frozen=True)
class CondaPackage:
    name: str
    version: str
    build: str
    subdir: str
    digest: str
    """SHA-256 in hex (or MD5, or the address, where a channel tells no better)."""
    python: bool
    """Whether it is made for Python, so that the package index may know it too."""


@dataclass(frozen=True)
class CondaResolved:
    """Packages of channels, and a list of requirements on top."""

    work: Work
    packages_of_conda: tuple[CondaPackage, ...]
    conda_lock: Path
    text: str
    locked: Locked
    key: str
    python_version: str
    notes: tuple[str, ...]
    solver: str = CONDA

    @property
    def packages(self) -> int:
        return len(self.packages_of_conda) + len(self.locked.packages)

    @property
    def locks(self) -> Mapping[str, str]:
        return {CONDA_LOCK: self.conda_lock.read_text("utf-8"), REQUIREMENTS_LOCK: self.text}

    async def fill(self, folder: Path, held: procs.Held) -> Mapping[str, str]:
        answer = await self.work.conda(
            ["install", str(self.conda_lock), str(folder), str(self.work.conda_cache)], held
        )
        if "failed" in answer:
            raise _failure(self.work, answer)
        await install_locked(self.work, folder, self.text, self.locked, held)
        return {str(name): str(value) for name, value in answer["variables"].items()}


async def resolve_as_conda(work: Work, request: CondaRequest) -> CondaResolved:
    """Solve, then resolve the `pip:` part against the outcome.

    Raises ChannelsUnreachableError, and MooringsError: `CondaSpecInvalid`, `CondaPackageNotFound`,
    `CondaUnsatisfiable`, `PythonUnsupported` and those of the package index.
    """
    channels = without_credentials(", ".join(request.channels))
    work.progress(f"solving {len(request.specs)} conda packages from {channels}")
    source = work.shelf.recipe_file(work.recipe_key, "conda.json")
    conda_lock = work.shelf.recipe_file(work.recipe_key, CONDA_LOCK)
    cache = work.conda_cache
    write_private(
        source, json.dumps({"channels": request.channels, "specs": request.specs, "cache": str(cache)})
    )
    answer = await work.conda(["solve", str(source), str(conda_lock)])
    if answer.get("failed") == conda_child.UNREACHABLE:
        raise ChannelsUnreachableError(answer["message"])
    if "failed" in answer:
        raise _failure(work, answer)
    packages = tuple(CondaPackage(**one) for one in answer["packages"])
    for one in packages:
        work.log.line(f"solved: {one.name} {one.version} {one.build} ({one.subdir})")
    python = _python(packages)
    work.fields["python"] = python
    text, notes = await _resolve_pip(work, request, packages, python)
    locked = parse_lock(text)
    return CondaResolved(
        work, packages, conda_lock, text, locked, _key(work, packages, locked, python), python, notes
    )


def _python(packages: Sequence[CondaPackage]) -> str:
    version = next((one.version for one in packages if one.name == "python"), "0")
    if Version(version) < OLDEST:
        message = (
            f"the conda file leads to Python {version}, and the inference server needs {OLDEST} or newer"
        )
        raise error("PythonUnsupported", message, target="environment.conda_file")
    return version


async def _resolve_pip(
    work: Work, request: CondaRequest, packages: Sequence[CondaPackage], python: str
) -> tuple[str, tuple[str, ...]]:
    """The locked requirements beside what conda brings, and notes."""
    there = _index_names(packages)
    wanted: list[str] = []
    notes: list[str] = []
    for text in request.pip:
        requirement = Requirement(text)
        version = there.get(canonicalize_name(requirement.name))
        plain = requirement.url is None and not requirement.extras
        if version is not None and plain and requirement.specifier.contains(version, True):
            notes.append(f"pip: {text} is fulfilled by conda's {requirement.name} {version}")
        else:
            wanted.append(text)
    for note in notes:
        work.log.line(f"note: {note}")
    work.progress(f"resolving {len(wanted)} requirement{'' if len(wanted) == 1 else 's'} under pip")
    source = work.shelf.requirements(work.recipe_key)
    write_private(source, "\n".join([*wanted, f"{SERVER} @ {work.wheel.path.as_uri()}"]) + "\n")
    constraints = work.shelf.recipe_file(work.recipe_key, "constraints.txt")
    write_private(constraints, "".join(f"{name}=={version}\n" for name, version in sorted(there.items())))
    text = await _compiled(work, source, constraints, there, python)
    return _without(text, there), tuple(notes)


async def _compiled(
    work: Work, source: Path, constraints: Path, there: Mapping[str, str], python: str
) -> str:
    """The lock of `source`. What conda brings and the package index has not is stood in for, as far as the resolver
    trips over it: all others are resolved as they are on the index. Raises MooringsError."""
    folder = work.shelf.recipe_file(work.recipe_key, "stand-ins")
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    stood_in: set[str] = set()
    while True:
        links = ["--find-links", str(folder)] if stood_in else []
        try:
            run = await work.checked_uv(
                [
                    *("pip", "compile", str(source), "--python", sys.executable, "--python-version", python),
                    *("--constraint", str(constraints), *COMPILE, *links),
                ]
            )
            return run.out
        except MooringsError as problem:
            tripped = mentioned(problem.failure.evidence, there) - stood_in
            if problem.failure.code not in _OF_INDEX or not tripped:
                raise
        for name in sorted(tripped):
            write_stand_in(folder, name, there[name])
        stood_in |= tripped
        brought = ", ".join(f"{name} {there[name]}" for name in sorted(tripped))
        work.log.line(f"note: pip: once more, with what conda brings: {brought}")


def _index_names(packages: Sequence[CondaPackage]) -> dict[str, str]:
    """Canonical name on the package index -> version, of what conda brings for Python."""
    found: dict[str, str] = {}
    for one in packages:
        try:
            version = str(Version(one.version))
        except InvalidVersion:
            continue
        if one.python:
            name = canonicalize_name(one.name)
            found[canonicalize_name(RENAMED.get(name, name))] = version
    return found


def _without(text: str, there: Mapping[str, str]) -> str:
    """A lock without the packages that conda brings, in the very versions it brings."""
    kept: list[str] = []
    keep = True
    for line in text.splitlines(keepends=True):
        if line[:1].strip():
            name, _, version = line.split(" ")[0].strip().partition("==")
            keep = there.get(canonicalize_name(name)) != version
        if keep:
            kept.append(line)
    return "".join(kept)


def _key(work: Work, packages: Sequence[CondaPackage], locked: Locked, python: str) -> str:
    pip = build_key(
        locked, server=SERVER, server_sha256=work.wheel.sha256, python_version=python, platform=work.platform
    )
    content = json.dumps(
        [pip, [[one.name, one.version, one.build, one.subdir, one.digest] for one in packages]],
        separators=(",", ":"),
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _failure(work: Work, answer: Mapping[str, Any]) -> MooringsError:
    """The coded failure of a solve or an installation that did not succeed."""
    kind, message = answer["failed"], without_credentials(str(answer["message"]))
    details = [without_credentials(str(line)) for line in answer["details"]]
    names = [str(name) for name in answer["names"]]
    for line in details:
        work.log.line(line)
    if kind == conda_child.BAD_SPEC:
        return error("CondaSpecInvalid", message, target="environment.conda_file", evidence=details)
    if kind in (conda_child.UNKNOWN_PACKAGE, conda_child.UNKNOWN_VERSION):
        return error("CondaPackageNotFound", message, target=", ".join(names), evidence=details)
    if kind == conda_child.UNSATISFIABLE:
        told = " ".join(line.strip(" └─├│") for line in details[:4])
        return error("CondaUnsatisfiable", told, target="environment.conda_file", evidence=details)
    if is_disk_full(details):
        return MooringsError(verdict(details, fields=work.fields))
    return error(
        "CondaInstallFailed", message, target="environment.conda_file", evidence=details, fields=work.fields
    )
