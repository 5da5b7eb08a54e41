"""`moor data ...`: named addresses of data; flags in, client calls, result out."""

from __future__ import annotations

from pathlib import Path

import click

from moorings.cli import registered, specs
from moorings.cli.commands import asset_leaves, flags
from moorings.cli.framework import leaf
from moorings.cli.session import Session
from moorings.spec.arm import data_version_to_arm
from moorings.spec.asset_views import data_view

KIND = registered.Kind(
    registered.DATA,
    "data",
    data_view,
    (
        ("Name", lambda d: d.get("name")),
        ("Version", lambda d: d.get("version")),
        ("Type", lambda d: d.get("type")),
        ("Path", lambda d: d.get("path")),
        ("Archived", lambda d: "yes" if d.get("archived") else ""),
        ("Created", lambda d: (d.get("creation_context") or {}).get("created_at")),
    ),
)


@leaf(
    "create",
    "Register an address of data. Without a version it gets the next number.",
    flags.file(what="data asset"),
    flags.asset_name(required=False),
    flags.version(),
    click.Option(
        ["--path", "-p"],
        metavar="ADDRESS",
        help="azureml://datastores/<datastore>/paths/<path>, or a URL. Nothing there is read.",
    ),
    click.Option(
        ["--type", "-t", "type_"],
        type=click.Choice(["uri_folder", "uri_file", "mltable"]),
        help="Default: uri_folder.",
    ),
    flags.description(),
    flags.tags(),
    flags.set_(),
    flags.registry(),
)
def create(
    session: Session,
    file: Path | None,
    name: str | None,
    version: str | None,
    path: str | None,
    type_: str | None,
    description: str | None,
    tags: tuple[str, ...],
    set_: tuple[str, ...],
    registry_name: str | None,
) -> None:
    registered.not_in_registry("moor data create", registry_name)
    given = {"name": name, "version": version, "path": path, "type": type_, "description": description}
    spec = specs.data_to_create(file, given, set_, tags)
    body = session.client.put_asset(KIND.plural, str(spec.name), spec.version, data_version_to_arm(spec))
    session.emit(data_view(body), KIND.columns)


@leaf(
    "show",
    "Show a version of a data asset; the latest one when none is named.",
    flags.asset_name(),
    flags.version(),
    flags.label(),
    flags.registry(),
)
def show(
    session: Session, name: str, version: str | None, label: str | None, registry_name: str | None
) -> None:
    registered.not_in_registry("moor data show", registry_name)
    session.emit(registered.show(session, KIND, name, version, label), KIND.columns)


list_ = asset_leaves.listing(KIND, "List the data assets, or the versions of one (-n).")


archive = asset_leaves.archiving(KIND)
restore = asset_leaves.restoring(KIND)
