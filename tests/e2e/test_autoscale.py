"""Scaling by a real load: instances come and go, those that stay are the same processes, and no request fails."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.alone

LOAD = Path(__file__).parents[2] / "bench" / "load.py"
RATE = 15
SCRIPT = """
import asyncio
def init(): pass
async def run(data):
    await asyncio.sleep(0.2)
    return "done"
"""
SCALE = {
    "type": "target_utilization",
    "min_instances": 1,
    "max_instances": 4,
    "target_utilization_percentage": 25,
}


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "instance_type": "Standard_DS1_v2",
        "scale_settings": {**SCALE, **changes},
        "request_settings": {"max_concurrent_requests_per_instance": 4, "request_timeout_ms": 20000},
        "properties": {"moorings.scale_down_after_s": "3", "moorings.scale_to_zero_after_s": "4"},
    }


@pytest.fixture(scope="module")
def scaled(workspace: Any) -> Any:
    workspace.endpoint("elastic")
    code = workspace.script("elastic-code", SCRIPT)
    workspace.deploy(workspace.spec("elastic", "blue", code, **settings()), "--all-traffic")
    return workspace


class Load:
    """The generator in a process of its own."""

    def __init__(self, workspace: Any, key: str, seconds: int) -> None:
        url = f"http://127.0.0.1:{workspace.port}/api/v1/endpoint/elastic/score"
        self.seconds = seconds
        argv = [
            sys.executable,
            str(LOAD),
            url,
            f"--key={key}",
            "--rate",
            str(RATE),
            "--seconds",
            str(seconds),
        ]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def report(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=120)
        report: dict[str, Any] = json.loads(out)
        assert report["sent"] == RATE * self.seconds
        return report


def until(what: str, holds: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def supervisors(workspace: Any) -> set[int]:
    return {int(p["pid"]) for p in workspace.processes() if p["role"] == "supervisor"}


def test_instances_follow_the_load_and_no_request_fails(scaled: Any) -> None:
    key = scaled.key("elastic")
    first = supervisors(scaled)
    assert len(first) == 1
    load = Load(scaled, key, seconds=13)
    # 15 requests a second of 0.2 s, 4 at a time on each, at 25 %: three instances. One can carry them meanwhile.
    until("it did not scale up", lambda: len(supervisors(scaled)) >= 3)
    assert first <= supervisors(scaled), "scaling has replaced what ran"
    scaled.kill("daemon")  # what has been decided is in the state
    scaled.moor("workspace", "start")
    assert len(supervisors(scaled)) >= 3
    change = ("--set", "scale_settings.target_utilization_percentage=100")
    scaled.moor("online-deployment", "update", "-e", "elastic", "-n", "blue", *change)
    until("it did not scale down", lambda: len(supervisors(scaled)) == 1)
    assert load.process.poll() is None, (
        "the load was over before it scaled down: this has not shown that it drains"
    )
    report = load.report()
    assert report["failed"] == 0, report
    assert supervisors(scaled) == first, "the first instance has gone, or was replaced"
    shown = scaled.json("online-deployment", "show", "-e", "elastic", "-n", "blue")
    assert (shown["instance_count"], shown["provisioning_state"]) == (1, "Succeeded")
    assert shown["scaling"]["reason"] == "Quiet"


def test_nobody_calls_and_the_first_request_waits_for_its_instance(scaled: Any) -> None:
    change = ("--set", "scale_settings.min_instances=0")
    scaled.moor("online-deployment", "update", "-e", "elastic", "-n", "blue", *change)
    until("the last instance has stayed", lambda: not supervisors(scaled))
    shown = scaled.json("online-deployment", "show", "-e", "elastic", "-n", "blue")
    assert (shown["instance_count"], shown["provisioning_state"]) == (0, "Succeeded")
    assert shown["scaling"]["reason"] == "Idle"
    answer = scaled.score("elastic", {})
    assert (answer.status, answer.json) == (200, "done"), answer


def test_rules_scale_a_deployment_of_a_fixed_count(scaled: Any) -> None:
    code = scaled.script("elastic-code", SCRIPT)
    plain = {**settings(), "scale_settings": {"type": "default"}}
    scaled.deploy(scaled.spec("elastic", "green", code, **plain))
    scaled.moor("online-endpoint", "update", "-n", "elastic", "--traffic", "blue=0 green=100")
    made = scaled.json("monitor", "autoscale", "create", "-n", "green-rules", "--resource", "elastic/green",
                       "--min-count", "1", "--max-count", "3", "--count", "1")  # fmt: skip
    assert made["target_resource_uri"].endswith("/onlineEndpoints/elastic/deployments/green")
    for condition, scale in (("> 20 avg 2s", "out 2"), ("< 5 avg 2s", "in 2")):
        scaled.moor("autoscale", "rule", "create", "--autoscale-name", "green-rules", "--cooldown", "0",
                    "--condition", f"ConcurrencyUtilizationPercentage {condition}", "--scale", scale)  # fmt: skip
    load = Load(scaled, scaled.key("elastic"), seconds=5)

    def green() -> int:
        found = scaled.json("online-deployment", "show", "-e", "elastic", "-n", "green")
        return int(found["instance_count"])

    until("the rule did not scale out", lambda: green() == 3)
    report = load.report()
    assert report["failed"] == 0, report
    until("the rule did not scale in", lambda: green() == 1)
    scaled.moor("autoscale", "delete", "-n", "green-rules", "--yes")
    assert scaled.json("autoscale", "list") == []
