"""`moor workspace create | show`: the workspace as a resource, with the ids that roles are given at."""

from __future__ import annotations

from typing import Any

import click

from moorings.cli.commands import flags
from moorings.cli.framework import leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session

COLUMNS: Columns = (
    ("Name", lambda w: w.get("name")),
    ("Location", lambda w: w.get("location")),
    ("Id", lambda w: w.get("id")),
)


@leaf(
    "create",
    "Make sure that the workspace and its vault are there. Applied again it changes nothing: secrets, roles and access "
    "policies stay.",
    flags.file(what="workspace; accepted, there is one workspace on a machine"),
    click.Option(["--name", "-n"], metavar="NAME", help="Accepted; there is one workspace on a machine."),
    click.Option(["--location", "-l"], help="Accepted."),
)
def create(session: Session, file: object, name: str | None, location: str | None) -> None:
    session.emit(view(session.access.put_workspace()), COLUMNS)


@leaf(
    "show",
    "Show the workspace: its id, and those of its vault, storage and registry.",
    click.Option(["--name", "-n"], metavar="NAME", help="Accepted; there is one workspace on a machine."),
)
def show(session: Session, name: str | None) -> None:
    session.emit(view(session.client.workspace()), COLUMNS)


def view(body: dict[str, Any]) -> dict[str, Any]:
    properties = body.get("properties") or {}
    return {
        "id": body.get("id"),
        "name": body.get("name"),
        "location": body.get("location"),
        "key_vault": properties.get("keyVault"),
        "storage_account": properties.get("storageAccount"),
        "container_registry": properties.get("containerRegistry"),
        "mlflow_tracking_uri": properties.get("mlFlowTrackingUri"),
    }
