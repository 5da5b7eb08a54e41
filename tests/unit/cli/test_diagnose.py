"""`moor diagnose`: the verdict for people and for programs."""

from __future__ import annotations

from typing import Any

import pytest

VERDICT = {
    "code": "OutOfMemoryServing",
    "message": "it needs more\x1b[2J than it has",
    "target": "score.py:3",
    "details": [],
    "additionalInfo": [
        {
            "type": "moorings",
            "info": {
                "evidence": ["signal SIGKILL", "  File x"],
                "fix": "take a larger one",
                "confidence": "likely",
                "title": "Out of memory",
                "cause": "Requests need memory.",
                "numericCode": "ERR_2200",
            },
        }
    ],
}
END = {
    "at": 1.0,
    "exitCode": None,
    "signal": 9,
    "outOfMemory": True,
    "servedSeconds": 2.5,
    "memoryPeakBytes": 2**30,
    "reported": None,
}
INSTANCE = {"id": "shop-blue-r-0", "phase": "running", "ready": True, "restarts": 1, "ends": [END]}


@pytest.fixture
def diagnosed(workspace: Any) -> Any:
    workspace.resources["/onlineEndpoints/shop/deployments/blue"] = {"name": "blue"}
    workspace.diagnosis = {
        "endpoint": "shop",
        "deployment": "blue",
        "provisioningState": "Succeeded",
        "summary": "it needs more",
        "verdict": VERDICT,
        "waitingFor": "",
        "phases": [
            {"name": "accept", "status": "done", "seconds": 0.1, "message": ""},
            {"name": "instances", "status": "running", "seconds": None, "message": ""},
            {"name": "gateway", "status": "waiting", "seconds": None, "message": ""},
        ],
        "instances": [INSTANCE],
    }
    return workspace


def test_people_get_cause_evidence_confidence_and_fix(moor: Any, diagnosed: Any) -> None:
    code, out, _ = moor("diagnose", "-e", "shop", "-n", "blue")
    assert code == 0
    for words in (
        "shop/blue: Succeeded",
        "(OutOfMemoryServing, ERR_2200) it needs more",
        "Requests need memory.",
        "Confidence: likely",
        "score.py:3",
        "    signal SIGKILL\n",
        "Fix: take a larger one",
        "signal 9, after 2.5 s in service, at most 1024 MiB of memory, out of memory",
        "Time: accept 0.1 s, instances running",
    ):
        assert words in out
    assert "\x1b" not in out


def test_programs_get_values(moor: Any, diagnosed: Any) -> None:
    found = moor.json("diagnose", "-e", "shop", "-n", "blue", "-o", "json")
    assert found["verdict"]["code"] == "OutOfMemoryServing"
    assert found["verdict"]["evidence"] == ["signal SIGKILL", "  File x"]
    assert found["verdict"]["confidence"] == "likely"
    _, out, _ = moor("diagnose", "-e", "shop", "-n", "blue", "--query", "verdict.fix", "-o", "tsv")
    assert out == "take a larger one\n"


def test_nothing_wrong_is_said_too(moor: Any, diagnosed: Any) -> None:
    diagnosed.diagnosis |= {"verdict": None, "summary": "It serves.", "instances": []}
    code, out, _ = moor("diagnose", "-e", "shop", "-n", "blue")
    assert (code, "It serves." in out) == (0, True)
    assert moor.json("diagnose", "-e", "shop", "-n", "blue", "-o", "json")["verdict"] is None


def test_one_that_is_not_there(moor: Any, diagnosed: Any) -> None:
    code, _, err = moor("diagnose", "-e", "shop", "-n", "green")
    assert code == 1
    assert "ERROR" in err
