"""Backup and restore of a home with its state in SQLite or PostgreSQL, from either into either; and what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moorings.assets.store import AssetStore
from moorings.backup import sealed
from moorings.backup.restore import restore
from moorings.backup.save import ABOUT, ROWS, save
from moorings.backup.sealed import Sealer
from moorings.errors.exceptions import MooringsError
from moorings.lib.procs import try_lock
from moorings.lib.timing import SystemClock
from moorings.security.vault import Vault
from moorings.state.binding import RESTORING, mark, open_bound
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, ROLLOUT

PASSPHRASE = "correct horse"
KINDS = ("sqlite", "postgresql")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "_COST", 2)


@pytest.fixture
def place_of(postgres: Any) -> Callable[[str, Path], Path | str]:
    def place(kind: str, home: Path) -> Path | str:
        return home / "state.db" if kind == "sqlite" else str(postgres.new_url())

    return place


def make(home: Path, place: Path | str) -> None:
    """A workspace with something of everything."""
    home.mkdir(mode=0o700)
    source = home.parent / "source"
    source.mkdir()
    (source / "model.bin").write_bytes(os.urandom(3 << 20))
    (source / "score.py").write_text("def run(): pass")
    (home / "settings.json").write_text(
        json.dumps({"gateway": {"port": 8651}, "state": {"url": "postgresql://u:pw@h/d"}})
    )
    (home / "environments").mkdir()
    (home / "environments" / "big").write_bytes(b"x")
    (home / "audit").mkdir()
    (home / "audit" / "audit.jsonl").write_text("{}\n")
    tree = AssetStore(home / "assets", home=home).ingest(source, keep_name=True, use_ignore=False)
    (home / "uploads" / "data" / "ab").mkdir(parents=True)
    (home / "uploads" / "data" / "ab" / "ab12").write_bytes(b"uploaded")
    vault = Vault(home / "secret.key")
    with contextlib.closing(Database.at(place, SystemClock())) as database:
        open_bound(database, home)
        with database.write() as tx:
            tx.put(ENDPOINT, "shop", {"x": 1})
            tx.set_secret(ENDPOINT, "shop", "primary", vault.encrypt("the key of the shop"))
            row = tx.put(DEPLOYMENT, "shop/blue", {"y": [1.5, None, "\u00e4"]})
            tx.set_status(row, {"resolved": {"python": str(home)}})
            tx.start_operation("create", row)
            tx.set_status(tx.put(ROLLOUT, "shop/r1", {"to": "green"}), {"phase": "RolledBack"})
            tx.add_asset("models", "m", "1", digest=tree.digest, body={"isAnonymous": True})
            tx.put_vault("kv", rbac=False, tags={"a": "b"})
            tx.add_vault_secret("kv", "s", vault.encrypt("deep secret"), content_type="", tags={})
            for n in range(3):
                tx.add_event(ENDPOINT, "shop", "Tick", str(n))
            tx.put_blob(
                "c", "n", data="ab12", size_bytes=8, sha256="", content_type="", words={}, blocks=None
            )
            lease = tx.take_lease("leader", "a", None)
            assert lease is not None


@pytest.mark.parametrize(("of", "into"), [(a, b) for a in KINDS for b in KINDS])
def test_a_workspace_comes_back_whole(
    tmp_path: Path, place_of: Callable[[str, Path], Path | str], of: str, into: str
) -> None:
    home, other, file = tmp_path / "home", tmp_path / "other", tmp_path / "backup"
    place = place_of(of, home)
    make(home, place)
    with contextlib.closing(Database.at(place, SystemClock())) as database:
        saved = save(home, database, file, PASSPHRASE)
        before = dict(_rows(database))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and not saved.missing
    raw = file.read_bytes()
    assert b"shop" not in raw and b"score.py" not in raw and (home / "secret.key").read_bytes() not in raw

    target = place_of(into, other)
    with contextlib.closing(Database.at(target, SystemClock())) as database:
        restored = restore(file, other, other / "daemon.lock", database, PASSPHRASE)
        assert (restored.workspace_id, restored.rows, restored.files) == (
            saved.workspace_id,
            saved.rows,
            saved.files,
        )
        assert open_bound(database, other) == saved.workspace_id
        after = dict(_rows(database))
        vault = Vault(other / "secret.key")
        with database.write() as tx:
            assert vault.decrypt(tx.secret_values(ENDPOINT, "shop")["primary"]) == "the key of the shop"
            secret = tx.vault_secret("kv", "s")
            assert secret is not None and vault.decrypt(secret.value) == "deep secret"
            assert [e.message for e in tx.events(ENDPOINT, "shop")] == ["0", "1", "2"]
            tx.add_event(ENDPOINT, "shop", "Tick", "3")  # goes on counting
            assert tx.lease("leader") is None
            [asset] = tx.asset_versions("models", "m")
            row = tx.resource(DEPLOYMENT, "shop/blue")
            assert (
                row is not None
                and row.status == {}
                and len(tx.running_operations(DEPLOYMENT, "shop/blue")) == 1
            )
            rollout = tx.resource(ROLLOUT, "shop/r1")
            assert rollout is not None and rollout.status == {"phase": "RolledBack"}, "it must not begin anew"
    assert after == before
    assert asset.digest is not None
    store = AssetStore(other / "assets", home=other)
    store.materialise(asset.digest, tmp_path / "out", link=False)
    assert (tmp_path / "out/source/model.bin").read_bytes() == (tmp_path / "source/model.bin").read_bytes()
    assert (other / "uploads/data/ab/ab12").read_bytes() == b"uploaded"
    assert json.loads((other / "settings.json").read_text()) == {
        "gateway": {"port": 8651}
    }  # no address, no password
    assert not (other / "environments").exists() and not (other / RESTORING).exists()
    for path in other.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077 or "objects" in path.parts[-3:-1], path


def _rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for table, row in database.dump():
        if table:
            found.setdefault(table, []).append(row)
    return {k: sorted(v, key=json.dumps) for k, v in found.items()}


# --- refusals ------------------------------------------------------------------------------------------------


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    home, file = tmp_path / "home", tmp_path / "backup"
    make(home, home / "state.db")
    with contextlib.closing(Database.at(home / "state.db", SystemClock())) as database:
        save(home, database, file, PASSPHRASE)
    return file


def attempt(file: Path, home: Path, passphrase: str = PASSPHRASE) -> str:
    """The code of the failure; empty: it went well."""
    with contextlib.closing(Database.at(home / "state.db", SystemClock())) as database:
        try:
            restore(file, home, home / "daemon.lock", database, passphrase)
        except MooringsError as problem:
            return problem.failure.code
    return ""


def starts(home: Path) -> str:
    with contextlib.closing(Database.at(home / "state.db", SystemClock())) as database:
        try:
            open_bound(database, home)
        except MooringsError as problem:
            return problem.failure.code
    return ""


def test_nothing_is_made_with_a_wrong_passphrase_or_of_something_else(tmp_path: Path, backup: Path) -> None:
    assert attempt(backup, tmp_path / "new", "wrong") == "BackupUnreadable"
    assert not (tmp_path / "new").exists()
    (tmp_path / "words").write_text("no backup")
    assert attempt(tmp_path / "words", tmp_path / "new") == "BackupUnreadable"
    assert attempt(tmp_path / "absent", tmp_path / "new") == "BackupUnreadable"
    assert not (tmp_path / "new").exists()


def test_only_an_empty_home_is_filled(tmp_path: Path, backup: Path, postgres: Any) -> None:
    assert attempt(backup, tmp_path / "home") == "RestoreTargetInUse"
    some = tmp_path / "some"
    some.mkdir()
    (some / "notes").touch()
    assert attempt(backup, some) == "RestoreTargetInUse"
    running = tmp_path / "running"
    running.mkdir()
    held = try_lock(running / "daemon.lock")
    assert held is not None and attempt(backup, running) == "RestoreTargetInUse"
    held.release()
    url = postgres.new_url()
    with contextlib.closing(Database.at(url, SystemClock())) as database:
        database.open()
        with pytest.raises(MooringsError) as caught:
            restore(backup, tmp_path / "new", tmp_path / "new" / "daemon.lock", database, PASSPHRASE)
    assert caught.value.failure.code == "RestoreTargetInUse"


def test_a_state_that_was_led_is_not_replaced_even_where_a_restore_of_it_has_begun(
    tmp_path: Path, backup: Path, postgres: Any
) -> None:
    """Somebody begins a restore beside the original, and goes on with the address of the original."""
    home, url = tmp_path / "new", postgres.new_url()
    with contextlib.closing(Database.at(url, SystemClock())) as database:
        workspace = restore(backup, home, home / "daemon.lock", database, PASSPHRASE).workspace_id
        (home / RESTORING).write_bytes(mark(workspace, own_settings=False))  # as if it had been killed
        restore(backup, home, home / "daemon.lock", database, PASSPHRASE)
        with database.write() as tx:
            tx.put(ENDPOINT, "later", {})
            assert tx.take_lease("leader", "first", None) is not None
        (home / RESTORING).write_bytes(mark(workspace, own_settings=False))
        with pytest.raises(MooringsError) as caught:
            restore(backup, home, home / "daemon.lock", database, PASSPHRASE)
        assert caught.value.failure.code == "RestoreTargetInUse"
        with pytest.raises(FileExistsError):
            database.fill("head", [], workspace)
        with database.read() as tx:
            assert tx.resource(ENDPOINT, "later") is not None


def test_tables_of_others_in_the_same_database_are_left_alone(
    tmp_path: Path, backup: Path, postgres: Any
) -> None:
    home, url = tmp_path / "new", postgres.new_url()
    with postgres.connect(url) as connection:
        connection.execute("CREATE TABLE theirs (name varchar(10) PRIMARY KEY)")
        connection.execute("INSERT INTO theirs VALUES ('kept')")
    with contextlib.closing(Database.at(url, SystemClock())) as database:
        restore(backup, home, home / "daemon.lock", database, PASSPHRASE)
        assert "theirs" not in _rows(database)
    with postgres.connect(url) as connection:
        assert connection.execute("SELECT name FROM theirs").fetchall() == [("kept",)]
        kind = "SELECT data_type FROM information_schema.columns WHERE table_name = 'theirs'"
        assert connection.execute(kind).fetchall() == [("character varying",)]
        something = "SELECT name FROM resources WHERE autoscale IS NOT NULL OR earlier IS NOT NULL"
        assert connection.execute(something).fetchall() == [], "JSON's null is not SQL's"


@pytest.mark.parametrize("own", [False, True])
def test_settings_half_written_by_a_restore_that_was_killed_are_written_anew(
    tmp_path: Path, backup: Path, own: bool
) -> None:
    home = tmp_path / "new"
    home.mkdir()
    (home / RESTORING).write_bytes(mark("i", own_settings=own))
    (home / "settings.json").write_text('{"gateway": ' if not own else '{"gateway": {"port": 1}}')
    assert attempt(backup, home) == ""
    port = json.loads((home / "settings.json").read_text())["gateway"]["port"]
    assert port == (1 if own else 8651)


def test_a_backup_that_is_cut_short_or_changed_leaves_nothing_that_starts(
    tmp_path: Path, backup: Path
) -> None:
    whole = backup.read_bytes()
    cut, changed = tmp_path / "cut", tmp_path / "changed"
    cut.write_bytes(whole[:-10])
    changed.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    home = tmp_path / "new"
    for broken in (cut, changed):
        assert attempt(broken, home) == "BackupUnreadable"
        assert starts(home) == "RestoreUnfinished"
    assert attempt(backup, home) == ""  # the same home, once more
    assert starts(home) == ""


def member(
    name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    entry.size = len(data) if kind == tarfile.REGTYPE else 0
    return entry, data


_BLOB = f"assets/objects/ab/{'ab' * 32}"


@pytest.mark.parametrize(
    "evil",
    [
        [member("../outside")],
        [member("/etc/outside")],
        [member("assets/objects/../../outside")],
        [member("state.db")],
        [member("daemon.lock")],
        [member(RESTORING)],
        [member("environments/x/bin/python")],
        [member("access/../secret.key")],
        [member("secret.key", kind=tarfile.SYMTYPE, link="/etc/passwd")],
        [member("secret.key", kind=tarfile.LNKTYPE, link="../outside")],
        [member("secret.key", kind=tarfile.FIFOTYPE)],
        [member("secret.key", kind=tarfile.CHRTYPE)],
        [member("audit", kind=tarfile.SYMTYPE, link="/tmp"), member("audit/audit.jsonl")],
        [member("secret.key"), member("secret.key")],
        [member(_BLOB)],  # not what its name says
    ],
    ids=lambda evil: f"{evil[-1][0].name}-{evil[-1][0].type.decode()}-{len(evil)}"[-40:],
)
def test_archive_tricks_are_refused(tmp_path: Path, evil: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Made by somebody who knows the passphrase."""
    file, home = tmp_path / "backup", tmp_path / "a" / "home"
    home.parent.mkdir()
    with file.open("wb") as sink:
        sealer = Sealer(sink, PASSPHRASE)
        with tarfile.open(fileobj=sealer, mode="w|") as tar:
            about = json.dumps({"format": 1, "id": "i", "revision": "head"}).encode()
            for entry, data in [member(ABOUT, about), member(ROWS, b""), *evil]:
                tar.addfile(entry, io.BytesIO(data) if entry.isreg() else None)
        sealer.finish()
    assert attempt(file, home) == "BackupUnreadable"
    assert starts(home) == "RestoreUnfinished"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "backup"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["home"]


@pytest.mark.parametrize(
    "rows",
    [
        b"[]\n",
        b"not json\n",
        b'["sqlite_master", {"name": "x"}]\n',
        b'["resources", {"nonsense": 1}]\n',
        b'["leases", {}]\n',
    ],
)
def test_rows_that_no_table_can_hold_are_refused(tmp_path: Path, rows: bytes) -> None:
    file, home = tmp_path / "backup", tmp_path / "home"
    with file.open("wb") as sink:
        sealer = Sealer(sink, PASSPHRASE)
        with tarfile.open(fileobj=sealer, mode="w|") as tar:
            about = json.dumps({"format": 1, "id": "i", "revision": "0005_identity"}).encode()
            for entry, data in [member(ABOUT, about), member(ROWS, rows)]:
                tar.addfile(entry, io.BytesIO(data))
        sealer.finish()
    assert attempt(file, home) == "BackupUnreadable"
    assert starts(home) == "RestoreUnfinished"


def test_what_the_state_names_and_the_home_has_lost_is_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    make(home, home / "state.db")
    [blob, *_] = sorted((home / "assets" / "objects").rglob("?" * 64))
    blob.unlink()
    (home / "secret.key").unlink()
    with contextlib.closing(Database.at(home / "state.db", SystemClock())) as database:
        saved = save(home, database, tmp_path / "backup", PASSPHRASE)
    assert saved.missing == [str(blob.relative_to(home)), "secret.key"]


# --- killed --------------------------------------------------------------------------------------------------

KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from moorings.backup import sealed
from moorings.backup.restore import restore
from moorings.backup.save import save
from moorings.lib.timing import SystemClock
from moorings.state.database import Database
sealed._COST = 2
for line in sys.stdin:  # this process is a mould: nothing is imported anew for the next one
    verb, file, home, at = (Path(w) if "/" in w else w for w in line.split())
    at = int(at)
    if not os.fork():
        break
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
else:
    sys.exit()
numbers = itertools.count(1)
def hook(event, args):
    writes = event == "open" and isinstance(args[1], str) and args[1] != "r" or event == "open" and args[2] & os.O_CREAT
    if event.startswith(("moorings.", "os.rename", "os.mkdir", "os.remove")) or writes:
        if next(numbers) == at:
            os.kill(os.getpid(), signal.SIGKILL)
database = Database.at(home / "state.db", SystemClock())
sys.addaudithook(hook)
if verb == "save":
    save(home, database, file, "correct horse")
else:
    restore(file, home, home / "daemon.lock", database, "correct horse")
os._exit(0)
"""
Killed = Callable[[str, Path, Path, int], bool]


@pytest.fixture(scope="module")
def run_killed() -> Iterator[Killed]:
    """Whether what was begun was killed before it had ended."""
    argv = [sys.executable, "-c", KILLED]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as mould:
        assert mould.stdin is not None and mould.stdout is not None
        told, answers = mould.stdin, mould.stdout

        def run(verb: str, file: Path, home: Path, at: int) -> bool:
            told.write(f"{verb} {file} {home} {at}\n")
            told.flush()
            ended = int(answers.readline())
            assert ended in (0, -signal.SIGKILL)
            return ended != 0

        yield run


def test_a_restore_that_was_killed_anywhere_does_not_start_and_can_be_run_again(
    tmp_path: Path, backup: Path, run_killed: Killed
) -> None:
    at, stride, unfinished = 1, 5, 0
    while run_killed("restore", backup, home := tmp_path / f"new{at}", at):
        if home.exists() and any(home.iterdir()):
            begun = (home / RESTORING).exists()
            whole = (home / "workspace.json").exists()
            assert begun or whole or not (home / "state.db").exists()
            if begun:
                unfinished += 1
                assert starts(home) == "RestoreUnfinished"
            if not whole or begun:
                assert attempt(backup, home) == ""
        else:
            assert attempt(backup, home) == ""
        assert starts(home) == ""
        digest = hashlib.sha256((home / "secret.key").read_bytes()).hexdigest()
        assert digest == hashlib.sha256((tmp_path / "home" / "secret.key").read_bytes()).hexdigest()
        at += stride
    assert unfinished >= 4


def test_a_backup_that_was_killed_leaves_the_one_before(
    tmp_path: Path, backup: Path, run_killed: Killed
) -> None:
    before, at = backup.read_bytes(), 1
    while run_killed("save", backup, tmp_path / "home", at):
        there = backup.read_bytes()
        if there != before:
            assert attempt(backup, tmp_path / f"new{at}") == ""
            before = there
        at += 1
    assert at > 3
    with contextlib.closing(Database.at(tmp_path / "home" / "state.db", SystemClock())) as database:
        save(tmp_path / "home", database, backup, PASSPHRASE)
    assert not list(tmp_path.glob(".backup*"))
