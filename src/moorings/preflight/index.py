"""What the package index says about requirements: uv is asked to resolve them, within a time limit and without building
anything: each by itself and all together side by side, and once more without what cannot be met, so that all of it is
known at once.

It is the resolver that builds environments, so its answer is theirs. Must not know deployments.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from moorings.environments.installer import Installer, Run, user_cache
from moorings.environments.locked import parse_lock
from moorings.environments.recipe import SERVER
from moorings.environments.verdict import verdict
from moorings.errors.exceptions import Failure, MooringsError
from moorings.lib import atomic

KEPT_FOR_S = 900.0
"""How long a whole answer is believed: the index may have something newer, which seldom changes a verdict."""
MOST_ROUNDS = 12
FETCHABLE_S = 0.5
"""For uv to list what it knows, which takes it 30 ms."""
_UNBUILT = "building from source is disabled"
_REQUIRED = re.compile(r"you require ([A-Za-z0-9][A-Za-z0-9_.\-]*)")
_ALONE = ("PackageNotFound", "PackageVersionNotFound", "NoWheelForPython")
_UNREACHED = ("IndexUnreachable", "EnvironmentDiskFull")


@dataclass(frozen=True)
class Unmet:
    """A requirement that cannot be met. `package`: canonical name."""

    package: str
    failure: Failure
    compiled: bool = False
    """It has no ready-made file for this Python and would have to be compiled, which may work."""


@dataclass(frozen=True)
class Answer:
    """What would be installed."""

    packages: Mapping[str, str] = field(default_factory=dict)
    """Canonical name -> version, what packages bring along included."""
    unmet: tuple[Unmet, ...] = ()
    whole: bool = False
    """Whether `packages` is all there will be."""
    note: str = ""
    """Why the index could not say it all."""


@dataclass
class _Asked:
    """A question on its way: what is left of it, and what was found."""

    python: str
    left: list[tuple[str, Requirement]]
    unmet: list[Unmet] = field(default_factory=list)
    note: str = ""


class Index:
    """Answers questions until `until_s` (`time.monotonic`), all together; then it knows nothing any more. Safe to ask from
    several threads."""

    def __init__(self, environ: Mapping[str, str], home: Path, *, until_s: float) -> None:
        self._environ = environ
        self._installer = Installer(None, home=home, environ=environ)
        self._began = time.monotonic()
        self._deadline = until_s
        self._answers: dict[str, Future[Answer]] = {}
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, ...], str | None] = {}
        self._probing = threading.Lock()
        self._folder = user_cache(environ) / "preflight"

    def ask(self, requirements: Sequence[str], python: str) -> Answer:
        """What `requirements` lead to on Python `python` (`3.12` or `3.12.1`), beside the inference server."""
        key = self._key(requirements, python)
        with self._lock:
            asked = self._answers.get(key)
            if asked is None:
                mine = self._answers[key] = Future()
        if asked is not None:
            return asked.result()
        answer = Answer(note="the package index was not asked")
        try:
            answer = self._answer(key, requirements, python)
        finally:
            mine.set_result(answer)  # whoever waits for it goes on, whatever happened
        return answer

    def _answer(self, key: str, requirements: Sequence[str], python: str) -> Answer:
        kept = self._kept(key)
        if kept is not None:
            return kept
        try:
            answer = asyncio.run(self._resolve(requirements, python))
        except (OSError, MooringsError) as problem:
            return Answer(note=f"the package index was not asked: {problem}")
        if answer.whole and not answer.unmet:
            self._keep(key, answer)
        return answer

    def fetchable(self, python: str) -> bool:
        """Whether uv knows a Python of this version (specifiers, such as `==3.12.*`) to fetch; yes where it does not say.
        Asks nobody."""
        command = ["python", "list", python, "--only-downloads", "--offline", "--no-config"]
        try:
            run = asyncio.run(
                self._installer.run(
                    command, cwd=Path(tempfile.gettempdir()), on_line=_ignored, timeout_s=FETCHABLE_S
                )
            )
        except (OSError, TimeoutError, MooringsError):
            return True
        return run.code != 0 or "cpython" in run.out

    def channels_problem(self, channels: Sequence[str]) -> str | None:
        """Why a conda channel cannot be reached; None where it can, or nothing is known in time."""
        asked = tuple(channels)
        with self._probing:
            if asked not in self._channels:
                self._channels[asked] = self._probed(asked)
            return self._channels[asked]

    def _probed(self, channels: tuple[str, ...]) -> str | None:
        command = [sys.executable, "-P", "-m", "moorings.environments.conda_child", "probe", *channels]
        folder = Path(tempfile.gettempdir())
        limit_s = self._deadline - time.monotonic()
        if limit_s <= 0:
            return None
        try:
            run = asyncio.run(
                self._installer.run_program(command, cwd=folder, on_line=_ignored, timeout_s=limit_s)
            )
            answer = json.loads(run.out)
        except (OSError, ValueError, MooringsError):
            return None
        message = answer.get("message") if isinstance(answer, dict) else None
        return str(message) if message else None

    async def _resolve(self, requirements: Sequence[str], python: str) -> Answer:
        wanted = [(canonicalize_name(one.name), one) for one in map(Requirement, requirements)]
        # An address is fetched when the environment is built, not before.
        asked = _Asked(python, [(name, one) for name, one in wanted if one.url is None])
        known = await self._first(asked)
        if known is None:
            known = await self._both(asked)
        named: dict[str, str] = {name: "" for name, _ in wanted}
        whole = known is not None and not asked.unmet and len(asked.left) == len(wanted)
        return Answer({**named, **(known or {})}, tuple(asked.unmet), whole, asked.note)

    async def _first(self, asked: _Asked) -> Mapping[str, str] | None:
        """What uv has seen of the index before, if that is enough: nothing is asked then."""
        try:
            run = await self._compile(asked, "--offline")
        except TimeoutError:
            return None
        return _packages(run) if run.code == 0 else None

    async def _both(self, asked: _Asked) -> Mapping[str, str] | None:
        """Ask until the answer is a list, leaving out what cannot be met; None when there is none.

        Each by itself is soon told; what they bring along may take longer than there is time for. So both are asked at
        the same time, as long as not every one is known to be there.
        """
        each_is_there = False
        for _ in range(MOST_ROUNDS):
            try:
                run, each_is_there = await self._round(asked, alone=not each_is_there)
            except TimeoutError:
                asked.note = (
                    f"the package index had not told everything within {self._deadline - self._began:.1f} s: what it "
                    "was not asked in time shows when the environment is built"
                )
                return None
            if run.code == 0:
                return _packages(run)
            failed = verdict(run.lines, fields={"python": asked.python})
            text = " ".join(run.lines)
            culprit = _culprit(failed, text, [name for name, _ in asked.left])
            if failed.code in _UNREACHED or culprit is None:
                asked.note = failed.message
                return None
            asked.unmet.append(Unmet(culprit, failed, _UNBUILT in text))
            asked.left = [(name, one) for name, one in asked.left if name != culprit]
        return None

    async def _round(self, asked: _Asked, *, alone: bool) -> tuple[Run, bool]:
        """The run that tells something, and whether each requirement is known to be there. `alone`: that is asked."""
        whole = asyncio.create_task(self._compile(asked))
        tasks = [whole]
        try:
            if alone:
                each = asyncio.create_task(self._compile(asked, "--no-deps"))
                tasks.append(each)
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if _succeeded(whole):
                    return whole.result(), True
                run = await each
                if run.code != 0:
                    return run, False
            return await whole, True
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _compile(self, asked: _Asked, *flags: str) -> Run:
        """Raises TimeoutError."""
        limit_s = self._deadline - time.monotonic()
        if limit_s <= 0:
            raise TimeoutError
        with tempfile.TemporaryDirectory(prefix="moorings-check-") as folder:
            source = Path(folder) / "requirements.txt"
            lines = [*(str(one) for _, one in asked.left), *_server_requirements(), ""]
            await asyncio.to_thread(source.write_text, "\n".join(lines))
            return await self._installer.run(
                [
                    *("pip", "compile", str(source), "--python", sys.executable, *flags),
                    *("--python-version", asked.python, "--no-build"),
                    *("--no-header", "--no-annotate", "--no-emit-index-url", "--quiet"),
                ],
                cwd=Path(folder),
                on_line=_ignored,
                extra={"UV_HTTP_RETRIES": "0"},
                timeout_s=limit_s,
            )

    # --- answers that are kept ---

    def _key(self, requirements: Sequence[str], python: str) -> str:
        asked = sorted((k, v) for k, v in self._environ.items() if k.startswith("UV_"))
        content = [sorted(requirements), python, _server_requirements(), asked, sys.version_info[:2]]
        return hashlib.sha256(json.dumps(content).encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def _kept(self, key: str) -> Answer | None:
        path = self._folder / f"{key}.json"
        try:
            if time.time() - path.stat().st_mtime > KEPT_FOR_S:
                return None
            data: dict[str, Any] = json.loads(path.read_bytes())
            return Answer(packages={str(k): str(v) for k, v in data["packages"].items()}, whole=True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _keep(self, key: str, answer: Answer) -> None:
        """A cache that cannot be written costs time, nothing else."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.write(self._folder / f"{key}.json", json.dumps(asdict(answer)).encode())
        except OSError:
            return


def _server_requirements() -> list[str]:
    """What the inference server needs, which every environment gets."""
    try:
        return importlib.metadata.requires(SERVER) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _packages(run: Run) -> dict[str, str]:
    return dict(_name_and_version(head) for head, _ in parse_lock(run.out).packages)


def _name_and_version(head: str) -> tuple[str, str]:
    name, _, version = head.partition(" ;")[0].partition("==")
    return canonicalize_name(name.partition(" @ ")[0].partition("[")[0].strip()), version.strip()


def _culprit(failed: Failure, text: str, left: Sequence[str]) -> str | None:
    """The requirement to leave out for the rest to be looked at: the one that is named, else the first of those that the
    resolver says it was asked for."""
    named = canonicalize_name(failed.target) if failed.target and failed.code in _ALONE else ""
    if named in left:
        return named
    required = [canonicalize_name(name.rstrip(".")) for name in _REQUIRED.findall(text)]
    mentioned = [name for name in required if name in left]
    if mentioned:
        return mentioned[0]
    # A package that another one brings along: the other one is what the user can change.
    words = {canonicalize_name(word) for word in re.findall(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", text)}
    return next((name for name in left if name in words), None)


def _succeeded(task: asyncio.Task[Run]) -> bool:
    return task.done() and task.exception() is None and task.result().code == 0


def _ignored(_: str) -> None:
    """Lines of a run are looked at when it has ended."""
