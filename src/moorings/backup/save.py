"""Write a backup of a workspace while it serves. Reads only; needs no control process.

Content is durable before the row that names it, and never changed. So rows of one moment, read first, and then the files,
give a whole; where something was deleted in between, all is read again.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from moorings import __version__
from moorings.backup import places
from moorings.backup.sealed import Sealer
from moorings.errors.exceptions import MooringsError, error
from moorings.errors.sentence import sentence
from moorings.lib import atomic
from moorings.state.database import Database

FORMAT = 1
ABOUT, ROWS = "backup.json", "state.jsonl"
ATTEMPTS = 3
_SEALED = ("secrets", "vault_secrets", "connections")
"""Tables with values that only the key of the workspace opens."""
_HASH = re.compile(rb"\b[0-9a-f]{64}\b")


@dataclass
class Saved:
    """What a backup holds."""

    workspace_id: str = ""
    rows: int = 0
    files: int = 0
    size_bytes: int = 0
    """Of the files, before sealing."""
    missing: list[str] = field(default_factory=list)
    """What the state names and the home does not have: the workspace itself is damaged there."""


def save(home: Path, database: Database, target: Path, passphrase: str) -> Saved:
    """Write a backup to `target` (0600), which it replaces in one step.

    Raises `BackupUnwritable` (the machine's fault), `StateUnavailable`, `StateServerUnavailable`, and `BackupUnreadable`
    (the user's) where there is no workspace. Then `target` is as it was.
    """
    try:
        atomic.sweep(target.parent, f"{target.name}.")
        with atomic.replacing(target) as sink:
            for _attempt in range(ATTEMPTS):
                sink.seek(0)
                sink.truncate()
                saved = _write(home, database, sink, passphrase)
                if not saved.missing:
                    break
    except OSError as problem:
        raise unwritable(problem, target) from None
    return saved


def unwritable(problem: OSError, target: Path) -> MooringsError:
    message = f"{problem.filename or target}: {problem.strerror or problem}"
    return error("BackupUnwritable", message, target=str(target), fields={"path": target.parent})


def nothing_there(where: str) -> MooringsError:
    message = f"{where} holds no workspace: there is nothing to back up"
    fix = sentence("Name the folder of the workspace: MOORINGS_HOME=<folder> moor workspace backup <file>")
    return error("BackupUnreadable", message, target=where, fix=fix)


def _write(home: Path, database: Database, sink: IO[bytes], passphrase: str) -> Saved:
    saved = Saved()
    with tempfile.TemporaryFile() as rows:  # encrypted values only, but no name either
        revision, wanted = _dump(database, rows, saved)
        sealer = Sealer(sink, passphrase)
        names: set[str] = set()
        with tarfile.open(fileobj=sealer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            about = {"format": FORMAT, "id": saved.workspace_id, "revision": revision}
            about |= {"version": __version__, "at": int(time.time())}
            _add(tar, ABOUT, io.BytesIO(json.dumps(about).encode()), len(json.dumps(about)))
            size = rows.tell()
            rows.seek(0)
            _add(tar, ROWS, rows, size)
            for name in _names(home):
                try:
                    handle = (home / name).open("rb")
                except FileNotFoundError:
                    continue
                with handle:
                    content: IO[bytes] = handle
                    size = os.fstat(handle.fileno()).st_size
                    if name == places.SETTINGS:
                        plain = _without_state(handle.read())
                        content, size = io.BytesIO(plain), len(plain)
                    elif name.startswith("assets/trees/"):
                        text = handle.read()
                        wanted |= {_object(found.decode()) for found in _HASH.findall(text)}
                        content, size = io.BytesIO(text), len(text)
                    _add(tar, name, content, size)
                names.add(name)
                saved.files += 1
                saved.size_bytes += size
        sealer.finish()
    saved.missing = sorted(wanted - names)
    return saved


def _dump(database: Database, rows: IO[bytes], saved: Saved) -> tuple[str, set[str]]:
    """The revision, and the files that the rows name."""
    revision, wanted = "", set()
    for table, row in database.dump():
        if not table:
            revision = row
            continue
        if table == "workspace":
            saved.workspace_id = str(row["id"])
        elif table in _SEALED:
            wanted.add(places.SECRETS[0])
        elif table == "assets" and row.get("digest"):
            wanted.add(f"assets/trees/{row['digest']}.json")
        elif table == "blobs":
            wanted.add(f"uploads/data/{row['data'][:2]}/{row['data']}")
        rows.write(json.dumps([table, row]).encode() + b"\n")
        saved.rows += 1
    if not saved.workspace_id:
        raise nothing_there(database.shown)
    return revision, wanted


def _names(home: Path) -> Iterator[str]:
    yield from (name for name in places.single_files() if (home / name).is_file())
    for folder in (
        "assets/trees",
        *(f for f in places.FOLDERS if f != "assets/trees"),
    ):  # before what they name
        for path in sorted((home / folder).rglob("*")):
            name = str(path.relative_to(home))
            if places.kept(name) and path.is_file() and not path.is_symlink():
                yield name


def _object(digest: str) -> str:
    return f"assets/objects/{digest[:2]}/{digest}"


def _without_state(text: bytes) -> bytes:
    """The settings without where the state is: the restored workspace has one of its own, and the address has a password."""
    try:
        settings: dict[str, Any] = json.loads(text)
        settings.pop("state", None)
    except (ValueError, AttributeError):
        return text
    return (json.dumps(settings, indent=2) + "\n").encode()


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, places.mode_of(name)
    tar.addfile(entry, content)
