"""Every operation of the control plane, its daemon killed with -9 at each of its steps, restarted and looked at.

As a script (`make kill-points`) all points are tried, in as many rounds as it takes to reach `LEAST`, with the state in a file
or (`--state postgresql`) in a PostgreSQL of its own, and `docs/kill-points.md` is written from what was seen;
`tests/e2e/test_races.py` tries a sample.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from killing import Killing, eventually

from moorings.client.access import Access
from moorings.client.client import is_missing
from moorings.client.quota import set_quotas, usages
from moorings.errors.exceptions import MooringsError
from moorings.lib.procs import start_ticks
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.loader import examine_deployment

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "kill-points.md"
RESULTS = Path(__file__).parent / "kill-points.json"
HEAD = """\
# Reliability: the control process, killed at every step

Written by `make kill-points` from `tests/faults/kill-points.json`; do not edit it. While users do something, the control
process is killed with -9 at its first step, then at its second, and so on until it outlives all of them. A step is a commit
of the state (one before it, one after), a sync to disk, a rename, a folder or file that is made, linked or removed, a
process that is started, and a word to the gateway. After each kill it is started again. *Answered and lost*: the caller had
an answer, and what was asked for was not so afterwards. *Left over*: temporary files, folders, sockets, instances or
processes that nothing accounts for 30 s later. With PostgreSQL (`python tests/faults/kill_points.py --state postgresql`) signs of
life of the one who leads are among the commits.
"""
SQLITE, POSTGRESQL = "sqlite", "postgresql"
STATES = {SQLITE: "The state in a file (SQLite)", POSTGRESQL: "The state in PostgreSQL"}
STATE_URL = "MOORINGS_KILL_POINTS_STATE"
LEAST = 500
SLOWEST = "environment build"
SCRIPT = "import os\ndef init(): pass\ndef run(data): return os.environ.get('SAYS', 'fine')\n"
ENDPOINT = "steps"


@dataclass
class Operation:
    """One thing that users do. `n` is another number at each try."""

    name: str
    act: Callable[[Killing, int], None]
    """While steps are counted. What it is answered with, it has."""
    done: Callable[[Killing, int], bool]
    """Whether nothing more will happen."""
    holds: Callable[[Killing, int], bool]
    """Whether what was asked for is so, of the daemon that was started afterwards; may still be under way."""
    undo: Callable[[Killing, int], None] = lambda _killing, _n: None
    prepare: Callable[[Killing, int], None] = lambda _killing, _n: None


@dataclass
class Row:
    operation: str
    points: int = 0
    acknowledged: int = 0
    """Kills after which the caller had its answer."""
    lost: list[str] = field(default_factory=list)
    """Acknowledged, and not so afterwards: at which step, and what was seen."""
    leftovers: list[str] = field(default_factory=list)
    """What nothing accounts for, or could not be brought back to how it was."""
    seconds: int = 0


def try_point(killing: Killing, operation: Operation, at: int, n: int, row: Row) -> bool:
    """Kill at step `at` of the operation; whether there was such a step."""
    killing.start()
    operation.prepare(killing, n)
    killing.arm(at)
    acknowledged = killing.try_(lambda: operation.act(killing, n))
    killing.settle(lambda: operation.done(killing, n))
    if killing.outlived:
        operation.undo(killing, n)
        return False
    row.points += 1
    killing.start()
    if acknowledged:
        row.acknowledged += 1
        try:
            eventually(lambda: operation.holds(killing, n), f"{operation.name} to hold")
        except (AssertionError, MooringsError) as problem:
            row.lost.append(f"{at}: {problem}")
    try:
        operation.undo(killing, n)
        killing.clean()
    except (AssertionError, MooringsError) as problem:
        row.leftovers.append(f"{at}: {problem}")
    return True


def is_there(look: Callable[[], Any]) -> bool:
    try:
        look()
    except MooringsError as problem:
        if is_missing(problem) or problem.failure.code.endswith("NotFound"):
            return False
        raise
    return True


def endpoint_state(killing: Killing, name: str) -> str | None:
    try:
        return str(killing.client.endpoint(name)["properties"]["provisioningState"])
    except MooringsError as problem:
        if is_missing(problem):
            return None
        raise


def delete_endpoint(killing: Killing, name: str) -> None:
    killing.client.delete_endpoint(name)
    eventually(lambda: endpoint_state(killing, name) is None, f"{name} to go")


def make_endpoint(killing: Killing, name: str) -> None:
    killing.client.put_endpoint(name, {"properties": {}})
    eventually(lambda: endpoint_state(killing, name) == "Succeeded", f"{name} to be there")


def spec_of(killing: Killing, name: str, **extra: Any) -> DeploymentSpec:
    folder = killing.workspace.script("steps", SCRIPT)
    return examine_deployment(killing.workspace.spec(ENDPOINT, name, folder, **extra)).valid()


def delete_deployment(killing: Killing, name: str) -> None:
    if killing.state(name) is not None:
        killing.client.delete_deployment(ENDPOINT, name)
        killing.gone(name)


def make_deployment(killing: Killing, name: str) -> None:
    killing.put(spec_of(killing, name))
    killing.ready(name)


def capacity_of(killing: Killing) -> int:
    return int(killing.client.deployment(ENDPOINT, "first")["sku"]["capacity"])


def traffic_of(killing: Killing) -> dict[str, int]:
    found = killing.client.endpoint(ENDPOINT)["properties"].get("traffic") or {}
    return {name: int(share) for name, share in found.items()}


def quota_of(killing: Killing) -> int | None:
    for each in usages(killing.client):
        if each.get("name", {}).get("value") == "cores":
            found = each["moorings"]["quota"]
            return None if found is None else int(found)
    return None


def access(killing: Killing) -> Access:
    return Access(killing.client)


def _scaled(n: int) -> int:
    return 1 + n % 2


def _share(n: int) -> int:
    return 100 * (n % 2)


def operations() -> list[Operation]:
    """In the order of the table. What needs no instance comes first: its points are quick."""
    settled = lambda _killing, _n: True  # noqa: E731 - nothing follows the answer
    connection = {"category": "custom", "target": "https://b", "authType": "CustomKeys"}
    return [
        Operation(
            "endpoint create",
            act=lambda k, n: void(k.client.put_endpoint(f"end-{n}", {"properties": {}})),
            done=lambda k, n: endpoint_state(k, f"end-{n}") == "Succeeded",
            holds=lambda k, n: endpoint_state(k, f"end-{n}") == "Succeeded",
            undo=lambda k, n: endpoint_state(k, f"end-{n}") and delete_endpoint(k, f"end-{n}"),
        ),
        Operation(
            "endpoint delete",
            prepare=lambda k, n: make_endpoint(k, f"end-{n}"),
            act=lambda k, n: void(k.client.delete_endpoint(f"end-{n}")),
            done=lambda k, n: endpoint_state(k, f"end-{n}") is None,
            holds=lambda k, n: endpoint_state(k, f"end-{n}") is None,
            undo=lambda k, n: endpoint_state(k, f"end-{n}") and delete_endpoint(k, f"end-{n}"),
        ),
        Operation(
            "keys",
            prepare=lambda k, _n: setattr(k, "key", secondary_key(k)),
            act=lambda k, _n: void(k.client.regenerate_key(ENDPOINT, "secondary")),
            done=lambda k, _n: endpoint_state(k, ENDPOINT) == "Succeeded",
            holds=lambda k, _n: endpoint_state(k, ENDPOINT) == "Succeeded" and secondary_key(k) != k.key,
        ),
        Operation(
            "quota",
            act=lambda k, n: void(set_quotas(k.client, {"cores": 40 + n % 20})),
            done=settled,
            holds=lambda k, n: quota_of(k) == 40 + n % 20,
            undo=lambda k, _n: void(set_quotas(k.client, {"cores": None})),
        ),
        Operation(
            "identity",
            act=lambda k, n: void(access(k).put_identity(f"own-{n}", {})),
            done=settled,
            holds=lambda k, n: is_there(lambda: access(k).identity(f"own-{n}")),
            undo=lambda k, n: is_there(lambda: access(k).delete_identity(f"own-{n}")),
        ),
        Operation(
            "secret",
            act=lambda k, n: void(
                access(k).set_secret("local", f"word-{n}", {"properties": {"value": f"word {n}"}})
            ),
            done=settled,
            holds=lambda k, n: is_there(lambda: access(k).secret_value("local", f"word-{n}", None)),
            undo=lambda k, n: is_there(lambda: access(k).delete_secret("local", f"word-{n}")),
        ),
        Operation(
            "connection",
            act=lambda k, n: void(
                access(k).put_connection(
                    f"link-{n}", {"properties": {**connection, "credentials": {"key": "a"}}}
                )
            ),
            done=settled,
            holds=lambda k, n: is_there(lambda: access(k).connection(f"link-{n}")),
            undo=lambda k, n: is_there(lambda: access(k).delete_connection(f"link-{n}")),
        ),
        Operation(
            "deployment create",
            act=lambda k, n: k.put(spec_of(k, f"blue-{n}")),
            done=lambda k, n: k.state(f"blue-{n}") == "Succeeded",
            holds=lambda k, n: k.state(f"blue-{n}") == "Succeeded",
            undo=lambda k, n: delete_deployment(k, f"blue-{n}"),
        ),
        Operation(
            "deployment update",
            act=lambda k, n: k.put(spec_of(k, "first", environment_variables={"SAYS": f"say {n}"})),
            done=lambda k, _n: k.state("first") == "Succeeded" and len(k.instances()) == 1,
            holds=lambda k, n: (
                k.state("first") == "Succeeded"
                and len(k.instances()) == 1
                and k.workspace.score(ENDPOINT, 1, headers={"azureml-model-deployment": "first"}).json
                == f"say {n}"
            ),
            undo=lambda k, _n: k.ready("first"),
        ),
        Operation(
            "scale",
            prepare=lambda k, n: scale(k, 3 - _scaled(n)),
            act=lambda k, n: void(
                k.client.patch_deployment(ENDPOINT, "first", {"sku": {"capacity": _scaled(n)}})
            ),
            done=lambda k, n: k.state("first") == "Succeeded" and len(k.instances()) == _scaled(n),
            holds=lambda k, n: (
                k.state("first") == "Succeeded" and len(k.instances()) == capacity_of(k) == _scaled(n)
            ),
            undo=lambda k, _n: scale(k, 1),
        ),
        Operation(
            "traffic",
            prepare=lambda k, n: set_traffic(k, 100 - _share(n)),
            act=lambda k, n: put_traffic(k, _share(n)),
            done=lambda k, _n: endpoint_state(k, ENDPOINT) == "Succeeded",
            holds=lambda k, n: traffic_of(k).get("first", 0) == _share(n),
            undo=lambda k, _n: set_traffic(k, 0),
        ),
        Operation(
            "deployment delete",
            prepare=lambda k, n: make_deployment(k, f"blue-{n}"),
            act=lambda k, n: void(k.client.delete_deployment(ENDPOINT, f"blue-{n}")),
            done=lambda k, n: k.state(f"blue-{n}") is None,
            holds=lambda k, n: k.state(f"blue-{n}") is None,
            undo=lambda k, n: delete_deployment(k, f"blue-{n}"),
        ),
        Operation(
            "environment build",
            prepare=lambda k, _n: forget_environments(k),
            act=lambda k, n: k.put(spec_of(k, f"built-{n}")),
            done=lambda k, n: k.state(f"built-{n}") == "Succeeded",
            holds=lambda k, n: k.state(f"built-{n}") == "Succeeded",
            undo=lambda k, n: delete_deployment(k, f"built-{n}"),
        ),
    ]


def void(_answer: object) -> None:
    """What was answered is of no interest."""


def secondary_key(killing: Killing) -> str:
    return str(killing.client.keys(ENDPOINT)["secondaryKey"])


def forget_environments(killing: Killing) -> None:
    """So that the next deployment has to build one."""
    delete_deployment(killing, "first")
    shutil.rmtree(killing.home / "environments", ignore_errors=True)


def scale(killing: Killing, count: int) -> None:
    if capacity_of(killing) != count:
        killing.client.patch_deployment(ENDPOINT, "first", {"sku": {"capacity": count}})
    eventually(
        lambda: killing.state("first") == "Succeeded" and len(killing.instances()) == count,
        f"{count} instances",
    )


def put_traffic(killing: Killing, share: int) -> None:
    body = killing.client.endpoint(ENDPOINT)
    killing.client.put_endpoint(ENDPOINT, {"properties": {**body["properties"], "traffic": {"first": share}}})


def set_traffic(killing: Killing, share: int) -> None:
    put_traffic(killing, share)
    eventually(lambda: endpoint_state(killing, ENDPOINT) == "Succeeded", "the traffic to be set")


# --- a workspace, and a run over it --------------------------------------------------------------------------


def borrowed(file: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def prepared(workspace: Any) -> Iterator[Killing]:
    """With one endpoint and one deployment that serves; its daemon is not running."""
    workspace.endpoint(ENDPOINT)
    workspace.deploy(workspace.spec(ENDPOINT, "first", workspace.script("steps", SCRIPT)))
    workspace.key(ENDPOINT)
    daemon = workspace.pid("daemon")
    os.kill(daemon, signal.SIGTERM)
    eventually(lambda: start_ticks(daemon) is None, "the daemon to end")
    made = Killing(workspace)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def killing_workspace(state_url: str = "") -> Iterator[Killing]:
    """A workspace of its own, prepared; `state_url`: an empty database of its own, in place of a file."""
    end_to_end = borrowed("e2e/conftest.py", "moorings_kill_points_workspaces")
    base = Path(tempfile.mkdtemp(prefix="moor-kill-"))
    workspace = end_to_end.make_workspace(base)
    if state_url:
        workspace.env["MOORINGS_STATE_URL"] = state_url
    try:
        with prepared(workspace) as made:
            yield made
    finally:
        end_to_end.end(workspace)
        shutil.rmtree(base, ignore_errors=True)


def run_one(name: str, rounds: int, state_url: str) -> Row:
    """All points of one operation, in a workspace of its own, round after round."""
    [operation] = [each for each in operations() if each.name == name]
    row, n, began = Row(name), 0, time.monotonic()
    with killing_workspace(state_url) as killing:
        for _ in range(rounds):
            at = 1
            while try_point(killing, operation, at, n := n + 1, row):
                at += 1
            print(f"{name}: {at - 1} points; the steps of the last:\n{killing.steps}", file=sys.stderr)
    return replace(row, seconds=round(time.monotonic() - began))


def run_apart(rounds: int, name: str, state_url: str) -> Row:
    """`run_one` in a process of its own."""
    argv = [sys.executable, __file__, "--one", name, "--rounds", str(rounds)]
    env = {**os.environ, STATE_URL: state_url}  # a command line can be read by everybody
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False, env=env)
    if done.returncode:
        return Row(name, leftovers=["it could not be tried to its end"])
    row = Row(**json.loads(done.stdout.splitlines()[-1]))
    print(f"{name}: {row}", flush=True)
    return row


def run_all(names: list[str], at_once: int, least: int, new_state: Callable[[], str]) -> list[Row]:
    """All points of these operations; then again, but for the slowest, in as many rounds as it takes to reach `least`.
    `new_state` gives the address of an empty database, or nothing for a file."""
    left = names
    rows: dict[str, Row] = {}
    with ThreadPoolExecutor(at_once) as pool:
        while not rows or (points := sum(row.points for row in rows.values())) < least:
            each = sum(rows[name].points for name in left) if rows else 0
            if rows and not each:
                break  # nothing could be tried: the rows say so
            rounds = -(-(least - points) // each) if each else 1
            states = [new_state() for _ in left]
            for more in pool.map(partial(run_apart, rounds), reversed(left), states):
                rows[more.operation] = added(rows.get(more.operation, Row(more.operation)), more)
            left = [name for name in names if name != SLOWEST]
    return [rows[name] for name in names]


def added(one: Row, other: Row) -> Row:
    return Row(
        one.operation,
        one.points + other.points,
        one.acknowledged + other.acknowledged,
        one.lost + other.lost,
        one.leftovers + other.leftovers,
        one.seconds + other.seconds,
    )


def page(runs: Mapping[str, dict[str, Any]]) -> str:
    """`runs`: the last of each kind of state."""
    return "\n".join(
        [HEAD, *(line for kind in STATES if kind in runs for line in _section(kind, runs[kind]))]
    )


def _section(kind: str, run: dict[str, Any]) -> Iterator[str]:
    yield from (f"## {STATES[kind]}", "")
    yield f"Commit `{run['commit']}`, {run['date']}, {run['machine']}; {run['seconds'] / 60:.0f} min, added up."
    yield from ("", "| operation | kills | of them after the answer | answered and lost | left over |")
    yield "|---|---:|---:|---:|---:|"
    total = Row("**all**")
    for row in [Row(**each) for each in run["rows"]]:
        total = added(total, row)
        yield _line(row)
    yield _line(total)
    seen = [(r["operation"], text) for r in run["rows"] for text in (*r["lost"], *r["leftovers"])]
    if seen:
        yield from ("", "What was lost or left over, by operation and step:", "")
        yield from (f"- {operation}, {text}" for operation, text in seen)
    yield ""


def _line(row: Row) -> str:
    counts = (row.points, row.acknowledged, len(row.lost), len(row.leftovers))
    return f"| {row.operation} | " + " | ".join(map(str, counts)) + " |"


@contextmanager
def states(kind: str) -> Iterator[Callable[[], str]]:
    """Gives addresses of empty databases of a server of our own; nothing where the state is a file."""
    if kind == SQLITE:
        yield lambda: ""
        return
    postgres = borrowed("postgres.py", "moorings_kill_points_postgres")
    install = borrowed("conftest.py", "moorings_kill_points_packages").ensure_package
    server = postgres.Postgres(postgres.binaries(install))
    try:
        server.start()
        yield server.new_url
    finally:
        server.close()


def main() -> int:
    names = [each.name for each in operations()]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", choices=list(STATES), default=SQLITE, help="where the state is kept")
    parser.add_argument(
        "--only", choices=names, action="append", help="an operation; several: again and again"
    )
    parser.add_argument(
        "--least", type=int, default=LEAST, help="points in all, in as many rounds as that takes"
    )
    parser.add_argument("--at-once", type=int, default=4, help="operations, each in a workspace of its own")
    parser.add_argument("--one", help="an operation; its row is printed, and nothing is kept")
    parser.add_argument("--rounds", type=int, default=1, help="of the one")
    parser.add_argument("--page", action="store_true", help="make the page from what is kept, run nothing")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(asdict(run_one(given.one, given.rounds, os.environ.get(STATE_URL, "")))))
        return 0
    kept = json.loads(RESULTS.read_bytes())
    if given.page:
        PAGE.write_text(page(kept))
        return 0
    began = time.time()
    argv = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    with states(given.state) as new_state:
        rows = run_all(given.only or names, given.at_once, given.least, new_state)
    kept[given.state] = {
        "commit": commit,
        "date": time.strftime("%Y-%m-%d", time.gmtime(began)),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}",
        "seconds": sum(row.seconds for row in rows),
        "rows": [asdict(row) for row in rows],
    }
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    PAGE.write_text(page(kept))
    return int(any(row.lost or row.leftovers for row in rows))


if __name__ == "__main__":
    sys.exit(main())
