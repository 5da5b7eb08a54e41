"""Uploads of clients into a real workspace: memory, broken connections, kills. The client itself is in tests/compat."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from moorings.client.client import Client
from moorings.client.transport import SocketTransport
from moorings.settings import Settings, WorkspaceName

SIZE_MB = 400
HEADERS = {"x-ms-blob-type": "BlockBlob"}


def pending(workspace: Any) -> tuple[str, str]:
    """Address and signature of a new upload."""
    settings = Settings.load(workspace.env)
    with SocketTransport(settings.api_socket) as transport:
        path = f"{WorkspaceName().path}/codes/abc/versions/1/startPendingUpload"
        answer = transport.send("POST", path, body={"pendingUploadType": "TemporaryBlobReference"})
    reference = json.loads(answer.body)["blobReferenceForConsumption"]
    return reference["blobUri"], reference["credential"]["sasUri"].partition("?")[2]


def register(workspace: Any, name: str, uri: str) -> dict[str, Any]:
    settings = Settings.load(workspace.env)
    with SocketTransport(settings.api_socket) as transport:
        body = {"properties": {"modelUri": uri}}
        return Client(transport, WorkspaceName().path).put_asset("models", name, "1", body)


@pytest.fixture(scope="module")
def listening(workspace: Any) -> Iterator[dict[str, str]]:
    """The variables of a workspace whose listener is on."""
    yield workspace.json("workspace", "env")


@pytest.fixture
def http(listening: dict[str, str]) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=listening["REQUESTS_CA_BUNDLE"])
    with httpx.Client(verify=context, trust_env=False, timeout=60) as client:
        yield client


def peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def pieces(count: int) -> Iterator[bytes]:
    for n in range(count):
        yield bytes([n % 251]) * (1 << 20)


def test_memory_stays_flat_however_large_an_upload_is(workspace: Any, http: httpx.Client) -> None:
    uri, signed = pending(workspace)
    pid = workspace.pid("daemon")
    http.put(f"{uri}/first?{signed}", content=b"x" * 1_000_000, headers=HEADERS).raise_for_status()
    before = peak_mb(pid)
    began = time.monotonic()
    length = {"content-length": str(SIZE_MB << 20)}
    answer = http.put(f"{uri}/large?{signed}", content=pieces(SIZE_MB), headers={**HEADERS, **length})
    sent_s = time.monotonic() - began
    assert answer.status_code == 201
    blocks = ["YQ==", "Yg=="]
    for block in blocks:
        query = f"comp=block&blockid={block.replace('=', '%3D')}&{signed}"
        length = {"content-length": str((SIZE_MB << 20) // 4)}
        http.put(f"{uri}/joined?{query}", content=pieces(SIZE_MB // 4), headers=length).raise_for_status()
    listing = "".join(f"<Latest>{block}</Latest>" for block in blocks)
    joined = http.put(f"{uri}/joined?comp=blocklist&{signed}", content=f"<BlockList>{listing}</BlockList>")
    assert joined.status_code == 201
    register(workspace, "large", f"{uri}/large")
    with http.stream("GET", f"{uri}/large?{signed}") as stream:
        total = sum(len(chunk) for chunk in stream.iter_raw())
    assert total == SIZE_MB << 20
    grown = peak_mb(pid) - before
    print(
        f"\n{SIZE_MB} MiB sent in {sent_s:.1f} s ({SIZE_MB / sent_s:.0f} MiB/s); daemon grew by {grown:.0f} MiB"
    )
    assert grown < 48


def test_a_connection_that_breaks_leaves_nothing(
    workspace: Any, listening: dict[str, str], http: httpx.Client
) -> None:
    uri, signed = pending(workspace)
    parts = urlsplit(uri)
    context = ssl.create_default_context(cafile=listening["REQUESTS_CA_BUNDLE"])
    incoming = Path(workspace.home) / "uploads" / "incoming"
    with (
        socket.create_connection(("127.0.0.1", parts.port or 0)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        head = (
            f"PUT {parts.path}/half?{signed} HTTP/1.1\r\nHost: localhost\r\nx-ms-blob-type: BlockBlob\r\n"
            "Content-Length: 5000000\r\n\r\n"
        )
        tls.sendall(head.encode() + b"x" * 2_000_000)
        _until(lambda: any(incoming.iterdir()))
    _until(lambda: not any(incoming.iterdir()))
    assert http.head(f"{uri}/half?{signed}").status_code == 404
    assert http.put(f"{uri}/half?{signed}", content=b"whole", headers=HEADERS).status_code == 201


def test_a_daemon_killed_in_the_middle_of_an_upload(workspace: Any, http: httpx.Client) -> None:
    """What was acknowledged is there afterwards, the rest is not; addresses and the port still hold."""
    uri, signed = pending(workspace)
    http.put(f"{uri}/whole?{signed}", content=b"kept", headers=HEADERS).raise_for_status()
    incoming = Path(workspace.home) / "uploads" / "incoming"

    def interrupted() -> Iterator[bytes]:
        yield b"x" * 3_000_000
        _until(lambda: any(incoming.iterdir()))
        workspace.kill("daemon")
        yield b"x" * 3_000_000

    with pytest.raises(httpx.TransportError):
        http.put(
            f"{uri}/half?{signed}", content=interrupted(), headers={**HEADERS, "content-length": "6000000"}
        )
    assert any(incoming.iterdir())
    workspace.moor("workspace", "env")
    assert not any(incoming.iterdir())
    with httpx.Client(verify=http._transport._pool._ssl_context, trust_env=False) as again:  # type: ignore[attr-defined]
        assert again.get(f"{uri}/whole?{signed}").content == b"kept"
        assert again.head(f"{uri}/half?{signed}").status_code == 404
        assert again.put(f"{uri}/half?{signed}", content=b"x", headers=HEADERS).status_code == 201
    assert register(workspace, "small", f"{uri}/whole")["properties"]["moorings"]["files"] == 1


def test_the_daemon_ends_when_asked_while_a_client_is_connected(workspace: Any, http: httpx.Client) -> None:
    uri, signed = pending(workspace)
    assert http.head(f"{uri}/a?{signed}").status_code == 404
    pid = workspace.pid("daemon")
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    _until(lambda: not Path(f"/proc/{pid}").exists())
    assert time.monotonic() - began < 6
    log = (Path(workspace.home) / "logs" / "daemon.log").read_text()
    assert "Traceback" not in log and log.rstrip().endswith("stopped")
    workspace.moor("workspace", "start")


def _until(true: Any, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
