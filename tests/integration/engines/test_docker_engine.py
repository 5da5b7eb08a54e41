"""What is particular to containers: limits, images that are away, an engine that goes and comes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moorings.containers.host import DockerHost
from moorings.engines.base import (
    CONTAINER_SERVER,
    ContainerTemplate,
    GroupSpec,
    Instance,
    InstanceTemplate,
    Phase,
    ProbeTimes,
)
from moorings.engines.docker import DockerEngine, DockerEngineSettings
from moorings.errors.exceptions import MooringsError
from moorings.lib.logfile import LogSource

DATA = Path(__file__).parents[2] / "contract" / "data"
OWNER = "shop/blue"


class Place:
    """An engine with instances of its own."""

    def __init__(self, dockerd: Any, folder: Path) -> None:
        self.dockerd = dockerd
        self.settings = DockerEngineSettings(
            root=folder / "containers",
            logs_root=folder / "logs",
            run_dir=folder / "run",
            runtime_root=folder / "runtime",
            store_root=folder / "store",
            initializer_argv=(sys.executable, str(DATA / "initializer.py")),
            workspace_id=uuid.uuid4().hex,
            home_digest="0" * 16,
            network="none",
            worker_argv=("/srv/worker.py",),
        )
        self.engine = DockerEngine(self.settings, DockerHost(dockerd.host, lambda _registry: None))
        files = {"worker.py": (DATA / "worker.py").read_bytes()}
        dockerfile = "FROM moorings.test/python:base\nCOPY worker.py /srv/worker.py\n"
        self.image = dockerd.build("moorings.test/worker:1", dockerfile, files)

    def group(self, count: int = 1, **changes: Any) -> GroupSpec:
        template = InstanceTemplate(
            endpoint="shop",
            deployment="blue",
            python="/usr/local/bin/python3",
            environment_key="key",
            code_digest="code",
            code_folder="src",
            scoring_script="score.py",
            model=None,
            environment_variables={},
            max_concurrent_requests=4,
            request_timeout_ms=5000,
            liveness=ProbeTimes(10, 10, 2, 1, 30),
            cpus=None,
            memory_bytes=None,
            container=ContainerTemplate("moorings.test/worker:1", self.image),
        )
        return GroupSpec(OWNER, uuid.uuid4().hex[:12], count, replace(template, **changes), 5.0)

    async def until(self, phase: Phase) -> Instance:
        deadline = time.monotonic() + 30
        while True:
            seen = await self.engine.observe(OWNER)
            if [i.phase for i in seen] == [phase]:
                return seen[0]
            assert time.monotonic() < deadline, seen
            await asyncio.sleep(0.02)

    async def end(self, group: GroupSpec) -> None:
        await self.engine.remove(OWNER, group.revision, grace_s=0)
        while await self.engine.observe(OWNER):
            await asyncio.sleep(0.02)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="md-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def place(dockerd: Any, folder: Path) -> Place:
    return Place(dockerd, folder)


def ask(address: str, target: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(address)
        client.sendall(f"GET {target} HTTP/1.1\r\n\r\n".encode())
        answer = b""
        while data := client.recv(65536):
            answer += data
    return answer.decode()


async def test_each_worker_has_a_socket_and_a_share(place: Place) -> None:
    group = place.group(environment_variables={"WORKER_COUNT": "3"})
    await place.engine.apply(group)
    instance = await place.until(Phase.RUNNING)
    seen = [json.loads(ask(a, "/env").partition("\r\n\r\n")[2])["env"] for a in instance.addresses]
    assert [env["MOORINGS_WORKER_INDEX"] for env in seen] == ["0", "1", "2"]
    assert [env["MOORINGS_MAX_CONCURRENT"] for env in seen] == ["2", "1", "1"]
    assert all(env["AML_APP_ROOT"] == "/var/azureml-app/src" for env in seen)
    assert not any(str(place.settings.root) in value for env in seen for value in env.values())
    await place.end(group)


async def test_memory_has_a_limit_and_who_breaks_it_is_known(place: Place) -> None:
    greedy = "FROM moorings.test/worker:1\nCOPY worker.py /srv/worker.py\n"
    script = b"import os\nx = bytearray(400 * 2**20)\nfor i in range(0, len(x), 4096):\n    x[i] = 1\n"
    image = place.dockerd.build("moorings.test/greedy:1", greedy, {"worker.py": script})
    group = place.group(memory_bytes=128 * 2**20, cpus=0.5, container=ContainerTemplate("greedy", image))
    await place.engine.apply(group)
    instance = await place.until(Phase.FAILED)
    assert instance.exit is not None
    assert (instance.exit.signal, instance.exit.oom) == (9, True)
    assert "oom_kill" in instance.exit.oom_sign
    assert instance.limits == {"memory": "cgroup", "cpu": "cgroup"}
    await place.end(group)


async def test_an_image_that_is_away_is_a_failure_with_its_own_code(place: Place) -> None:
    group = place.group(container=ContainerTemplate("127.0.0.1:9/away/image:1", f"sha256:{'0' * 64}"))
    await place.engine.apply(group)
    instance = await place.until(Phase.FAILED)
    assert instance.exit is not None
    assert instance.exit.report is not None
    assert instance.exit.report["code"] == "RegistryUnreachable"
    assert instance.exit.report["evidence"]
    await place.end(group)


async def test_code_that_comes_back_is_fetched_by_what_has_served_before(place: Place) -> None:
    group = replace(place.group(code_digest="late"), proven=True)
    await place.engine.apply(group)
    while not (seen := await place.engine.observe(OWNER))[0].exit:
        await asyncio.sleep(0.02)
    assert seen[0].exit is not None
    assert (seen[0].exit.step, seen[0].phase) == ("storage-initializer", Phase.STARTING)
    place.settings.store_root.mkdir(exist_ok=True)
    (place.settings.store_root / "late").touch()
    await place.until(Phase.RUNNING)
    await place.end(group)


async def test_code_that_is_gone_is_the_initializers_failure(place: Place) -> None:
    group = place.group(code_digest="missing")
    await place.engine.apply(group)
    instance = await place.until(Phase.FAILED)
    assert instance.exit is not None
    assert instance.exit.report is not None
    assert (instance.exit.step, instance.exit.report["code"]) == (
        "storage-initializer",
        "ArtifactsUnavailable",
    )
    await place.end(group)


async def test_a_python_that_does_not_start_is_told(place: Place) -> None:
    group = place.group(python="/nowhere/bin/python")
    await place.engine.apply(group)
    instance = await place.until(Phase.FAILED)
    assert instance.exit is not None
    assert instance.exit.report is not None
    assert instance.exit.report["code"] == "ContainerCannotStart"
    assert "/nowhere/bin/python" in instance.exit.report["message"]
    await place.end(group)


async def test_live_restore_keeps_instances_while_docker_is_away(new_dockerd: Any, folder: Path) -> None:
    dockerd = new_dockerd("--live-restore")
    place = Place(dockerd, folder)
    group = place.group()
    await place.engine.apply(group)
    before = await place.until(Phase.RUNNING)
    dockerd.stop()
    assert "200 OK" in ask(before.addresses[0], "/")
    # More than a pipe holds: with nobody to read it, printing must not stop a worker.
    for _ in range(100):
        ask(before.addresses[0], "/print?" + "x" * 3000)
    assert "200 OK" in ask(before.addresses[0], "/")
    with pytest.raises(MooringsError) as caught:
        await place.engine.apply(group)
    assert caught.value.failure.code == "DockerEngineNotAvailable"
    dockerd.start()
    after = await place.until(Phase.RUNNING)
    assert (after.pids, after.started_at) == (before.pids, before.started_at)
    ask(before.addresses[0], "/print?again")
    deadline = time.monotonic() + 10
    while "again" not in (await place.engine.logs(OWNER, container=CONTAINER_SERVER, tail=5) or ""):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    await place.end(group)


async def test_a_container_whose_folder_is_gone_is_seen_and_can_be_removed(place: Place) -> None:
    group = place.group()
    await place.engine.apply(group)
    before = await place.until(Phase.RUNNING)
    shutil.rmtree(place.settings.root / "shop.blue" / before.id)
    seen = await place.engine.observe()
    assert [(i.id, i.owner, i.revision) for i in seen] == [(before.id, OWNER, group.revision)]
    await place.end(group)
    assert not [name for name in place.dockerd.names() if before.id in name]


async def test_whoever_stops_following_leaves_no_thread_and_no_connection(place: Place) -> None:
    group = place.group()
    await place.engine.apply(group)
    instance = await place.until(Phase.RUNNING)

    source = LogSource(instance.id, CONTAINER_SERVER)

    async def follow_once() -> None:
        lines = place.engine.follow_log(OWNER, source, after=time.time())
        first = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0.1)
        ask(instance.addresses[0], "/print?hello")
        await first
        waiting = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0.05)  # it says nothing more, and nobody waits for it to
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        while any(thread.name == "follow" for thread in threading.enumerate()):
            await asyncio.sleep(0.01)

    gc.disable()
    try:
        await follow_once()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            await follow_once()
        assert len(os.listdir("/proc/self/fd")) <= before
    finally:
        gc.enable()
    await place.end(group)


async def test_nothing_of_ours_runs_as_root(place: Place) -> None:
    group = place.group()
    await place.engine.apply(group)
    instance = await place.until(Phase.RUNNING)
    status = Path(f"/proc/{instance.pids['container']}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split()[1] != "0"
    assert int(fields["CapEff"], 16) == 0
    await place.end(group)
