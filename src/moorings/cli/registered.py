"""What the commands about registered assets share: which version is meant, show, list, archive, update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from moorings.cli import specs
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.errors.exceptions import error
from moorings.errors.sentence import sentence
from moorings.spec.asset_views import container_view
from moorings.spec.assets import AssetWords, EnvironmentSpec, ModelSpec
from moorings.spec.update import update_asset

MODELS, CODES, ENVIRONMENTS, DATA = "models", "codes", "environments", "data"
View = Callable[[Mapping[str, Any]], dict[str, Any]]

NAMES: Columns = (
    ("Name", lambda c: c.get("name")),
    ("Latest version", lambda c: c.get("latest_version")),
    ("Archived", lambda c: "yes" if c.get("archived") else ""),
    ("Description", lambda c: c.get("description")),
)


@dataclass(frozen=True)
class Kind:
    """One kind of asset, as its commands know it."""

    plural: str
    """In the paths of the API."""
    command: str
    """`model`, `code`, `environment` or `data`."""
    view: View
    columns: Columns


def version_of(session: Session, kind: Kind, name: str, version: str | None, label: str | None) -> str:
    """The version that is meant: the one given, else the latest. Raises `AssetNotFound`, `FlagsExclusive`."""
    _one(kind, name, version, label)
    if version is not None:
        return version
    container = session.client.asset_container(kind.plural, name)
    latest = (container.get("properties") or {}).get("latestVersion")
    if not latest:
        raise error(
            "AssetNotFound",
            f"every version of {kind.command} {name} is archived, so none is the latest",
            target=name,
            fix=sentence(
                "Name one of them: {command}",
                command=f"moor {kind.command} list -n {name} --include-archived -o table",
            ),
        )
    return str(latest)


def put(
    session: Session, kind: Kind, name: str, version: str | None, body: Mapping[str, Any]
) -> dict[str, Any]:
    """Register a version, taking in its content. Whoever interrupts that is told that the workspace goes on."""
    try:
        return session.client.put_asset(kind.plural, name, version, body)
    except KeyboardInterrupt:
        session.say(
            f"The workspace goes on registering it. What there is: moor {kind.command} list -n {name}"
        )
        raise


def show(session: Session, kind: Kind, name: str, version: str | None, label: str | None) -> dict[str, Any]:
    """The document of a version, as it is printed."""
    found = version_of(session, kind, name, version, label)
    return kind.view(session.client.asset(kind.plural, name, found))


def list_(
    session: Session,
    kind: Kind,
    *,
    name: str | None,
    archived_only: bool,
    include_archived: bool,
    max_results: int | None,
    stage: str | None = None,
) -> None:
    if archived_only and include_archived:
        command = f"moor {kind.command} list --include-archived"
        raise error(
            "FlagsExclusive",
            "--archived-only and --include-archived exclude each other",
            fields={"command": command},
        )
    view = "ArchivedOnly" if archived_only else "All" if include_archived else "ActiveOnly"
    if name is None:
        found = session.client.asset_containers(kind.plural, view=view, top=max_results)
        if stage is not None:
            session.warn("--stage counts with --name: stages are those of versions")
        session.emit([container_view(body) for body in found], NAMES)
        return
    versions = session.client.asset_versions(kind.plural, name, view=view, stage=stage, top=max_results)
    if not versions:
        session.client.asset_container(kind.plural, name)  # an unknown name is an error, not an empty list
    session.emit([kind.view(body) for body in versions], kind.columns)


def archive(
    session: Session, kind: Kind, name: str, version: str | None, label: str | None, *, archived: bool
) -> None:
    """Hide or show a version, or the whole name when neither version nor label is given."""
    word = "archived" if archived else "restored"
    if version is None and label is None:
        body = {"properties": {"isArchived": archived}}
        session.client.asset_container(kind.plural, name)
        session.client.put_asset_container(kind.plural, name, body)
        session.say(f"{kind.command} {name} is {word}, with all its versions.")
        return
    found = version_of(session, kind, name, version, label)
    document = session.client.asset(kind.plural, name, found)
    properties = {k: v for k, v in document["properties"].items() if k != "moorings"}
    session.client.put_asset(kind.plural, name, found, {"properties": {**properties, "isArchived": archived}})
    session.say(f"{kind.command} {name}, version {found}, is {word}.")


def update(
    session: Session,
    kind: Kind,
    target: tuple[str, str | None, str | None],
    changes: specs.Changes,
    *,
    read: Callable[[str, str, Any], ModelSpec | EnvironmentSpec],
    write: Callable[[Any], dict[str, Any]],
) -> None:
    """Change the words of a version, or of the whole name; `target` is name, version, label."""
    name, version, label = target
    if not changes:
        command = f"moor {kind.command} update -n {name} --set description=..."
        raise error("NothingToUpdate", "nothing to change was given", fields={"command": command})
    if version is None and label is None:
        _update_name(session, kind, name, changes)
        return
    found = version_of(session, kind, name, version, label)
    document = session.client.asset(kind.plural, name, found)
    existing = read(name, found, document)
    spec = update_asset(
        existing,
        command=f"moor {kind.command} update -n {name} -v {found}",
        set_=changes.set_,
        add=changes.add,
        remove=changes.remove,
        force_string=changes.force_string,
    )
    body = write(spec)
    anonymous = document["properties"].get("isAnonymous") is True
    words = {"tags": spec.tags, "properties": spec.properties, "description": spec.description or ""}
    if isinstance(spec, ModelSpec):
        words |= {"stage": spec.stage or "", "flavors": spec.flavors}
    body["properties"] |= {**words, "isAnonymous": anonymous}
    session.emit(kind.view(session.client.put_asset(kind.plural, name, found, body)), kind.columns)


def _update_name(session: Session, kind: Kind, name: str, changes: specs.Changes) -> None:
    container = session.client.asset_container(kind.plural, name)
    view = container_view(container)
    existing = AssetWords(description=view["description"], tags=view["tags"], properties=view["properties"])
    words = update_asset(
        existing,
        command=f"moor {kind.command} update -n {name}",
        set_=changes.set_,
        add=changes.add,
        remove=changes.remove,
        force_string=changes.force_string,
    )
    body = {"properties": {**words.model_dump(), "description": words.description or ""}}
    session.emit(container_view(session.client.put_asset_container(kind.plural, name, body)), NAMES)


def download(session: Session, kind: Kind, target: tuple[str, str | None, str | None], folder: Path) -> None:
    from moorings.client.download import download as bring

    name, version, label = target
    found = version_of(session, kind, name, version, label)
    place = bring(session.client, kind.plural, name, found, folder, watch=session.meter("downloaded"))
    session.say(f"{kind.command} {name}, version {found}, is at {place}")


def _one(kind: Kind, name: str, version: str | None, label: str | None) -> None:
    if version is not None and label is not None:
        command = f"moor {kind.command} show -n {name} --label {label}"
        raise error("FlagsExclusive", "--version and --label exclude each other", fields={"command": command})


def note_datastore(session: Session, datastore: str | None) -> None:
    """Content always goes to the workspace's own datastore: say so where another one is named."""
    from moorings.spec.datastore_uris import DEFAULT_DATASTORE

    if datastore and datastore.rpartition("/")[2].removeprefix("azureml:") != DEFAULT_DATASTORE:
        session.warn(f"the files go to {DEFAULT_DATASTORE}; the datastore {datastore} is not written to")


def not_in_registry(command: str, registry_name: str | None) -> None:
    if registry_name:
        raise click.UsageError(f"--registry-name: no registry is attached to this workspace ({command} -h)")
