"""Starting, watching and stopping the real control process, through the command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moorings.client.daemon_control import stop
from moorings.lib.processes import scan
from moorings.settings import Settings

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {**os.environ, "MOORINGS_HOME": str(tmp_path / "home"), "MOORINGS_GATEWAY_PORT": str(port)}


@pytest.fixture
def moor(environ: dict[str, str]) -> Iterator[Run]:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "moorings.cli.main", *argv],
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    yield run
    stop(Settings.load(environ), lambda _: None)


def status(moor: Run) -> dict[str, object]:
    done = moor("workspace", "status", "-o", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_the_workspace_starts_serves_and_stops(moor: Run, environ: dict[str, str]) -> None:
    assert status(moor)["daemon"] == "stopped"
    assert not Path(environ["MOORINGS_HOME"]).exists()
    done = moor("online-endpoint", "create", "-n", "shop", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["provisioning_state"] == "Succeeded"
    found = status(moor)
    processes = found["processes"]
    assert isinstance(processes, list)
    assert [p["role"] for p in processes if p["role"] == "daemon"] == ["daemon"]
    assert all(p["rss_bytes"] > 0 and p["pid"] > 0 for p in processes)
    assert moor("workspace", "stop").returncode == 0
    assert scan(Path(environ["MOORINGS_HOME"])) == []
    assert status(moor)["daemon"] == "stopped"
    assert "shop" in moor("online-endpoint", "list", "-o", "table").stdout


def test_a_killed_control_process_comes_back_with_the_next_command(
    moor: Run, environ: dict[str, str]
) -> None:
    assert moor("online-endpoint", "create", "-n", "shop").returncode == 0
    daemon = next(p for p in scan(Path(environ["MOORINGS_HOME"])) if p.role == "daemon")
    os.kill(daemon.pid, signal.SIGKILL)
    done = moor("online-endpoint", "show", "-n", "shop", "--query", "name", "-o", "tsv")
    assert (done.returncode, done.stdout) == (0, "shop\n"), done.stderr


def test_two_starts_at_once_give_one_control_process(environ: dict[str, str], moor: Run) -> None:
    argv = [sys.executable, "-m", "moorings.cli.main", "online-endpoint", "list"]
    both = [
        subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, b"[]\n"), err
    # The ones that came second end by themselves when they find the lock taken; that takes them a moment.
    deadline = time.monotonic() + 15
    while [p.role for p in scan(Path(environ["MOORINGS_HOME"]))].count("daemon") != 1:
        assert time.monotonic() < deadline, "more than one control process stays"
        time.sleep(0.1)


def test_a_control_process_that_cannot_start_shows_why(moor: Run, environ: dict[str, str]) -> None:
    home = Path(environ["MOORINGS_HOME"])
    home.mkdir(mode=0o700)
    (home / "state.db").write_bytes(b"this is no database " * 100)
    done = moor("online-endpoint", "list")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "(DaemonStartFailed)" in done.stderr
    assert "Evidence:" in done.stderr
    assert "daemon.log" in done.stderr


def test_a_wrong_setting_is_named_by_the_command_itself(moor: Run, environ: dict[str, str]) -> None:
    home = Path(environ["MOORINGS_HOME"])
    home.mkdir(mode=0o700)
    (home / "settings.json").write_text('{"gateway": {"prot": 1}}')
    done = moor("online-endpoint", "list")
    assert done.returncode == 1
    assert "(SettingsInvalid)" in done.stderr
    assert "gateway.prot" in done.stderr
    (home / "settings.json").unlink()


def test_a_reader_that_leaves_is_no_failure_to_complain_about(moor: Run, environ: dict[str, str]) -> None:
    assert moor("online-endpoint", "create", "-n", "shop").returncode == 0
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    argv = [sys.executable, "-m", "moorings.cli.main", "online-endpoint", "list"]
    done = subprocess.run(
        argv, env=environ, stdout=write_fd, stderr=subprocess.PIPE, timeout=120, check=False
    )
    os.close(write_fd)
    assert done.stderr == b""
    assert done.returncode == 1


def test_whether_a_file_of_a_model_is_in_the_store(moor: Run, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"1")
    made = moor("model", "create", "-n", "m", "-v", "1", "--path", str(tmp_path / "model"), "-o", "json")
    assert made.returncode == 0, made.stderr
    path = json.loads(made.stdout)["path"].partition("/paths/")[2]
    words = ("--container-name", "azureml-blobstore", "--subscription", "s", "--name")
    for name, there in ((f"{path}/weights.bin", True), (f"{path}/other", False)):
        done = moor("storage", "blob", "exists", "--account-name", "moorings", *words, name)
        assert (done.returncode, json.loads(done.stdout)) == (0, {"exists": there}), done.stderr
    done = moor("storage", "blob", "exists", "--account-name", "acct", *words, f"{path}/other")
    assert done.returncode == 1 and "BlobStoreUnknown" in done.stderr
    assert f"--account-name moorings --container-name azureml-blobstore --name {path}/other" in done.stderr
