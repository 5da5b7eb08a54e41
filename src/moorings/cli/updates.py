"""`moor endpoint update`: from flags and files to what there shall be, checked. Sends nothing that changes anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import click

from moorings.cli import specs
from moorings.cli.session import Session
from moorings.client import form
from moorings.errors.exceptions import SpecInvalid, error
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.documents import Examined
from moorings.spec.form2021 import change_form, examine_form, examine_item
from moorings.spec.update import examine_updated


@dataclass(frozen=True)
class Asked:
    """What an update was asked for."""

    file: Path | None
    deployment: str | None
    deployment_file: Path | None
    instance_count: int | None
    changes: specs.Changes
    traffic: Mapping[str, int] | None


class Require(Protocol):
    """Raises what the checks find in deployments that are to be sent, all at once."""

    def __call__(
        self, found: Sequence[Examined[DeploymentSpec]], *, again: str, whole: SpecInvalid | None = None
    ) -> None: ...


def whole(
    session: Session, asked: Asked, endpoint_name: str | None, require: Require
) -> tuple[form.Present, form.Wish]:
    """The endpoint as the file has it: what the file does not list goes."""
    assert asked.file is not None
    changes = asked.changes
    examined = examine_form(
        asked.file,
        overrides=changes.set_,
        add=changes.add,
        remove=changes.remove,
        force_string=changes.force_string,
        name=endpoint_name,
        default_name=session.defaults.get("endpoint"),
        command="moor endpoint update",
    )
    command = again("update", examined.name, asked.file)
    require(examined.deployments, again=command, whole=examined.invalid)
    given = examined.valid()
    now = form.present(session.client, given.endpoint.name)
    listed = {spec.name.lower() for spec in given.deployments}
    leaving = [each for each in now.names if each.lower() not in listed] if given.lists_deployments else []
    endpoint = form.replaced(now.endpoint, given.endpoint)
    return now, form.Wish(endpoint, given.deployments, tuple(leaving), command)


def one(session: Session, asked: Asked, now: form.Present, require: Require) -> form.Wish:
    """One deployment changed, from its own file or by flags."""
    name, deployment = now.endpoint.name, asked.deployment
    assert deployment is not None
    count, changes = asked.instance_count, asked.changes
    command = f"moor endpoint update -n {name} -d {deployment}"
    if asked.deployment_file is not None:
        examined = examine_item(
            asked.deployment_file,
            endpoint_name=name,
            name=deployment,
            instance_count=count,
            overrides=changes.set_,
        )
        command += f" --deployment-file {asked.deployment_file}"
    elif count is not None or changes:
        found = {each.name: each for each in now.deployments}.get(deployment)
        if found is None:
            session.client.deployment(name, deployment)  # its absence is the server's to tell
            raise AssertionError("a deployment that is there is listed")
        examined = examine_updated(
            found,
            changes=None if count is None else {"instance_count": count},
            set_=changes.set_,
            add=changes.add,
            remove=changes.remove,
            force_string=changes.force_string,
        )
    else:
        return form.Wish(now.endpoint, (), command=command)
    require([examined], again=command)
    return form.Wish(now.endpoint, (examined.valid(),), command=command)


def edited(asked: Asked, now: form.Present, require: Require) -> form.Wish:
    """The endpoint and its deployments as one document, edited."""
    changes, name = asked.changes, now.endpoint.name
    command = f"moor endpoint update -n {name} ..."
    if not changes:
        return form.Wish(now.endpoint, (), command=command)
    examined = change_form(
        now.endpoint,
        now.deployments,
        set_=changes.set_,
        add=changes.add,
        remove=changes.remove,
        force_string=changes.force_string,
    )
    require(
        [each for each in examined.deployments if each.value is None or each.value not in now.deployments],
        again=command,
        whole=examined.invalid,
    )
    wanted = examined.valid()
    changed = tuple(spec for spec in wanted.deployments if spec not in now.deployments)
    kept = {spec.name for spec in wanted.deployments}
    leaving = tuple(each for each in now.names if each not in kept)
    return form.Wish(wanted.endpoint, changed, leaving, command)


def check_flags(asked: Asked, endpoint_name: str | None) -> None:
    name = endpoint_name or "<name>"
    if asked.deployment is None:
        for flag, value in (
            ("--deployment-file", asked.deployment_file),
            ("--instance-count", asked.instance_count),
        ):
            if value is not None:
                raise click.UsageError(f"{flag} needs --deployment (-d)")
    elif asked.file is not None:
        command = f"moor endpoint update -n {name} -f {asked.file}"
        message = "--file is about the whole endpoint, --deployment about one of its deployments"
        raise error("FlagsExclusive", message, fields={"command": command})
    if asked.deployment_file is not None and (asked.changes.add or asked.changes.remove):
        command = (
            f"moor endpoint update -n {name} -d {asked.deployment} --deployment-file {asked.deployment_file}"
        )
        message = "--add and --remove change what is there; the file replaces it (--set goes with both)"
        raise error("FlagsExclusive", message, fields={"command": command})
    anything = (asked.file, asked.deployment_file, asked.instance_count, asked.changes or None, asked.traffic)
    if all(value is None for value in anything):
        command = f'moor endpoint update -n {name} --traffic "<deployment>:100"'
        raise error("NothingToUpdate", "nothing to change was given", fields={"command": command})


def again(verb: str, name: str, file: Path, *, local: bool = False) -> str:
    return f"moor endpoint {verb} -n {name} -f {file}" + (" --local" if local else "")
