"""A real control process: what it has acknowledged survives it, who else may look, and how it refuses to start."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from moorings.client.daemon_control import stop
from moorings.lib.processes import scan, send
from moorings.settings import Settings

PATIENCE_S = 60.0
KILLS = 8


class Control:
    """One workspace folder and the control processes that are started over it."""

    def __init__(self, base: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.base = base
        self.home = base / "home"
        keep = {k: v for k, v in os.environ.items() if not k.startswith("MOORINGS_")}
        self.env = {
            **keep,
            "MOORINGS_HOME": str(self.home),
            "MOORINGS_GATEWAY_PORT": str(port),
            "MOORINGS_ROLE": "daemon",
        }
        self.settings = Settings.load(self.env)
        self.url = f"http://local{self.settings.workspace.path}"
        self.process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def start(self) -> Iterator[httpx.Client]:
        """Start it and wait until it answers. It inherits an open umask: closing it is its own business."""
        log = (self.base / "daemon.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moorings.daemon"], env=self.env, stdout=log, stderr=log, umask=0
            )
        self._wait()
        transport = httpx.HTTPTransport(uds=str(self.settings.api_socket))
        with httpx.Client(transport=transport, base_url=self.url, timeout=30) as client:
            yield client

    def _wait(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(str(self.settings.api_socket))
                return
            assert self.process.poll() is None, (self.base / "daemon.log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self, signum: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE_S)

    def refused(self) -> subprocess.CompletedProcess[str]:
        """A start that must not come up."""
        done = subprocess.run(
            [sys.executable, "-m", "moorings.daemon"],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def clean(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        stop(self.settings, lambda _: None)
        for left in scan(self.home):
            send(left, signal.SIGKILL)


@pytest.fixture
def control() -> Iterator[Control]:
    base = Path(tempfile.mkdtemp(prefix="moor-daemon-"))
    made = Control(base)
    try:
        yield made
        made.clean()
    finally:
        shutil.rmtree(base, ignore_errors=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def put(client: httpx.Client, name: str) -> httpx.Response:
    return client.put(f"/onlineEndpoints/{name}", json={"properties": {}})


def names(client: httpx.Client) -> set[str]:
    return {e["name"] for e in client.get("/onlineEndpoints").json()["value"]}


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill_right_after_the_answer(control: Control) -> None:
    acknowledged: set[str] = set()
    keys: dict[str, Any] = {}
    workspaces = set()
    for n in range(KILLS):
        with control.start() as client:
            assert names(client) == acknowledged
            workspaces.add(client.get(control.url).json()["properties"]["workspaceId"])
            for name, found in keys.items():
                assert client.post(f"/onlineEndpoints/{name}/listKeys").json() == found
            name = f"kept-{n}"
            assert put(client, name).status_code == 201
            if n % 2:
                keys = {name: client.post(f"/onlineEndpoints/{name}/listKeys").json()}
            assert control.end(signal.SIGKILL) == -signal.SIGKILL
            acknowledged.add(name)
    with control.start() as client:
        assert names(client) == acknowledged
    assert len(workspaces) == 1
    with sqlite3.connect(control.settings.database) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()


def test_nobody_else_may_look(control: Control) -> None:
    with control.start() as client:
        assert put(client, "shop").status_code == 201
        assert mode(control.settings.api_socket) == 0o600
        assert mode(control.home) == 0o700
        assert mode(control.settings.run_dir) == 0o700
        assert mode(control.home / "secret.key") == 0o600
        open_to_others = [
            str(p) for p in control.home.rglob("*") if not p.is_symlink() and mode(p) & 0o077 and p.is_dir()
        ]
        open_files = [p.name for p in control.home.glob("*") if p.is_file() and mode(p) & 0o077]
        # Containers of any user have this one mounted; on the machine nobody gets through the folder above it.
        mounted = control.settings.run_dir / "identity"
        assert mode(mounted) == 0o711
        assert (open_to_others, open_files) == ([str(mounted)], [])


def test_a_second_one_refuses_and_the_first_goes_on(control: Control) -> None:
    with control.start() as client:
        done = control.refused()
        assert done.returncode == 4
        assert "running already" in done.stderr
        assert put(client, "shop").status_code == 201


def test_sigterm_ends_it_cleanly_and_leaves_the_data_plane(control: Control) -> None:
    with control.start() as client:
        put(client, "shop")
        deadline = time.monotonic() + PATIENCE_S
        while "envoy" not in {p.role for p in scan(control.home)}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        before = {(p.role, p.pid) for p in scan(control.home) if p.role != "daemon"}
        assert control.end(signal.SIGTERM) == 0
    assert not control.settings.api_socket.exists()
    after = {(p.role, p.pid) for p in scan(control.home)}
    assert before <= after
    assert "daemon" not in {role for role, _ in after}
    with control.start() as client:
        assert names(client) == {"shop"}


def test_a_stale_socket_is_replaced(control: Control) -> None:
    with control.start():
        control.end(signal.SIGKILL)
    assert control.settings.api_socket.exists()
    with control.start() as client:
        assert names(client) == set()


def test_the_interface_is_described_at_the_socket(control: Control) -> None:
    with control.start() as client:
        document = client.get("http://local/openapi.json").json()
        assert document["openapi"].startswith("3.")
        assert any(path.endswith("/onlineEndpoints/{endpoint}") for path in document["paths"])
        missing = client.get("http://local/no/such/path")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "ResourceNotFound")


def test_a_state_that_is_no_database_is_said_and_left_as_it_is(control: Control) -> None:
    control.home.mkdir(mode=0o700)
    garbage = b"not a database, but long enough to be read as one" * 100
    control.settings.database.write_bytes(garbage)
    done = control.refused()
    assert done.returncode == 5
    assert "(StateUnavailable)" in done.stderr
    assert control.settings.database.read_bytes() == garbage


def test_a_state_made_by_a_newer_version_is_said_and_left_as_it_is(control: Control) -> None:
    control.home.mkdir(mode=0o700)
    with sqlite3.connect(control.settings.database) as database:
        database.execute("create table alembic_version (version_num varchar(32) not null)")
        database.execute("insert into alembic_version values ('9999')")
    database.close()
    done = control.refused()
    assert done.returncode == 5
    assert "(StateUnavailable)" in done.stderr
    assert "9999" in done.stderr


def test_settings_that_cannot_be_are_said(control: Control) -> None:
    control.home.mkdir(mode=0o700)
    control.settings.settings_file.write_text('{"gateway": {"prt": 1}}')
    done = control.refused()
    assert done.returncode == 5
    assert "(SettingsInvalid)" in done.stderr
    assert "gateway.prt" in done.stderr


def test_a_folder_that_cannot_be_used_is_said(control: Control) -> None:
    control.home.mkdir(mode=0o700)
    control.settings.daemon_lock.mkdir()
    done = control.refused()
    assert done.returncode == 5
    assert "(FolderNotPrivate)" in done.stderr
    assert "daemon.lock" in done.stderr


def test_a_home_behind_a_link_is_refused(control: Control) -> None:
    (control.base / "real").mkdir()
    control.home.symlink_to(control.base / "real")
    done = control.refused()
    assert done.returncode == 5
    assert "(FolderNotPrivate)" in done.stderr
    assert list((control.base / "real").iterdir()) == []
