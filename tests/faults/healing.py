"""Workers that fail in every way a worker can, each in a deployment of its own: how soon they are out of rotation and
replaced, what callers read, what the condition is called. A neighbour is under load meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from scene import Outcome, Scene, outcome

SICK, LIMIT, PERIOD_S, PROBE_TIMEOUT_S, REQUEST_TIMEOUT_S = "sick", 2, 3, 1, 2
LIVENESS_FAILURES = 6
PATIENCE_S = 60.0
SCRIPT = """
import ctypes, os, threading
lock = threading.Lock()
def init(): pass
def run(data):
    if "hold" in data:
        ctypes.PyDLL(None).sleep(600)
    if "wait" in data:
        with lock:
            lock.acquire()
    if "spin" in data:
        while True:
            pass
    if "exit" in data:
        os._exit(5)
    if "eat" in data:
        eaten = []
        while True:
            eaten.append(b"x" * (64 << 20))
    return os.getpid()
"""


@dataclass(frozen=True)
class Kind:
    """One way to fail. The worker has to be out of rotation within a period of its probe after `deadline_s`, when its
    calls are over their time limit, or at once."""

    title: str
    fail: Callable[[Case], None]
    code: str
    """What names it."""
    deadline_s: float = 0.0
    stays: bool = True
    """It is there until somebody ends it."""
    takes_time: bool = False
    """It ends by itself, some time after it was asked to: the time out of rotation counts from its end."""
    request_timeout_s: int = REQUEST_TIMEOUT_S
    instance_type: str = "Standard_DS3_v2"
    evidence: tuple[str, ...] = ()
    """What the verdict has to prove it with: patterns."""


@dataclass
class Case:
    """A kind as it is tried; times by `time.monotonic`."""

    scene: Scene
    name: str
    pid: int = 0
    began: float = 0.0
    ended: float | None = None
    """When the process was seen to be no more."""
    out_s: float | None = None
    was_alive: bool = False
    """Whether it was out of rotation before it was ended."""
    back_s: float | None = None
    codes: set[str] = field(default_factory=set)
    """What callers read meanwhile."""
    uncoded: int = 0
    condition: str = ""
    """What `InstancesHealthy` says when all of them serve again."""
    verdict: str = ""
    """What `moor diagnose` says then."""
    evidence: tuple[str, ...] = ()

    def ask(self, body: str) -> None:
        headers = {"azureml-model-deployment": self.name}
        with contextlib.suppress(OSError):
            answer = self.scene.workspace.score(SICK, body, headers=headers)
            if answer.status != 200:
                try:
                    self.codes.add(f"{answer.status} {answer.json['error']['code']}")
                except (ValueError, LookupError, TypeError):
                    self.uncoded += 1

    def ask_in_every_place(self, body: str) -> None:
        for _ in range(LIMIT):
            threading.Thread(target=self.ask, args=(body,), daemon=True).start()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def exit_again_and_again(self) -> None:
        def ask() -> None:
            for _ in range(5):
                self.ask("exit")
                time.sleep(1.2)

        threading.Thread(target=ask, daemon=True).start()


KINDS: Mapping[str, Kind] = {
    "killed": Kind("kill -9", lambda case: case.signal(signal.SIGKILL), "KilledBySignal", stays=False),
    "stopped": Kind(
        "stopped (SIGSTOP)",
        lambda case: case.signal(signal.SIGSTOP),
        "LivenessProbeFailed",
    ),
    "held": Kind(
        "C code keeps the interpreter to itself",
        lambda case: case.ask_in_every_place("hold"),
        "LivenessProbeFailed",
    ),
    "deadlocked": Kind(
        "every place waits for a lock",
        lambda case: case.ask_in_every_place("wait"),
        "WorkerDeadlocked",
        REQUEST_TIMEOUT_S + 1,
    ),
    "spinning": Kind(
        "every place computes without end",
        lambda case: case.ask_in_every_place("spin"),
        "RunStuck",
        REQUEST_TIMEOUT_S + 1,
    ),
    "starved": Kind(
        "the kernel ends it for want of memory",
        lambda case: case.ask_in_every_place("eat"),
        "OutOfMemoryServing",
        stays=False,
        takes_time=True,
        request_timeout_s=20,
        instance_type="Standard_DS1_v2",
        evidence=(
            "signal SIGKILL",
            r"Killed process|oom.kill",
            "worker had: 3.5 GiB",
            "the instance: 3.5 GiB",
        ),
    ),
    "exiting": Kind("each request ends the process", Case.exit_again_and_again, "CrashLoop", stays=False),
}


def heal(scene: Scene, kinds: Collection[str]) -> dict[str, Case]:
    """All of these kinds at once."""
    workspace = scene.workspace
    workspace.endpoint(SICK)
    folder = workspace.script(SICK, SCRIPT)
    probes = {"period": PERIOD_S, "timeout": PROBE_TIMEOUT_S, "initial_delay": 1}
    for name in kinds:
        workspace.spec(
            SICK,
            name,
            folder,
            instance_type=KINDS[name].instance_type,
            readiness_probe=probes,
            liveness_probe={
                **probes,
                "period": 1,
                "failure_threshold": LIVENESS_FAILURES,
                "initial_delay": 4,
            },
            request_settings={
                "max_concurrent_requests_per_instance": LIMIT,
                "request_timeout_ms": KINDS[name].request_timeout_s * 1000,
            },
        )
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: workspace.deploy(Path(workspace.files) / f"{SICK}-{name}.yml"), kinds))
    workspace.key(SICK)
    pids = {
        str(each["owner"]).partition("/")[2]: int(each["pid"])
        for each in workspace.processes()
        if str(each["role"]).startswith("worker") and str(each.get("owner") or "").startswith(f"{SICK}/")
    }
    cases = {name: Case(scene, name, pids[name]) for name in kinds}
    for name, case in cases.items():
        case.began = time.monotonic()
        KINDS[name].fail(case)
    _watch(cases, Path(workspace.home) / "gateway" / "status.json")
    for shown in workspace.json("online-deployment", "list", "-e", SICK):
        reasons = {c["type"]: c["reason"] for c in shown["conditions"]}
        cases[shown["name"]].condition = reasons["InstancesHealthy"]
    for name, case in cases.items():
        found = workspace.json("diagnose", "-e", SICK, "-n", name)["verdict"]
        case.verdict, case.evidence = (found["code"], tuple(found["evidence"])) if found else ("", ())
    workspace.moor("online-endpoint", "delete", "-n", SICK, "--yes")
    return cases


def _watch(cases: Mapping[str, Case], status: Path) -> None:
    """Until all are out and back again."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not all(c.back_s is not None for c in cases.values()):
        healthy: Mapping[str, Any] = json.loads(status.read_bytes())["healthy"]
        for case in cases.values():
            there, now = bool(healthy.get(f"{SICK}~{case.name}")), time.monotonic()
            alive = case.ended is None and psutil.pid_exists(case.pid)
            if case.ended is None and not alive:
                case.ended = now
            if case.out_s is None and not there:
                since = case.ended or now if KINDS[case.name].takes_time else case.began
                case.out_s, case.was_alive = now - since, alive
            elif case.out_s is not None and case.back_s is None and there:
                case.back_s = now - case.began
        time.sleep(0.02)


def sick_workers(scene: Scene, size: Any) -> Outcome:
    """Each kind once, all at the same time, with load on the neighbour."""
    del size
    with scene.load() as result:
        cases = heal(scene, KINDS)
    wrong = [each for case in cases.values() for each in problems(case)]
    return outcome(
        "sick-workers",
        f"workers that fail, in {len(KINDS)} ways",
        len(KINDS),
        result.seen,
        f"0 failed beside them; each out of rotation within its probe's period ({PERIOD_S} s), where calls never end counted "
        f"from when nobody waits for them ({REQUEST_TIMEOUT_S + 1} s); replaced, and named",
        result.seen.failed == 0 and not wrong,
        wrong=wrong,
        out_of_rotation_s={name: _rounded(case.out_s) for name, case in cases.items()},
        serves_again_s={name: _rounded(case.back_s) for name, case in cases.items()},
        callers_read={name: sorted(case.codes) for name, case in cases.items()},
        verdicts={name: case.verdict for name, case in cases.items()},
    )


def problems(case: Case, *, timed: bool = True) -> list[str]:
    """What of the promise does not hold; not `timed`: whatever a busy machine makes of times."""
    kind = KINDS[case.name]
    found = []
    if case.out_s is None or (timed and case.out_s > kind.deadline_s + PERIOD_S):
        found.append(f"{case.name}: out of rotation after {case.out_s} s")
    if kind.stays and not case.was_alive:
        found.append(f"{case.name}: in rotation until it was ended")
    if case.back_s is None:
        found.append(f"{case.name}: not replaced")
    if case.verdict != kind.code:
        found.append(f"{case.name}: the verdict is {case.verdict}")
    for wanted in kind.evidence:
        if not any(re.search(wanted, line) for line in case.evidence):
            found.append(f"{case.name}: no {wanted!r} in the evidence {case.evidence}")
    if case.condition == "Serving" and kind.code == "CrashLoop":
        found.append(f"{case.name}: no condition tells of it")
    if case.uncoded:
        found.append(f"{case.name}: {case.uncoded} answers without a code")
    return found


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
