"""`moor identity ...`: user-assigned identities; flags in, client calls, result out."""

from __future__ import annotations

from typing import Any

import click

from moorings.cli.commands import flags
from moorings.cli.framework import leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session

COLUMNS: Columns = (
    ("Name", lambda i: i.get("name")),
    ("PrincipalId", lambda i: i.get("principalId")),
    ("ClientId", lambda i: i.get("clientId")),
)


@leaf(
    "create",
    "Create an identity that endpoints can be given. It may do nothing before it has roles.",
    flags.asset_name(),
    flags.tags(),
    click.Option(["--location", "-l"], help="Accepted."),
)
def create(session: Session, name: str, tags: tuple[str, ...], location: str | None) -> None:
    body = {"tags": dict(_pair(tag) for tag in tags)}
    session.emit(view(session.access.put_identity(name, body)), COLUMNS)


@leaf("show", "Show an identity and its ids.", flags.asset_name())
def show(session: Session, name: str) -> None:
    session.emit(view(session.access.identity(name)), COLUMNS)


@leaf("list", "List the user-assigned identities.")
def list_(session: Session) -> None:
    session.emit([view(each) for each in session.access.identities()], COLUMNS)


@leaf("delete", "Delete an identity with its roles.", flags.asset_name(), flags.yes())
def delete(session: Session, name: str, yes: bool) -> None:
    session.confirm(
        f"Delete the identity {name} with its roles?",
        yes=yes,
        command=f"moor identity delete -n {name} --yes",
    )
    if not session.access.delete_identity(name):
        session.say(f"There was no identity {name}.")


def view(body: dict[str, Any]) -> dict[str, Any]:
    """Flat, as scripts of the ecosystem read it."""
    properties = body.get("properties") or {}
    return {
        "id": body.get("id"),
        "name": body.get("name"),
        "clientId": properties.get("clientId"),
        "principalId": properties.get("principalId"),
        "tenantId": properties.get("tenantId"),
        "tags": body.get("tags") or {},
    }


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value
