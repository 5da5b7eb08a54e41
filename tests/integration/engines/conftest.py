"""A process engine with real supervisors over a small worker that does as its deployment's variables say."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from moorings.engines.base import (
    GroupSpec,
    Instance,
    InstanceTemplate,
    ModelMount,
    Phase,
    ProbeTimes,
)
from moorings.engines.process import ProcessEngine, ProcessEngineSettings

DATA = Path(__file__).parents[2] / "contract" / "data"
PATIENCE_S = 20.0
OWNER = "shop/blue"


class Harbour:
    """The engine and what tests ask of its instances."""

    def __init__(self, home: Path, run_dir: Path) -> None:
        self.home = home
        self.settings = ProcessEngineSettings(
            home=home,
            root=home / "instances",
            logs_root=home / "logs",
            run_dir=run_dir,
            store_root=home / "store",
            initializer_argv=(sys.executable, str(DATA / "initializer.py")),
            workspace_id="test",
            worker_argv=(str(DATA / "worker.py"),),
            log_file_bytes=256 * 1024,
            log_files=3,
        )
        self.engine = ProcessEngine(self.settings)

    def use(self, **settings: Any) -> None:
        self.settings = dataclasses.replace(self.settings, **settings)
        self.engine = ProcessEngine(self.settings)

    def group(self, count: int = 1, *, grace_s: float = 5.0, **changes: Any) -> GroupSpec:
        values: dict[str, Any] = {
            "endpoint": "shop",
            "deployment": "blue",
            "python": sys.executable,
            "environment_key": "key",
            "code_digest": "code",
            "code_folder": "src",
            "scoring_script": "score.py",
            "model": ModelMount("model", "m", "3"),
            "environment_variables": {},
            "max_concurrent_requests": 1,
            "request_timeout_ms": 5000,
            "liveness": ProbeTimes(10, 10, 2, 1, 30),
            "cpus": None,
            "memory_bytes": None,
        }
        template = InstanceTemplate(**{**values, **changes})
        text = json.dumps(asdict(template), sort_keys=True)
        return GroupSpec(OWNER, hashlib.sha256(text.encode()).hexdigest()[:12], count, template, grace_s)

    async def until(self, expected: Callable[[Sequence[Instance]], bool]) -> Sequence[Instance]:
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            seen = await self.engine.observe()
            if expected(seen):
                return seen
            if asyncio.get_running_loop().time() > deadline:
                pytest.fail(f"still seen: {[(i.id, str(i.phase), i.exit) for i in seen]}")
            await asyncio.sleep(0.02)

    async def phase(self, phase: Phase, count: int = 1) -> Sequence[Instance]:
        return await self.until(lambda seen: [i.phase for i in seen] == [phase] * count)

    async def started(self, group: GroupSpec) -> Instance:
        await self.engine.apply(group)
        return (await self.phase(Phase.RUNNING))[0]

    async def log(self, container: str = "inference-server", tail: int = 5000) -> str:
        return await self.engine.logs(OWNER, container=container, tail=tail) or ""

    async def settled(self, expected: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not expected():
                await asyncio.sleep(0.02)

    def processes(self) -> dict[int, str]:
        """Every living process that carries this home: pid -> role."""
        found = {}
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                with contextlib.suppress(OSError):
                    items = (path / "environ").read_bytes().split(b"\0")
                    if b"MOORINGS_HOME=" + os.fsencode(self.home) in items:
                        role = [i for i in items if i.startswith(b"MOORINGS_ROLE=")]
                        found[int(path.name)] = role[0].partition(b"=")[2].decode()
        return found

    def zombies(self) -> list[int]:
        """Dead children of living supervisors that nobody has reaped."""
        parents = {pid for pid, role in self.processes().items() if role == "supervisor"}
        found = []
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                with contextlib.suppress(OSError):
                    state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
                    if state == "Z" and int(parent) in parents:
                        found.append(int(path.name))
        return found

    async def close(self) -> None:
        for _ in range(500):
            left = await self.engine.observe()
            if not left:
                break
            for instance in left:
                await self.engine.remove(instance.owner, instance.revision, grace_s=0)
            await asyncio.sleep(0.02)
        await self.settled(lambda: not self.processes())

    @staticmethod
    def ask(address: str, target: str, *, timeout_s: float = 5) -> bytes:
        """The body of the answer; empty when the worker ended instead."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout_s)
            client.connect(address)
            client.sendall(f"GET {target} HTTP/1.1\r\n\r\n".encode())
            answer = b""
            while data := client.recv(65536):
                answer += data
        return answer.partition(b"\r\n\r\n")[2]


@pytest.fixture
async def harbour(tmp_path: Path) -> AsyncIterator[Harbour]:
    with tempfile.TemporaryDirectory(prefix="me-") as run_dir:
        made = Harbour(tmp_path, Path(run_dir))
        try:
            yield made
        finally:
            await made.close()
