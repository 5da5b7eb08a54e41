"""`moor acr repository ...`: what the workspace's image registry has."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from moorings.cli.framework import leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.errors.exceptions import MooringsError, error

if TYPE_CHECKING:
    from moorings.containers.registry import Tag

NEWEST, OLDEST = "time_desc", "time_asc"

DETAILS: Columns = (
    ("Name", lambda t: t["name"]),
    ("Created", lambda t: t["created_time"]),
    ("Digest", lambda t: t["digest"]),
)


@leaf(
    "show-tags",
    "List the tags of a repository in the workspace's image registry (`registry` in settings.json).",
    click.Option(
        ["--name", "-n", "name"],
        required=True,
        metavar="REGISTRY",
        help="The workspace's registry: its address, or the first label of it.",
    ),
    click.Option(
        ["--repository"], required=True, metavar="NAME", help="The repository, as `team/image` names it."
    ),
    click.Option(
        ["--orderby"],
        type=click.Choice([NEWEST, OLDEST]),
        help="By the time the images were made; by name without it.",
    ),
    click.Option(["--top"], type=click.IntRange(min=1), metavar="N", help="Only the first N."),
    click.Option(["--detail"], is_flag=True, help="With digest and time."),
)
def show_tags(
    session: Session, name: str, repository: str, orderby: str | None, top: int | None, detail: bool
) -> None:
    from moorings.containers.registry import ordered

    tags = _tags(session, name, repository, details=detail or orderby is not None)
    if orderby is not None:
        tags = ordered(tags, newest_first=orderby == NEWEST)
    tags = tags[:top]
    if not detail:
        session.emit([tag.name for tag in tags])
        return
    session.emit(
        [
            {
                "name": tag.name,
                "digest": tag.digest,
                "created_time": tag.created_at.isoformat() if tag.created_at else None,
            }
            for tag in tags
        ],
        DETAILS,
    )


def _tags(session: Session, name: str, given: str, *, details: bool) -> list[Tag]:
    from moorings.containers.credentials import from_settings
    from moorings.containers.host import DockerHost, kept_login
    from moorings.containers.reading import registry_of, split_tag
    from moorings.containers.registry import ImageRegistry, names_of, repository_of

    known = session.settings.registry
    if not known.repository:
        fields = {"settings": str(session.settings.settings_file)}
        raise error(
            "RegistryNotConfigured", "this workspace has no image registry", target="-n", fields=fields
        )
    registry = registry_of(f"{known.repository}/x")
    if name.lower() not in names_of(registry.lower()):
        message = f"the image registry of this workspace is {registry}, not {name}"
        fields = {"registry": registry, "repository": given}
        raise error("RegistryNotAttached", message, target="-n", fields=fields)
    repository = repository_of(registry, given)
    if repository is None:
        message = f"{given!r} cannot be the name of a repository"
        better = repository_of(registry, split_tag(given)[0].lower())
        fields = {"registry": registry, "repository": better or "<repository>"}
        raise error("RepositoryNotFound", message, target="--repository", fields=fields)
    credentials = from_settings(known.repository, known.user, known.password_file)

    def speaks_plainly() -> bool:
        with contextlib.suppress(MooringsError):  # without an engine there is nobody who allows it
            return DockerHost(session.settings.docker.host, credentials).speaks_plainly(registry)
        return False

    asked = ImageRegistry(registry, lambda: credentials(registry) or kept_login(registry), speaks_plainly)
    with contextlib.closing(asked):
        return asked.tags(repository, details=details)
