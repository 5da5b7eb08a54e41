"""What every fault is tried on: a workspace with a live endpoint of two instances, and load on it at a fixed rate."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from disk import Disk

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LOAD = ROOT / "bench" / "load.py"
ENDPOINT, BLUE = "steady", "blue"
INSTANCES, PLACES, RUN_MS = 2, 20, 10
LEARNT_S = 0.05
"""Until Envoy has learnt of the end of a worker that it has connections to: what began then met it ending."""
"""Each instance runs so many requests at once; each request takes so long."""

SCRIPT = """
import json, time
{imports}
def init():
    {init}
def run(data):
    time.sleep({run_s})
    return {version!r}
"""


def script(version: str, *, imports: str = "", init: str = "pass", run_s: float = RUN_MS / 1000) -> str:
    return SCRIPT.format(version=version, imports=imports, init=init, run_s=run_s)


@dataclass(frozen=True)
class Failed:
    """One request that was not answered 200; times by `time.monotonic`."""

    at: float
    status: int
    """0: the connection broke."""
    what: str
    began: float


@dataclass(frozen=True)
class Moment:
    """When something was killed (by `time.monotonic`), and when it was gone: what begins in between meets it dying."""

    asked: float
    gone: float


@dataclass(frozen=True)
class Losses:
    """What a fault cost that was done several times."""

    most: int
    """Requests lost by any one time."""
    running: int
    """Lost requests, of all times, that were under way when it happened."""
    later: int
    """Those that came after it."""
    last_s: float
    """The longest time from when it was gone to a failure."""


@dataclass
class Seen:
    """What the load reported; `began` and `ended` by `time.monotonic`."""

    report: dict[str, Any]

    @property
    def sent(self) -> int:
        return int(self.report["sent"])

    @property
    def failed(self) -> int:
        return int(self.report["failed"])

    def with_another(self, other: Seen) -> Seen:
        """Both together; times are those of the slower."""
        mine, its = self.report, other.report
        statuses = {**mine["statuses"]}
        for status, count in its["statuses"].items():
            statuses[status] = statuses.get(status, 0) + count
        sums = {name: mine[name] + its[name] for name in ("sent", "failed", "uncoded", "failures")}
        worst = {
            name: max(mine[name], its[name]) for name in mine if name.endswith("_ms") or name == "seconds"
        }
        return Seen({"statuses": statuses, "bodies": {**mine["bodies"], **its["bodies"]}, **sums, **worst})

    def failures(self) -> list[Failed]:
        return [
            Failed(float(at), int(status), str(what), float(began))
            for at, status, what, began in self.report["failures"]
        ]

    @property
    def uncoded(self) -> int:
        """Failures that were told without a code of ours, broken connections included."""
        return int(self.report["uncoded"]) + int(self.report["statuses"].get("0", 0))

    def losses(self, moments: Sequence[Moment], learnt_s: float) -> Losses:
        """What failed after these moments, each failure by the last of them before it. `learnt_s`: how long after one who
        is asked may not know of it."""
        by_moment: dict[Moment, list[Failed]] = {moment: [] for moment in moments}
        for each in self.failures():
            before = [moment for moment in moments if moment.asked <= each.at]
            if before:
                by_moment[before[-1]].append(each)
        lost = [(moment, each) for moment, found in by_moment.items() for each in found]
        running = sum(each.began <= moment.gone + learnt_s for moment, each in lost)
        return Losses(
            most=max((len(found) for found in by_moment.values()), default=0),
            running=running,
            later=len(lost) - running,
            last_s=max((each.at - moment.gone for moment, each in lost), default=0.0),
        )


class Load:
    """The generator, in a process of its own, until it is ended."""

    def __init__(
        self, url: str, key: str, rate_per_s: float, *, most_s: float = 4 * 3600, timeout_s: float = 30
    ) -> None:
        argv = [sys.executable, str(LOAD), url, f"--key={key}", f"--rate={rate_per_s}", f"--seconds={most_s}"]
        self._process = subprocess.Popen([*argv, f"--timeout={timeout_s}"], stdout=subprocess.PIPE, text=True)
        self._out = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        time.sleep(1.0)  # it starts, and its first requests are answered, before anything is done to them

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._out = self._process.stdout.read()

    def end(self) -> Seen:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=120)
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return Seen(json.loads(self._out))


@dataclass
class Scene:
    """`workspace` is one of the end-to-end tests'."""

    workspace: Any
    rate_per_s: float
    disk: Disk | None = None
    """What the workspace is on, where it has a file system of its own."""
    version: int = 0
    run_s: float = RUN_MS / 1000
    """How long each request takes."""

    def build(self) -> None:
        self.workspace.endpoint(ENDPOINT)
        self.workspace.deploy(self.spec(BLUE), "--all-traffic")

    def spec(self, name: str, code: str | None = None, **more: Any) -> Path:
        """A deployment file; the code is a new version unless given."""
        self.version += code is None
        text = script(f"v{self.version}", run_s=self.run_s) if code is None else code
        folder = self.workspace.script(f"{ENDPOINT}-{name}", text)
        settings = {"max_concurrent_requests_per_instance": PLACES, "request_timeout_ms": 20_000}
        given = {"instance_count": INSTANCES, "request_settings": settings, **more}
        return Path(self.workspace.spec(ENDPOINT, name, folder, **given))

    @property
    def url(self) -> str:
        return self.url_of(ENDPOINT)

    def url_of(self, endpoint: str) -> str:
        return f"http://127.0.0.1:{self.workspace.port}/api/v1/endpoint/{endpoint}/score"

    @contextlib.contextmanager
    def load(self, *, key: str = "", rate_per_s: float = 0.0, endpoint: str = ENDPOINT) -> Iterator[Result]:
        """Load on the endpoint while the block runs; then what was seen of it."""
        result = Result()
        used = key or self.workspace.key(endpoint)
        load = Load(self.url_of(endpoint), used, rate_per_s or self.rate_per_s)
        try:
            yield result
            time.sleep(1.0)  # what was done last may still cost something
        finally:
            result.seen = load.end()

    def pids(self, *roles: str, endpoint: str = ENDPOINT) -> list[int]:
        """Of the endpoint's and the workspace's processes with a role that starts like one of these."""
        return [
            int(each["pid"])
            for each in self.workspace.processes()
            if str(each["role"]).startswith(roles) and (each.get("owner") or endpoint).startswith(endpoint)
        ]

    def kill(self, *pids: int, takes: Sequence[int] = ()) -> Moment:
        """kill -9 of these; `takes`: what ends with them, and is waited for as well."""
        watched = [fd for pid in (*pids, *takes) if (fd := _watched(pid)) is not None]
        asked = time.monotonic()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for fd in watched:
            select.select([fd], [], [], 10)
            os.close(fd)
        return Moment(asked, time.monotonic())

    def settled(self, *, timeout_s: float = 60) -> None:
        """Wait until every instance serves again, and the daemon answers."""
        self.workspace.moor("workspace", "start")
        deadline = time.monotonic() + timeout_s
        while len(self.pids("worker")) < INSTANCES or not self.pids("daemon"):
            if time.monotonic() > deadline:
                raise AssertionError(f"not settled: {self.workspace.processes()}")
            time.sleep(0.2)
        while self.workspace.score(ENDPOINT, 1).status != 200:
            assert time.monotonic() < deadline, "no answer"
            time.sleep(0.1)


def _watched(pid: int) -> int | None:
    """What is readable once the process has ended; None: it has."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


class Result:
    """Filled in when the load has ended."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def pace(self, rate_per_s: float, requests: int, done: int, times: int) -> None:
        """Wait as long as `done` of `times` doings have to take, so that all take as long as so many requests."""
        until = self._began + requests / rate_per_s * done / times
        time.sleep(max(0.0, until - time.monotonic()))

    seen: Seen = Seen({"sent": 0, "failed": 0, "failures": [], "statuses": {}, "bodies": {}, "uncoded": 0})


@dataclass(frozen=True)
class Outcome:
    """One line of the table. `held`: whether what was promised was so."""

    fault: str
    title: str
    times: int
    sent: int
    failed: int
    promise: str
    held: bool
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bound(self) -> float:
        """The share of failing requests that is not exceeded with 95 % confidence."""
        return upper_bound(self.failed, self.sent)


def outcome(
    fault: str, title: str, times: int, seen: Seen, promise: str, held: bool | None = None, **notes: object
) -> Outcome:
    """A line of the table; without `held` the promise is that nothing failed."""
    held = seen.failed == 0 if held is None else held
    notes = {"p99_ms": seen.report["p99_ms"], "statuses": seen.report["statuses"], **notes}
    if not held:
        notes["samples"] = [each.what for each in seen.failures()[:3]]
    return Outcome(fault, title, times, seen.sent, seen.failed, promise, held, notes)


def upper_bound(failed: int, sent: int) -> float:
    """The 95 % upper bound of a rate of which `failed` of `sent` were seen (Poisson; 3/sent for none)."""
    if sent == 0:
        return 1.0
    low, high = float(failed), 10.0 + 3.0 * failed
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(failed, middle) > 0.05:
            low = middle
        else:
            high = middle
    return min(1.0, high / sent)


def _at_most(count: int, mean: float) -> float:
    """How likely at most `count` events are where `mean` are expected."""
    return sum(math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(count + 1))
