"""A script whose init() succeeds at first and fails at later starts, as when a file that it reads has gone: what is started
anew does not come up, in its old instance or in a new one, until the file is there again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from scene import LEARNT_S, Losses, Outcome, Scene, Seen, outcome

LAPSED, BLUE, INSTANCES, PLACES = "lapsed", "blue", 3, 20
TWO = 2
"""Of them are harmed."""
PATIENCE_S = 60.0
SCRIPT = """
import os
def init():
    with open({path!r}) as resource:
        resource.read()
def run(data):
    return os.getpid()
"""


@dataclass
class Lapse:
    """What was seen. Times in seconds."""

    own: Seen
    """Load on the deployment itself."""
    losses: Losses | None = None
    verdict: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    """What `InstancesHealthy` said, without repetitions."""
    ends_at: dict[str, list[float]] = field(default_factory=dict)
    """When an instance has failed to start, of each that did."""
    back_s: float | None = None
    """After the file was there again, until all served."""


def lapse(scene: Scene, ends: int) -> Lapse:
    """Of three instances one loses its worker and one its supervisor, when the file has gone; it is back when both have
    failed to start so many times."""
    workspace = scene.workspace
    resource = Path(workspace.files) / "resource"
    resource.write_text("there")
    workspace.endpoint(LAPSED)
    settings = {"max_concurrent_requests_per_instance": PLACES}
    folder = workspace.script(LAPSED, SCRIPT.format(path=str(resource)))
    workspace.deploy(
        workspace.spec(LAPSED, BLUE, folder, instance_count=INSTANCES, request_settings=settings),
        "--all-traffic",
    )
    status = Path(workspace.home) / "gateway" / "status.json"
    with scene.load(endpoint=LAPSED) as result:
        seen = Lapse(result.seen)
        resource.unlink()
        first, second = _of_two_instances(workspace)
        died = scene.kill(first["worker"], second["supervisor"], takes=[second["worker"]])
        for found in _looks(workspace, seen):
            failing = [i for i in found["instances"] if len(seen.ends_at.get(i["id"], ())) >= ends]
            if len(failing) == TWO:
                seen.verdict = found["verdict"]
                break
        resource.write_text("there again")
        since = time.monotonic()
        while time.monotonic() < since + PATIENCE_S:
            if len(json.loads(status.read_bytes())["healthy"].get(f"{LAPSED}~{BLUE}", ())) == INSTANCES:
                seen.back_s = time.monotonic() - since
                break
            time.sleep(0.05)
    seen.own, seen.losses = result.seen, result.seen.losses([died], LEARNT_S)
    for _ in _looks(workspace, seen):
        if seen.reasons[-1] == "Serving":
            break
    workspace.moor("online-endpoint", "delete", "-n", LAPSED, "--yes")
    return seen


def _of_two_instances(workspace: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Processes of two of them, by role."""
    own = [each for each in workspace.processes() if each.get("owner") == f"{LAPSED}/{BLUE}"]
    supervisors = [int(each["pid"]) for each in own if each["role"] == "supervisor"]
    workers = [int(each["pid"]) for each in own if str(each["role"]).startswith("worker")]
    parents = {
        pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in workers
    }
    first, second = supervisors[:2]
    return (
        {"supervisor": first, "worker": next(pid for pid in workers if parents[pid] == first)},
        {"supervisor": second, "worker": next(pid for pid in workers if parents[pid] == second)},
    )


def _looks(workspace: Any, seen: Lapse) -> Iterator[dict[str, Any]]:
    """What `moor diagnose` says, again and again, with what the condition said beside it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = workspace.json("diagnose", "-e", LAPSED, "-n", BLUE)
        shown = workspace.json("online-deployment", "show", "-e", LAPSED, "-n", BLUE)
        reason = next(c["reason"] for c in shown["conditions"] if c["type"] == "InstancesHealthy")
        if seen.reasons[-1:] != [reason]:
            seen.reasons.append(reason)
        for instance in found["instances"]:
            known = seen.ends_at.setdefault(instance["id"], [])
            late = [end["at"] for end in instance["ends"] if end["reported"] and end["at"] not in known]
            known += late
        yield found


def problems(seen: Lapse) -> list[str]:
    """What of the promise does not hold."""
    found = []
    verdict = seen.verdict or {"code": "", "evidence": (), "fix": ""}
    if verdict["code"] != "UserScriptInitFailed":
        found.append(f"the verdict is {verdict['code']!r}, the instances ended {seen.ends_at}")
    said = "\n".join(verdict["evidence"])
    found += [
        f"no {word!r} in the evidence {said!r}"
        for word in ("FileNotFoundError", "score.py:4")
        if word not in said
    ]
    if not verdict["fix"]:
        found.append("no fix")
    if "UserScriptInitFailed" not in seen.reasons or seen.reasons[-1] != "Serving":
        found.append(f"the condition was {seen.reasons}")
    for name, ends in seen.ends_at.items():
        gaps = [later - earlier for earlier, later in pairwise(ends)]
        if any(later < earlier for earlier, later in pairwise(gaps)):
            found.append(f"{name} was tried again after {gaps} s")
    if seen.back_s is None:
        found.append("not all serve again")
    if seen.losses is None or seen.own.failed > seen.losses.running or seen.own.uncoded:
        found.append(
            f"{seen.own.failed} requests failed, {seen.losses}, {seen.own.uncoded} of them without a code"
        )
    return found


def later_starts(scene: Scene, size: Any) -> Outcome:
    """With load on the neighbour and on the deployment itself."""
    del size
    with scene.load() as result:
        seen = lapse(scene, 4)
    wrong = problems(seen)
    return outcome(
        "later-starts",
        "init() fails at later starts: of 3 instances, a worker and a supervisor are killed",
        2,
        result.seen,
        "0 failed beside it, what was under way of its own; tried again later and later, named, and back with the file",
        result.seen.failed == 0 and not wrong,
        wrong=wrong,
        own_failed=seen.own.failed,
        own_sent=seen.own.sent,
        condition=seen.reasons,
        starts_that_failed=[len(ends) for ends in seen.ends_at.values()],
        serves_again_s=None if seen.back_s is None else round(seen.back_s, 1),
    )
