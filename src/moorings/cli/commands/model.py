"""`moor model ...`: flags in, client calls, result out."""

from __future__ import annotations

from pathlib import Path

import click

from moorings.cli import registered, specs
from moorings.cli.commands import asset_leaves, flags
from moorings.cli.framework import leaf
from moorings.cli.session import Session
from moorings.client.deploy import model_body
from moorings.spec.arm import model_version_from_arm, model_version_to_arm
from moorings.spec.asset_views import model_view

KIND = registered.Kind(
    registered.MODELS,
    "model",
    model_view,
    (
        ("Name", lambda m: m.get("name")),
        ("Version", lambda m: m.get("version")),
        ("Type", lambda m: m.get("type")),
        ("Stage", lambda m: m.get("stage")),
        ("Bytes", lambda m: (m.get("content") or {}).get("size_bytes")),
        ("Archived", lambda m: "yes" if m.get("archived") else ""),
        ("Created", lambda m: (m.get("creation_context") or {}).get("created_at")),
    ),
)


@leaf(
    "create",
    "Register a model: a file or folder of this machine, or an address. Without a version it gets the next number.",
    flags.file(what="model"),
    flags.asset_name(required=False),
    flags.version(),
    click.Option(["--path", "-p"], metavar="PATH", help="File, folder or address of the model."),
    click.Option(
        ["--type", "-t", "type_"],
        type=click.Choice(["custom_model", "mlflow_model", "triton_model"]),
        help="Default: custom_model.",
    ),
    flags.description(),
    flags.tags(),
    click.Option(
        ["--datastore"], metavar="NAME", help="Accepted; files go to the workspace's own datastore."
    ),
    flags.stage(),
    flags.set_(),
    flags.registry(),
    click.Option(["--no-wait"], is_flag=True, hidden=True),
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
    datastore: str | None,
    stage: str | None,
    set_: tuple[str, ...],
    registry_name: str | None,
    no_wait: bool,
) -> None:
    registered.not_in_registry("moor model create", registry_name)
    given = {
        "name": name,
        "version": version,
        "path": path,
        "type": type_,
        "description": description,
        "datastore": datastore,
        "stage": stage,
    }
    spec = specs.model_to_create(file, given, set_, tags)
    registered.note_datastore(session, spec.datastore)
    body = registered.put(session, KIND, str(spec.name), spec.version, model_body(spec))
    session.emit(model_view(body), KIND.columns)


@leaf(
    "show",
    "Show a version of a model; the latest one when none is named.",
    flags.asset_name(),
    flags.version(),
    flags.label(),
    flags.registry(),
)
def show(
    session: Session, name: str, version: str | None, label: str | None, registry_name: str | None
) -> None:
    registered.not_in_registry("moor model show", registry_name)
    session.emit(registered.show(session, KIND, name, version, label), KIND.columns)


list_ = asset_leaves.listing(KIND, "List the models, or the versions of one (-n).", flags.stage())


@leaf(
    "update",
    "Change description, tags, properties, stage of a version; without a version those of the name.",
    flags.asset_name(),
    flags.version(),
    flags.label(),
    flags.stage(),
    *flags.updates(),
    flags.registry(),
)
def update(
    session: Session,
    name: str,
    version: str | None,
    label: str | None,
    stage: str | None,
    set_: tuple[str, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    force_string: bool,
    registry_name: str | None,
) -> None:
    registered.not_in_registry("moor model update", registry_name)
    staged = (*set_, f"stage={stage}") if stage is not None else set_
    registered.update(
        session,
        KIND,
        (name, version, label),
        specs.Changes(staged, add, remove, force_string),
        read=model_version_from_arm,
        write=model_version_to_arm,
    )


@leaf(
    "download",
    "Bring the files of a version to the folder <download-path>/<name>.",
    flags.asset_name(),
    flags.version(),
    flags.label(),
    click.Option(
        ["--download-path", "-p"],
        type=click.Path(path_type=Path),
        default=Path(),
        help="Where to put it.  [default: the current folder]",
    ),
    flags.registry(),
)
def download(
    session: Session,
    name: str,
    version: str | None,
    label: str | None,
    download_path: Path,
    registry_name: str | None,
) -> None:
    registered.not_in_registry("moor model download", registry_name)
    registered.download(session, KIND, (name, version, label), download_path)


archive = asset_leaves.archiving(KIND)
restore = asset_leaves.restoring(KIND)
