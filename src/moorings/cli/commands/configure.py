"""`moor configure`: defaults for flags."""

from __future__ import annotations

import click

from moorings.cli import defaults as kept
from moorings.cli.framework import SeveralOption, leaf
from moorings.cli.output import FORMATS
from moorings.cli.session import Session
from moorings.errors.exceptions import error


@leaf(
    "configure",
    "Set defaults for flags (--defaults endpoint=my-endpoint output=table), or list them (-l).",
    SeveralOption(
        ["--defaults", "-d", "defaults"], metavar="NAME=VALUE ...", help="Set; an empty value takes one away."
    ),
    click.Option(["--list-defaults", "-l", "list_them"], is_flag=True, help="List what is set."),
)
def configure(session: Session, defaults: tuple[str, ...], list_them: bool) -> None:
    path = session.settings.defaults_file
    if not defaults and not list_them:
        raise click.UsageError("give --defaults NAME=VALUE, or -l to list them")
    current = session.defaults
    if defaults:
        changed = kept.changed(current, defaults, path)
        form = changed.get("output")
        if form is not None and form not in FORMATS:
            message = f"output={form!r} is none of {', '.join(FORMATS)}"
            raise error("DefaultsInvalid", message, target="output", fields={"path": path})
        kept.write(path, changed)
        for name in sorted(set(changed) - set(kept.EFFECTIVE)):
            if changed.get(name) != current.get(name):
                session.warn(f"{name} is kept, but changes nothing: there is one workspace on a machine")
        current = changed
    if list_them:
        rows = [
            {"name": name, "source": str(path), "value": value} for name, value in sorted(current.items())
        ]
        session.emit(rows)
