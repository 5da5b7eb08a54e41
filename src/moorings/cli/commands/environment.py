"""`moor environment ...`: what is known of environments that models run in."""

from __future__ import annotations

import click

from moorings.cli.framework import leaf
from moorings.cli.session import Session
from moorings.client.client import is_missing
from moorings.errors.exceptions import MooringsError, error


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
    text = str(found.get("content") or "")
    click.echo(text, nl=bool(text) and not text.endswith("\n"))
