"""What has to be there before a deployment's instances can be: its content is found and admitted, its environment is
built beside the loop, and from both comes the template that every instance of the generation is made of. It must not
know which instances there are, ask an engine or the gateway, or decide what becomes of a template: it is asked for one
at every look, and says what it waits for in the status that it is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import Protocol

from moorings.controller.access import Access
from moorings.controller.resolve import Content, resolve
from moorings.controller.status import Status
from moorings.controller.templates import revision_of, template_from_json, template_of
from moorings.controller.verdict import model_named
from moorings.engines.base import ContainerTemplate, InstanceTemplate
from moorings.errors.diagnosis import put_back
from moorings.errors.exceptions import MooringsError, failure
from moorings.lib.timing import Clock
from moorings.observe.journal import Journal, Told
from moorings.observe.phases import BUILD
from moorings.spec.assets import EnvironmentSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.status import ASSETS_AVAILABLE, ENVIRONMENT_READY, READY, Truth
from moorings.state.database import Database
from moorings.state.transaction import Resource


@dataclass(frozen=True)
class Built:
    """An environment that is there."""

    key: str
    python: PurePath
    python_version: str
    packages: int
    reused: bool
    seconds: float
    container: ContainerTemplate | None = None
    """What it is where instances are containers."""
    solver: str = "index"
    """`conda` or `index`: where its packages come from."""
    solver_reason: str = ""


class Environments(Protocol):
    """Builds what a deployment needs to run. Raises MooringsError."""

    async def ensure(
        self,
        spec: EnvironmentSpec | None,
        content: Content,
        progress: Callable[[str], None],
        said: Callable[[str], None],
    ) -> tuple[Content, Built]:
        """`progress` gets short texts, `said` each line of the build log of a build that has to be made."""
        ...

    def release(self, key: str) -> None:
        """That a deployment uses what `ensure` gave is written down now; until then it is kept for it."""
        ...


class ContentStore(Protocol):
    def exists(self, digest: str) -> bool: ...


@dataclass
class _Build:
    generation: int
    task: asyncio.Task[tuple[Content, Built]]
    message: str = "starting"


@dataclass(frozen=True)
class Preparer:
    """Remembers, per deployment, a running build and what it leased. Lost with the daemon: builds are begun again."""

    database: Database
    clock: Clock
    environments: Environments
    store: ContentStore
    access: Access
    journal: Journal
    busy_s: float
    _builds: dict[str, _Build] = field(default_factory=dict)
    _leased: dict[str, str] = field(default_factory=dict)
    """Keys of environments that the stored status does not name yet."""

    async def template(self, row: Resource, spec: DeploymentSpec, status: Status) -> InstanceTemplate | None:
        """The template of this generation; None while it is not there yet or cannot be had."""
        resolved = status.data.get("resolved")
        if resolved and resolved["generation"] == row.generation:
            return template_from_json(status.data["templates"][resolved["revision"]])
        if status.gave_up:
            return None
        content = await self._content(spec, status)
        if content is None or not await self._admitted(spec, content, status):
            return None
        found = await self._environment(row, content, status)
        if found is None:
            return None
        content, built = found
        template = template_of(
            spec, content, python=str(built.python), environment_key=built.key, container=built.container
        )
        revision = revision_of(template)
        status.data["resolved"] = {"generation": row.generation, "revision": revision}
        status.data.setdefault("templates", {})[revision] = asdict(template)
        status.data["environment"] = {
            "key": built.key,
            "pythonVersion": built.python_version,
            "packages": built.packages,
            "reused": built.reused,
            "seconds": round(built.seconds, 3),
            **({} if built.container is None else {"image": built.container.image}),
            "solver": built.solver,
            "solverReason": built.solver_reason,
        }
        return template

    async def _content(self, spec: DeploymentSpec, status: Status) -> Content | None:
        def load() -> Content:
            with self.database.read() as tx:
                content = resolve(tx, spec)
            model = content.model.digest if content.model else ""
            kinds = {"code": content.code_digest, "model": model, "build context": content.build_context}
            for what, digest in kinds.items():
                if digest and not self.store.exists(digest):
                    message = f"{what}: content {digest[:12]} is not in the store"
                    fix = put_back(what, model_named(spec))
                    raise MooringsError(failure("ArtifactsUnavailable", message, target=digest, fix=fix))
            return content

        try:
            content = await asyncio.to_thread(load)
        except MooringsError as problem:
            status.mark(ASSETS_AVAILABLE, Truth.FALSE, problem.failure.code, str(problem), problem.failure)
            status.fail("assets", problem.failure)
            return None
        status.mark(ASSETS_AVAILABLE, Truth.TRUE, "Stored")
        status.phase("assets", "done")
        return content

    async def _admitted(self, spec: DeploymentSpec, content: Content, status: Status) -> bool:
        """Whether the endpoint's identity may have all this; said before anything is built."""
        try:
            await asyncio.to_thread(self.access.check, spec, content)
        except MooringsError as problem:
            status.mark(ASSETS_AVAILABLE, Truth.FALSE, problem.failure.code, str(problem), problem.failure)
            status.fail("assets", problem.failure)
            return False
        return True

    async def _environment(
        self, row: Resource, content: Content, status: Status
    ) -> tuple[Content, Built] | None:
        build = self._builds.get(row.name)
        if build is None:
            build = self._start_build(row, content)
        if not build.task.done():
            await asyncio.wait({build.task}, timeout=self.busy_s)
        if not build.task.done():
            status.phase("environment", "running", build.message)
            status.data["waitingFor"] = f"environment: {build.message}"
            status.mark(ENVIRONMENT_READY, Truth.UNKNOWN, "Building", build.message)
            status.mark(READY, Truth.UNKNOWN, "Progressing", f"environment: {build.message}")
            return None
        self._builds.pop(row.name, None)
        try:
            content, built = build.task.result()
        except MooringsError as problem:
            status.mark(ENVIRONMENT_READY, Truth.FALSE, problem.failure.code, str(problem), problem.failure)
            status.fail("environment", problem.failure)
            return None
        self._leased[row.name] = built.key
        how = "reused" if built.reused else f"built in {built.seconds:.1f} s"
        solver = f"; {built.solver}: {built.solver_reason}" if built.solver_reason else ""
        status.mark(ENVIRONMENT_READY, Truth.TRUE, "Built", f"{built.key}: {how}{solver}")
        what = (
            f"{built.packages} packages, Python {built.python_version}" if built.python_version else "image"
        )
        status.phase("environment", "done", f"{what}, {how}")
        return content, built

    def _start_build(self, row: Resource, content: Content) -> _Build:
        def note(message: str) -> None:
            build.message = message

        def said(line: str) -> None:
            self.journal.note(row.name, (Told(BUILD, line),), self.clock.now())

        work = self.environments.ensure(content.environment, content, note, said)
        build = _Build(row.generation, asyncio.create_task(work, name=f"environment:{row.name}"))
        self._builds[row.name] = build
        return build

    def stored(self, key: str) -> None:
        """The stored status of a deployment is what was told, or nothing is stored of it any more: its environment need
        not be kept for it any longer."""
        leased = self._leased.get(key)
        if leased is not None:
            self.environments.release(leased)
            del self._leased[key]

    async def end_older(self, row: Resource) -> None:
        """Stop a build that an earlier generation wanted."""
        build = self._builds.get(row.name)
        if build is not None and build.generation != row.generation:
            await self.end(row.name)

    async def end(self, key: str) -> None:
        """Stop the running build of a deployment, if there is one."""
        build = self._builds.pop(key, None)
        if build is None:
            return
        build.task.cancel()
        for result in await asyncio.gather(build.task, return_exceptions=True):
            if not isinstance(result, BaseException):  # it had ended already, and nobody took what it leased
                self.environments.release(result[1].key)

    async def forget(self, key: str) -> None:
        """The deployment is no more."""
        self.stored(key)
        await self.end(key)

    async def close(self) -> None:
        """Stop running builds; they are begun again at the next start."""
        for key in list(self._builds):
            await self.end(key)
