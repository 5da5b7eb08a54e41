"""`moor workspace backup` and `restore`: the whole workspace in one sealed file. Needs no control process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from moorings.cli.framework import leaf
from moorings.cli.session import Session
from moorings.errors.exceptions import error

if TYPE_CHECKING:
    from moorings.state.database import Database

VARIABLE = "MOORINGS_BACKUP_PASSPHRASE"

_FILE = click.Argument(["file"], type=click.Path(path_type=Path, dir_okay=False))
_PASSPHRASE = click.Option(
    ["--passphrase-file"],
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Its first line is the passphrase; else {VARIABLE}, else you are asked.",
)


@leaf(
    "backup",
    "Write the whole workspace to a file, while it serves: state, models and code, uploads, keys and secrets. The file is "
    "sealed with a passphrase; without it nobody can read anything in it, and neither can you.",
    _FILE,
    _PASSPHRASE,
)
def backup(session: Session, file: Path, passphrase_file: Path | None) -> None:
    from moorings.backup.save import nothing_there, save

    passphrase = _passphrase(session, passphrase_file, "backup", file)
    settings = session.settings
    if not settings.state.url and not settings.database.exists():
        raise nothing_there(str(settings.home))
    database = _database(session)
    try:
        saved = save(settings.home, database, file.absolute(), passphrase)
    finally:
        database.close()
    for name in saved.missing:
        session.warn(f"the workspace has lost {name}: the backup does not hold it either")
    session.say(f"Backed up to {file}: {saved.files} files, {saved.rows} rows of state.")
    facts = {"file": str(file), "workspaceId": saved.workspace_id, "files": saved.files, "rows": saved.rows}
    session.emit({**facts, "sizeBytes": saved.size_bytes, "missing": saved.missing})


@leaf(
    "restore",
    "Make the workspace of a backup in an empty folder (MOORINGS_HOME), with its state in a file or in PostgreSQL "
    "(MOORINGS_STATE_URL), whichever it was before. Then: moor workspace start",
    _FILE,
    _PASSPHRASE,
)
def restore_(session: Session, file: Path, passphrase_file: Path | None) -> None:
    from moorings.backup.restore import restore

    passphrase = _passphrase(session, passphrase_file, "restore", file)
    settings = session.settings
    database = _database(session)
    try:
        restored = restore(file.absolute(), settings.home, settings.daemon_lock, database, passphrase)
    finally:
        database.close()
    session.say(f"Restored into {settings.home}: {restored.files} files, {restored.rows} rows of state.")
    session.say("Start it, with its deployments: moor workspace start")
    session.emit(
        {
            "home": str(settings.home),
            "workspaceId": restored.workspace_id,
            "files": restored.files,
            "rows": restored.rows,
        }
    )


def _database(session: Session) -> Database:
    from moorings.lib.timing import SystemClock
    from moorings.state.database import Database

    try:
        return Database.at(session.settings.state_place, SystemClock())
    except ValueError as problem:
        raise error("SettingsInvalid", f"state.url: {problem}", target="state.url") from None


def _passphrase(session: Session, source: Path | None, verb: str, file: Path) -> str:
    """Raises `BackupPassphraseMissing` where `source` cannot be read, or there is nobody to ask."""
    fields = {"verb": verb, "file": file}
    if source is not None:
        try:
            found = (source.read_text().splitlines() or [""])[0]
        except (OSError, UnicodeDecodeError) as problem:
            message = f"{source}: {problem}"
            raise error("BackupPassphraseMissing", message, target=str(source), fields=fields) from None
    else:
        found = session.environ.get(VARIABLE, "")
        if not found and sys.stdin.isatty():
            found = str(
                click.prompt("Passphrase", hide_input=True, confirmation_prompt=verb == "backup", err=True)
            )
    if not found:
        raise error("BackupPassphraseMissing", "no passphrase was given", fields=fields)
    return found
