"""`moor environment ...`: environments that models run in, their versions and builds."""

from __future__ import annotations

from pathlib import Path

import click

from moorings.cli import registered, specs
from moorings.cli.commands import asset_leaves, flags
from moorings.cli.commands.environment_builds import BUILD, build_log, list_builds, prune
from moorings.cli.framework import leaf
from moorings.cli.session import Session
from moorings.client.deploy import environment_body
from moorings.spec.arm import environment_version_from_arm, environment_version_to_arm
from moorings.spec.asset_views import environment_view
from moorings.spec.assets import EnvironmentSpec

__all__ = ["archive", "build_log", "create", "list_", "list_builds", "prune", "restore", "show", "update"]

KIND = registered.Kind(
    registered.ENVIRONMENTS,
    "environment",
    environment_view,
    (
        ("Name", lambda e: e.get("name")),
        ("Version", lambda e: e.get("version")),
        ("Image", lambda e: e.get("image")),
        ("Conda", lambda e: "yes" if e.get("conda_file") else ""),
        ("Archived", lambda e: "yes" if e.get("archived") else ""),
        ("Created", lambda e: (e.get("creation_context") or {}).get("created_at")),
    ),
)


@leaf(
    "create",
    "Register an environment: an image, an image with a conda file, or a Docker build context.",
    flags.file(what="environment"),
    flags.asset_name(required=False),
    flags.version(),
    click.Option(["--image", "-i"], metavar="IMAGE", help="Docker image."),
    click.Option(["--build-context", "-b"], metavar="FOLDER", help="Folder to build an image from."),
    click.Option(["--conda-file", "-c"], metavar="FILE", help="Packages to add to the image."),
    click.Option(
        ["--dockerfile-path", "-d"], metavar="PATH", help="Dockerfile, relative to the build context."
    ),
    click.Option(
        ["--os-type"],
        type=click.Choice(["linux", "windows"], case_sensitive=False),
        help="Operating system of the image.  [default: linux]",
    ),
    flags.description(),
    flags.tags(),
    click.Option(
        ["--datastore"], metavar="NAME", help="Accepted; files go to the workspace's own datastore."
    ),
    flags.set_(),
    flags.registry(),
    click.Option(["--no-wait"], is_flag=True, hidden=True),
)
def create(
    session: Session,
    file: Path | None,
    name: str | None,
    version: str | None,
    image: str | None,
    build_context: str | None,
    conda_file: str | None,
    dockerfile_path: str | None,
    os_type: str | None,
    description: str | None,
    tags: tuple[str, ...],
    datastore: str | None,
    set_: tuple[str, ...],
    registry_name: str | None,
    no_wait: bool,
) -> None:
    registered.not_in_registry("moor environment create", registry_name)
    given = {
        "name": name,
        "version": version,
        "image": image,
        "build_context": build_context,
        "conda_file": conda_file,
        "dockerfile_path": dockerfile_path,
        "os_type": os_type.lower() if os_type else None,
        "description": description,
        "datastore": datastore,
    }
    spec = specs.environment_to_create(file, given, set_, tags)
    registered.note_datastore(session, spec.datastore)
    body = registered.put(session, KIND, str(spec.name), spec.version, environment_body(spec))
    session.emit(environment_view(body), KIND.columns)


@leaf(
    "show",
    "Show a version of an environment (the latest one when none is named) and what was built of it: lock, size, "
    "seconds, users. With --key the build alone.",
    flags.asset_name(required=False),
    flags.version(),
    flags.label(),
    flags.registry(),
    click.Option(
        ["--key", "-k"],
        metavar="KEY",
        help="Key of a build, as the deployment shows it; its first digits do.",
    ),
)
def show(
    session: Session,
    name: str | None,
    version: str | None,
    label: str | None,
    registry_name: str | None,
    key: str | None,
) -> None:
    registered.not_in_registry("moor environment show", registry_name)
    if (key is None) == (name is None):
        raise click.UsageError("give --name (with --version or --label), or --key")
    if key is not None:
        session.emit(session.client.build(key), BUILD)
        return
    found = registered.show(session, KIND, str(name), version, label)
    built = session.client.environment_build(str(name), str(found["version"]))
    if built is not None:
        found["built"] = built
    session.emit(found, (*KIND.columns, ("Built", lambda e: (e.get("built") or {}).get("key"))))


list_ = asset_leaves.listing(KIND, "List the environments, or the versions of one (-n).")


@leaf(
    "update",
    "Change description, tags, properties of a version; without a version those of the name.",
    flags.asset_name(),
    flags.version(),
    flags.label(),
    *flags.updates(),
    flags.registry(),
)
def update(
    session: Session,
    name: str,
    version: str | None,
    label: str | None,
    set_: tuple[str, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    force_string: bool,
    registry_name: str | None,
) -> None:
    registered.not_in_registry("moor environment update", registry_name)
    registered.update(
        session,
        KIND,
        (name, version, label),
        specs.Changes(set_, add, remove, force_string),
        read=_read,
        write=environment_version_to_arm,
    )


def _read(name: str, version: str, body: object) -> EnvironmentSpec:
    return environment_version_from_arm(name, version, body, check=False)


archive = asset_leaves.archiving(KIND)
restore = asset_leaves.restoring(KIND)
