"""Rollouts and safe updates under a real load: a good one costs no request, a bad one is found out at its first step, and a
daemon that is killed at every step changes nothing of that."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.alone

LOAD = Path(__file__).parents[2] / "bench" / "load.py"
RATE = 100
# Room for a second's requests at once: where the machine holds the generator up, it catches up in one burst.
REQUESTS = {"max_concurrent_requests_per_instance": 50, "request_timeout_ms": 20000}
QUICK = ("--every", "1s", "--min-requests", "20")

GOOD = """
def init(): pass
def run(data): return {{"scores": [{score}]}}
"""
FAILING = """
def init(): pass
def run(data): raise ValueError("no such column")
"""


@pytest.fixture(scope="module")
def shop(workspace: Any) -> Any:
    """Endpoint `shop`: `blue` has all traffic; `green` is as good, `failing` is not."""
    workspace.endpoint("shop")
    scripts = {
        "blue": GOOD.format(score=0.25),
        "green": GOOD.format(score=0.2500001),
        "failing": FAILING,
    }
    for name, text in scripts.items():
        code = workspace.script(f"{name}-code", text)
        spec = workspace.spec("shop", name, code, request_settings=REQUESTS)
        workspace.deploy(spec, *(["--all-traffic"] if name == "blue" else ["--no-wait"]))
    deadline = time.monotonic() + 120
    while any(
        d["provisioning_state"] != "Succeeded"
        for d in workspace.json("online-deployment", "list", "-e", "shop")
    ):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return workspace


def all_to(workspace: Any, name: str) -> None:
    workspace.moor("online-endpoint", "update", "-n", "shop", "--traffic", f"{name}=100")


def traffic(workspace: Any) -> dict[str, int]:
    table = workspace.json("online-endpoint", "show", "-n", "shop")["traffic"]
    return {name: share for name, share in table.items() if share}


def rollout(workspace: Any, *argv: str) -> dict[str, Any]:
    return dict(workspace.json("rollout", "status", "-e", "shop", *argv))


@contextlib.contextmanager
def load(workspace: Any) -> Iterator[dict[str, Any]]:
    """The generator in a process of its own, for as long as the block lasts; its report is in what is yielded, then."""
    url = f"http://127.0.0.1:{workspace.port}/api/v1/endpoint/shop/score"
    argv = [sys.executable, str(LOAD), url, f"--key={workspace.key('shop')}", "--rate", str(RATE)]
    process = subprocess.Popen([*argv, "--seconds", "900"], stdout=subprocess.PIPE, text=True)
    report: dict[str, Any] = {}
    try:
        yield report
        process.terminate()
        out, _ = process.communicate(timeout=120)
        report.update(json.loads(out))
    finally:
        process.kill()
        process.wait()


def start(
    workspace: Any, target: str, steps: str, guard: str, *argv: str
) -> subprocess.CompletedProcess[str]:
    given = ("--from", "blue", "--to", target, "--steps", steps, "--guard", guard)
    done: subprocess.CompletedProcess[str] = workspace.moor(
        "rollout", "start", "-e", "shop", *given, *argv, check=False
    )
    return done


def test_a_good_one_costs_no_request_though_the_daemon_is_killed_at_every_step(shop: Any) -> None:
    """Copies first, then callers. The answers of both differ by less than the tolerance."""
    all_to(shop, "blue")
    with load(shop) as report:
        first = ("--mirror-first", "50%:1s", "--tolerance", "0.000001")
        assert start(shop, "green", "40,100", "error_rate<1%,p99<100x", *QUICK, *first).returncode == 0
        known = None
        deadline = time.monotonic() + 120
        while (found := rollout(shop))["phase"] != "Succeeded":
            assert found["phase"] in ("Pending", "Progressing"), found
            if found["step"] != known:
                known = found["step"]
                shop.kill("daemon")
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        # What is asked of workers is nothing for callers.
        url = f"http://127.0.0.1:{shop.port}/api/v1/endpoint/shop/moorings/kept"
        headers = {"Authorization": f"Bearer {shop.key('shop')}", "x-moorings-collect": "*"}
        with pytest.raises(urllib.error.HTTPError, match=r"404|424"):
            urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10)
    assert report["failed"] == 0, report
    assert set(report["bodies"]) == {'{"scores": [0.25]}', '{"scores": [0.2500001]}'}
    assert traffic(shop) == {"green": 100}
    mirrored, *steps = found["history"]
    assert [(s["share"], s["outcome"]) for s in steps] == [(40, "held"), (100, "held")]
    for step in steps:
        assert step["figures"]["to"]["requests"] >= 20
        assert [c["holds"] for c in step["checks"]] == [True, True]
    assert (mirrored["mirror"], mirrored["outcome"]) == (50, "held")
    compared = shop.json("rollout", "report", "-e", "shop")
    assert compared["pairs"] >= 10, compared
    assert compared["bodies"]["within_tolerance"] == compared["same_status"] == compared["pairs"]
    assert compared["largest_deviation"] == pytest.approx(1e-7)
    table = shop.moor("rollout", "status", "-e", "shop").stdout
    assert "40 %" in table
    assert "error_rate 0 %" in table


def test_bad_ones_are_taken_back_before_they_do_harm(shop: Any) -> None:
    """`failing` is found out by copies alone: no caller is ever sent to it. One that is slower than it may be goes back at its
    first step."""
    all_to(shop, "blue")
    with load(shop) as report:
        mirrored = (*QUICK, "--mirror-first", "30%:1s", "--wait")
        done = start(shop, "failing", "20,100", "error_rate<1%", *mirrored)
        assert (done.returncode, "GuardBreached" in done.stderr) == (1, True), done.stderr
        found = shop.json("rollout", "report", "-e", "shop")
        shown = rollout(shop)
        late = start(shop, "green", "20,100", "error_rate<1%,p50<0.001ms", *QUICK, "--wait")
    assert report["failed"] == 0, report
    assert found["pairs"] >= 5, found
    assert found["same_status"] == 0
    assert {(each["live"], each["copy"]) for each in found["statuses"]} == {(200, 500)}
    assert (shown["phase"], len(shown["history"]), shown["history"][0]["mirror"]) == ("RolledBack", 1, 30)
    assert not shop.json("online-endpoint", "show", "-n", "shop")["mirror_traffic"].get("failing")
    assert (late.returncode, "GuardBreached" in late.stderr) == (1, True), late.stderr
    shown = rollout(shop)
    assert (shown["phase"], len(shown["history"])) == ("RolledBack", 1)
    assert [c["holds"] for c in shown["history"][0]["checks"]] == [True, False]
    assert traffic(shop) == {"blue": 100}


def test_a_user_who_sets_the_traffic_ends_it_by_name(shop: Any) -> None:
    all_to(shop, "blue")
    assert start(shop, "green", "10,100", "error_rate<1%", "--every", "10m").returncode == 0
    while traffic(shop) != {"blue": 90, "green": 10}:
        time.sleep(0.1)
    shop.moor("online-endpoint", "update", "-n", "shop", "--traffic", "blue=50 green=50")
    done = shop.moor("rollout", "wait", "-e", "shop", "--timeout", "30s", check=False)
    assert (done.returncode, "RolloutSuperseded" in done.stderr) == (1, True)
    assert traffic(shop) == {"blue": 50, "green": 50}
    assert "RolloutEnded" in shop.moor("rollout", "abort", "-e", "shop", check=False).stderr


def test_what_is_wrong_with_a_rollout_is_said_at_once(shop: Any) -> None:
    done = shop.moor(
        *("rollout", "start", "-e", "shop", "--from", "blue", "--to", "pink", "--steps", "50,10"),
        *("--guard", "p42<1ms,error_rate>1%"),
        check=False,
    )
    assert done.returncode == 1
    for said in ("pink", "each step", "p42", "expected < or <="):
        assert said in done.stderr, done.stderr


def test_an_update_whose_sample_request_fails_never_gets_a_request(shop: Any) -> None:
    all_to(shop, "blue")
    (shop.files / "sample-request.json").write_text('{"data": [1]}')
    code = shop.script("blue-code", FAILING)
    properties = {"moorings.sample_request": "sample-request.json"}
    spec = shop.spec("shop", "blue", code, request_settings=REQUESTS, properties=properties)
    with load(shop) as report:
        done = shop.moor("online-deployment", "update", "-f", str(spec), check=False)
    assert report["failed"] == 0, report
    assert done.returncode == 1
    assert "SampleRequestFailed" in done.stderr
    assert "ValueError: no such column" in done.stderr
    shown = shop.json("online-deployment", "show", "-e", "shop", "-n", "blue")
    assert shown["provisioning_state"] == "Failed"
    assert shown["serving"]["generation"] < shown["failed"]["generation"]
    assert shown["failed"]["code"] == "SampleRequestFailed"
    assert shop.score("shop", 1).json == {"scores": [0.25]}


def test_scaling_and_the_queue_restart_nothing(shop: Any) -> None:
    def workers() -> set[int]:
        return {int(p["pid"]) for p in shop.processes() if p["role"].startswith("worker")}

    before = workers()
    update = ("online-deployment", "update", "-e", "shop", "-n", "green", "--set")
    changed = ("request_settings.max_queue_wait_ms=250", "--set", "properties.team=a")
    shop.moor(*update, "instance_count=2", "--set", *changed)
    assert before < workers()
    shop.moor(*update, "instance_count=1")
    deadline = time.monotonic() + 30
    while workers() != before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
