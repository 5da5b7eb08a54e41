"""What a build works with: its log, its folders, and the two programs that do the work, uv and conda's.

It must not know which of them a build needs, nor what it asks of them.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from moorings.environments.buildlog import BuildLog
from moorings.environments.installer import Installer, Run
from moorings.environments.recipe import SERVER, Recipe
from moorings.environments.server_wheel import ServerWheel
from moorings.environments.shelf import Shelf
from moorings.environments.verdict import verdict
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import procs
from moorings.lib.timing import rfc3339

Progress = Callable[[str], None]

CONDA_CHILD = "moorings.environments.conda_child"
_STARTED = re.compile(r"^\s*(Downloading|Building) (\S+)")


class Work:
    """One build's means. `fields`: what the words of a failure are filled with."""

    def __init__(
        self,
        shelf: Shelf,
        installer: Installer,
        recipe: Recipe,
        recipe_key: str,
        wheel: ServerWheel,
        platform: str,
        log: BuildLog,
        progress: Progress,
    ) -> None:
        self.shelf = shelf
        self.recipe = recipe
        self.recipe_key = recipe_key
        self.wheel = wheel
        self.platform = platform
        self.log = log
        self.progress = progress
        self.fields: dict[str, object] = {"key": recipe_key, "path": shelf.root}
        self.conda_cache = installer.conda_cache
        self._installer = installer

    def headline(self) -> None:
        """Begin the log with what is asked for."""
        recipe, log = self.recipe, self.log
        log.line(f"recipe {self.recipe_key}, {rfc3339(time.time())}")
        if recipe.conda is not None:
            for channel in recipe.conda.channels:
                log.line(f"channel: {channel}")
            for spec in recipe.conda.specs:
                log.line(f"conda package: {spec}")
            for requirement in recipe.conda.pip:
                log.line(f"requirement under pip: {requirement}")
        if recipe.untranslatable is None:
            said = "translated " if recipe.conda is not None else ""
            log.line(f"{said}Python asked for: {recipe.python or 'any'}")
            for requirement in recipe.requirements:
                log.line(f"{said}requirement: {requirement}")
        log.line(f"inference server: {SERVER} {self.wheel.version}")
        for note in recipe.notes:
            log.line(f"note: {note}")

    async def checked_uv(self, arguments: list[str], held: procs.Held | None = None) -> Run:
        """Raises the failure that the output of a failed run shows."""
        try:
            run = await self.uv(arguments, held=held)
        except TimeoutError:
            message = f"uv {arguments[0]} took too long and was ended"
            raise error(
                "EnvironmentBuildFailed", message, evidence=self.log.last(20), fields=self.fields
            ) from None
        if run.code != 0:
            raise MooringsError(verdict(run.lines, fields=self.fields))
        return run

    async def uv(
        self,
        arguments: list[str],
        *,
        held: procs.Held | None = None,
        extra: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Run:
        """Run uv; whatever it says goes to the log. Raises TimeoutError."""
        self.log.line(f"$ uv {' '.join(arguments)}")
        limit = {} if timeout_s is None else {"timeout_s": timeout_s}
        return await self._installer.run(
            arguments,
            cwd=self.shelf.root,
            on_line=self._said,
            # Should we be killed, uv goes on for a while: the lock is held until it has ended, too.
            keep_open=() if held is None else (held.fd,),
            extra=extra,
            **limit,
        )

    async def conda(self, arguments: list[str], held: procs.Held | None = None) -> dict[str, Any]:
        """Run conda's part; its answer. Raises `EnvironmentBuildFailed` for a run without an answer."""
        self.log.line(f"$ conda {' '.join(arguments)}")
        try:
            run = await self._installer.run_program(
                [sys.executable, "-P", "-m", CONDA_CHILD, *arguments],
                cwd=self.shelf.root,
                on_line=self._said,
                keep_open=() if held is None else (held.fd,),
            )
            how = f"exit status {run.code}"
            answer = json.loads(run.out) if run.code == 0 else None
        except (TimeoutError, ValueError) as problem:
            how, answer = str(problem) or "it took too long", None
        if not isinstance(answer, dict):
            message = f"conda's {arguments[0]} ended without an answer: {how}"
            raise error("EnvironmentBuildFailed", message, evidence=self.log.last(20), fields=self.fields)
        return answer

    async def python(self, python: Path, code: str, *, timeout_s: float) -> Run:
        """Run `code` in the environment of an interpreter. Raises TimeoutError."""
        return await self._installer.run_program(
            [str(python), "-I", "-c", code], cwd=self.shelf.root, on_line=self.log.line, timeout_s=timeout_s
        )

    def _said(self, line: str) -> None:
        self.log.line(line)
        started = _STARTED.match(line)
        if started:
            self.progress(f"{started[1].lower()} {started[2]}")


class Resolved(Protocol):
    """Exactly what will be installed, and how."""

    @property
    def key(self) -> str:
        """The build key: names the content."""
        ...

    @property
    def packages(self) -> int: ...

    @property
    def python_version(self) -> str: ...

    @property
    def solver(self) -> str:
        """`conda` or `index`."""
        ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def locks(self) -> Mapping[str, str]:
        """File name -> text: what reproduces it."""
        ...

    async def fill(self, folder: Path, held: procs.Held) -> Mapping[str, str]:
        """Install everything at `folder`, which is not there yet; the environment variables that activating it would
        set. Raises MooringsError."""
        ...


def write_private(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
