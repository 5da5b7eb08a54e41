"""`moor endpoint ...`, the form of 2021: an endpoint, its deployments and its traffic in one file. Flags in, client
calls, result out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from moorings.cli import preflight, specs, traffic, updates
from moorings.cli.commands import deployment as deployments
from moorings.cli.commands import endpoint as endpoints
from moorings.cli.commands import flags
from moorings.cli.framework import SeveralOption, leaf
from moorings.cli.logs import LogFlags, print_logs
from moorings.cli.session import Session
from moorings.client import form
from moorings.errors.exceptions import SpecInvalid, error
from moorings.spec.arm import deployment_view
from moorings.spec.deployment import MAX_INSTANCES, DeploymentSpec
from moorings.spec.documents import Examined
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.form2021 import EndpointForm, examine_form


def _deployment(*, required: bool = False, what: str) -> click.Option:
    return click.Option(["--deployment", "-d"], metavar="NAME", required=required, help=what)


@leaf(
    "create",
    "Create an endpoint with all deployments its file lists, then send traffic as the file says.",
    flags.file(required=True, what="endpoint"),
    flags.endpoint_name("--name", "-n", defaulted=False),
    flags.type_(),
    flags.set_(),
    flags.skip_script_validation(),
    flags.skip_checks(),
    flags.no_wait(),
    flags.make_local(),
)
def create(
    session: Session,
    file: Path,
    endpoint_name: str | None,
    type_: str | None,
    set_: tuple[str, ...],
    skip_script_validation: bool,
    skip_checks: bool,
    no_wait: bool,
    local: bool,
) -> None:
    _online(type_)
    examined = examine_form(file, overrides=set_, name=endpoint_name)
    require = _checks(session, script=not skip_script_validation, skip=skip_checks)
    again = updates.again("create", examined.name, file, local=local)
    require(examined.deployments, again=again, whole=examined.invalid)
    given = examined.valid()
    endpoint = specs.marked_local(given.endpoint) if local else given.endpoint
    now = form.present_or_none(session.client, endpoint.name)
    if now is not None:
        endpoint = _kept_traffic(endpoint, now.endpoint)
        _say_unlisted(session, now, given)
    if _is_alone(endpoint, given.deployments, now):
        endpoint = endpoint.model_copy(update={"traffic": {given.deployments[0].name.lower(): 100}})
    wish = form.Wish(endpoint, given.deployments, command=again)
    form.check(now, wish)
    form.apply(session.client, now, wish, session, no_wait=no_wait)
    _emit(session, endpoint.name, given.deployments)
    if not no_wait:
        session.say(f"Score: moor endpoint invoke -n {endpoint.name} -r <request.json>")


@leaf(
    "show",
    "Show an endpoint with its deployments.",
    flags.endpoint_name("--name", "-n"),
    flags.type_(),
    flags.local(),
)
def show(session: Session, endpoint_name: str | None, type_: str | None, local: bool) -> None:
    _online(type_)
    _emit(session, session.endpoint_name(endpoint_name, "--name"))


@leaf("list", "List the endpoints.", flags.type_(), flags.local())
def list_(session: Session, type_: str | None, local: bool) -> None:
    _online(type_)
    endpoints.print_all(session)


@leaf(
    "update",
    "Make an endpoint what its file says: deployments that the file does not list are deleted. Without a file: "
    "change its traffic, or one deployment.",
    flags.endpoint_name("--name", "-n"),
    flags.file(what="endpoint"),
    _deployment(what="The deployment that --deployment-file, --instance-count and --set are about."),
    click.Option(
        ["--deployment-file", "-e"],
        type=click.Path(path_type=Path),
        help="YAML file of that deployment, with the keys of an item of `deployments:`.",
    ),
    click.Option(
        ["--instance-count", "-i"],
        type=click.IntRange(1, MAX_INSTANCES),
        help="Instances of that deployment.",
    ),
    SeveralOption(
        ["--traffic", "-r"], metavar="TABLE", help='Share of each deployment in per cent: "blue:90,green:10".'
    ),
    *flags.updates(),
    flags.skip_script_validation(),
    flags.skip_checks(),
    flags.type_(),
    flags.no_wait(),
    flags.local(),
)
def update(
    session: Session,
    endpoint_name: str | None,
    file: Path | None,
    deployment: str | None,
    deployment_file: Path | None,
    instance_count: int | None,
    traffic: tuple[str, ...],
    set_: tuple[str, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    force_string: bool,
    skip_script_validation: bool,
    skip_checks: bool,
    type_: str | None,
    no_wait: bool,
    local: bool,
) -> None:
    _online(type_)
    changes = specs.Changes(set_, add, remove, force_string)
    asked = updates.Asked(file, deployment, deployment_file, instance_count, changes, _table(traffic))
    updates.check_flags(asked, endpoint_name)
    require = _checks(session, script=not skip_script_validation, skip=skip_checks)
    if file is not None:
        now, wish = updates.whole(session, asked, endpoint_name, require)
    else:
        name = session.endpoint_name(endpoint_name, "--name")
        now = form.present(session.client, name)
        if deployment is not None:
            wish = updates.one(session, asked, now, require)
        else:
            wish = updates.edited(asked, now, require)
    if asked.traffic is not None:
        table = _shares(wish.endpoint.traffic, asked.traffic)
        wish = form.Wish(
            wish.endpoint.model_copy(update={"traffic": table}), wish.deployments, wish.remove, wish.command
        )
    form.check(now, wish)
    if wish.remove:
        session.say(f"To be deleted, as no longer wanted: {', '.join(wish.remove)}")
    form.apply(session.client, now, wish, session, no_wait=no_wait)
    _emit(session, now.endpoint.name, wish.deployments)


@leaf(
    "delete",
    "Delete an endpoint with all its deployments, or one of them.",
    click.Option(
        ["--name", "-n", "endpoint_name"], required=True, metavar="NAME", help="Name of the endpoint."
    ),
    _deployment(what="Delete this deployment only."),
    flags.type_(),
    flags.yes(),
    flags.no_wait(),
    flags.local(),
)
def delete(
    session: Session,
    endpoint_name: str,
    deployment: str | None,
    type_: str | None,
    yes: bool,
    no_wait: bool,
    local: bool,
) -> None:
    _online(type_)
    command = (
        f"moor endpoint delete -n {endpoint_name}" + (f" -d {deployment}" if deployment else "") + " --yes"
    )
    if deployment is None:
        endpoints.delete_endpoint(session, endpoint_name, command, yes=yes, no_wait=no_wait, local=local)
    else:
        deployments.delete_deployment(
            session, endpoint_name, deployment, command, yes=yes, no_wait=no_wait, local=local
        )


@leaf(
    "invoke",
    "Send a request file to an endpoint and print the answer.",
    flags.endpoint_name("--name", "-n"),
    flags.request_file(),
    _deployment(what="Ask this deployment, whatever the traffic table says."),
    flags.type_(),
    flags.local(),
    SeveralOption(["--set", "set_"], hidden=True),
)
def invoke(
    session: Session,
    endpoint_name: str | None,
    request_file: Path,
    deployment: str | None,
    type_: str | None,
    local: bool,
    set_: tuple[str, ...],
) -> None:
    _online(type_)
    flags.not_served("moor endpoint invoke -h", set=set_)
    endpoints.score_file(session, session.endpoint_name(endpoint_name, "--name"), request_file, deployment)


def _credentials(verb: str, help_text: str) -> Any:
    def run(session: Session, endpoint_name: str | None, type_: str | None, local: bool) -> None:
        _online(type_)
        endpoints.print_credentials(session, session.endpoint_name(endpoint_name, "--name"))

    return leaf(verb, help_text, flags.endpoint_name("--name", "-n"), flags.type_(), flags.local())(run)


get_credentials = _credentials("get-credentials", "Print the keys of an endpoint (or a token).")
list_keys = _credentials("list-keys", "Print the keys of an endpoint (or a token): as get-credentials.")


@leaf(
    "regenerate-keys",
    "Replace a key of an endpoint; the old one stops working.",
    flags.endpoint_name("--name", "-n"),
    flags.key_type(),
    flags.type_(),
    flags.no_wait(),
    flags.local(),
)
def regenerate_keys(
    session: Session, endpoint_name: str | None, key_type: str, type_: str | None, no_wait: bool, local: bool
) -> None:
    _online(type_)
    name = session.endpoint_name(endpoint_name, "--name")
    endpoints.replace_key(session, name, key_type, no_wait=no_wait)


@leaf(
    "get-logs",
    "Print the last lines of a deployment's log: what was done for it, and what it wrote.",
    flags.endpoint_name("--name", "-n"),
    _deployment(required=True, what="The deployment."),
    *flags.logs(),
    flags.type_(),
    flags.local(),
)
def get_logs(
    session: Session, endpoint_name: str | None, deployment: str, type_: str | None, local: bool, **given: Any
) -> None:
    _online(type_)
    name = session.endpoint_name(endpoint_name, "--name")
    print_logs(session, name, deployment, LogFlags(**given))


@leaf("list-jobs", "Jobs of a batch endpoint; there are none here.", flags.endpoint_name("--name", "-n"))
def list_jobs(session: Session, endpoint_name: str | None) -> None:
    raise error("BatchNotServed", "`list-jobs` is about batch endpoints", target="list-jobs")


# --- small things ----------------------------------------------------------------------------------------------
def _checks(session: Session, *, script: bool, skip: bool) -> updates.Require:
    def require(
        found: Sequence[Examined[DeploymentSpec]], *, again: str, whole: SpecInvalid | None = None
    ) -> None:
        if not skip:
            preflight.require(session, found, script=script, again=again, whole=whole)

    return require


def _online(type_: str | None) -> None:
    if type_ == "batch":
        raise error("BatchNotServed", "`--type batch` asks for a batch endpoint", target="--type")


def _table(texts: tuple[str, ...]) -> dict[str, int] | None:
    return traffic.parse(texts) if texts else None


def _shares(current: Mapping[str, int], given: Mapping[str, int]) -> dict[str, int]:
    return traffic.apply(current, given)


def _kept_traffic(wanted: EndpointSpec, now: EndpointSpec) -> EndpointSpec:
    """A file that says nothing of traffic takes no live endpoint off the air."""
    kept = {
        key: getattr(now, key) for key in ("traffic", "mirror_traffic") if key not in wanted.model_fields_set
    }
    return wanted.model_copy(update=kept)


def _say_unlisted(session: Session, now: form.Present, given: EndpointForm) -> None:
    listed = {spec.name.lower() for spec in given.deployments}
    others = [name for name in now.names if name.lower() not in listed]
    if others and given.lists_deployments:
        session.say(
            f"Endpoint {now.endpoint.name} also has {', '.join(others)}, which the file does not list; "
            "`moor endpoint update -f` would delete what it does not list."
        )


def _is_alone(endpoint: EndpointSpec, found: Sequence[DeploymentSpec], now: form.Present | None) -> bool:
    """Whether this is the only deployment of a local endpoint without traffic: it gets all of it, as elsewhere."""
    local = endpoint.properties.moorings.local
    others = {name.lower() for name in now.names} - {spec.name.lower() for spec in found} if now else set()
    return local and len(found) == 1 and not others and not endpoint.traffic and not endpoint.mirror_traffic


def _emit(session: Session, name: str, made: Sequence[DeploymentSpec] = ()) -> None:
    found = session.client.deployments(name)
    view = endpoints.view_of(session.client.endpoint(name), found)
    view["deployments"] = [deployment_view(body) for body in found]
    session.emit(view, endpoints.COLUMNS)
    names = {spec.name for spec in made}
    for body in found:
        if body.get("name") in names:
            deployments.say_no_effect(session, body)
