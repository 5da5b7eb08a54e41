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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))  # test folders are no packages
from kill_points import SCRIPT, Operation, Row, operations, prepared, spec_of, try_point
from killing import Killing, eventually

# A connection that is refused because the daemon was killed leaves a socket to the garbage collector.
pytestmark = [
    pytest.mark.alone,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def killing(workspace: Any) -> Iterator[Killing]:
    """The tests of kill points come first in this file: the others find the daemon started anew."""
    with prepared(workspace) as made:
        yield made


def _score(killing: Killing, name: str) -> Any:
    answer = killing.workspace.score("steps", 1, headers={"azureml-model-deployment": name})
    assert answer.status == 200, (name, answer)
    return answer.json


def test_a_daemon_killed_at_every_step_of_a_create_ends_in_that_deployment(killing: Killing) -> None:
    killing.start()
    for at in killing.points("create", least=8, stride=5):
        name = f"d{at}x"
        spec = spec_of(killing, name)
        killing.arm(at)
        acknowledged = killing.try_(lambda spec=spec: killing.put(spec))  # type: ignore[misc]
        killing.settle(lambda name=name: killing.state(name) == "Succeeded")  # type: ignore[misc]
        assert _score(killing, "first")  # nobody needs the daemon for that
        killing.start()
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
    killing.start()
    for at in killing.points("update", least=8, stride=5):
        after = f"change {at}"
        spec = spec_of(killing, "first", environment_variables={"SAYS": after})
        killing.arm(at)
        acknowledged = killing.try_(lambda spec=spec: killing.put(spec))  # type: ignore[misc]
        killing.settle(lambda: killing.state("first") == "Succeeded" and len(killing.instances()) == 1)
        assert _score(killing, "first") in (before, after)
        killing.start()
        killing.ready("first")
        eventually(lambda: len(killing.instances()) == 1, "the older instance to go")
        answer = _score(killing, "first")
        assert answer == after or (answer == before and not acknowledged), (at, answer, acknowledged)
        killing.clean()
        before = answer


def test_a_daemon_killed_at_every_step_of_a_delete_leaves_nothing(killing: Killing) -> None:
    killing.start()
    for at in killing.points("delete", least=4, stride=3):
        name = f"d{at}x"
        killing.put(spec_of(killing, name))
        killing.ready(name)
        killing.arm(at)
        acknowledged = killing.try_(lambda name=name: killing.client.delete_deployment("steps", name))  # type: ignore[misc]
        killing.settle(lambda name=name: killing.state(name) is None)  # type: ignore[misc]
        assert _score(killing, "first")
        killing.start()
        state = killing.state(name)
        if not acknowledged and state not in (None, "Deleting"):
            assert _score(killing, name) == "fine"
            killing.client.delete_deployment("steps", name)
        killing.gone(name)
        killing.clean()
        assert len(killing.instances()) == 1


@pytest.mark.parametrize(
    "operation",
    [o for o in operations() if not o.name.startswith(("deployment", "environment"))],
    ids=lambda o: o.name.replace(" ", "-"),
)
def test_a_daemon_killed_after_a_commit_has_what_was_committed(
    killing: Killing, operation: Operation
) -> None:
    """One step of each operation that has no test of its own; all steps: `make kill-points`."""
    row = Row(operation.name)
    killing.start()
    assert try_point(killing, operation, 3, 1001, row), f"{operation.name} has fewer than 3 steps"
    assert (row.points, row.lost, row.leftovers) == (1, [], [])


def test_a_daemon_killed_while_it_builds_an_environment_builds_it_after_all(killing: Killing) -> None:
    """Only steps between the request and the first instance: the environments are removed before each."""
    folder = killing.home / "environments"
    killing.start()
    killing.client.delete_deployment("steps", "first")
    killing.gone("first")
    for at in killing.points("environment", least=3, first=25, stride=9):
        name = f"e{at}x"
        spec = spec_of(killing, name)
        shutil.rmtree(folder, ignore_errors=True)
        killing.arm(at)
        acknowledged = killing.try_(lambda spec=spec: killing.put(spec))  # type: ignore[misc]
        killing.settle(lambda name=name: killing.state(name) == "Succeeded")  # type: ignore[misc]
        killing.start()
        assert acknowledged
        killing.ready(name)
        killing.client.delete_deployment("steps", name)
        killing.gone(name)
        killing.clean()


# --- requests that cross each other -------------------------------------------------------------------------


def test_two_creates_of_one_name_at_once_end_in_one_deployment(workspace: Any) -> None:
    workspace.endpoint("race")
    spec = workspace.spec("race", "blue", workspace.script("race", SCRIPT))
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
    spec = workspace.spec("gone", "env", workspace.script("gone", SCRIPT), environment=environment)
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
        workspace.deploy(workspace.spec("gone3", "gate", workspace.script("gate", SCRIPT)), "--no-wait")

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
