"""Printing a deployment's log: flags in, lines out. What both forms of the command share."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from moorings.cli.output import Columns
from moorings.cli.session import EXIT_INTERRUPTED, Session
from moorings.cli.terminal import clean, clean_json, clean_line
from moorings.errors.exceptions import error

_TYPES = {"all": "All", "inference-server": "InferenceServer", "storage-initializer": "StorageInitializer"}
COLUMNS: Columns = (
    ("Time", lambda line: line.get("time")),
    ("Phase", lambda line: line.get("phase")),
    ("Instance", lambda line: line.get("instance")),
    ("Text", lambda line: line.get("text")),
)
_WIDEST_PHASE = len("initialise")


@dataclass(frozen=True)
class LogFlags:
    lines: int
    container: str
    follow: bool = False
    since: str | None = None
    request_id: str | None = None
    instance: str | None = None
    deleted: bool = False

    def asked(self) -> dict[str, Any]:
        """The body of the request."""
        given = {
            "containerType": _TYPES[self.container],
            "tail": self.lines,
            "since": self.since,
            "requestId": self.request_id,
            "instance": self.instance,
            "deleted": self.deleted or None,
        }
        return {key: value for key, value in given.items() if value is not None}


def print_logs(session: Session, endpoint: str, name: str, flags: LogFlags) -> None:
    """The last lines of a deployment's log; with `follow`, new ones until it is deleted or somebody presses Ctrl-C."""
    if flags.follow:
        _follow(session, endpoint, name, flags)
        return
    lines, told = session.client.logs(endpoint, name, flags.asked())
    if session.options.output or session.options.query:
        session.emit(lines, COLUMNS)
    else:
        colours = sys.stdout.isatty()
        text = "".join(f"{shown(line, flags.container, colours=colours)}\n" for line in lines)
        click.echo(text, nl=False, color=colours)
    if not lines and not told:
        session.say("There are no lines like that.")
    if told:
        # Scripts that look for text find it on stdout, where other lines would be.
        click.echo(clean(told), nl=not told.endswith("\n"), err=bool(session.options.output))


def shown(line: Mapping[str, Any], container: str, *, colours: bool) -> str:
    """One line for people: of one container as it is, of everything with when, which phase and which instance."""
    text = clean_line(str(line.get("text") or ""), colours=colours)
    if container != "all":
        return text
    at = str(line.get("time") or "")[:23]
    instance = str(line.get("instance") or "")
    who = "-".join(instance.split("-")[-2:]) if instance else "-"
    return f"{at} {line.get('phase') or '':<{_WIDEST_PHASE}} {who} | {text}"


def _follow(session: Session, endpoint: str, name: str, flags: LogFlags) -> None:
    if flags.deleted:
        raise error(
            "FlagNotServed",
            "--follow has no effect on a deployment that was deleted",
            target="--follow",
            fields={"command": f"moor online-deployment get-logs -e {endpoint} -n {name} --deleted"},
        )
    form, colours = session.options.output, sys.stdout.isatty()

    def heard(line: dict[str, Any]) -> None:
        # One line each, whatever the format: a list would never end.
        if form:
            click.echo(clean_json(json.dumps(line, ensure_ascii=False)))
        else:
            click.echo(shown(line, flags.container, colours=colours), color=colours)

    try:
        session.client.follow_logs(endpoint, name, flags.asked(), heard)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    session.say(f"Deployment {name} of endpoint {endpoint} is deleted.")
