"""That a home and a state belong together: each is told the id of the workspace, and where its other half is.

Instances, gateway and content are in the home; a daemon that finds them with an empty or another state would end them.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from moorings.errors.exceptions import MooringsError, error
from moorings.errors.sentence import Sentence, sentence
from moorings.lib import atomic
from moorings.state.database import Database

FILE_NAME = "workspace.json"
RESTORING = "restoring.json"
"""A file that is there while a restore is under way, or after one that did not end."""
_IN_FILE, _ON_SERVER = "sqlite", "postgresql"
_BEGUN = "begun"
"""In the file from before the first state is made until after it: until then an empty database is the right one."""
_WAYS = {
    _IN_FILE: sentence("Its state is in state.db of the folder: leave out state.url and MOORINGS_STATE_URL."),
    _ON_SERVER: sentence(
        "Its state is in PostgreSQL: give its address as state.url in settings.json, or as MOORINGS_STATE_URL."
    ),
}


def open_bound(database: Database, home: Path) -> str:
    """Open the state of this home; returns the id of the workspace, the same for ever.

    Raises `RestoreUnfinished`, `StateElsewhere` (the user's fault) when the home belongs to another state or the state to
    another home, and what `Database.open` raises.
    """
    path = home / FILE_NAME
    kind = _kind(database)
    if restoring(home):
        raise error("RestoreUnfinished", f"the restore into {home} has not ended", target=str(home))
    known = _read(path)
    if known is not None and known["state"] != kind:
        raise _elsewhere(
            f"{home} was used with its state in {known['state']}, not in {kind}", _WAYS[known["state"]]
        )
    if known is None and kind == _ON_SERVER:
        if (home / "state.db").exists():
            raise _elsewhere(f"{home} was used with its state in {_IN_FILE}, not in {kind}", _WAYS[_IN_FILE])
        known = {"id": str(uuid.uuid4()), "state": kind, _BEGUN: True}
        _write(path, known)
    new = known is None or _BEGUN in known
    if not new and kind == _IN_FILE and not (home / "state.db").exists():
        raise _emptied(database, home)
    try:
        found = database.open(known["id"] if known is not None else None, make=new)
    except LookupError:
        raise _emptied(database, home) from None
    if known is not None and known["id"] != found:
        remedy = sentence(
            "Name another database, or use the folder of workspace {id} (MOORINGS_HOME).", id=found
        )
        message = (
            f"{database.shown} is the state of workspace {found}, and {home} is of workspace {known['id']}"
        )
        raise _elsewhere(message, remedy)
    if new:
        _write(path, {"id": found, "state": kind})
    return found


def bind(home: Path, workspace_id: str, database: Database) -> None:
    """Say that they belong together, of a state and a home that were filled from one backup."""
    _write(home / FILE_NAME, {"id": workspace_id, "state": _kind(database)})


def mark(workspace_id: str, *, own_settings: bool) -> bytes:
    """What stands in `RESTORING`; `own_settings`: settings were in the home before, and stay."""
    return json.dumps({"id": workspace_id, "own_settings": own_settings}).encode() + b"\n"


def restoring(home: Path) -> str:
    """The id of the workspace that is being restored into this home; empty: none is."""
    return str(_mark(home).get("id", ""))


def own_settings(home: Path) -> bool:
    """Whether the settings in the home are its own, and not of a restore that is under way."""
    return bool(_mark(home).get("own_settings", (home / "settings.json").exists()))


def _mark(home: Path) -> dict[str, Any]:
    unknown = {"id": "unknown"}
    try:
        found = json.loads((home / RESTORING).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return unknown
    return found if isinstance(found, dict) and isinstance(found.get("id"), str) else unknown


def _kind(database: Database) -> str:
    return _ON_SERVER if database.on_server else _IN_FILE


def _write(path: Path, known: dict[str, Any]) -> None:
    atomic.write(path, (json.dumps(known) + "\n").encode())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        known = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise _damaged(path, f"{path} cannot be read: {problem}") from None
    if not isinstance(known, dict) or not isinstance(known.get("id"), str) or known.get("state") not in _WAYS:
        raise _damaged(path, f"{path} is damaged")
    return known


def _damaged(path: Path, message: str) -> MooringsError:
    return _elsewhere(message, sentence("Look at it, or put it back as it was: {path}", path=path))


def _emptied(database: Database, home: Path) -> MooringsError:
    """Everything that runs in `home` would be ended for want of a row that wants it."""
    remedy = sentence(
        "Name the database it was used with; or, where that is lost, make the workspace anew in an empty folder: "
        "moor workspace restore <file>"
    )
    return _elsewhere(f"{home} was used before, and {database.shown} holds no workspace", remedy)


def _elsewhere(message: str, remedy: Sentence) -> MooringsError:
    return error("StateElsewhere", message, target=FILE_NAME, fields={"remedy": remedy})
