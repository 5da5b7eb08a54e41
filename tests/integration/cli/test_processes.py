"""Finding and signalling real processes by the variables they carry."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from moorings.lib.processes import is_alive, scan, send

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that says when it is up and then waits; all are killed in the end."""
    started: list[subprocess.Popen[bytes]] = []

    def run(**variables: str) -> subprocess.Popen[bytes]:
        program = "import sys,time\nsys.stdout.write('up')\nsys.stdout.flush()\ntime.sleep(600)"
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", program], env={**os.environ, **variables}, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.read(2) == b"up"
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_process_is_found_with_what_it_is(start: Start, tmp_path: Path) -> None:
    home = str(tmp_path)
    worker = start(MOORINGS_HOME=home, MOORINGS_ROLE="worker-0", MOORINGS_OWNER="shop/blue")
    daemon = start(MOORINGS_HOME=home, MOORINGS_ROLE="daemon")
    start(MOORINGS_HOME=home)
    start(MOORINGS_HOME=home + "/other", MOORINGS_ROLE="daemon")
    found = scan(tmp_path)
    assert [(p.role, p.pid, p.owner) for p in found] == [
        ("daemon", daemon.pid, None),
        ("worker-0", worker.pid, "shop/blue"),
    ]
    assert all(p.rss_bytes > 0 and p.parent_pid == os.getpid() for p in found)
    assert all(0 <= p.uptime_s < 300 for p in found)


def test_the_same_folder_by_another_name_is_the_same_home(start: Start, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    process = start(MOORINGS_HOME=str(tmp_path / "link"), MOORINGS_ROLE="daemon")
    assert [p.pid for p in scan(tmp_path / "real")] == [process.pid]


def test_the_dead_are_not_found(start: Start, tmp_path: Path) -> None:
    process = start(MOORINGS_HOME=str(tmp_path), MOORINGS_ROLE="daemon")
    found = scan(tmp_path)[0]
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and a zombie still
    assert scan(tmp_path) == []
    assert not is_alive(found)
    assert not send(found, signal.SIGTERM)


def test_a_pid_that_now_belongs_to_another_process_is_not_hit(start: Start, tmp_path: Path) -> None:
    process = start(MOORINGS_HOME=str(tmp_path), MOORINGS_ROLE="daemon")
    found = scan(tmp_path)[0]
    earlier = replace(found, start_ticks=found.start_ticks - 1)
    assert not send(earlier, signal.SIGKILL)
    assert process.poll() is None
    assert send(found, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
