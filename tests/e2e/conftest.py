"""Workspaces for end-to-end tests: a home of their own, a free gateway port, the real `moor` in a process of its own.

A workspace costs about two seconds to start and its first environment a second or two; so tests of one module share
one, and the smallest environment (Python and the inference server) is built once per workspace.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

CONDA = "channels: [conda-forge]\ndependencies:\n  - python=3.11\n"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Answer:
    status: int
    body: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Workspace:
    """A local workspace driven from outside, as a user does."""

    home: Path
    files: Path
    port: int
    env: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def moor(
        self, *argv: str, check: bool = True, timeout_s: float = 240
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(BIN / "moor"), *argv],
            env=self.env,
            cwd=self.files,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"moor {' '.join(argv)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        assert "\nTraceback" not in f"\n{done.stderr}", done.stderr
        return done

    def json(self, *argv: str) -> Any:
        return json.loads(self.moor(*argv, "-o", "json").stdout)

    def score(
        self,
        endpoint: str,
        body: object,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        path: str = "score",
    ) -> Answer:
        """One request through the gateway; with the primary key unless `key` is given ("" for none)."""
        if key is None:
            key = self.key(endpoint)
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/endpoint/{endpoint}/{path}",
            data=body if isinstance(body, bytes) else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read().decode(errors="backslashreplace")
                return Answer(answer.status, text, dict(answer.headers.items()))
        except urllib.error.HTTPError as problem:
            with problem:
                text = problem.read().decode(errors="backslashreplace")
                return Answer(problem.code, text, dict(problem.headers.items()))

    def key(self, endpoint: str) -> str:
        """The primary key; asked for once (`keys.clear()` after it was changed)."""
        if endpoint not in self.keys:
            found = self.json("online-endpoint", "get-credentials", "-n", endpoint)
            self.keys[endpoint] = str(found["primaryKey"])
        return self.keys[endpoint]

    def processes(self) -> list[dict[str, Any]]:
        return list(self.json("workspace", "status")["processes"])

    def pid(self, role: str) -> int:
        return next(int(p["pid"]) for p in self.processes() if p["role"] == role)

    def kill(self, role: str) -> int:
        pid = self.pid(role)
        os.kill(pid, signal.SIGKILL)
        return pid

    def script(self, name: str, text: str) -> Path:
        """A code folder `name` with this score.py; returns the folder."""
        folder = self.files / name
        folder.mkdir(exist_ok=True)
        (folder / "score.py").write_text(text)
        return folder

    def spec(self, endpoint: str, deployment: str, code: Path | str, **extra: Any) -> Path:
        """A deployment file with the smallest environment."""
        document: dict[str, Any] = {
            "name": deployment,
            "endpoint_name": endpoint,
            "code_configuration": {"code": str(code), "scoring_script": "score.py"},
            "environment": {"image": "local/base", "conda_file": "conda.yaml"},
            "instance_type": "Standard_DS3_v2",
            "instance_count": 1,
            **extra,
        }
        document = {k: v for k, v in document.items() if v is not None}
        path = self.files / f"{endpoint}-{deployment}.yml"
        path.write_text(json.dumps(document))
        return path

    def endpoint(self, name: str) -> None:
        self.moor("online-endpoint", "create", "-n", name)

    def deploy(self, spec: Path, *argv: str, verb: str = "create") -> subprocess.CompletedProcess[str]:
        return self.moor("online-deployment", verb, "-f", str(spec), *argv)


def make_workspace(base: Path, settings: Mapping[str, Any] | None = None) -> Workspace:
    home, files = base / "home", base / "files"
    home.mkdir(mode=0o700)
    files.mkdir()
    (files / "conda.yaml").write_text(CONDA)
    port = free_port()
    given: dict[str, Any] = {"gateway": {"port": port, "rate_limit_per_s": 1_000_000}}
    for section, values in (settings or {}).items():
        given[section] = {**given.get(section, {}), **values} if isinstance(values, Mapping) else values
    (home / "settings.json").write_text(json.dumps(given))
    keep = {k: v for k, v in os.environ.items() if not k.startswith("MOORINGS_")}
    return Workspace(home, files, port, {**keep, "MOORINGS_HOME": str(home), "NO_COLOR": "1"})


def end(workspace: Workspace) -> None:
    """Stop everything and see that nothing is left."""
    workspace.moor("workspace", "stop", check=False)
    deadline = time.monotonic() + 10
    while (left := _alive(workspace.home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"still running after `workspace stop`: {left}"


def _alive(home: Path) -> list[int]:
    marker = f"MOORINGS_HOME={home}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                env = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if marker in env:
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
def workspace() -> Iterator[Workspace]:
    base = Path(tempfile.mkdtemp(prefix="moor-e2e-"))
    made = make_workspace(base)
    try:
        yield made
        end(made)
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def workspace_factory() -> Iterator[Any]:
    """A factory, for workspaces that the tests of a module share."""
    yield from _factory()


@pytest.fixture
def new_workspace() -> Iterator[Any]:
    """A factory, for tests that need a workspace of their own."""
    yield from _factory()


def _factory() -> Iterator[Any]:
    made: list[tuple[Workspace, Path]] = []

    def make(settings: Mapping[str, Any] | None = None) -> Workspace:
        base = Path(tempfile.mkdtemp(prefix="moor-e2e-"))
        made.append((make_workspace(base, settings), base))
        return made[-1][0]

    try:
        yield make
        for each, _ in made:
            end(each)
    finally:
        for _, base in made:
            shutil.rmtree(base, ignore_errors=True)
