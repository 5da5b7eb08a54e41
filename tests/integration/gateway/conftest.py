"""A real gateway (keeper, agent, Envoy) on a free port, and tiny backends on unix sockets that obey request
headers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from moorings.gateway.control import GatewayControl, GatewaySettings
from moorings.gateway.state import DeploymentRoute, EndpointRoute, GatewayState, GatewayStatus

FAST = 1_000_000
"""Rate class for tests that aren't about rates."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json()["error"]["code"]


@dataclass
class Backend:
    """One worker. Request headers say what to do: x-sleep-ms, x-status, x-bytes, x-chunked, x-type."""

    name: str
    path: str
    gate: int = 1
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    running: int = 0
    peak: int = 0
    server: asyncio.Server | None = None
    slots: asyncio.Semaphore | None = None
    health: int = 200
    tasks: set[asyncio.Task] = field(default_factory=set)

    async def open(self) -> None:
        self.slots = asyncio.Semaphore(self.gate)
        self.server = await asyncio.start_unix_server(self.serve, self.path + ".tmp")
        os.rename(self.path + ".tmp", self.path)

    async def close(self) -> None:
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                _, path, _ = head[0].split(" ")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if headers.get("transfer-encoding") == "chunked":
                    while size := int(await reader.readuntil(b"\r\n"), 16):
                        body += await reader.readexactly(size)
                        await reader.readexactly(2)
                    await reader.readexactly(2)
                if headers.get("host") == "health":
                    writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % self.health)
                    continue
                async with self.slots:
                    self.running += 1
                    self.peak = max(self.peak, self.running)
                    try:
                        await asyncio.sleep(int(headers.get("x-sleep-ms", 0)) / 1000)
                    finally:
                        self.running -= 1
                self.seen.append((path, headers, body))
                reply = b"x" * int(headers["x-bytes"]) if "x-bytes" in headers else self.name.encode()
                kind = headers.get("x-type", "text/plain")
                status = headers.get("x-status", "200")
                start = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n".encode()
                if status in ("204", "304"):
                    # A 304 may name the length of what it doesn't send.
                    length = b"content-length: 7\r\n" if status == "304" else b""
                    writer.write(start + length + b"\r\n")
                elif "x-chunked" in headers:
                    writer.write(start + b"transfer-encoding: chunked\r\n\r\n")
                    for at in range(0, len(reply), 65536):
                        piece = reply[at : at + 65536]
                        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                        await writer.drain()
                    writer.write(b"0\r\n\r\n")
                else:
                    writer.write(start + b"content-length: %d\r\n\r\n" % len(reply) + reply)
                await writer.drain()
        self.tasks.discard(asyncio.current_task())
        writer.close()


class Backends:
    """Backends in a loop of their own, so that tests may block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.all: list[Backend] = []

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def start(self, name: str, *, gate: int = 1) -> Backend:
        backend = Backend(name, str(self.folder / f"{name}.{len(self.all)}.sock"), gate)
        self.run(backend.open())
        self.all.append(backend)
        return backend

    def stop(self, backend: Backend) -> None:
        self.run(backend.close())

    def close(self) -> None:
        for backend in self.all:
            self.run(backend.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Gateway:
    """What a test does with a gateway."""

    def __init__(self, folder: Path, run_dir: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.settings = GatewaySettings(folder, folder / "gateway", run_dir, port)
        self.control = GatewayControl(self.settings)
        self.endpoints: dict[str, EndpointRoute] = {}
        self.token_keys = ""

    @property
    def status(self) -> GatewayStatus | None:
        return self.control.status()

    def put(self, *endpoints: EndpointRoute, wait: bool = True) -> dict[str, str]:
        """Publish these endpoints beside the others; wait until Envoy has them, with all their workers
        healthy."""
        self.endpoints.update({endpoint.name: endpoint for endpoint in endpoints})
        return self.publish([e.name for e in endpoints] if wait else [])

    def drop(self, name: str) -> None:
        del self.endpoints[name]
        self.publish([])
        until(lambda: name not in self.status.accepted)

    def publish(self, wait_for: list[str]) -> dict[str, str]:
        routes = tuple(self.endpoints[name] for name in sorted(self.endpoints))
        state = GatewayState(routes, self.token_keys)
        versions = dict(self.control.publish(state).endpoints)

        def done() -> bool:
            status = self.status
            return (
                status is not None
                and status.ready
                and all(status.accepted.get(name) == versions[name] for name in wait_for)
                and all(
                    worker in status.healthy.get(f"{name}~{d.name}", ())
                    for name in wait_for
                    for d in self.endpoints[name].deployments
                    for worker in d.addresses
                )
            )

        if wait_for:
            until(done, say=lambda: self.status)
        return versions

    def ask(
        self,
        path: str,
        key: str | None = "key-one",
        *,
        method: str = "POST",
        body: bytes | Iterator[bytes] = b"{}",
        host: str | None = None,
        **headers: str,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.port, timeout=20)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        if host is not None:
            sent["Host"] = host
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def score(self, name: str, **more) -> Answer:
        return self.ask(f"/api/v1/endpoint/{name}/score", **more)


class Load:
    """Keep-alive clients in threads until stopped; counts what they saw."""

    def __init__(self, port: int, name: str, keys: Callable[[], str], clients: int = 4) -> None:
        self.codes: dict[int | str, int] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._port, self._name, self._keys = port, name, keys
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    @property
    def total(self) -> int:
        return sum(self.codes.values())

    @property
    def failures(self) -> dict[int | str, int]:
        return {code: count for code, count in self.codes.items() if code != 200}

    def _client(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while not self._stop.is_set():
            code: int | str
            try:
                connection.request(
                    "POST",
                    f"/api/v1/endpoint/{self._name}/score",
                    body=b"{}",
                    headers={"Authorization": f"Bearer {self._keys()}"},
                )
                response = connection.getresponse()
                response.read()
                code = response.status
            except (OSError, http.client.HTTPException) as problem:
                code = type(problem).__name__
                connection.close()
            with self._lock:
                self.codes[code] = self.codes.get(code, 0) + 1
        connection.close()


def until(condition: Callable[[], object], *, limit_s: float = 20.0, say: Callable[[], object] = str) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {say()}"
        time.sleep(0.01)


def processes_of(home: Path) -> dict[int, str]:
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            environment = (entry / "environ").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if f"MOORINGS_HOME={home}".encode() in environment:
                named = dict(item.split(b"=", 1) for item in environment if b"=" in item)
                found[int(entry.name)] = named.get(b"MOORINGS_ROLE", b"").decode()
    return found


@contextlib.contextmanager
def running_gateway(folder: Path) -> Iterator[Gateway]:
    run_dir = Path(tempfile.mkdtemp(prefix="mrg"))
    gateway = Gateway(folder, run_dir)
    try:
        yield gateway
        gateway.control.stop(15)
        until(lambda: not processes_of(folder), limit_s=5, say=lambda: processes_of(folder))
    finally:
        gateway.control.stop(0.1)
        shutil.rmtree(run_dir)


def route(
    name: str, *backends: Backend, count: int = 1, mc: int = 1, timeout_ms: int = 5000
) -> DeploymentRoute:
    return DeploymentRoute(name, tuple(sorted(b.path for b in backends)), count, mc, timeout_ms)


def endpoint(name: str, *deployments: DeploymentRoute, rate: int = FAST, **more) -> EndpointRoute:
    keys = more.pop("keys", ("key-one", "key-two"))
    traffic = more.pop("traffic", {deployments[0].name: 100} if deployments else {})
    return EndpointRoute(name, tuple(keys), deployments, traffic, rate_limit_per_s=rate, **more)


@dataclass
class Kit:
    """The helpers of this file, for tests (test folders are no packages)."""

    backends: Backends
    route = staticmethod(route)
    endpoint = staticmethod(endpoint)
    until = staticmethod(until)
    processes_of = staticmethod(processes_of)
    running_gateway = staticmethod(running_gateway)

    def load(
        self, gateway: Gateway, name: str, keys: Callable[[], str] = lambda: "key-one", clients: int = 4
    ) -> Load:
        return Load(gateway.settings.port, name, keys, clients)


@pytest.fixture(scope="module")
def kit() -> Iterator[Kit]:
    folder = Path(tempfile.mkdtemp(prefix="mrb"))
    backends = Backends(folder)
    yield Kit(backends)
    backends.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for all tests of a module that leave it as it was."""
    with running_gateway(tmp_path_factory.mktemp("gateway")) as gateway:
        gateway.control.ensure_agent()
        until(lambda: gateway.status is not None and gateway.status.ready, say=lambda: gateway.status)
        yield gateway


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of the test's own, not started."""
    with running_gateway(tmp_path) as gateway:
        yield gateway
