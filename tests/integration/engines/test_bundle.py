"""The supervisor as containers get it: one file, the oldest Python that images may have, nothing else of ours."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from moorings.engines.bundle import write_bundle

WORKER = Path(__file__).parents[2] / "contract" / "data" / "worker.py"


def pythons() -> list[str]:
    """This one, and the oldest and newest that this machine has besides."""
    roots = Path.home() / ".pyenv" / "versions"
    found = sorted(roots.glob("3.[89].*/bin/python3")) + sorted(roots.glob("3.1[2-9].*/bin/python3"))
    return [sys.executable, *(str(path) for path in (*found[:1], *found[-1:]))]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="mb-"))
    yield made
    shutil.rmtree(made)


def status(folder: Path) -> dict[str, object]:
    try:
        return dict(json.loads((folder / "status.json").read_text()))
    except (OSError, ValueError):
        return {}


@pytest.mark.parametrize("python", pythons())
def test_it_runs_alone(folder: Path, python: str) -> None:
    bundle = write_bundle(folder)
    run = folder / "run"
    (folder / "app" / "src").mkdir(parents=True)
    run.mkdir()
    probe = {
        "initial_delay_s": 1,
        "period_s": 1,
        "timeout_s": 1,
        "success_threshold": 1,
        "failure_threshold": 30,
    }
    description = {
        "id": "a-b-0",
        "owner": "a/b",
        "revision": "0" * 12,
        "ordinal": 0,
        "workspace_id": "w",
        "grace_s": 5,
        "in_container": True,
        "worker_argv": [str(WORKER)],
        "sockets": [str(run / "0.sock")],
        "apps": str(folder / "app"),
        "template": {
            "python": python,
            "code_folder": "src",
            "scoring_script": "score.py",
            "model": None,
            "environment_variables": {"MINE": "1"},
            "liveness": probe,
            "max_concurrent_requests": 1,
            "request_timeout_ms": 1000,
            "cpus": None,
            "memory_bytes": None,
        },
    }
    (run / "instance.json").write_text(json.dumps(description))
    with open(folder / "out", "wb") as out:
        process = subprocess.Popen(
            [python, "-I", str(bundle), str(run)], env={"PATH": os.environ["PATH"]}, stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + 20
        while status(run).get("phase") != "running":
            assert process.poll() is None and time.monotonic() < deadline, (folder / "out").read_text()
            time.sleep(0.02)
        idle = psutil.Process(process.pid)
        before_s = sum(idle.cpu_times()[:2])
        time.sleep(0.5)
        assert sum(idle.cpu_times()[:2]) - before_s < 0.1, "with nothing to do it sleeps"
        (run / "stop.json").write_text(json.dumps({"grace_s": 3, "at": 0}))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    said = (folder / "out").read_text()
    assert "ready" in said, "what workers print is on the container's own output"
    assert "drained" in said
    assert "Traceback" not in said
    assert status(run)["phase"] == "stopped"


def test_equal_content_is_the_same_file(folder: Path) -> None:
    assert write_bundle(folder) == write_bundle(folder)
    assert write_bundle(folder).stat().st_mode & 0o777 == 0o644
