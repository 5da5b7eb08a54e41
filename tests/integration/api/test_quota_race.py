"""Many processes create and delete at once against one quota, on the real database, and some of them are killed in the
middle of a commit: never more is held than there is, and at the end nothing is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from moorings.api.quota import Quotas
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import SystemClock
from moorings.spec.instance_types import GIB
from moorings.spec.quota import Capacity
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, Transaction

QUOTA = 20
OPERATIONS = 1_000
PROCESSES = 8
SPEC = {"instance_type": "Standard_F2s_v2", "instance_count": 1, "scale_settings": {}}
CORES_EACH = 4

WORKER = """
import json, os, random, signal, sys
from pathlib import Path
from moorings.api.quota import Quotas
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import SystemClock
from moorings.spec.quota import Capacity
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT

path, name, count, die_at, spec = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), json.loads(sys.argv[5])
roomy = Capacity(10_000, 1 << 50, 0)
passed = 0

def hook(event, args):
    global passed
    if event in ("moorings.commit", "moorings.committed"):
        passed += 1
        if passed == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
database = Database.at(path if "://" in path else Path(path), SystemClock())
quotas = Quotas(database, lambda: roomy)
choice = random.Random(name)
mine = []
for number in range(count):
    done = {"refused": False, "made": False, "most": 0}
    if mine and choice.random() < 0.5:
        gone = mine.pop(choice.randrange(len(mine)))
        with database.write() as tx:
            row = tx.mark_deleting(DEPLOYMENT, gone)
        with database.write() as tx:
            tx.drop(tx.resource(DEPLOYMENT, gone))
    else:
        key = f"shop/{name}-{number}"
        try:
            with database.write() as tx:
                earlier = quotas.admit(tx, key, spec, None, roomy)
                tx.put(DEPLOYMENT, key, spec, earlier=earlier)
                done["most"] = len(tx.resources(DEPLOYMENT))  # counted here, without our rules
            mine.append(key)
            done["made"] = True
        except MooringsError as problem:
            # A busy machine may keep one from the lock for longer than it is waited for: nothing was taken then.
            assert problem.failure.code in ("OutOfQuota", "StateUnavailable", "StateServerUnavailable"), problem
            done["refused"] = True
    print(json.dumps(done), flush=True)
for gone in mine:  # else those that are still to die might find no room for a commit
    with database.write() as tx:
        tx.drop(tx.mark_deleting(DEPLOYMENT, gone))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A file, or the address of a PostgreSQL."""
    server = request.param == "postgresql"
    found = request.getfixturevalue("postgres").new_url() if server else tmp_path / "state.db"
    database = Database.at(found, SystemClock())
    database.open()
    with database.write() as tx:
        tx.set_quota("local", "cores", QUOTA)
    database.close()
    return found


def start(ending: ExitStack, path: Path | str, name: str, count: int, die_at: int) -> subprocess.Popen[str]:
    """A worker; one that is left when the test has failed is ended with it."""
    argv = [sys.executable, "-c", WORKER, str(path), name, str(count), str(die_at), json.dumps(SPEC)]
    worker = ending.enter_context(
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    )
    ending.callback(worker.kill)
    return worker


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def drop(tx: Transaction, beginning: str) -> None:
    for row in tx.resources(DEPLOYMENT):
        if row.name.startswith(beginning):
            gone = tx.mark_deleting(DEPLOYMENT, row.name)
            assert gone is not None
            tx.drop(gone)


def test_a_thousand_creates_and_deletes_at_once_take_no_more_than_there_is_and_lose_nothing(
    path: Path | str, ending: ExitStack
) -> None:
    # Every other process dies at one of its first commits, before it or right after it. What it was told it has stays
    # held, whatever became of it; the test gives it back in its place.
    wanted = OPERATIONS if isinstance(path, Path) else OPERATIONS // 3  # each takes longer on a server
    share = wanted // PROCESSES
    dying = [start(ending, path, f"dying{n}", 100 * wanted, 1 + n) for n in range(PROCESSES // 2)]
    living = [start(ending, path, f"living{n}", share, 0) for n in range(PROCESSES // 2)]
    database = Database.at(path, SystemClock())
    quotas = Quotas(database, lambda: Capacity(100, 1000 * GIB, 0))
    steps: list[dict[str, Any]] = []
    for number, worker in enumerate(dying):
        out, err = worker.communicate()
        assert worker.returncode == -9, err
        steps += [json.loads(line) for line in out.splitlines()]
        with database.write() as tx:
            drop(tx, f"shop/dying{number}-")
    for worker in living:
        out, err = worker.communicate()
        assert worker.returncode == 0, err
        steps += [json.loads(line) for line in out.splitlines()]
    last = start(ending, path, "last", max(1, wanted - len(steps)), 0)
    out, err = last.communicate()
    assert last.returncode == 0, err
    steps += [json.loads(line) for line in out.splitlines()]

    assert len(steps) >= wanted
    assert max(step["most"] for step in steps) == QUOTA // CORES_EACH, (
        "the quota was never used up, or exceeded"
    )
    assert sum(step["refused"] for step in steps) > wanted // 10

    with database.write() as tx:
        drop(tx, "shop/")
    assert all(one.used == 0 for one in quotas.usages())
    granted = 0
    with database.write() as tx:
        for number in range(100):
            try:
                quotas.admit(tx, f"shop/{number}", SPEC, None, quotas.capacity())
            except MooringsError:
                break
            tx.put(DEPLOYMENT, f"shop/{number}", SPEC)
            granted += 1
    assert granted == QUOTA // CORES_EACH, "something was lost"
    database.close()
