"""A workspace whose daemon dies at a chosen step: what the tests of races and of kill points share.

A small process has the daemon imported already and forks one for every point, so that a point takes about a second.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from moorings.client.client import Client, is_missing
from moorings.client.deploy import create_or_update_deployment
from moorings.client.transport import SocketTransport
from moorings.errors.exceptions import MooringsError
from moorings.lib.processes import scan
from moorings.lib.procs import start_ticks
from moorings.settings import Settings
from moorings.spec.deployment import DeploymentSpec

FORK_SERVER = """
import itertools, os, signal, sys
from moorings.daemon import process

EVENTS = ("moorings.", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "subprocess.Popen", "socket.sendto")

def run(arm):
    numbers = {}  # by what is in the first line: one step each, whichever thread makes it
    def hook(event, args):
        if not event.startswith(EVENTS) or event == "os.mkdir" and os.path.isdir(args[0]):
            return
        try:
            with open(arm) as file:
                head = file.readline()
        except FileNotFoundError:
            return
        number = next(numbers.setdefault(head, itertools.count(1)))
        with open(arm, "a") as log:
            log.write(f"{number} {event} {args!r:.120}\\n")
        if number == int(head.split()[1]):
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    os._exit(process.main())

print("ready", flush=True)
for line in sys.stdin:
    arm, log = line.split()
    pid = os.fork()
    if not pid:
        os.setsid()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 1)
        os.dup2(1, 2)
        run(arm)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
"""


OF_THE_WORKSPACE = frozenset(
    {"api.sock", "api-first.sock", "ads.sock", "admin.sock", "door.sock", "wake.sock", "identity"}
)
"""What a workspace has in its folder of sockets, whatever it runs."""


def eventually(check: Callable[[], Any], what: str, timeout_s: float = 120) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.03)
    return found


class Killing:
    """One workspace whose daemon dies at a step that is named: the n-th after it was armed."""

    def __init__(self, workspace: Any) -> None:
        self.workspace = workspace
        self.home = Path(workspace.home)
        self.settings = Settings.load(workspace.env)
        self.arm_file = self.home / "armed"
        self.pid = 0
        self.outlived = False
        self.armed = 0
        self.key = ""
        """The one before it is made anew."""
        self.steps = ""
        env = {**workspace.env, "MOORINGS_ROLE": "daemon"}
        self.forks = subprocess.Popen(
            [sys.executable, "-c", FORK_SERVER],
            env=env,
            cwd=self.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"
        self.transport = SocketTransport(self.settings.api_socket, patience_s=0.0)

    @property
    def client(self) -> Client:
        """Connects anew every time: the daemon at the other end of an older connection may be dead."""
        self.transport.close()
        return Client(self.transport, self.settings.workspace.path)

    def _line(self) -> str:
        assert self.forks.stdout is not None
        return self.forks.stdout.readline().strip()

    def start(self) -> None:
        """Have a daemon, which does not die by itself until it is armed."""
        self.arm_file.unlink(missing_ok=True)
        if self.pid and self.alive():
            return
        assert self.forks.stdin is not None
        self.forks.stdin.write(f"{self.arm_file} {self.home / 'logs' / 'daemon.log'}\n")
        self.forks.stdin.flush()
        self.pid = int(self._line())
        eventually(self._answers, "the daemon to answer")

    def _answers(self) -> bool:
        assert self.alive(), (self.home / "logs" / "daemon.log").read_text()[-3000:]
        try:
            self.client.workspace()
        except MooringsError:
            return False
        return True

    def arm(self, at: int) -> None:
        """From now on steps are counted, and the daemon dies at the `at`-th of them."""
        self.armed += 1
        whole = self.home / "arming"
        whole.write_text(f"{self.armed} {at}\n")
        whole.replace(self.arm_file)

    def alive(self) -> bool:
        return start_ticks(self.pid) is not None

    def points(self, what: str, *, least: int, first: int = 1, stride: int = 1) -> Iterator[int]:
        """The numbers of the steps to die at, until a daemon outlives the operation; at least so many were met."""
        met, at, self.outlived = 0, first, False
        while not self.outlived:
            yield at
            met, at = met + (not self.outlived), at + stride
        print(f"{what}: {met} kill points; all steps of the one that lived:\n{self.steps}")
        assert met >= least

    def settle(self, done: Callable[[], bool]) -> None:
        """Wait until the daemon is dead, or `done` and nothing follows: then it has outlived the operation, and lives on."""

        def either() -> bool:
            try:
                return not self.alive() or done()
            except MooringsError:
                return not self.alive()

        eventually(either, "the end of the operation")
        self._quiet()
        self.outlived = self.alive()
        if self.outlived:
            self.steps = self.arm_file.read_text()
            self.arm_file.unlink()
        else:
            assert self._line() == "ended"

    def _quiet(self, for_s: float = 0.7) -> None:
        """Steps that follow the answer have their turn: until the daemon is dead or has made no step for `for_s`."""
        steps, since = -1, time.monotonic()
        while self.alive() and time.monotonic() < since + for_s:
            if (now := self.arm_file.stat().st_size) != steps:
                steps, since = now, time.monotonic()
            time.sleep(0.03)

    def end(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        assert self._line() == "ended"

    def close(self) -> None:
        if self.pid and self.alive():
            self.end()
        assert self.forks.stdin is not None and self.forks.stdout is not None
        self.forks.stdin.close()
        self.forks.stdout.close()
        self.forks.wait(10)
        self.transport.close()

    # --- what there is ---

    def state(self, name: str) -> str | None:
        """The provisioning state; None when the deployment is not there."""
        try:
            body = self.client.deployment("steps", name)
        except MooringsError as problem:
            if is_missing(problem):
                return None
            raise
        return str(body["properties"]["provisioningState"])

    def try_(self, act: Callable[[], Any]) -> bool:
        """Whether `act` was acknowledged; a daemon that died meanwhile has not."""
        try:
            act()
        except MooringsError as problem:
            assert problem.failure.code in ("WorkspaceUnreachable",), problem
            return False
        return True

    def put(self, spec: DeploymentSpec) -> None:
        create_or_update_deployment(self.client, spec, lambda _: None)

    def ready(self, name: str) -> None:
        """Wait until it is Succeeded; fail when it fails."""

        def look() -> bool:
            state = self.state(name)
            assert state in ("Creating", "Updating", "Succeeded"), (name, state)
            return state == "Succeeded"

        eventually(look, f"{name} to be ready")

    def gone(self, name: str) -> None:
        eventually(lambda: self.state(name) is None, f"{name} to be deleted")

    def instances(self) -> list[str]:
        return sorted(p.name for p in (self.home / "instances").glob("*/*") if p.name != "logs")

    def leftovers(self) -> list[str]:
        """Whatever no living thing of the workspace accounts for."""
        found = [str(p.relative_to(self.home)) for p in self.home.rglob(".*") if _ours(p)]
        found += [f"incoming/{p.name}" for p in (self.home / "assets" / "incoming").glob("*")]
        found += [
            f"environments/{p.name}"
            for p in (self.home / "environments").glob("*")
            if len(p.name) == 16 and not (p / "meta.json").exists()
        ]
        described = (self.home / "instances").glob("*/*/instance.json")
        wanted = {Path(s).name for p in described for s in json.loads(p.read_text())["sockets"]}
        there = {p.name for p in self.settings.run_dir.iterdir()}
        found += [f"run/{name}" for name in there - wanted - OF_THE_WORKSPACE]
        owners = {p.name for p in (self.home / "instances").iterdir()}
        rows = {f"steps.{d['name']}" for d in self.client.deployments("steps")}
        found += [f"instances/{name}" for name in owners - rows]
        return sorted(found) + self.orphans()

    def orphans(self) -> list[str]:
        """Processes of the workspace that nothing accounts for."""
        processes = scan(self.home)
        own, pids = {self.pid, self.forks.pid}, {p.pid for p in processes}
        found = [p for p in processes if p.role == "daemon" and not {p.pid, p.parent_pid} & own]
        found += [p for p in processes if p.role.startswith("worker") and p.parent_pid not in pids]
        folders = Counter(p.parent.name for p in (self.home / "instances").glob("*/*") if p.name != "logs")
        allowed = {"gateway-keeper": 1, "gateway-agent": 1, "envoy": 1}
        for p in processes:
            key = (p.owner or "").replace("/", ".") if p.role == "supervisor" else p.role
            left = folders if p.role == "supervisor" else allowed
            if p.role == "supervisor" or p.role in allowed:
                left[key] = left.get(key, 0) - 1
                found += [p] if left[key] < 0 else []
        return [f"process {p.pid}, {p.role} of {p.owner}" for p in found]

    def clean(self) -> None:
        eventually(lambda: not self.leftovers(), f"nothing to be left over, not {self.leftovers()}", 30)


def _ours(path: Path) -> bool:
    """Temporary names of ours; environments and instances hold what packages and users bring."""
    if "app" in path.parts:
        return False
    return "environments" not in path.parts or path.parent.name in (
        "environments",
        "recipes",
        "locks",
        "logs",
        "wheels",
    )
