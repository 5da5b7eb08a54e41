"""`moor autoscale`: what is asked of no workspace, and what is sent to one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moorings.cli.main import run
from moorings.cli.session import Session
from moorings.client.transport import Answer

from .conftest import WS, MemoryWorkspace

AT = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local/providers/Microsoft.Insights/autoscaleSettings"


def moor(
    capsys: pytest.CaptureFixture[str], *argv: str, memory: MemoryWorkspace | None = None
) -> tuple[int, str, str]:
    done = run(["autoscale", *argv], Session(environ={}, transport=memory))
    out = capsys.readouterr()
    return done, out.out, out.err


def test_the_size_of_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    done, out, err = moor(capsys, "size", "--rps", "20", "--request-seconds", "10")
    assert (done, json.loads(out)["instances"]) == (0, 286)
    assert "50 instances at most" in err


def test_a_trace_becomes_a_summary_and_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = tmp_path / "day.csv"
    trace.write_text("seconds,rps\n0,5\n20,30\n40,0\n")
    done, out, _ = moor(capsys, "simulate", "-f", str(trace), "--max", "5", "--scale-down-after", "5")
    found = json.loads(out)
    assert done == 0
    assert found["requests"] == found["served"] + found["rejected"] + found["timed_out"]
    assert found["most_instances"] == 5
    assert (tmp_path / "day.svg").read_text().startswith("<svg ")


def test_what_cannot_be_simulated_is_told_with_a_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    done, _, err = moor(capsys, "simulate", "-f", str(tmp_path / "none.csv"))
    assert (done, "(TraceInvalid)" in err) == (1, True)
    trace = tmp_path / "day.csv"
    trace.write_text("seconds,rps\n0,5\n20,-3\n")
    done, _, err = moor(capsys, "simulate", "-f", str(trace))
    assert (done, "day.csv:3: found '-3'" in err, f"simulate -f {trace}\n" in err) == (1, True, True)
    trace.write_text("seconds,rps\n0,5\n20,3\n")
    done, _, err = moor(capsys, "simulate", "-f", str(trace), "--min", "5", "--max", "2")
    assert (done, "is above `max_instances` (2)" in err) == (1, True)
    done, _, err = moor(capsys, "simulate", "-f", str(trace), "-p", str(tmp_path / "no" / "a.svg"))
    assert (done, "(TraceInvalid)" in err) == (1, True)


def profile_of(memory: MemoryWorkspace) -> list[dict[str, object]]:
    return memory.sent("PUT", "/autoscaleSettings/blue")["properties"]["profiles"]  # type: ignore[no-any-return]


def remember(memory: MemoryWorkspace) -> None:
    """What was sent last is what the workspace has."""
    body = memory.sent("PUT", "/autoscaleSettings/blue")
    memory.answers["GET", f"{AT}/blue"] = Answer(200, {}, json.dumps(body).encode())


def test_settings_rules_and_profiles_are_sent_as_one_document(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    memory = MemoryWorkspace()
    id_ = f"{WS}/onlineEndpoints/shop/deployments/blue"
    accepted = {"name": "blue", "properties": {"profiles": []}}
    memory.answers["PUT", f"{AT}/blue"] = Answer(201, {}, json.dumps(accepted).encode())
    sizes = ("--count", "2", "--max-count", "5")
    assert moor(capsys, "create", "--resource", id_, *sizes, memory=memory)[0] == 0
    assert profile_of(memory)[0]["capacity"] == {"minimum": "2", "maximum": "5", "default": "2"}
    remember(memory)
    rule = ("--condition", "CpuUtilizationPercentage > 70 avg 5m", "--scale", "out", "2")
    done, out, err = moor(capsys, "rule", "create", "--autoscale-name", "blue", *rule, memory=memory)
    assert (done, json.loads(out)["condition"]) == (0, "CpuUtilizationPercentage > 70 avg 5m"), err
    remember(memory)
    trace = tmp_path / "day.csv"
    trace.write_text("seconds,rps\n0,30\n400,30\n")
    argv = ("simulate", "-f", str(trace), "--autoscale-name", "blue", "--at", "2026-11-25", "--count", "2")
    done, out, err = moor(capsys, *argv, memory=memory)
    assert (done, json.loads(out)["first_changes"][0]["reason"]) == (0, "Rule"), err
    assert moor(capsys, "rule", "delete", "--autoscale-name", "blue", "--index", "1", memory=memory)[0] == 1
    wrong = moor(capsys, "rule", "list", "--autoscale-name", "blue", "--profile-name", "x", memory=memory)
    assert wrong[0] == 1
    assert "(AutoscaleNotFound)" in wrong[2]
    weekend = ("-n", "weekend", "--recurrence", "week", "sat", "sun", "--count", "2")
    assert moor(capsys, "profile", "create", "--autoscale-name", "blue", *weekend, memory=memory)[0] == 0
    remember(memory)
    assert [len(one["rules"]) for one in profile_of(memory)] == [1, 0, 1]  # type: ignore[arg-type]
    assert moor(capsys, "rule", "delete", "--autoscale-name", "blue", "--index", "*", memory=memory)[0] == 0
    assert [one["rules"] for one in profile_of(memory)] == [[], [], []], (
        "what follows the weekend is the default"
    )
