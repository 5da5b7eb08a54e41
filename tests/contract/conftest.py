"""One world per engine: the engine, and the means to make things happen to its instances."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from moorings.containers.host import DockerHost
from moorings.engines.base import (
    ContainerTemplate,
    Engine,
    Exit,
    GroupSpec,
    Instance,
    InstanceTemplate,
    Phase,
    ProbeTimes,
)
from moorings.engines.docker import DockerEngine, DockerEngineSettings
from moorings.engines.docker_config import container_name
from moorings.engines.fake import FakeEngine, Script
from moorings.engines.process import ProcessEngine, ProcessEngineSettings
from moorings.lib.timing import ManualClock

DATA = Path(__file__).parent / "data"
PATIENCE_S = 20.0


class World(Protocol):
    engine: Engine

    def again(self) -> Engine:
        """The engine as a restarted daemon has it."""

    def group(
        self,
        count: int = 1,
        *,
        owner: str = "shop/blue",
        boot: str = "ready",
        boot_s: float = 0,
        drain_s: float = 0,
    ) -> GroupSpec: ...

    async def passes(self) -> None:
        """A moment of time."""

    def now(self) -> float:
        """Unix seconds, as lines of logs have them."""

    async def crash(self, instance: Instance) -> None: ...

    async def lose(self, instance: Instance) -> None: ...

    async def says(self, instance: Instance, line: str) -> None: ...

    async def close(self) -> None: ...


def template(owner: str, variables: dict[str, str]) -> InstanceTemplate:
    endpoint, _, deployment = owner.partition("/")
    return InstanceTemplate(
        endpoint=endpoint,
        deployment=deployment,
        python=sys.executable,
        environment_key="key",
        code_digest="code",
        code_folder="src",
        scoring_script="score.py",
        model=None,
        environment_variables=variables,
        max_concurrent_requests=1,
        request_timeout_ms=5000,
        liveness=ProbeTimes(10, 10, 2, 1, 30),
        cpus=None,
        memory_bytes=None,
    )


def group_of(owner: str, count: int, variables: dict[str, str], grace_s: float = 5.0) -> GroupSpec:
    made = template(owner, variables)
    revision = hashlib.sha256(json.dumps(asdict(made), sort_keys=True).encode()).hexdigest()[:12]
    return GroupSpec(owner, revision, count, made, grace_s)


class FakeWorld:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.scripts: dict[str, Script] = {}
        self.engine = FakeEngine(self.clock, self.scripts)

    def again(self) -> Engine:
        return self.engine

    def group(
        self,
        count: int = 1,
        *,
        owner: str = "shop/blue",
        boot: str = "ready",
        boot_s: float = 0,
        drain_s: float = 0,
    ) -> GroupSpec:
        group = group_of(owner, count, {"BOOT": boot, "BOOT_S": str(boot_s), "DRAIN": str(drain_s)})
        ends = {"fail": Exit(3, None, 0.0, {"kind": "init_raised"}), "crash": Exit(7, None, 0.0)}
        self.scripts[group.revision] = Script(boot_s, ends.get(boot), drain_s)
        return group

    async def passes(self) -> None:
        self.clock.advance(0.05)
        await asyncio.sleep(0)

    def now(self) -> float:
        return self.clock.now()

    async def crash(self, instance: Instance) -> None:
        self.engine.crash(instance.id)

    async def lose(self, instance: Instance) -> None:
        self.engine.lose(instance.id)

    async def says(self, instance: Instance, line: str) -> None:
        self.engine.write_log(instance.id, line)

    async def close(self) -> None:
        return


class ProcessWorld:
    def __init__(self, home: Path, run_dir: Path) -> None:
        self.settings = ProcessEngineSettings(
            home=home,
            root=home / "instances",
            logs_root=home / "logs",
            run_dir=run_dir,
            store_root=home / "store",
            initializer_argv=(sys.executable, str(DATA / "initializer.py")),
            workspace_id="test",
            worker_argv=(str(DATA / "worker.py"),),
        )
        self.engine: Engine = ProcessEngine(self.settings)

    def again(self) -> Engine:
        self.engine = ProcessEngine(self.settings)
        return self.engine

    def group(
        self,
        count: int = 1,
        *,
        owner: str = "shop/blue",
        boot: str = "ready",
        boot_s: float = 0,
        drain_s: float = 0,
    ) -> GroupSpec:
        return group_of(owner, count, {"BOOT": boot, "BOOT_S": str(boot_s), "DRAIN": str(drain_s)})

    async def passes(self) -> None:
        await asyncio.sleep(0.02)

    def now(self) -> float:
        return time.time()

    async def crash(self, instance: Instance) -> None:
        ask(instance.addresses[0], "/exit?1")

    async def lose(self, instance: Instance) -> None:
        os.kill(instance.pids["supervisor"], signal.SIGKILL)

    async def says(self, instance: Instance, line: str) -> None:
        ask(instance.addresses[0], f"/print?{line}")

    async def close(self) -> None:
        await remove_all(self.engine)


class DockerWorld:
    """The same worker, in containers of an image that has nothing but Python and this one file."""

    def __init__(self, home: Path, run_dir: Path, dockerd: Any, image: str) -> None:
        self.dockerd = dockerd
        self.container = ContainerTemplate(image="moorings.test/worker:1", image_id=image)
        self.settings = DockerEngineSettings(
            root=home / "containers",
            logs_root=home / "logs",
            run_dir=run_dir,
            runtime_root=home / "runtime",
            store_root=home / "store",
            initializer_argv=(sys.executable, str(DATA / "initializer.py")),
            workspace_id=uuid.uuid4().hex,
            home_digest="0" * 16,
            network="none",
            worker_argv=("/srv/worker.py",),
        )
        self.again()

    def again(self) -> Engine:
        self.engine: Engine = DockerEngine(
            self.settings, DockerHost(self.dockerd.host, lambda _registry: None)
        )
        return self.engine

    def group(
        self,
        count: int = 1,
        *,
        owner: str = "shop/blue",
        boot: str = "ready",
        boot_s: float = 0,
        drain_s: float = 0,
    ) -> GroupSpec:
        made = group_of(owner, count, {"BOOT": boot, "BOOT_S": str(boot_s), "DRAIN": str(drain_s)})
        inside = replace(made.template, python="/usr/local/bin/python3", container=self.container)
        return replace(made, template=inside)

    async def passes(self) -> None:
        await asyncio.sleep(0.02)

    def now(self) -> float:
        return time.time()

    async def crash(self, instance: Instance) -> None:
        ask(instance.addresses[0], "/exit?1")

    async def lose(self, instance: Instance) -> None:
        self.dockerd.cli("rm", "-f", container_name(self.settings.workspace_id, instance.id))

    async def says(self, instance: Instance, line: str) -> None:
        ask(instance.addresses[0], f"/print?{line}")

    async def close(self) -> None:
        await remove_all(self.engine)
        left = [name for name in self.dockerd.names() if self.settings.workspace_id[:8] in name]
        assert left == [], "containers are left behind"
        assert list(self.settings.run_dir.iterdir()) == [], "folders of sockets are left behind"


async def remove_all(engine: Engine) -> None:
    for _ in range(500):
        left = await engine.observe()
        if not left:
            return
        for instance in left:
            await engine.remove(instance.owner, instance.revision, grace_s=0)
        await asyncio.sleep(0.02)
    pytest.fail(f"instances do not go away: {left}")


@pytest.fixture(scope="session")
def worker_image(dockerd: Any) -> str:
    """Python and the worker of the contract; the id of the image."""
    dockerfile = "FROM moorings.test/python:base\nCOPY worker.py /srv/worker.py\n"
    return dockerd.build(
        "moorings.test/worker:1", dockerfile, {"worker.py": (DATA / "worker.py").read_bytes()}
    )


def ask(address: str, target: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(address)
        client.sendall(f"GET {target} HTTP/1.1\r\n\r\n".encode())
        answer = b""
        while data := client.recv(65536):
            answer += data
    return answer


@pytest.fixture(params=["fake", "process", "docker"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    with tempfile.TemporaryDirectory(prefix="me-") as run_dir:
        made: World
        if request.param == "docker":
            image = request.getfixturevalue("worker_image")
            made = DockerWorld(tmp_path, Path(run_dir), request.getfixturevalue("dockerd"), image)
        else:
            made = ProcessWorld(tmp_path, Path(run_dir))
        try:
            yield made
        finally:
            await made.close()


Seen = Sequence[Instance]


@pytest.fixture
def until(world: World) -> Callable[[Callable[[Seen], bool]], object]:
    """Lets time pass until what the engine observes is as expected; hands it out."""

    async def wait(expected: Callable[[Seen], bool], owner: str | None = None) -> Seen:
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            seen = await world.engine.observe(owner)
            if expected(seen):
                return seen
            if asyncio.get_running_loop().time() > deadline:
                pytest.fail(f"still seen: {[(i.id, str(i.phase), i.exit) for i in seen]}")
            await world.passes()

    return wait


@pytest.fixture
def running() -> Callable[[int], Callable[[Seen], bool]]:
    """Exactly `count` instances, all of them running."""
    return lambda count: lambda seen: [i.phase for i in seen] == [Phase.RUNNING] * count
