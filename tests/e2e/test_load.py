"""Under load at a fixed rate: the daemon is killed, code is updated, keys are rotated. No request may fail."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.alone

LOAD = Path(__file__).parents[2] / "bench" / "load.py"
RATE, SECONDS = 100, 12

SCRIPT = """
def init(): pass
def run(data): return "v1"
"""


@pytest.fixture(scope="module")
def loaded(workspace: Any) -> Any:
    workspace.endpoint("load")
    code = workspace.script("load-code", SCRIPT)
    # Room for a second's requests at once: where the machine holds the generator up, it catches up in one burst.
    settings = {"max_concurrent_requests_per_instance": 50, "request_timeout_ms": 20000}
    workspace.deploy(workspace.spec("load", "blue", code, request_settings=settings), "--all-traffic")
    return workspace


class Load:
    """The generator in a process of its own, for `SECONDS` seconds."""

    def __init__(self, workspace: Any, key: str) -> None:
        url = f"http://127.0.0.1:{workspace.port}/api/v1/endpoint/load/score"
        argv = [
            sys.executable,
            str(LOAD),
            url,
            f"--key={key}",
            "--rate",
            str(RATE),
            "--seconds",
            str(SECONDS),
        ]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        time.sleep(1)

    def report(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=120)
        report = json.loads(out)
        assert report["sent"] == RATE * SECONDS
        return report


def test_killing_the_daemon_costs_no_request(loaded: Any) -> None:
    load = Load(loaded, loaded.key("load"))
    loaded.kill("daemon")
    time.sleep(3)
    loaded.moor("workspace", "start")
    loaded.json("online-deployment", "show", "-e", "load", "-n", "blue")
    report = load.report()
    assert report["failed"] == 0, report


def test_updating_the_code_costs_no_request(loaded: Any) -> None:
    load = Load(loaded, loaded.key("load"))
    # Room for a second's requests at once: where the machine holds the generator up, it catches up in one burst.
    settings = {"max_concurrent_requests_per_instance": 50, "request_timeout_ms": 20000}
    for version in ("v2", "v3"):
        code = loaded.script("load-code", SCRIPT.replace("v1", version))
        loaded.deploy(loaded.spec("load", "blue", code, request_settings=settings), verb="update")
        assert loaded.score("load", 1).json == version
    report = load.report()
    assert report["failed"] == 0, report
    assert {'"v2"', '"v3"'} <= set(report["bodies"])


def test_rotating_the_other_key_costs_no_request(loaded: Any) -> None:
    load = Load(loaded, loaded.json("online-endpoint", "get-credentials", "-n", "load")["secondaryKey"])
    for _ in range(3):
        loaded.moor("online-endpoint", "regenerate-keys", "-n", "load", "--key-type", "primary")
    loaded.keys.clear()
    report = load.report()
    assert report["failed"] == 0, report


def test_an_agent_and_envoy_killed_with_no_daemon_come_back_by_themselves(loaded: Any) -> None:
    key = loaded.key("load")
    loaded.kill("daemon")
    loaded.kill("gateway-agent")
    assert loaded.score("load", 1, key=key).status == 200
    envoy = loaded.kill("envoy")
    deadline = time.monotonic() + 20
    while True:
        try:
            if loaded.score("load", 1, key=key).status == 200:
                break
        except OSError:
            pass
        assert time.monotonic() < deadline, "Envoy did not come back without a daemon"
        time.sleep(0.1)
    assert loaded.pid("envoy") != envoy
    assert "daemon" not in {p["role"] for p in loaded.processes()}
    loaded.moor("workspace", "start")


def test_a_crashed_worker_is_replaced_with_no_daemon(loaded: Any) -> None:
    key = loaded.key("load")
    loaded.kill("daemon")
    worker = loaded.kill("worker-0")
    deadline = time.monotonic() + 20
    while loaded.score("load", 1, key=key).status != 200:
        assert time.monotonic() < deadline, "the worker did not come back without a daemon"
        time.sleep(0.1)
    assert loaded.pid("worker-0") != worker
    loaded.moor("workspace", "start")
