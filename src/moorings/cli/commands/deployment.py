"""`moor online-deployment ...`: flags in, client calls, result out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from moorings.cli import preflight, specs
from moorings.cli.commands import flags
from moorings.cli.framework import leaf
from moorings.cli.logs import LogFlags, print_logs
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.client.client import is_missing
from moorings.client.deploy import create_or_update_deployment
from moorings.errors.exceptions import MooringsError, error
from moorings.preflight.findings import Severity
from moorings.spec.arm import (
    deployment_from_arm,
    deployment_view,
    endpoint_from_arm,
    endpoint_to_arm,
)
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec

COLUMNS: Columns = (
    ("Name", lambda d: d.get("name")),
    ("State", lambda d: d.get("provisioning_state")),
    ("Instances", lambda d: d.get("instance_count")),
    ("Model", lambda d: _short(d.get("model"))),
    ("Environment", lambda d: _short(d.get("environment"))),
)


@leaf(
    "create",
    "Deploy a model: read the YAML file, build its environment, start its instances, open its address.",
    flags.file(required=True, what="deployment"),
    flags.deployment_name(),
    flags.endpoint_name("--endpoint-name", "-e"),
    click.Option(
        ["--all-traffic"], is_flag=True, help="Send it all traffic of the endpoint once it is ready."
    ),
    flags.skip_script_validation(),
    flags.skip_checks(),
    flags.set_(),
    flags.no_wait(),
    click.Option(
        ["--local"],
        is_flag=True,
        help="Make the endpoint, too, if it is missing (callers on this machine need no key then); replace a "
        "deployment of this name; send traffic to it if it is the only one.",
    ),
    click.Option(["--local-enable-gpu"], is_flag=True, hidden=True),
    click.Option(["--vscode-debug"], is_flag=True, hidden=True),
    click.Option(["--package-model", "--with-package", "package_model"], is_flag=True, hidden=True),
    flags.web(),
)
def create(
    session: Session,
    file: Path,
    name: str | None,
    endpoint_name: str | None,
    all_traffic: bool,
    skip_script_validation: bool,
    skip_checks: bool,
    set_: tuple[str, ...],
    no_wait: bool,
    local: bool,
    local_enable_gpu: bool,
    vscode_debug: bool,
    package_model: bool,
    web: bool,
) -> None:
    flags.not_served(
        "moor online-deployment create -h",
        local_enable_gpu=local_enable_gpu,
        vscode_debug=vscode_debug,
        package_model=package_model,
    )
    if all_traffic and no_wait:
        command = f"moor online-deployment create -f {file} --all-traffic"
        message = "--all-traffic acts after the deployment is ready, and --no-wait does not wait for that"
        raise error("FlagsExclusive", message, fields={"command": command})
    examined = specs.deployment_to_create(file, name, endpoint_name, session.defaults.get("endpoint"), set_)
    again = specs.retyped(
        "moor online-deployment create",
        file,
        name=name,
        endpoint=endpoint_name,
        set_=set_,
        more=("--local",) if local else (),
    )
    if not skip_checks:
        needed = None if local else Severity.ERROR
        preflight.require(
            session, [examined], script=not skip_script_validation, again=again, endpoint=needed
        )
    spec = examined.valid()
    _require_endpoint(session, spec.endpoint_name, local=local)
    if not local:
        _refuse_existing(session, spec, file)
    _deploy(
        session, spec, f"Creating deployment {spec.name} of endpoint {spec.endpoint_name}", no_wait=no_wait
    )
    if no_wait:
        return
    if all_traffic:
        _send_all_traffic(session, spec.endpoint_name, spec.name)
    elif local and _is_alone(session, spec.endpoint_name, spec.name, without_traffic=True):
        session.say(f"{spec.name} is the only deployment of a local endpoint: it gets all traffic.")
        _send_all_traffic(session, spec.endpoint_name, spec.name)
    _say_what_next(session, spec)


@leaf(
    "show",
    "Show a deployment and its conditions.",
    flags.deployment_name(required=True),
    flags.endpoint_name("--endpoint-name", "-e"),
    flags.local(),
    flags.web(),
)
def show(session: Session, name: str, endpoint_name: str | None, local: bool, web: bool) -> None:
    endpoint = session.endpoint_name(endpoint_name, "--endpoint-name")
    session.emit(deployment_view(session.client.deployment(endpoint, name)), COLUMNS)


@leaf(
    "list",
    "List the deployments of an endpoint.",
    flags.endpoint_name("--endpoint-name", "-e"),
    flags.local(),
)
def list_(session: Session, endpoint_name: str | None, local: bool) -> None:
    endpoint = session.endpoint_name(endpoint_name, "--endpoint-name")
    session.emit([deployment_view(body) for body in session.client.deployments(endpoint)], COLUMNS)


@leaf(
    "update",
    "Change a deployment. What is not named stays as it is; it goes on serving meanwhile.",
    flags.deployment_name(),
    flags.endpoint_name("--endpoint-name", "-e"),
    flags.file(what="deployment"),
    *flags.updates(),
    flags.skip_script_validation(),
    flags.skip_checks(),
    flags.no_wait(),
    flags.local(),
    click.Option(["--vscode-debug"], is_flag=True, hidden=True),
    click.Option(["--with-package", "package_model"], is_flag=True, hidden=True),
    flags.web(),
)
def update(
    session: Session,
    name: str | None,
    endpoint_name: str | None,
    file: Path | None,
    set_: tuple[str, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    force_string: bool,
    skip_script_validation: bool,
    skip_checks: bool,
    no_wait: bool,
    local: bool,
    vscode_debug: bool,
    package_model: bool,
    web: bool,
) -> None:
    flags.not_served(
        "moor online-deployment update -h", vscode_debug=vscode_debug, with_package=package_model
    )
    changes = specs.Changes(set_, add, remove, force_string)
    if file is None and not changes:
        command = f"moor online-deployment update -n {name or '<name>'} -e {endpoint_name or '<endpoint>'}"
        fields = {"command": f"{command} --set instance_count=2"}
        raise error("NothingToUpdate", "neither --file nor --set, --add or --remove was given", fields=fields)
    default = session.defaults.get("endpoint")
    endpoint, deployment = specs.deployment_names_of(file, name, endpoint_name, default, set_)
    existing = deployment_from_arm(
        endpoint, deployment, session.client.deployment(endpoint, deployment), check=False
    )
    examined = specs.deployment_to_update(existing, file, changes)
    again = specs.retyped(
        "moor online-deployment update", file, name=deployment, endpoint=endpoint, set_=set_
    )
    if not skip_checks:
        preflight.require(session, [examined], script=not skip_script_validation, again=again)
    spec = examined.valid()
    _deploy(session, spec, f"Updating deployment {deployment} of endpoint {endpoint}", no_wait=no_wait)


@leaf(
    "delete",
    "Delete a deployment that takes no traffic.",
    flags.deployment_name(required=True),
    flags.endpoint_name("--endpoint-name", "-e"),
    flags.yes(),
    flags.no_wait(),
    flags.local(),
)
def delete(
    session: Session, name: str, endpoint_name: str | None, yes: bool, no_wait: bool, local: bool
) -> None:
    endpoint = session.endpoint_name(endpoint_name, "--endpoint-name")
    command = f"moor online-deployment delete -n {name} -e {endpoint} --yes"
    delete_deployment(session, endpoint, name, command, yes=yes, no_wait=no_wait, local=local)


@leaf(
    "get-logs",
    "Print the last lines of a deployment's log: what was done for it, and what it wrote.",
    flags.deployment_name(required=True),
    flags.endpoint_name("--endpoint-name", "-e"),
    *flags.logs(),
    flags.local(),
)
def get_logs(session: Session, name: str, endpoint_name: str | None, local: bool, **given: Any) -> None:
    endpoint = session.endpoint_name(endpoint_name, "--endpoint-name")
    print_logs(session, endpoint, name, LogFlags(**given))


# --- what both forms of the command do -----------------------------------------------------------------------
def delete_deployment(
    session: Session, endpoint: str, name: str, command: str, *, yes: bool, no_wait: bool, local: bool
) -> None:
    """Delete a deployment. With `local` the only deployment of a local endpoint loses its traffic first, which
    it may have got without anybody asking for it."""
    session.confirm(f"Delete deployment {name} of endpoint {endpoint}?", yes=yes, command=command)
    if local and _is_alone(session, endpoint, name):
        _set_traffic(session, endpoint, {}, f"Taking {name} out of the traffic of {endpoint}")
    accepted = session.client.delete_deployment(endpoint, name)
    if accepted.operation is None:
        session.say(f"Endpoint {endpoint} has no deployment {name}.")
    elif not no_wait:
        watch = f"moor online-deployment list -e {endpoint} -o table"
        session.follow(accepted, f"Deleting deployment {name} of endpoint {endpoint}", watch=watch)
        session.say(f"Deployment {name} is deleted.")


def _require_endpoint(session: Session, name: str, *, local: bool) -> None:
    try:
        session.client.endpoint(name)
    except MooringsError as problem:
        if not is_missing(problem) or not local:
            raise
        session.say(f"Endpoint {name} does not exist yet; creating it.")
        made = specs.marked_local(EndpointSpec(name=name))
        accepted = session.client.put_endpoint(name, endpoint_to_arm(made))
        session.follow(accepted, f"Creating endpoint {name}", watch=f"moor online-endpoint show -n {name}")


def _refuse_existing(session: Session, spec: DeploymentSpec, file: Path) -> None:
    try:
        found = session.client.deployment(spec.endpoint_name, spec.name)
    except MooringsError as problem:
        if is_missing(problem):
            return
        raise
    state = (found.get("properties") or {}).get("provisioningState")
    raise error(
        "DeploymentExists",
        f"endpoint {spec.endpoint_name} has a deployment {spec.name} already (state: {state})",
        target=f"{spec.endpoint_name}/{spec.name}",
        fields={"command": f"moor online-deployment update -n {spec.name} -e {spec.endpoint_name} -f {file}"},
    )


def _deploy(session: Session, spec: DeploymentSpec, title: str, *, no_wait: bool) -> None:
    endpoint, name = spec.endpoint_name, spec.name
    session.say(title)
    accepted = create_or_update_deployment(session.client, spec, lambda line: session.say(f"  {line}"))
    if no_wait:
        session.emit(deployment_view(accepted.body), COLUMNS)
        session.say(f"Accepted. Watch it: moor online-deployment show -n {name} -e {endpoint}")
        return
    session.follow(accepted, "", watch=f"moor online-deployment show -n {name} -e {endpoint}")
    found = session.client.deployment(endpoint, name)
    session.emit(deployment_view(found), COLUMNS)
    say_no_effect(session, found)


def _send_all_traffic(session: Session, endpoint: str, name: str) -> None:
    _set_traffic(session, endpoint, {name: 100}, f"Sending all traffic of {endpoint} to {name}")


def _set_traffic(session: Session, endpoint: str, table: Mapping[str, int], title: str) -> None:
    existing = endpoint_from_arm(endpoint, session.client.endpoint(endpoint), check=False)
    mirrored = {k: v for k, v in existing.mirror_traffic.items() if k not in table}
    changed = existing.model_copy(update={"traffic": dict(table), "mirror_traffic": mirrored})
    accepted = session.client.put_endpoint(endpoint, endpoint_to_arm(changed))
    session.follow(accepted, title, watch=f"moor online-endpoint show -n {endpoint}")


def _is_alone(session: Session, endpoint: str, name: str, *, without_traffic: bool = False) -> bool:
    """Whether `endpoint` is local, has the deployment `name` and no other (and, if asked, no traffic set)."""
    existing = endpoint_from_arm(endpoint, session.client.endpoint(endpoint), check=False)
    if not existing.properties.moorings.local or (without_traffic and existing.traffic):
        return False
    return [str(found.get("name")) for found in session.client.deployments(endpoint)] == [name]


def say_no_effect(session: Session, body: dict[str, Any]) -> None:
    own = (body.get("properties") or {}).get("moorings") or {}
    for key, why in (own.get("noEffectYet") or {}).items():
        session.warn(f"{key} is kept but has no effect yet: {why}")


def _say_what_next(session: Session, spec: DeploymentSpec) -> None:
    endpoint = spec.endpoint_name
    found = session.client.endpoint(endpoint)
    properties = found.get("properties") or {}
    share = (properties.get("traffic") or {}).get(spec.name, 0)
    session.say("")
    session.say(f"Live: {properties.get('scoringUri')}")
    if share:
        session.say(f"Score: moor online-endpoint invoke -n {endpoint} -r <request.json>")
    else:
        session.say(f"{spec.name} takes no traffic yet.")
        session.say(
            f"Try it:       moor online-endpoint invoke -n {endpoint} -d {spec.name} -r <request.json>"
        )
        session.say(f'Send traffic: moor online-endpoint update -n {endpoint} --traffic "{spec.name}=100"')
    keyless = endpoint_from_arm(endpoint, found, check=False).properties.moorings.local
    here = "   (programs on this machine need none)" if keyless else ""
    session.say(f"Keys:  moor online-endpoint get-credentials -n {endpoint}{here}")
    session.say(f"Logs:  moor online-deployment get-logs -n {spec.name} -e {endpoint}")


def _short(reference: Any) -> str:
    """`name:version` of an ARM id, with hashes cut; other references as they are."""
    parts = str(reference or "").split("/")
    if len(parts) < 5 or parts[-2] != "versions":
        return str(reference or "")
    name, version = parts[-3], parts[-1]
    return f"{name[:12] if len(name) == 32 else name}:{version[:12]}"
