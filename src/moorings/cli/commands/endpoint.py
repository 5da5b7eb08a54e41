"""`moor online-endpoint ...`: flags in, client calls, result out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from moorings.cli import specs, traffic
from moorings.cli.commands import flags
from moorings.cli.framework import SeveralOption, leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.cli.terminal import clean
from moorings.client.client import is_missing
from moorings.errors.exceptions import MooringsError, error
from moorings.spec.arm import endpoint_from_arm, endpoint_to_arm, endpoint_view

COLUMNS: Columns = (
    ("Name", lambda e: e.get("name")),
    ("State", lambda e: e.get("provisioning_state")),
    ("Auth", lambda e: e.get("auth_mode")),
    ("Traffic", lambda e: e.get("traffic")),
    ("Scoring URI", lambda e: e.get("scoring_uri")),
)


@leaf(
    "create",
    "Create an endpoint, or replace the settings of an existing one. Without a file: all defaults.",
    flags.file(what="endpoint"),
    flags.endpoint_name("--name", "-n", defaulted=False),
    click.Option(["--auth-mode"], type=click.Choice(["key", "aml_token", "aad_token"]), help="Default: key."),
    flags.set_(),
    flags.no_wait(),
    flags.make_local(),
    flags.web(),
)
def create(
    session: Session,
    file: Path | None,
    endpoint_name: str | None,
    auth_mode: str | None,
    set_: tuple[str, ...],
    no_wait: bool,
    local: bool,
    web: bool,
) -> None:
    overrides = [*([f"auth_mode={auth_mode}"] if auth_mode else []), *set_]
    spec = specs.endpoint_to_create(file, endpoint_name, overrides)
    spec = specs.marked_local(spec) if local else spec
    _warn_of_lost_traffic(session, spec.name, spec.traffic)
    _put(session, spec.name, endpoint_to_arm(spec), f"Creating endpoint {spec.name}", no_wait=no_wait)
    if not no_wait:
        following = "--local" if spec.properties.moorings.local else "--all-traffic"
        session.say(f"Next: moor online-deployment create -e {spec.name} -f <deployment.yml> {following}")


@leaf(
    "show",
    "Show an endpoint.",
    flags.endpoint_name("--name", "-n"),
    flags.local(),
    flags.web(),
)
def show(session: Session, endpoint_name: str | None, local: bool, web: bool) -> None:
    _no_web(session, web)
    name = session.endpoint_name(endpoint_name, "--name")
    session.emit(_view(session, name), COLUMNS)


@leaf("list", "List the endpoints.", flags.local())
def list_(session: Session, local: bool) -> None:
    print_all(session)


@leaf(
    "update",
    "Change an endpoint. What is not named stays as it is.",
    flags.endpoint_name("--name", "-n"),
    flags.file(what="endpoint"),
    SeveralOption(
        ["--traffic", "-r"], metavar="TABLE", help='Share of each deployment in per cent: "blue=90 green=10".'
    ),
    SeveralOption(
        ["--mirror-traffic"], metavar="TABLE", help='Copy live requests: "green=10" (at most 50 per cent).'
    ),
    *flags.updates(),
    flags.no_wait(),
    flags.local(),
    flags.web(),
)
def update(
    session: Session,
    endpoint_name: str | None,
    file: Path | None,
    traffic: tuple[str, ...],
    mirror_traffic: tuple[str, ...],
    set_: tuple[str, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    force_string: bool,
    no_wait: bool,
    local: bool,
    web: bool,
) -> None:
    _no_web(session, web)
    changes = specs.Changes(set_, add, remove, force_string)
    live, mirrored = _tables(traffic, mirror_traffic)
    if file is not None:
        name = specs.endpoint_name_of(file, endpoint_name, session.defaults.get("endpoint"))
    else:
        name = session.endpoint_name(endpoint_name, "--name")
    if not (file or changes or traffic or mirror_traffic):
        command = f'moor online-endpoint update -n {name} --traffic "<deployment>=100"'
        raise error("NothingToUpdate", "nothing to change was given", fields={"command": command})
    existing = endpoint_from_arm(name, session.client.endpoint(name), check=False)
    spec = specs.endpoint_to_update(existing, file, changes)
    tables = {}
    if live is not None:
        tables["traffic"] = _apply(spec.traffic, live)
    if mirrored is not None:
        tables["mirror_traffic"] = _apply(spec.mirror_traffic, mirrored)
    spec = spec.model_copy(update=tables)
    _put(session, name, endpoint_to_arm(spec), f"Updating endpoint {name}", no_wait=no_wait)


@leaf(
    "delete",
    "Delete an endpoint with all its deployments.",
    click.Option(
        ["--name", "-n", "endpoint_name"], required=True, metavar="NAME", help="Name of the endpoint."
    ),
    flags.yes(),
    flags.no_wait(),
    flags.local(),
)
def delete(session: Session, endpoint_name: str, yes: bool, no_wait: bool, local: bool) -> None:
    command = f"moor online-endpoint delete -n {endpoint_name} --yes"
    delete_endpoint(session, endpoint_name, command, yes=yes, no_wait=no_wait, local=local)


@leaf(
    "invoke",
    "Send a request file to an endpoint and print the answer.",
    flags.endpoint_name("--name", "-n"),
    flags.request_file(),
    click.Option(
        ["--deployment-name", "-d"],
        metavar="NAME",
        help="Ask this deployment, whatever the traffic table says.",
    ),
    flags.local(),
)
def invoke(
    session: Session, endpoint_name: str | None, request_file: Path, deployment_name: str | None, local: bool
) -> None:
    score_file(session, session.endpoint_name(endpoint_name, "--name"), request_file, deployment_name)


@leaf(
    "get-credentials",
    "Print the keys of an endpoint (or a token, in the token modes).",
    flags.endpoint_name("--name", "-n"),
    flags.local(),
)
def get_credentials(session: Session, endpoint_name: str | None, local: bool) -> None:
    print_credentials(session, session.endpoint_name(endpoint_name, "--name"))


@leaf(
    "regenerate-keys",
    "Replace a key of an endpoint; the old one stops working.",
    flags.endpoint_name("--name", "-n"),
    flags.key_type(),
    flags.no_wait(),
    flags.local(),
)
def regenerate_keys(
    session: Session, endpoint_name: str | None, key_type: str, no_wait: bool, local: bool
) -> None:
    replace_key(session, session.endpoint_name(endpoint_name, "--name"), key_type, no_wait=no_wait)


# --- what both forms of the command do -----------------------------------------------------------------------
def print_all(session: Session) -> None:
    session.emit([endpoint_view(body) for body in session.client.endpoints()], COLUMNS)


def view_of(body: Mapping[str, Any], deployments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The document of an endpoint; deployments without traffic appear in it with 0."""
    view = endpoint_view(body)
    shares = {str(d.get("name")): 0 for d in deployments}
    view["traffic"] = {**shares, **(view.get("traffic") or {})}
    return view


def delete_endpoint(
    session: Session, name: str, command: str, *, yes: bool, no_wait: bool, local: bool
) -> None:
    """Delete an endpoint. One that is not there is a success, but EndpointNotFound with `local`, as scripts
    that delete local endpoints have it."""
    session.confirm(f"Delete endpoint {name} with all its deployments?", yes=yes, command=command)
    if local:
        session.client.endpoint(name)
    accepted = session.client.delete_endpoint(name)
    if accepted.operation is None:
        session.say(f"There is no endpoint {name}.")
    elif not no_wait:
        session.follow(accepted, f"Deleting endpoint {name}", watch="moor online-endpoint list -o table")
        session.say(f"Endpoint {name} is deleted.")


def score_file(session: Session, name: str, request_file: Path, deployment: str | None) -> None:
    """Send a request file and print the answer."""
    from moorings.client import scoring

    body = read_request(request_file)
    scored = scoring.invoke(session.client, name, body, deployment=deployment)
    if session.options.verbose and scored.deployment:
        session.say(f"answered by deployment {scored.deployment}")
    click.echo(clean(scored.text) if sys.stdout.isatty() else scored.text)


def print_credentials(session: Session, name: str) -> None:
    """The keys of an endpoint, or a token."""
    body = session.client.endpoint(name)
    session.emit(session.client.keys(name) if _uses_keys(body) else session.client.token(name))


def replace_key(session: Session, name: str, key_type: str, *, no_wait: bool) -> None:
    """Make a new primary or secondary key. Raises NotKeyAuth for an endpoint without keys."""
    if not _uses_keys(session.client.endpoint(name)):
        message = f"endpoint {name} does not use keys for authentication"
        raise error("NotKeyAuth", message, target=name, fields={"endpoint": name})
    accepted = session.client.regenerate_key(name, key_type)
    if not no_wait:
        title = f"Replacing the {key_type} key of endpoint {name}"
        session.follow(accepted, title, watch=f"moor online-endpoint show -n {name}")
        session.say(f"The {key_type} key is replaced. See it: moor online-endpoint get-credentials -n {name}")


def read_request(path: Path) -> bytes:
    """The JSON of a request file, re-serialised. Raises `RequestFileUnreadable`, `RequestNotJson` with line
    and column."""
    fields = {"path": path}
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as problem:
        message = f"{path}: {problem.strerror}"
        raise error("RequestFileUnreadable", message, target=str(path), fields=fields) from None
    except UnicodeDecodeError as problem:
        message = f"{path}: not UTF-8 text (byte {problem.start})"
        raise error("RequestFileUnreadable", message, target=str(path), fields=fields) from None
    try:
        return json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "surrogatepass")
    except json.JSONDecodeError as problem:
        lines = text.splitlines()
        line = lines[problem.lineno - 1][:200] if problem.lineno <= len(lines) else ""
        raise error(
            "RequestNotJson",
            f"{path}:{problem.lineno}:{problem.colno}: {problem.msg}",
            target=f"{path}:{problem.lineno}:{problem.colno}",
            evidence=(f"{problem.lineno} | {line}",) if line else (),
            fields=fields,
        ) from None
    except RecursionError:
        raise error("RequestNotJson", f"{path}: nested too deeply", target=str(path), fields=fields) from None


def _put(session: Session, name: str, body: Mapping[str, Any], title: str, *, no_wait: bool) -> None:
    accepted = session.client.put_endpoint(name, body)
    if no_wait:
        session.emit(endpoint_view(accepted.body), COLUMNS)
        return
    session.follow(accepted, title, watch=f"moor online-endpoint show -n {name}")
    session.emit(_view(session, name), COLUMNS)


def _view(session: Session, name: str) -> dict[str, Any]:
    return view_of(session.client.endpoint(name), session.client.deployments(name))


def _tables(
    live: tuple[str, ...], mirrored: tuple[str, ...]
) -> tuple[dict[str, int] | None, dict[str, int] | None]:
    return (
        traffic.parse(live) if live else None,
        traffic.parse(mirrored, flag="--mirror-traffic") if mirrored else None,
    )


def _apply(current: Mapping[str, int], given: Mapping[str, int]) -> dict[str, int]:
    return traffic.apply(current, given)


def _uses_keys(body: Mapping[str, Any]) -> bool:
    return str((body.get("properties") or {}).get("authMode") or "Key").lower() == "key"


def _warn_of_lost_traffic(session: Session, name: str, wanted: Mapping[str, int]) -> None:
    """`create` replaces everything, so a file without traffic takes a live endpoint off the air: say so."""
    try:
        existing = session.client.endpoint(name)
    except MooringsError as problem:
        if is_missing(problem):
            return
        raise
    before = {k: v for k, v in ((existing.get("properties") or {}).get("traffic") or {}).items() if v}
    if before and not any(wanted.values()):
        table = " ".join(f"{k}={v}" for k, v in before.items())
        session.warn(
            f"endpoint {name} exists and create replaces all its settings: its traffic ({table}) is off now. "
            f'Turn it on again: moor online-endpoint update -n {name} --traffic "{table}"'
        )


def _no_web(session: Session, web: bool) -> None:
    if web:
        session.warn("--web has no effect: there is no web page to open.")
