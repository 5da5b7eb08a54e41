"""A workspace with very many endpoints that do nothing: what it costs to look after them, and to change one."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hollow
import psutil
from corpus_site import workspace_with
from memory import MIB
from scenarios import Size
from scene import BLUE, Outcome

from moorings.client.client import Accepted, Client
from moorings.client.operations import wait_all
from moorings.client.transport import SocketTransport
from moorings.settings import Settings

CHANGES = 20
PASSES = 20
AT_ONCE = 50
"""So many are made at a time."""
PASS_S, CHANGE_S = 2.0, 1.0
PROMISE = f"all looked at within {PASS_S:g} s, a change in force within {CHANGE_S:g} s"
SCRIPT = "def init(): pass\ndef run(data): return data\n"
CAPACITY = {"capacity": {"vcpus": 4, "memory_gib": 24, "cpu_overcommit": 10_000, "memory_overcommit": 10_000}}


@dataclass
class Hollow:
    """A workspace whose control process runs on an engine in memory."""

    workspace: Any
    folder: Path
    daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        env = {**self.workspace.env, "MOORINGS_ROLE": "daemon", hollow.FOLDER: str(self.folder)}
        with (self.folder / "daemon.log").open("ab") as out:
            argv = [sys.executable, "-P", hollow.__file__]
            self.daemon = subprocess.Popen(argv, env=env, stdout=out, stderr=out)
        self.client().workspace()

    def stop(self) -> None:
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(timeout=60)

    def client(self) -> Client:
        settings = Settings.load(self.workspace.env)
        return Client(SocketTransport(settings.api_socket, patience_s=60), settings.workspace.path)

    def passes(self, since: float) -> list[dict[str, float]]:
        """Whole passes that began after `since`."""
        path = self.folder / hollow.PASSES
        lines = path.read_text().splitlines() if path.exists() else []
        return [each for each in map(json.loads, lines) if each["at"] - each["seconds"] >= since]

    def wait_for_passes(self, count: int, *, timeout_s: float = 600) -> list[dict[str, float]]:
        since = time.monotonic()
        while len(found := self.passes(since)) < count:
            assert time.monotonic() - since < timeout_s, "no passes"
            time.sleep(0.2)
        return found


@contextlib.contextmanager
def hollow_workspace() -> Iterator[Hollow]:
    folder = Path(tempfile.mkdtemp(prefix="hollow-"))
    argv = [sys.executable, hollow.__file__, "serve", str(folder / hollow.SERVER)]
    server = subprocess.Popen(argv)
    try:
        with workspace_with(CAPACITY) as workspace:
            made = Hollow(workspace, folder)
            try:
                made.start()
                yield made
            finally:
                made.stop()
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def idle_endpoints(size: Size, _rate_per_s: float) -> Outcome:
    """As many as are asked for, each with a deployment of one instance, on an engine in memory."""
    with hollow_workspace() as made:
        workspace, began = made.workspace, time.monotonic()
        names = [f"idle-{number:04}" for number in range(size.endpoints)]
        _populate(made, names)
        made_s = time.monotonic() - began
        made.wait_for_passes(1)
        processes = {
            name: psutil.Process(workspace.pid(role))
            for role, name in (("daemon", "daemon"), ("envoy", "Envoy"), ("gateway-agent", "agent"))
        }
        shares, passes = _idle(made, processes)
        changes_s = [_change(made, names[index * len(names) // CHANGES]) for index in range(CHANGES)]
        memory = {name: round(each.memory_info().rss / MIB, 1) for name, each in processes.items()}
        restart_s = _restart(made)
    seconds = [each["seconds"] for each in passes]
    slowest = max(changes_s)
    return Outcome(
        "idle-endpoints", f"{size.endpoints:,} idle endpoints, engine in memory, limit lifted", 1, 0, 0, PROMISE,
        statistics.median(seconds) <= PASS_S and slowest <= CHANGE_S,
        {
            "pass_s": round(statistics.median(seconds), 2), "slowest_pass_s": round(max(seconds), 2),
            "cpu_s_of_a_pass": round(statistics.median(each["cpu_s"] for each in passes), 2),
            "change_in_force_s": round(statistics.median(changes_s), 3), "slowest_change_s": round(slowest, 3),
            "mib": memory, "cpu_percent_idle": shares, "created_in_s": round(made_s),
            "all_looked_at_after_a_restart_s": round(restart_s, 1),
        },
    )  # fmt: skip


def _populate(made: Hollow, names: list[str]) -> None:
    """The first as a user does it; the others ask for the same."""
    workspace, first = made.workspace, names[0]
    workspace.endpoint(first)
    workspace.deploy(workspace.spec(first, BLUE, workspace.script(first, SCRIPT)), "--all-traffic")
    client = made.client()
    endpoint, deployment = client.endpoint(first), client.deployment(first, BLUE)
    for some in (names[at : at + AT_ONCE] for at in range(1, len(names), AT_ONCE)):
        _all(client, {name: client.put_endpoint(name, _asked(endpoint, traffic={})) for name in some})
        _all(client, {name: client.put_deployment(name, BLUE, _asked(deployment)) for name in some})
        _all(client, {name: client.put_endpoint(name, _asked(endpoint)) for name in some})


def _asked(shown: dict[str, Any], **properties: Any) -> dict[str, Any]:
    """What is shown of a resource, as what is asked for."""
    kept = {key: shown[key] for key in ("location", "kind", "sku", "identity", "tags") if key in shown}
    given = {
        k: v
        for k, v in shown["properties"].items()
        if k not in ("provisioningState", "scoringUri", "swaggerUri")
    }
    return {**kept, "properties": {**given, **properties}}


def _all(client: Client, accepted: dict[str, Accepted]) -> None:
    going = {name: each.operation for name, each in accepted.items() if each.operation is not None}
    failed = wait_all(client, going, on_progress=lambda _: None)
    assert not failed, failed


def _idle(
    made: Hollow, processes: dict[str, psutil.Process]
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """What each process takes of one core while nothing is asked, and the passes meanwhile."""
    for each in processes.values():
        each.cpu_percent()
    passes = made.wait_for_passes(PASSES)
    return {name: each.cpu_percent() for name, each in processes.items()}, passes


def _change(made: Hollow, name: str) -> float:
    """Seconds from asking for a new key until Envoy takes it."""
    client = made.client()
    before = client.keys(name)["primaryKey"]
    assert made.workspace.score(name, 1, key=before).status == 200
    began = time.monotonic()
    client.regenerate_key(name, "primary")
    key = client.keys(name)["primaryKey"]
    assert key != before
    while made.workspace.score(name, 1, key=key).status != 200:
        assert time.monotonic() - began < 120, "the new key is not taken"
        time.sleep(0.002)
    return time.monotonic() - began


def _restart(made: Hollow) -> float:
    """Seconds from the start of a new daemon until it has looked at everything."""
    made.stop()
    began = time.monotonic()
    made.start()
    made.wait_for_passes(1)
    return made.passes(began)[0]["at"] - began
