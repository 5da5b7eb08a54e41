"""The faults, one function each: what is done under load, and what of it was promised."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from scene import (
    BIN,
    BLUE,
    ENDPOINT,
    INSTANCES,
    LEARNT_S,
    PLACES,
    RUN_MS,
    Moment,
    Outcome,
    Scene,
    outcome,
    script,
)

OUT_OF_ROTATION_S, ENVOY_BACK_S = 1.0, 1.0
FEW_FILES = 512


@dataclass(frozen=True)
class Size:
    """How long a run is."""

    name: str
    times: int
    """How often each fault is done."""
    step: int
    """Per cent of a step of traffic."""
    hold_s: float
    """How long a state is held that is held at all."""
    kills: int
    """How often an instance is killed."""
    requests: int
    """So many at least are sent while new code is rolled out."""
    away_s: float
    """How long the daemon stays away."""
    soak_s: float
    deploy_every_s: float
    endpoints: int
    """So many do nothing but be there."""


SHORT = Size(
    "short", times=2, step=25, hold_s=4, kills=2, requests=0, away_s=15, soak_s=60, deploy_every_s=10, endpoints=100
)  # fmt: skip
LONG = Size(
    "long", times=20, step=5, hold_s=60, kills=50, requests=100_000, away_s=600, soak_s=3600, deploy_every_s=300,
    endpoints=1000,
)  # fmt: skip


def rolling_update(scene: Scene, size: Size) -> Outcome:
    with scene.load() as result:
        for done in range(1, size.times + 1):
            scene.workspace.deploy(scene.spec(BLUE), verb="update")
            result.pace(scene.rate_per_s, size.requests, done, size.times)
    last = f'"v{scene.version}"'
    held = result.seen.failed == 0 and last in result.seen.report["bodies"]
    return outcome("rolling-update", "new code, rolled out", size.times, result.seen, "0 failed", held)


FAILING: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("a package that is missing", script("bad", imports="import no_such_package_at_all"), {}),
    ("init() raises", script("bad", init="raise ValueError('no')"), {}),
    ("a syntax error", "def init(:\n    pass\n", {}),
    ("killed in init()", script("bad", init="import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), {}),
    (
        "no such version of a package",
        script("bad"),
        {"environment": {"image": "local/base", "conda_file": "none.yaml"}},
    ),
)


def failed_update(scene: Scene, size: Size) -> Outcome:
    """Each kind once: the old instances go on, and the verdict comes with a code."""
    none = "dependencies:\n  - python=3.11\n  - pip\n  - pip: [numpy==0.0.1]\n"
    (Path(scene.workspace.files) / "none.yaml").write_text(none)
    before = json.dumps(scene.workspace.score(ENDPOINT, 1).json)
    codes: dict[str, str] = {}
    with scene.load() as result:
        for title, code, more in FAILING:
            spec = scene.spec(BLUE, code, **more)
            done = scene.workspace.moor(
                *("online-deployment", "update", "-f", str(spec), "--skip-checks", "-o", "json"), check=False
            )
            assert done.returncode != 0, title
            codes[title] = _code(done.stderr)
    scene.workspace.deploy(scene.spec(BLUE), verb="update")
    held = result.seen.failed == 0 and set(result.seen.report["bodies"]) == {before} and all(codes.values())
    return outcome(
        "failed-update",
        f"updates that fail, {len(FAILING)} kinds",
        len(FAILING),
        result.seen,
        "0 failed",
        held,
        codes=codes,
    )


def traffic_shift(scene: Scene, size: Size) -> Outcome:
    green = scene.spec("green")
    scene.workspace.deploy(green)
    steps = list(range(0, 101, size.step))
    with scene.load() as result:
        for share in [*steps, *reversed(steps)]:
            table = f"{BLUE}={100 - share} green={share}"
            scene.workspace.moor("online-endpoint", "update", "-n", ENDPOINT, "--traffic", table)
    scene.workspace.moor("online-deployment", "delete", "-e", ENDPOINT, "-n", "green", "--yes")
    held = result.seen.failed == 0 and len(result.seen.report["bodies"]) == 2
    return outcome(
        "traffic-shift",
        f"traffic 0 to 100 % and back, {size.step} % a step",
        2 * len(steps),
        result.seen,
        "0 failed",
        held,
    )


def _killing(
    scene: Scene,
    fault: str,
    title: str,
    kill: Callable[[], Moment],
    times: int,
    lost_each: int,
    within_s: float,
    *,
    by_envoy: bool = False,
) -> Outcome:
    """Kill, wait until all is well again, and again. At most `lost_each` requests are lost each time, the last within
    `within_s` of when it was gone, and none that began after that; each has a code unless it is Envoy that ends."""
    moments: list[Moment] = []
    with scene.load() as result:
        for _ in range(times):
            moments.append(kill())
            time.sleep(1.0)
            scene.settled()
    seen = result.seen
    losses = seen.losses(moments, 0.0 if by_envoy else LEARNT_S)
    held = (
        losses.most <= lost_each
        and losses.last_s <= within_s
        and losses.later == 0
        and (by_envoy or seen.uncoded == 0)
    )
    promise = (
        f"only what was under way is lost, within {within_s:g} s{'' if by_envoy else ' and each with a code'}"
    )
    notes = {} if by_envoy else {"without_a_code": seen.uncoded}
    return outcome(
        fault,
        title,
        times,
        seen,
        promise if lost_each else "0 failed",
        held,
        last_failure_after_s=round(losses.last_s, 2),
        lost_by_one_at_most=losses.most,
        lost_under_way=losses.running,
        lost_later=losses.later,
        **notes,
    )


def kill_worker(scene: Scene, size: Size) -> Outcome:
    def kill() -> Moment:
        return scene.kill(scene.pids("worker")[0])

    return _killing(scene, "kill-worker", "kill -9 of a worker", kill, size.times, PLACES, OUT_OF_ROTATION_S)


def kill_supervisor(scene: Scene, size: Size) -> Outcome:
    def kill() -> Moment:
        supervisor = psutil.Process(scene.pids("supervisor")[0])
        return scene.kill(supervisor.pid, takes=[each.pid for each in supervisor.children(recursive=True)])

    return _killing(
        scene, "kill-supervisor", "kill -9 of a supervisor", kill, size.times, PLACES, OUT_OF_ROTATION_S
    )


def kill_instance(scene: Scene, size: Size) -> Outcome:
    def kill() -> Moment:
        supervisor = psutil.Process(scene.pids("supervisor")[0])
        return scene.kill(supervisor.pid, *(each.pid for each in supervisor.children(recursive=True)))

    return _killing(
        scene, "kill-instance", "kill -9 of a whole instance", kill, size.kills, PLACES, OUT_OF_ROTATION_S
    )


def kill_daemon(scene: Scene, size: Size) -> Outcome:
    """It stays away for a while each time."""

    def kill() -> Moment:
        at = scene.kill(scene.pids("daemon")[0])
        time.sleep(size.hold_s / 4)
        return at

    return _killing(scene, "kill-daemon", "kill -9 of the daemon", kill, size.times, 0, 0)


def daemon_away(scene: Scene, size: Size) -> Outcome:
    """Nobody starts the daemon again for minutes."""
    with scene.load() as result:
        scene.kill(scene.pids("daemon")[0])
        time.sleep(size.away_s)
        stayed = not scene.pids("daemon")
        scene.settled()
    held = stayed and result.seen.failed == 0
    return outcome(
        "daemon-away", f"the daemon is away for {size.away_s:g} s", 1, result.seen, "0 failed", held
    )


def kill_agent(scene: Scene, size: Size) -> Outcome:
    def kill() -> Moment:
        return scene.kill(scene.pids("gateway-agent")[0])

    return _killing(scene, "kill-agent", "kill -9 of the gateway's agent", kill, size.times, 0, 0)


def kill_envoy(scene: Scene, size: Size) -> Outcome:
    """Only what was under way may be lost: whoever connects meanwhile waits until it is back."""

    def kill() -> Moment:
        return scene.kill(scene.pids("envoy")[0])

    return _killing(
        scene, "kill-envoy", "kill -9 of Envoy", kill, size.times, PLACES, ENVOY_BACK_S, by_envoy=True
    )


def rotate_keys(scene: Scene, size: Size) -> Outcome:
    secondary = scene.workspace.json("online-endpoint", "get-credentials", "-n", ENDPOINT)["secondaryKey"]
    refused_s = []
    with scene.load(key=str(secondary)) as result:
        for _ in range(size.times):
            old = scene.workspace.key(ENDPOINT)
            argv = ("online-endpoint", "regenerate-keys", "-n", ENDPOINT, "--key-type", "primary")
            scene.workspace.moor(*argv)
            began = time.monotonic()
            while scene.workspace.score(ENDPOINT, 1, key=old).status != 401:
                assert time.monotonic() - began < 10, "the old key is still taken"
                time.sleep(0.02)
            refused_s.append(time.monotonic() - began)
            scene.workspace.keys.clear()
    held = result.seen.failed == 0 and max(refused_s) <= 1.0
    return outcome(
        "rotate-keys", "the other key is made anew", size.times, result.seen,
        "0 failed, the old one refused within 1 s", held, refused_after_s=round(max(refused_s), 2),
    )  # fmt: skip


# --- the machine -----------------------------------------------------------------------------------------------


def full_disk(scene: Scene, size: Size) -> Outcome:
    """The workspace's file system, a small one of its own, has no byte left: serving goes on, a change is refused with a
    code, and all goes well again when there is room."""
    assert scene.disk is not None
    codes = []
    with scene.load() as result:
        for _ in range(size.times):
            ballast = scene.disk.fill()
            time.sleep(size.hold_s / 4)
            codes.append(_refused_update(scene))
            ballast.unlink()
            scene.settled()
            scene.workspace.deploy(scene.spec(BLUE), verb="update")
    held = result.seen.failed == 0 and all(codes)
    return outcome(
        "full-disk",
        "the disk is full",
        size.times,
        result.seen,
        "0 failed, changes refused with a code",
        held,
        codes=codes,
    )


def failed_disk(scene: Scene, size: Size) -> Outcome:
    """An error of the disk makes it read-only until it is repaired, for which the workspace is stopped."""
    assert scene.disk is not None
    with scene.load() as result:
        scene.disk.fail()
        time.sleep(size.hold_s)
        code = _refused_update(scene)
        time.sleep(size.hold_s)
    before = scene.workspace.json("online-deployment", "show", "-e", ENDPOINT, "-n", BLUE)
    scene.workspace.moor("workspace", "stop")
    scene.disk.repair()
    scene.settled()
    after = scene.workspace.json("online-deployment", "show", "-e", ENDPOINT, "-n", BLUE)
    scene.workspace.deploy(scene.spec(BLUE), verb="update")
    held = result.seen.failed == 0 and bool(code) and before["properties"] == after["properties"]
    return outcome(
        "failed-disk", "the disk fails and is read-only", 1, result.seen,
        "0 failed, changes refused with a code, all there after the repair", held, codes=[code],
    )  # fmt: skip


def few_files(scene: Scene, size: Size) -> Outcome:
    """Envoy may open few files, and callers that say nothing take all they get: who was connected is served."""
    scene.workspace.moor("workspace", "stop")
    few = ["prlimit", f"--nofile={FEW_FILES}:{FEW_FILES}", str(BIN / "moor"), "workspace", "start"]
    subprocess.run(few, env=scene.workspace.env, check=True, capture_output=True)
    scene.settled()
    envoy = scene.pids("envoy")
    with scene.load() as result:
        for _ in range(size.times):
            with _idle_connections(scene, 2 * FEW_FILES):
                time.sleep(size.hold_s / 2)
            time.sleep(1.0)
    same = scene.pids("envoy") == envoy and scene.workspace.score(ENDPOINT, 1).status == 200
    scene.workspace.moor("workspace", "stop")
    scene.settled()
    held = same and result.seen.failed <= INSTANCES * PLACES * size.times
    return outcome(
        "few-files", "no file descriptors are left", size.times, result.seen,
        f"Envoy lives, at most {INSTANCES * PLACES} lost each", held,
    )  # fmt: skip


# --- callers ---------------------------------------------------------------------------------------------------


def slow_clients(scene: Scene, size: Size) -> Outcome:
    """Hundreds of callers that send a byte now and then."""
    with scene.load() as result, _slow(scene, 300):
        time.sleep(size.hold_s * 1.5)
    return outcome("slow-clients", "300 callers that send a byte now and then", 1, result.seen, "0 failed")


def leaving_clients(scene: Scene, size: Size) -> Outcome:
    """Callers that ask and leave before the answer; their places come back."""
    stop = threading.Event()
    request = _request(scene)
    left = [0]

    def leave() -> None:
        while not stop.is_set():
            with socket.create_connection(("127.0.0.1", scene.workspace.port), timeout=5) as connection:
                connection.sendall(request)
                time.sleep(RUN_MS / 4000)
            left[0] += 1
            time.sleep(0.02)

    with scene.load() as result, ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(leave)
        time.sleep(size.hold_s * 1.5)
        stop.set()
    return outcome(
        "leaving-clients", "callers that leave before the answer", 1, result.seen, "0 failed", left=left[0]
    )


def noisy_neighbour(scene: Scene, size: Size) -> Outcome:
    """Another endpoint that computes without end and is asked more than it can do."""
    with scene.load() as quiet:
        time.sleep(size.hold_s)
    name = "noisy"
    scene.workspace.endpoint(name)
    burn = "def init(): pass\ndef run(data): return sum(i * i for i in range(200_000))\n"
    scene.workspace.deploy(
        scene.workspace.spec(name, BLUE, scene.workspace.script(name, burn)), "--all-traffic"
    )
    with scene.load() as result, scene.load(endpoint=name, rate_per_s=scene.rate_per_s):
        time.sleep(size.hold_s * 1.5)
    scene.workspace.moor("online-endpoint", "delete", "-n", name, "--yes")
    ratio = float(result.seen.report["p99_ms"]) / max(0.01, float(quiet.seen.report["p99_ms"]))
    return outcome(
        "noisy-neighbour", "another endpoint takes all it can get", 1, result.seen, "0 failed",
        p99_ms_alone=quiet.seen.report["p99_ms"], p99_to_alone=round(ratio, 2),
    )  # fmt: skip


# --- parts -----------------------------------------------------------------------------------------------------


def _code(stderr: str) -> str:
    """The code in what the command said, or nothing."""
    found = re.search(r"ERROR: \((\w+)[,)]", stderr)
    return found[1] if found else ""


def _refused_update(scene: Scene) -> str:
    """The code with which new code is refused; empty where it was not."""
    done = scene.workspace.moor(
        *("online-deployment", "update", "-f", str(scene.spec(BLUE)), "-o", "json"), check=False
    )
    return _code(done.stderr) if done.returncode else ""


def _request(scene: Scene) -> bytes:
    head = (
        f"POST /api/v1/endpoint/{ENDPOINT}/score HTTP/1.1\r\nHost: g\r\n"
        f"Authorization: Bearer {scene.workspace.key(ENDPOINT)}\r\nContent-Length: 1\r\n\r\n1"
    )
    return head.encode()


@contextlib.contextmanager
def _idle_connections(scene: Scene, count: int) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", scene.workspace.port))
        yield


@contextlib.contextmanager
def _slow(scene: Scene, count: int) -> Iterator[None]:
    stop = threading.Event()
    request = _request(scene)

    def trickle() -> None:
        with contextlib.ExitStack() as stack:
            callers = []
            for _ in range(count):
                connection = stack.enter_context(socket.socket())
                connection.settimeout(5)
                connection.connect(("127.0.0.1", scene.workspace.port))
                callers.append(connection)
            at = 0
            while not stop.is_set() and at < len(request) - 1:
                for connection in callers:
                    with contextlib.suppress(OSError):
                        connection.send(request[at : at + 1])
                at += 1
                stop.wait(0.2)

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
