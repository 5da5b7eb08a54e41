"""`moor storage blob ...`: what the workspace's own blob store has."""

from __future__ import annotations

import click

from moorings.cli.framework import leaf
from moorings.cli.session import Session


@leaf(
    "exists",
    "Say whether a blob of this name is in the workspace's own store: uploaded, or of registered content.",
    click.Option(
        ["--account-name"],
        required=True,
        metavar="ACCOUNT",
        help="`moorings`, or the account name that the datastore shows.",
    ),
    click.Option(["--container-name", "-c"], required=True, metavar="NAME", help="Its container."),
    click.Option(["--name", "-n", "name"], required=True, metavar="PATH", help="Its name in the container."),
    click.Option(
        ["--auth-mode"],
        type=click.Choice(["key", "login"]),
        help="Accepted; the workspace knows its owner.",
    ),
)
def exists(
    session: Session, account_name: str, container_name: str, name: str, auth_mode: str | None
) -> None:
    found = session.client.blob_exists(account_name, container_name, name)
    there = found.get("exists") is True
    if not there and found.get("below"):
        session.say(f"No blob has this name. It is a folder, with {found['below']} in it.")
    session.emit({"exists": there})
