"""`moor environment build-log`, `list-builds`, `prune`: what was built of environments, and removing what nobody uses."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from moorings.cli.framework import leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.cli.terminal import clean_line
from moorings.client.client import is_missing
from moorings.errors.exceptions import MooringsError, error

FATES: Columns = (
    ("Key", lambda f: f["key"]),
    ("Size", lambda f: size(f["sizeBytes"])),
    ("Frees", lambda f: size(f["freedBytes"])),
    ("Fate", lambda f: f["fate"]),
)
BUILD: Columns = (
    ("Key", lambda b: b["key"]),
    ("Python", lambda b: b["pythonVersion"]),
    ("Solver", lambda b: b["solver"]),
    ("Packages", lambda b: b["packageCount"]),
    ("Size", lambda b: size(b["sizeBytes"])),
    ("Built in", lambda b: f"{b['buildSeconds']:.1f} s"),
    ("Used by", lambda b: ", ".join(b["usedBy"])),
    ("Build log", lambda b: b["buildLog"]),
)


@leaf(
    "prune",
    "Remove built environments that no deployment uses. Without --yes it only says what would be removed.",
    click.Option(["--yes", "-y"], is_flag=True, help="Remove them."),
)
def prune(session: Session, yes: bool) -> None:
    found = session.client.prune_builds(dry_run=not yes)
    removed, kept = found["removed"], found["kept"]
    if session.options.output not in (None, "table") or session.options.query is not None:
        session.emit(found)
        return
    gone = "removed" if yes else "would be removed"
    rows = [{**one, "fate": gone} for one in removed]
    rows += [{**one, "fate": _why_kept(one)} for one in kept]
    if rows:
        session.emit(rows, columns=FATES, usual="table")
    count = f"{len(removed)} environment{'' if len(removed) == 1 else 's'}"
    freed = size(found["freedBytes"])
    session.say(f"{count} {gone}: {freed} {'freed' if yes else 'to be freed'}, {len(kept)} kept.")
    if removed and not yes:
        session.say("To remove them: moor environment prune --yes")


def _why_kept(fate: Mapping[str, Any]) -> str:
    used_by = ", ".join(fate["usedBy"])
    return f"kept: used by {used_by}" if used_by else f"kept: {fate['reason']}"


@leaf(
    "build-log",
    "Print the build log of an environment, named by its key or by name and version.",
    click.Option(
        ["--key", "-k"], metavar="KEY", help="Key of the build, as the deployment's status shows it."
    ),
    click.Option(["--name", "-n"], metavar="NAME", help="Name of a registered environment."),
    click.Option(["--version", "-v"], metavar="VERSION", help="Its version."),
)
def build_log(session: Session, key: str | None, name: str | None, version: str | None) -> None:
    if key is None and (name is None or version is None):
        raise click.UsageError("give --key, or --name with --version")
    try:
        if key is not None:
            found = session.client.build_log(key)
        else:
            found = session.client.environment_build_log(str(name), str(version))
    except MooringsError as problem:
        if not is_missing(problem):
            raise
        raise error("BuildLogMissing", problem.failure.message, target=key or f"{name}:{version}") from None
    colours = sys.stdout.isatty()
    lines = str(found.get("content") or "").split("\n")
    text = "\n".join(clean_line(line, colours=colours) for line in lines)
    click.echo(text, color=colours, nl=bool(text) and not text.endswith("\n"))


@leaf("list-builds", "List the built environments.")
def list_builds(session: Session) -> None:
    session.emit(session.client.builds(), columns=BUILD)


def size(count_bytes: int) -> str:
    """`0 B`, `12.3 MiB`, `1.2 GiB`."""
    amount, units = float(count_bytes), ["B", "KiB", "MiB", "GiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        del units[0]
    return f"{count_bytes} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"
