"""`moor rollout` against a workspace in memory: what it asks for, what people see, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from moorings.client.transport import Answer

ROLLOUTS = "/onlineEndpoints/shop/rollouts"
FIGURES = {"requests": 80, "errors": 0, "p50": 4.0, "p99": 9.5}
STEP = {
    "step": 0,
    "share": 10,
    "mirror": 0,
    "outcome": "held",
    "seconds": 120.0,
    "figures": {"from": {**FIGURES, "requests": 720}, "to": FIGURES},
    "checks": [{"guard": "p99<1.2x", "holds": True, "said": "p99 9.5 ms, limit 11 ms"}],
}
COPIES = {**STEP, "share": None, "mirror": 20, "outcome": "broken"}
COPIES["checks"] = [{"guard": "error_rate<1%", "holds": False, "said": "error_rate 50 % (40 of 80 requests)"}]
BREACH = {
    "code": "GuardBreached",
    "message": "copies of requests to green: error_rate 50 %",
    "additionalInfo": [{"type": "moorings", "info": {"fix": "See the figures"}}],
}
REPORT = {
    "rollout": "r1",
    "from": "blue",
    "to": "green",
    "tolerance": 1e-6,
    "pairs": 40,
    "unmatched": 1,
    "skipped": 7,
    "sameStatus": 38,
    "statuses": [{"live": 200, "copy": 200, "count": 38}, {"live": 200, "copy": 500, "count": 2}],
    "bodies": {"identical": 20, "equal": 5, "withinTolerance": 10, "different": 2, "notCompared": 1},
    "largestDeviation": 2.5e-7,
    "latencyMs": {side: {"p50": 4.0, "p90": 5.0, "p99": None} for side in ("live", "copy")},
    "examples": [
        {
            "requestId": "some-id",
            "live": {"status": 200, "ms": 1.0, "length": 12},
            "copy": {"status": 200, "ms": 1.0, "length": None},
            "at": "$.scores[3]",
        }
    ],
}


def document(phase: str = "Progressing", **more: Any) -> dict[str, Any]:
    properties = {
        "endpoint": "shop",
        "from": "blue",
        "to": "green",
        "phase": phase,
        "ended": phase not in ("Progressing", "Paused"),
        "traffic": {"from": 90, "to": 10, "mirror": 0},
        "history": [STEP],
        "startedAt": "2026-11-25T10:00:00Z",
        "waitingFor": "",
        "error": None,
        **more,
    }
    return {"name": "r1", "id": "/r1", "properties": properties}


@pytest.fixture
def say(workspace: Any) -> Any:
    """Has the workspace answer a request below the rollouts of `shop`."""

    def answer(method: str, ending: str, body: Mapping[str, Any]) -> None:
        workspace.answers[method, f"{ROLLOUTS}{ending}"] = Answer(200, {}, json.dumps(body).encode())

    return answer


def test_what_is_asked_for_when_one_starts(moor: Any, workspace: Any, say: Any) -> None:
    say("POST", "", document("Pending", history=[]))
    given = ("--from", "blue", "--to", "green", "--steps", "5,100", "--mirror-first", "10%:5m")
    code, _, err = moor("rollout", "start", "-e", "shop", *given, "--tolerance", "0.001")
    assert code == 0, err
    assert workspace.sent("POST", "/rollouts") == {
        "from": "blue",
        "to": "green",
        "steps": "5,100",
        "every": "2m",
        "guard": "error_rate<1%,p99<1.2x",
        "minRequests": 50,
        "patience": "1h",
        "onBreach": "rollback",
        "mirrorFirst": "10%:5m",
        "tolerance": 0.001,
    }
    assert "moor rollout status -e shop" in err


def test_each_step_is_a_line_with_the_figures_of_both(moor: Any, say: Any) -> None:
    say("GET", "/latest", document(waitingFor="50 s of this step"))
    code, out, err = moor("rollout", "status", "-e", "shop")
    assert code == 0
    for shown in ("10 %", "held", "80 | 720", "9.5 | 9.5", "ok: p99 9.5 ms, limit 11 ms"):
        assert shown in out
    assert "blue=90 green=10" in out + err and "50 s of this step" in out + err
    assert moor.json("rollout", "status", "-e", "shop", "-o", "json")["history"][0]["seconds"] == 120.0


@pytest.mark.parametrize(
    "found, code",
    [
        (document("Succeeded"), 0),
        (document("Paused"), 3),
        (document("Aborted"), 1),
        (document("RolledBack", history=[COPIES], error=BREACH), 1),
    ],
)
def test_how_waiting_ends(moor: Any, say: Any, found: dict[str, Any], code: int) -> None:
    say("GET", "/r1", found)
    ended, out, err = moor("rollout", "wait", "-e", "shop", "-n", "r1", "--timeout", "1s")
    assert ended == code, err
    assert ("(GuardBreached)" in err) == (found["properties"]["error"] is not None)
    assert ("mirror 20 %" in out and "BROKEN: error_rate" in out) == ("RolledBack" in str(found))


def test_pause_resume_abort_and_the_list(moor: Any, workspace: Any, say: Any) -> None:
    for verb in ("pause", "resume", "abort"):
        say("POST", f"/latest/{verb}", document())
        code, _, err = moor("rollout", verb, "-e", "shop")
        assert (code, verb in err) == (0, True)
    assert [path.rpartition("/")[2] for _, path in workspace.changes] == ["pause", "resume", "abort"]
    say("GET", "", {"value": [document("RolledBack", error=BREACH)]})
    _, out, _ = moor("rollout", "list", "-e", "shop")
    assert "RolledBack" in out and "copies of requests to green" in out


def test_the_report_in_words(moor: Any, say: Any) -> None:
    say("GET", "/latest/report", REPORT)
    code, out, err = moor("rollout", "report", "-e", "shop")
    assert code == 0
    text = out + err
    for shown in (
        "body: the same but for numbers, within the tolerance",
        "2 times 500 where callers got 200",
        "2.5e-07 apart, 1e-06 is allowed",
        "p50 4 | 4, p90 5 | 5, p99 - | -",
        "some-id: 200, a stream / 200, 12 bytes, from $.scores[3] on",
        "1 copies have no original that is known; 7 more were not looked at",
    ):
        assert shown in text, text
    shown = moor.json("rollout", "report", "-e", "shop", "-o", "json")
    assert (shown["same_status"], shown["latency_ms"]["copy"]["p50"]) == (38, 4.0)
    assert (shown["bodies"]["within_tolerance"], shown["examples"][0]["request_id"]) == (10, "some-id")
