"""What a change of status tells in the log of a deployment."""

from __future__ import annotations

import itertools
from typing import Any

from moorings.controller.story import told
from moorings.errors.exceptions import failure
from moorings.errors.sentence import verbatim
from moorings.observe.journal import entries


def status(generation: int = 1, *phases: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    rows = [{"name": name, "status": state, "message": message} for name, state, message in phases]
    return {"generation": generation, "phases": rows, **more}


def instance(
    id_: str = "i-0", phase: str = "starting", *, ready: bool = False, restarts: int = 0
) -> dict[str, Any]:
    return {"id": id_, "phase": phase, "ready": ready, "restarts": restarts}


def texts(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [f"{t.phase} {t.instance} {t.text}" for t in told(before, after)]


def test_nothing_new_tells_nothing():
    one = status(1, ("assets", "done", ""), instances=[instance()])
    assert texts(one, one) == []


def test_phases_as_they_go_on():
    first = status(
        1, ("assets", "done", ""), ("environment", "running", "starting"), ("instances", "waiting", "")
    )
    assert texts({}, first) == ["plan  assets: done", "build  environment: running, starting"]
    second = status(
        1, ("assets", "done", ""), ("environment", "running", "solving"), ("instances", "running", "0 of 1")
    )
    assert texts(first, second) == ["boot  instances: running, 0 of 1"]
    again = status(2, ("assets", "done", ""))
    assert texts(second, again) == ["plan  assets: done"]


def test_instances_from_their_start_to_their_end():
    steps = [[], [instance()], [instance(phase="running", ready=True)]]
    steps += [[instance(phase="backoff", restarts=1)], []]
    said = [texts({"instances": a}, {"instances": b}) for a, b in itertools.pairwise(steps)]
    assert said == [
        ["boot i-0 instance i-0 is starting"],
        ["boot i-0 starting -> running", "probe i-0 the readiness probe succeeds"],
        [
            "boot i-0 a worker was started again (restarts: 1)",
            "serve i-0 running -> backoff",
            "probe i-0 the readiness probe does not succeed any more",
        ],
        ["serve i-0 the instance has ended"],
    ]


def test_a_failure_is_told_once_with_its_evidence_and_its_fix():
    failed = failure(
        "ContainerCannotStart", "no", evidence=("line one",), fix=verbatim("Do this: moor x")
    ).to_json()
    after = status(1, ("instances", "failed", "no"), gave_up={"generation": 1, "failure": failed})
    found = told(status(1, ("instances", "running", "x")), after)[-1]
    assert found.phase == "boot"
    assert found.text.splitlines() == [
        "FAILED ContainerCannotStart: no",
        "  line one",
        "Fix: Do this: moor x",
    ]
    assert told(after, after) == []


async def test_a_rollout_is_in_the_journal_from_its_plan_to_its_end(world):
    world.put_endpoint("shop")
    world.put()
    await world.until(lambda: world.state() == "Succeeded")
    await world.settle()
    path = world.journal.folder("shop/blue") / "control.log"
    said = [f"{t.phase} {t.text}" for _, t in entries(path)][::-1]
    assert said[0] == "plan generation 1 accepted"
    assert "build Resolved 7 packages" in said
    assert "probe the readiness probe succeeds" in said
    assert said[-1] == "serve gateway: done, accepted"
