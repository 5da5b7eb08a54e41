"""With no daemon, everything that is killed comes back by itself. (What kills cost under load: `tests/faults`.)"""

from __future__ import annotations

import time
from typing import Any

import pytest

pytestmark = pytest.mark.alone

SCRIPT = """
def init(): pass
def run(data): return "v1"
"""


@pytest.fixture(scope="module")
def loaded(workspace: Any) -> Any:
    workspace.endpoint("load")
    code = workspace.script("load-code", SCRIPT)
    workspace.deploy(workspace.spec("load", "blue", code), "--all-traffic")
    return workspace


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
