"""Requests that cross each other, and a daemon killed at every step of a create, an update and a delete: the end is
the desired state and nothing is left over.

Kill points are the daemon's own commits, syncs, renames, removals, spawns and datagrams. A small process has the
daemon imported already and forks one for every point, so that all points of an operation take half a minute.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moorings.client.client import Client, is_missing
from moorings.client.deploy import create_or_update_deployment
from moorings.client.transport import SocketTransport
from moorings.errors.exceptions import MooringsError
from moorings.lib.procs import start_ticks
from moorings.settings import Settings
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.loader import examine_deployment

GOOD = "import os\ndef init(): pass\ndef run(data): return os.environ.get('SAYS', 'fine')\n"

FORK_SERVER = """
import itertools, os, signal, sys
import moorings.daemon as daemon

EVENTS = ("moorings.", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "subprocess.Popen", "socket.sendto")

def run(at, arm):
    numbers = itertools.count(1)  # one step each, whichever thread makes it
    def hook(event, args):
        if event.startswith(EVENTS) and os.path.exists(arm):
            if event == "os.mkdir" and os.path.isdir(args[0]):
                return
            number = next(numbers)
            with open(arm, "a") as log:
                log.write(f"{number} {event} {args!r:.120}\\n")
            if number == at:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    os._exit(daemon.main())

print("ready", flush=True)
for line in sys.stdin:
    at, arm, log = line.split()
    pid = os.fork()
    if not pid:
        os.setsid()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 1)
        os.dup2(1, 2)
        run(int(at), arm)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
"""
NEVER = 1_000_000

# A connection that is refused because the daemon was killed leaves a socket to the garbage collector.
pytestmark = [
    pytest.mark.alone,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def eventually(check: Callable[[], Any], what: str, timeout_s: float = 30) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.03)
    return found


class Killing:
    """One workspace whose daemon dies at the n-th step after it was armed."""

    def __init__(self, workspace: Any) -> None:
        self.workspace = workspace
        self.home = Path(workspace.home)
        self.settings = Settings.load(workspace.env)
        self.arm_file = self.home / "armed"
        self.pid = 0
        self.outlived = False
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

    def start(self, at: int = NEVER) -> None:
        """A daemon that dies at its `at`-th step after `arm()`."""
        assert self.forks.stdin is not None
        self.arm_file.unlink(missing_ok=True)
        self.forks.stdin.write(f"{at} {self.arm_file} {self.home / 'logs' / 'daemon.log'}\n")
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

    def arm(self) -> None:
        self.arm_file.touch()

    def alive(self) -> bool:
        return start_ticks(self.pid) is not None

    def points(self, what: str, *, least: int, first: int = 1, stride: int = 1) -> Iterator[int]:
        """The numbers of the steps to die at, until a daemon outlives the operation; at least so many were met."""
        met, at, self.outlived = 0, first, False
        while not self.outlived:
            yield at
            met, at = met + (not self.outlived), at + stride
        self.end()
        print(f"{what}: {met} kill points; all steps of the one that lived:\n{self.steps}")
        assert met >= least

    def settle(self, done: Callable[[], bool]) -> None:
        """Wait until the daemon is dead, or `done` and nothing follows; then none runs."""

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
            self.end()
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
            for p in (self.home / "environments").iterdir()
            if len(p.name) == 16 and not (p / "meta.json").exists()
        ]
        described = (self.home / "instances").glob("*/*/instance.json")
        wanted = {Path(s).name for p in described for s in json.loads(p.read_text())["sockets"]}
        there = {p.name for p in self.settings.run_dir.iterdir()}
        found += [
            f"run/{name}"
            for name in there - wanted - {"api.sock", "ads.sock", "admin.sock", "wake.sock", "identity"}
        ]
        owners = {p.name for p in (self.home / "instances").iterdir()}
        rows = {f"steps.{d['name']}" for d in self.client.deployments("steps")}
        found += [f"instances/{name}" for name in owners - rows]
        return sorted(found)

    def clean(self) -> None:
        eventually(lambda: not self.leftovers(), f"nothing to be left over, not {self.leftovers()}", 10)


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


@pytest.fixture(scope="module")
def killing(workspace: Any) -> Iterator[Killing]:
    """The tests of kill points come first in this file: the others find the daemon started anew."""
    workspace.endpoint("steps")
    workspace.deploy(workspace.spec("steps", "first", workspace.script("steps", GOOD)))
    workspace.key("steps")
    daemon = workspace.pid("daemon")
    os.kill(daemon, signal.SIGTERM)
    eventually(lambda: start_ticks(daemon) is None, "the daemon to end")
    made = Killing(workspace)
    try:
        yield made
    finally:
        made.close()


def _spec(killing: Killing, name: str, **extra: Any) -> DeploymentSpec:
    folder = killing.workspace.script("steps", GOOD)
    return examine_deployment(killing.workspace.spec("steps", name, folder, **extra)).valid()


def _score(killing: Killing, name: str) -> Any:
    answer = killing.workspace.score("steps", 1, headers={"azureml-model-deployment": name})
    assert answer.status == 200, (name, answer)
    return answer.json


def test_a_daemon_killed_at_every_step_of_a_create_ends_in_that_deployment(killing: Killing) -> None:
    killing.start(1)
    for at in killing.points("create", least=12, stride=2):
        name = f"d{at}x"
        spec = _spec(killing, name)
        killing.arm()
        acknowledged = killing.try_(lambda spec=spec: killing.put(spec))  # type: ignore[misc]
        killing.settle(lambda name=name: killing.state(name) == "Succeeded")  # type: ignore[misc]
        assert _score(killing, "first")  # nobody needs the daemon for that
        killing.start(at + 2)
        there = killing.state(name) is not None
        assert there or not acknowledged, f"an acknowledged create was lost at {at}"
        if there:
            killing.ready(name)
            assert _score(killing, name) == "fine"
            killing.client.delete_deployment("steps", name)
            killing.gone(name)
        killing.clean()
        assert len(killing.instances()) == 1


def test_a_daemon_killed_at_every_step_of_an_update_ends_in_that_update(killing: Killing) -> None:
    before = "fine"
    killing.start(1)
    for at in killing.points("update", least=12, stride=2):
        after = f"change {at}"
        spec = _spec(killing, "first", environment_variables={"SAYS": after})
        killing.arm()
        acknowledged = killing.try_(lambda spec=spec: killing.put(spec))  # type: ignore[misc]
        killing.settle(lambda: killing.state("first") == "Succeeded" and len(killing.instances()) == 1)
        assert _score(killing, "first") in (before, after)
        killing.start(at + 2)
        killing.ready("first")
        eventually(lambda: len(killing.instances()) == 1, "the older instance to go")
        answer = _score(killing, "first")
        assert answer == after or (answer == before and not acknowledged), (at, answer, acknowledged)
        killing.clean()
        before = answer


def test_a_daemon_killed_at_every_step_of_a_delete_leaves_nothing(killing: Killing) -> None:
    killing.start(1)
    for at in killing.points("delete", least=5, stride=2):
        name = f"d{at}x"
        killing.put(_spec(killing, name))
        killing.ready(name)
        killing.arm()
        acknowledged = killing.try_(lambda name=name: killing.client.delete_deployment("steps", name))  # type: ignore[misc]
        killing.settle(lambda name=name: killing.state(name) is None)  # type: ignore[misc]
        assert _score(killing, "first")
        killing.start(at + 2)
        state = killing.state(name)
        if not acknowledged and state not in (None, "Deleting"):
            assert _score(killing, name) == "fine"
            killing.client.delete_deployment("steps", name)
        killing.gone(name)
        killing.clean()
        assert len(killing.instances()) == 1


def test_a_daemon_killed_while_it_builds_an_environment_builds_it_after_all(killing: Killing) -> None:
    """Only steps between the request and the first instance: the environments are removed before each."""
    folder = killing.home / "environments"
    killing.start()
    killing.client.delete_deployment("steps", "first")
    killing.gone("first")
    killing.end()
    killing.start(15)
    for at in killing.points("environment", least=3, first=15, stride=9):
        name = f"e{at}x"
        spec = _spec(killing, name)
        shutil.rmtree(folder, ignore_errors=True)
        killing.arm()
        acknowledged = killing.try_(lambda spec=spec: killing.put(spec))  # type: ignore[misc]
        killing.settle(lambda name=name: killing.state(name) == "Succeeded")  # type: ignore[misc]
        killing.start(at + 9)
        assert acknowledged
        killing.ready(name)
        killing.client.delete_deployment("steps", name)
        killing.gone(name)
        killing.clean()


# --- requests that cross each other -------------------------------------------------------------------------


def test_two_creates_of_one_name_at_once_end_in_one_deployment(workspace: Any) -> None:
    workspace.endpoint("race")
    spec = workspace.spec("race", "blue", workspace.script("race", GOOD))
    ends: list[subprocess.CompletedProcess[str]] = []

    def create() -> None:
        ends.append(workspace.moor("online-deployment", "create", "-f", str(spec), check=False))

    threads = [threading.Thread(target=create) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    codes = sorted(e.returncode for e in ends)
    assert codes in ([0, 0], [0, 1])
    for end in ends:
        if end.returncode:
            assert "(DeploymentExists" in end.stderr or "(OperationCanceled" in end.stderr, end.stderr
    workspace.moor("online-endpoint", "update", "-n", "race", "--traffic", "blue=100")
    shown = workspace.json("online-deployment", "show", "-e", "race", "-n", "blue")
    assert shown["provisioning_state"] == "Succeeded"
    assert workspace.score("race", 1).json == "fine"
    eventually(lambda: _supervisors(workspace, "race") == 1, "one instance")
    workspace.moor("online-endpoint", "delete", "-n", "race", "--yes")
    _nothing_left(workspace, "race")


def test_delete_during_the_environment_build(workspace: Any) -> None:
    """The build hangs in a package whose build waits for a file that never comes."""
    package = workspace.files / "hanging"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "hang"\nbackend-path = ["."]\n'
        '[project]\nname = "hanging"\ndynamic = ["version"]\n'
    )
    started = workspace.files / "build-started"
    (package / "hang.py").write_text(
        f"import time\ndef _hang(*a, **k):\n  open({str(started)!r}, 'w').close()\n  time.sleep(600)\n"
        "prepare_metadata_for_build_wheel = build_wheel = build_sdist = _hang\n"
    )
    (workspace.files / "hanging.yaml").write_text(
        f"dependencies:\n  - python=3.11\n  - pip:\n    - hanging @ {package.as_uri()}\n"
    )
    workspace.endpoint("gone")
    environment = {"image": "local/base", "conda_file": "hanging.yaml"}
    spec = workspace.spec("gone", "env", workspace.script("gone", GOOD), environment=environment)
    workspace.deploy(spec, "--no-wait")
    eventually(started.exists, "the build to hang")
    began = time.monotonic()
    workspace.moor("online-deployment", "delete", "-e", "gone", "-n", "env", "--yes")
    assert time.monotonic() - began < 20
    _nothing_left(workspace, "gone")
    roles = {p["role"] for p in workspace.processes()}
    assert "environment-builder" not in roles
    assert not [p for p in (workspace.home / "environments").glob("*") if _unfinished(p)]


def test_delete_during_init(workspace: Any) -> None:
    slow = "import time\ndef init(): time.sleep(60)\ndef run(data): return 1\n"
    workspace.moor("online-endpoint", "create", "-n", "gone2")
    workspace.deploy(workspace.spec("gone2", "init", workspace.script("slow", slow)), "--no-wait")
    eventually(lambda: _supervisors(workspace, "gone2") == 1, "the instance to start")
    workspace.moor("online-deployment", "delete", "-e", "gone2", "-n", "init", "--yes")
    _nothing_left(workspace, "gone2")


def test_delete_while_the_gateway_is_waited_for(workspace: Any) -> None:
    """The gateway agent stands still, so the deployment is never accepted; deleting it ends all the same."""
    workspace.endpoint("gone3")
    agent = workspace.pid("gateway-agent")
    os.kill(agent, signal.SIGSTOP)
    try:
        workspace.deploy(workspace.spec("gone3", "gate", workspace.script("gate", GOOD)), "--no-wait")

        def ready() -> bool:
            shown = workspace.json("online-deployment", "show", "-e", "gone3", "-n", "gate")
            return "the gateway to take it in" in json.dumps(shown)

        eventually(lambda: _supervisors(workspace, "gone3") == 1, "the instance to start")
        eventually(ready, "the instance to be ready")
        workspace.moor("online-deployment", "delete", "-e", "gone3", "-n", "gate", "--yes", "--no-wait")
        time.sleep(0.5)
        assert _supervisors(workspace, "gone3") == 1, "ended before the gateway had let go of it"
    finally:
        os.kill(agent, signal.SIGCONT)
    eventually(
        lambda: workspace.json("online-deployment", "list", "-e", "gone3") == [], "the deployment to go", 20
    )
    _nothing_left(workspace, "gone3")


@pytest.mark.parametrize("while_", ["building", "starting"])
def test_update_while_creating_ends_in_the_update(workspace: Any, while_: str) -> None:
    name = f"over-{while_}"
    slow = "import os, time\ndef init(): time.sleep(float(os.environ['T']))\ndef run(d): return os.environ['T']\n"
    workspace.endpoint(name)
    folder = workspace.script(name, slow)
    spec = workspace.spec(name, "blue", folder, environment_variables={"T": "60"})
    argv = [str(Path(sys.executable).parent / "moor"), "online-deployment", "create", "-f", str(spec)]
    first = subprocess.Popen(
        argv,
        env=workspace.env,
        cwd=workspace.files,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    with first:
        if while_ == "starting":
            eventually(lambda: _supervisors(workspace, name) == 1, "the instance to start")
        else:
            eventually(lambda: workspace.json("online-deployment", "list", "-e", name), "the row")
        workspace.moor(
            "online-deployment", "update", "-e", name, "-n", "blue", "--set", "environment_variables.T=0"
        )
        _, said = first.communicate(timeout=30)
    assert first.returncode == 1
    assert "(OperationCanceled" in said and "Traceback" not in said, said
    workspace.moor("online-endpoint", "update", "-n", name, "--traffic", "blue=100")
    assert workspace.score(name, 1).json == "0"
    eventually(lambda: _supervisors(workspace, name) == 1, "the first try to go")
    workspace.moor("online-endpoint", "delete", "-n", name, "--yes")
    _nothing_left(workspace, name)


def _supervisors(workspace: Any, endpoint: str) -> int:
    owners = [p.get("owner") or "" for p in workspace.processes() if p["role"] == "supervisor"]
    return sum(owner.startswith(f"{endpoint}/") for owner in owners)


def _unfinished(path: Path) -> bool:
    return len(path.name) == 16 and not (path / "meta.json").exists()


def _nothing_left(workspace: Any, endpoint: str) -> None:
    def left() -> list[str]:
        found = [
            p["role"] for p in workspace.processes() if (p.get("owner") or "").startswith(f"{endpoint}/")
        ]
        return [*found, *(p.name for p in (workspace.home / "instances").glob(f"{endpoint}.*"))]

    eventually(lambda: not left(), f"nothing to be left of {endpoint}: {left()}", 15)
