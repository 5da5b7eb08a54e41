"""Requests that cross each other, and a daemon killed at every step of a create: the end is the desired state."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

GOOD = "def init(): pass\ndef run(data): return 'fine'\n"

KILLER = """
import os, runpy, signal, sys

count, target = 0, int(os.environ["KILL_AT"])
EVENTS = ("moorings.", "os.rename", "os.mkdir", "os.remove", "subprocess.Popen", "os.link", "socket.sendto")

def hook(event, args):
    global count
    if event.startswith(EVENTS):
        count += 1
        if count == target:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
runpy.run_module("moorings.daemon", run_name="__main__", alter_sys=True)
"""


def test_two_creates_of_one_name_at_once_end_in_one_deployment(workspace: Any) -> None:
    workspace.endpoint("race")
    spec = workspace.spec("race", "blue", workspace.script("race", GOOD))
    codes: list[int] = []

    def create() -> None:
        codes.append(workspace.moor("online-deployment", "create", "-f", str(spec), check=False).returncode)

    threads = [threading.Thread(target=create) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert 0 in codes
    workspace.moor("online-endpoint", "update", "-n", "race", "--traffic", "blue=100")
    shown = workspace.json("online-deployment", "show", "-e", "race", "-n", "blue")
    assert shown["provisioning_state"] == "Succeeded"
    assert workspace.score("race", 1).json == "fine"
    assert sum(p["role"] == "supervisor" for p in workspace.processes()) == 1


def test_delete_while_creating_leaves_nothing(workspace: Any) -> None:
    slow = "import time\ndef init(): time.sleep(30)\ndef run(data): return 1\n"
    spec = workspace.spec("race", "slow", workspace.script("slow", slow))
    workspace.moor("online-deployment", "create", "-f", str(spec), "--no-wait")
    time.sleep(1)
    workspace.moor("online-deployment", "delete", "-e", "race", "-n", "slow", "--yes")
    assert "slow" not in [d["name"] for d in workspace.json("online-deployment", "list", "-e", "race")]
    deadline = time.monotonic() + 15
    while any((p.get("owner") or "") == "race/slow" for p in workspace.processes()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_daemon_killed_at_any_step_of_a_create_converges(new_workspace: Any) -> None:
    """Kill points are the daemon's own commits, syncs, renames, spawns and datagrams, spread over the whole create."""
    workspace = new_workspace()
    workspace.endpoint("steps")
    workspace.deploy(workspace.spec("steps", "first", workspace.script("steps", GOOD)))
    points, at = 0, 1
    while True:
        name = f"d{at}x"
        spec = workspace.spec("steps", name, workspace.script("steps", GOOD))
        _stop_daemon(workspace)
        killer = _start_killer(workspace, at)
        done = workspace.moor("online-deployment", "create", "-f", str(spec), "--no-wait", check=False)
        survived = _settles(workspace, killer, name)
        if killer.poll() is None:
            killer.terminate()
            killer.wait(20)
        workspace.moor("workspace", "start")
        names = [d["name"] for d in workspace.json("online-deployment", "list", "-e", "steps")]
        if done.returncode == 0:
            assert name in names, f"an acknowledged create was lost (kill point {at})"
        if name in names:
            _wait_ready(workspace, name, at)
            workspace.moor("online-deployment", "delete", "-e", "steps", "-n", name, "--yes")
        points += 1
        if survived:
            break
        at += 7
    assert points >= 5, "the create passed too few kill points to prove anything"
    left = {p.get("owner") for p in workspace.processes() if p["role"] == "supervisor"}
    assert left == {"steps/first"}
    leftovers = [p.name for p in (workspace.home / "instances").glob("*/*") if "-d" in p.name and p.is_dir()]
    assert not [p for p in leftovers if not p.startswith("log")], leftovers


def _stop_daemon(workspace: Any) -> None:
    import os
    import signal

    for process in workspace.processes():
        if process["role"] == "daemon":
            os.kill(process["pid"], signal.SIGTERM)
            deadline = time.monotonic() + 15
            while Path(f"/proc/{process['pid']}").exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)


def _start_killer(workspace: Any, at: int) -> subprocess.Popen[bytes]:
    env = {**workspace.env, "KILL_AT": str(at), "MOORINGS_ROLE": "daemon"}
    log = (workspace.home / "logs" / "killer.log").open("ab")
    killer = subprocess.Popen([sys.executable, "-c", KILLER], env=env, stdout=log, stderr=log)
    deadline = time.monotonic() + 20
    socket = workspace.home / "run" / "api.sock"
    while killer.poll() is None and not socket.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return killer


def _settles(workspace: Any, killer: subprocess.Popen[bytes], name: str) -> bool:
    """Wait until the deployment is ready or the daemon is dead; True when it outlived the create."""
    deadline = time.monotonic() + 60
    while killer.poll() is None and time.monotonic() < deadline:
        shown = workspace.moor(
            "online-deployment", "show", "-e", "steps", "-n", name, "-o", "json", check=False
        )
        if shown.returncode == 0 and json.loads(shown.stdout)["provisioning_state"] == "Succeeded":
            return killer.poll() is None
        time.sleep(0.1)
    return False


def _wait_ready(workspace: Any, name: str, at: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        shown = workspace.json("online-deployment", "show", "-e", "steps", "-n", name)
        if shown["provisioning_state"] == "Succeeded":
            return
        assert shown["provisioning_state"] in ("Creating", "Updating"), (at, shown)
        assert time.monotonic() < deadline, (at, shown)
        time.sleep(0.1)
