"""Models from S3, Azure Blob, GCS and the web, each from a real server: taken in whole, or refused by name and nothing kept."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import obstore
import pytest

from moorings.api.assets import Assets
from moorings.assets import buckets
from moorings.assets import store as store_module
from moorings.assets.datastores import Datastore
from moorings.assets.origins import Origins
from moorings.assets.sources import find
from moorings.assets.store import AssetStore
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import ManualClock
from moorings.state.asset_rows import Asset
from moorings.state.database import Database

from . import servers

LARGE = random.Random(1).randbytes(9_000_001)
CONTENT = {"m/MLmodel": b"flavors: {}\n", "m/data/weights.bin": LARGE, "m/data/empty": b"", "mm/other": b"x"}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@dataclass
class Workspace:
    folder: Path
    entries: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.database = Database.at(self.folder / "state.db", ManualClock())
        self.database.open()
        self.store = AssetStore(self.folder / "assets", home=self.folder)
        self.assets = Assets(self.database, self.store, origins=Origins(self.folder / "datastores.json"))

    def put(self, uri: str, version: str = "1", **more: Any) -> Asset:
        path = self.folder / "datastores.json"
        path.write_text(json.dumps(self.entries))
        path.chmod(0o600)
        return self.assets.put("models", "m", version, {"modelUri": uri, **more})[0]

    def refused(self, uri: str, code: str) -> MooringsError:
        before = self.kept()
        with pytest.raises(MooringsError) as caught:
            self.put(uri)
        assert caught.value.failure.code == code, caught.value.failure
        assert caught.value.failure.evidence or code in ("AssetSchemeUnknown",)
        assert self.kept() == before
        assert self.assets.versions("models", "m") == []
        return caught.value

    def kept(self) -> list[Path]:
        return sorted(p for p in (self.folder / "assets").rglob("*") if p.is_file())

    def files(self, asset: Asset) -> dict[str, bytes]:
        out = self.folder.parent / "out"
        self.store.materialise(asset.digest or "", out, link=True)
        return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *buckets._AWS, *buckets._AZURE, *buckets._GOOGLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "home").mkdir()
    made = Workspace(tmp_path / "home")
    yield made
    made.database.close()


def _fill(server: servers.Server) -> None:
    if server.kind == "gcs":
        for name, content in CONTENT.items():
            query = urllib.parse.urlencode({"uploadType": "media", "name": name})
            url = f"{server.endpoint}/upload/storage/v1/b/models/o?{query}"
            headers = {"content-type": "application/octet-stream"}
            with urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=20):
                pass
        return
    bucket = find(f"{server.address}/x", {"it": Datastore.model_validate(server.entry)})
    opened = buckets._open(bucket, {})  # type: ignore[arg-type]
    for name, content in CONTENT.items():
        obstore.put(opened, name, content)


def _served(
    make: Callable[[Path], AbstractContextManager[servers.Server]], factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    with make(factory.mktemp(make.__name__)) as server:
        _fill(server)
        yield server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    yield from _served(servers.s3, tmp_path_factory)


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    yield from _served(servers.azure, tmp_path_factory)


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    yield from _served(servers.gcs, tmp_path_factory)


@pytest.fixture(params=["s3", "azure", "gcs"])
def server(request: pytest.FixtureRequest) -> servers.Server:
    found: servers.Server = request.getfixturevalue(request.param)
    return found


# --- object stores ------------------------------------------------------------------------------------------
def test_a_folder_and_a_file_arrive_whole(server: servers.Server, workspace: Workspace) -> None:
    workspace.entries = {"it": server.entry}
    folder = workspace.put(f"{server.address}/m/")
    assert workspace.files(folder) == {k: v for k, v in CONTENT.items() if k.startswith("m/")}
    assert folder.body["moorings"]["sizeBytes"] == len(LARGE) + 12
    file = workspace.put(f"{server.address}/m/data/weights.bin", "2")
    assert workspace.files(file) == {"weights.bin": LARGE}
    by_name = workspace.put("azureml://datastores/it/paths/m", "3")
    assert by_name.digest == folder.digest


def test_missing_and_refused_are_two_errors(server: servers.Server, workspace: Workspace) -> None:
    workspace.entries = {"it": server.entry}
    workspace.refused(f"{server.address}/none", "ArtifactsMissing")
    workspace.refused(f"{server.address}/m/data/weights", "ArtifactsMissing")
    if server.kind == "gcs":  # this server checks no credentials, and has no error for a missing bucket
        return
    other = {"bucket": "none"} if server.kind == "s3" else {"container_name": "none"}
    workspace.entries = {"it": {**server.entry, **other}}
    assert "404" in str(workspace.refused("azureml://datastores/it/paths/m", "ArtifactsMissing").failure)
    workspace.entries = {"it": {**server.entry, "credentials": server.wrong}}
    failed = workspace.refused(f"{server.address}/m", "ArtifactsRefused").failure
    assert "403" in failed.evidence[0] and "datastore" in failed.evidence[1]
    assert not any(secret in str(failed) for secret in server.wrong.values())
    workspace.entries = {"it": {**server.entry, "credentials": {}}}
    failed = workspace.refused(f"{server.address}/m", "ArtifactsRefused").failure
    assert "none were given" in failed.evidence[1]
    workspace.entries = {"it": server.entry}
    assert workspace.put(f"{server.address}/m").version == "1", "the next try with the right ones succeeds"


def test_the_environment_gives_credentials(
    s3: servers.Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    failed = workspace.refused("s3://models/m", "ArtifactsRefused").failure
    assert "none were given" in failed.evidence[1]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "moorings")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-tests")
    assert workspace.files(workspace.put("s3://models/m/MLmodel")) == {"MLmodel": b"flavors: {}\n"}


def test_a_signed_address_of_a_blob_is_not_kept_with_its_signature(
    azure: servers.Server, workspace: Workspace
) -> None:
    workspace.entries = {"it": {**azure.entry, "credentials": {"sas_token": servers.container_sas("models")}}}
    asset = workspace.put(f"{azure.address}/m")
    assert asset.body["modelUri"] == f"{azure.address}/m"
    state = (workspace.folder / "state.db").read_bytes()
    assert b"sig=" not in state
    workspace.entries = {
        "it": {**azure.entry, "credentials": {"sas_token": servers.container_sas("models", "w")}}
    }
    with pytest.raises(MooringsError) as caught:
        workspace.put(f"{azure.address}/m/data", "2")
    assert caught.value.failure.code == "ArtifactsRefused"
    assert "sig=***" in str(caught.value.failure) or "sig=" not in str(caught.value.failure)


def test_the_same_address_again_is_taken_at_its_word(s3: servers.Server, workspace: Workspace) -> None:
    workspace.entries = {"it": s3.entry}
    first = workspace.put("s3://models/m")
    workspace.entries = {"it": {**s3.entry, "endpoint": "http://127.0.0.1:1"}}
    again = workspace.put("s3://models/m", tags={"a": "b"})
    assert (again.digest, again.body["tags"]) == (first.digest, {"a": "b"})


def test_a_model_that_does_not_fit_is_refused_by_its_size(
    server: servers.Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.entries = {"it": server.entry}
    monkeypatch.setattr(store_module, "free_bytes", lambda path: len(LARGE))
    monkeypatch.setattr(buckets, "write_hashed", lambda *_: pytest.fail("it was downloaded"))
    failed = workspace.refused(f"{server.address}/m", "ArtifactsTooLarge").failure
    assert failed.entry.numeric == "ERR_1350"
    assert "9.0 MB" in failed.message


def test_a_disk_that_fills_up_during_the_download(
    s3: servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "small"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "moorings-test", str(home)], check=True)
    try:
        workspace = Workspace(home, {"it": s3.entry})
        with monkeypatch.context() as nothing_known:
            nothing_known.setattr(store_module, "free_bytes", lambda path: None)
            workspace.refused("s3://models/m", "AssetStoreFull")
        subprocess.run(["mount", "-o", "remount,size=64m", str(home)], check=True)
        assert workspace.put("s3://models/m").version == "1"
        workspace.database.close()
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


def test_nobody_there(workspace: Workspace) -> None:
    port = servers.free_port()
    entry = {"type": "s3", "bucket": "models", "endpoint": f"http://127.0.0.1:{port}"}
    workspace.entries = {"it": entry}
    failed = workspace.refused("s3://models/m", "ArtifactsUnreachable").failure
    assert failed.entry.retryable


@contextmanager
def cutting(port: int, after_bytes: int, times: int) -> Iterator[int]:
    """A wire to `port` that breaks after so many bytes of an answer, the first `times` times; its own port."""
    left = times
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(caller: socket.socket) -> None:
        nonlocal left
        with caller, socket.create_connection(("127.0.0.1", port)) as behind:

            def up() -> None:
                try:
                    while data := caller.recv(65536):
                        behind.sendall(data)
                    behind.shutdown(socket.SHUT_WR)
                except OSError:
                    pass

            threading.Thread(target=up, daemon=True).start()
            seen = 0
            try:
                while data := behind.recv(65536):
                    seen += len(data)
                    if seen > after_bytes and left > 0:
                        left -= 1
                        caller.shutdown(socket.SHUT_RDWR)
                        return
                    caller.sendall(data)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=carry, args=(caller,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize("name", ["s3", "azure"])  # the GCS server answers only at its own address
def test_a_transfer_that_breaks_goes_on_where_it_broke(
    request: pytest.FixtureRequest, workspace: Workspace, name: str
) -> None:
    server: servers.Server = request.getfixturevalue(name)
    there = int(server.endpoint.split(":")[2].partition("/")[0])
    with cutting(there, after_bytes=5_000_000, times=3) as port:
        endpoint = server.endpoint.replace(f":{there}", f":{port}")
        workspace.entries = {"it": {**server.entry, "endpoint": endpoint}}
        asset = workspace.put("azureml://datastores/it/paths/m")
    assert workspace.files(asset)["m/data/weights.bin"] == LARGE


def test_a_transfer_that_always_breaks_is_given_up(s3: servers.Server, workspace: Workspace) -> None:
    there = int(s3.endpoint.split(":")[2])
    with cutting(there, after_bytes=40_000, times=10**9) as port:
        workspace.entries = {"it": {**s3.entry, "endpoint": f"http://127.0.0.1:{port}"}}
        failed = workspace.refused("azureml://datastores/it/paths/m", "ArtifactsUnreachable").failure
    assert f"of {len(LARGE)}" in failed.evidence[0]


def test_an_object_that_changes_meanwhile_is_not_taken_half(
    s3: servers.Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.entries = {"it": s3.entry}
    bucket = find("s3://models/changing", {"it": Datastore.model_validate(s3.entry)})
    opened = buckets._open(bucket, {})  # type: ignore[arg-type]
    obstore.put(opened, "changing", b"one")
    real = buckets._Reader.file

    def changed(self: Any, path: str, meta: Any) -> Any:
        obstore.put(opened, "changing", b"other")
        return real(self, path, meta)

    monkeypatch.setattr(buckets._Reader, "file", changed)
    workspace.refused("s3://models/changing", "AssetChanging")


def test_memory_stays_flat(s3: servers.Server, tmp_path: Path) -> None:
    """Ten times the content takes no more memory."""
    bucket = find("s3://models/x", {"it": Datastore.model_validate(s3.entry)})
    opened = buckets._open(bucket, {})  # type: ignore[arg-type]
    obstore.put(opened, "size/small", os.urandom(20_000_000))
    obstore.put(opened, "size/large", os.urandom(200_000_000))
    program = (
        "import resource, sys, json\nfrom pathlib import Path\n"
        "from moorings.assets.datastores import Datastore\nfrom moorings.assets.sources import find\n"
        "from moorings.assets import buckets\nfrom moorings.assets.store import AssetStore\n"
        "found = find(sys.argv[1], {'it': Datastore.model_validate(json.loads(sys.argv[2]))})\n"
        "AssetStore(Path(sys.argv[3])).ingest_remote(buckets.remote_tree(found), keep_name=True)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )

    def peak_kb(name: str) -> int:
        argv = [sys.executable, "-c", program, f"s3://models/size/{name}", json.dumps(s3.entry)]
        return int(subprocess.check_output([*argv, str(tmp_path / name)], timeout=120))

    small, large = peak_kb("small"), peak_kb("large")
    assert large - small < 40_000, f"{small} kB became {large} kB"


# --- the web ------------------------------------------------------------------------------------------------
class Web(http.server.BaseHTTPRequestHandler):
    """Answers by path; `flaky` breaks the first time."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        times = self.seen[name] = self.seen.get(name, 0) + 1
        if name == "model.bin" or (name == "flaky.bin" and times > 2):
            self._answer(200, LARGE)
        elif name in ("lying.bin", "flaky.bin"):
            self._answer(200, LARGE[: len(LARGE) // 2], length=len(LARGE))
            self.close_connection = True
        elif name == "plain.bin":
            self._answer(302, b"", location="http://elsewhere.test/model.bin")
        elif name == "moved.bin":
            self._answer(302, b"", location="model.bin")
        elif name == "loop.bin":
            self._answer(302, b"", location="loop.bin")
        elif name == "unsized.bin":
            self.send_response(200)
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(LARGE)
            self.close_connection = True
        else:
            self._answer({"secret.bin": 403, "busy.bin": 503}.get(name, 404), b"no")

    def _answer(self, status: int, body: bytes, *, length: int | None = None, location: str = "") -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body) if length is None else length))
        if location:
            self.send_header("location", location)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the caller only wanted to know the length

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def web_server(context: ssl.SSLContext | None = None) -> Iterator[str]:
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    served.daemon_threads = True
    if context is not None:
        served.socket = context.wrap_socket(served.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if context else ''}://127.0.0.1:{served.server_port}"
    finally:
        served.shutdown()
        served.server_close()


def test_files_of_the_web(workspace: Workspace) -> None:
    Web.seen = {}
    with web_server() as base:
        for version, name in enumerate(("model", "moved", "flaky", "unsized"), 1):
            asset = workspace.put(f"{base}/a/{name}.bin?token=hush", str(version))
            assert workspace.files(asset) == {f"{name}.bin": LARGE}
            assert asset.body["modelUri"] == f"{base}/a/{name}.bin"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("none.bin", "ArtifactsMissing"),
        ("secret.bin", "ArtifactsRefused"),
        ("busy.bin", "ArtifactsUnreachable"),
        ("lying.bin", "ArtifactsUnreachable"),
        ("plain.bin", "ArtifactsUnreachable"),
        ("loop.bin", "ArtifactsUnreachable"),
    ],
)
def test_answers_of_the_web_that_are_no_model(workspace: Workspace, name: str, code: str) -> None:
    with web_server() as base:
        failed = workspace.refused(f"{base}/{name}?token=hush", code).failure
    assert "hush" not in str(failed)


def test_https_needs_a_certificate_that_is_trusted(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    subprocess.run(
        [*make, "-keyout", str(key), "-out", str(certificate), *subject], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with web_server(context) as base:
        failed = workspace.refused(f"{base}/model.bin", "ArtifactsUnreachable").failure
        assert "CERTIFICATE_VERIFY_FAILED" in failed.evidence[0]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        asset = workspace.put(f"{base}/model.bin")
    assert asset.body["moorings"]["sizeBytes"] == len(LARGE)
    assert hashlib.sha256(workspace.files(asset)["model.bin"]).digest() == hashlib.sha256(LARGE).digest()
