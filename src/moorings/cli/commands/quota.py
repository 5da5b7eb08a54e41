"""`moor quota ...`: what the workspace may use, who holds it, and what a deployment needs of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from moorings.cli import specs
from moorings.cli.commands import flags
from moorings.cli.framework import leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.client import quota as remote
from moorings.errors.exceptions import error
from moorings.errors.language import label
from moorings.errors.sentence import sentence
from moorings.spec import quota
from moorings.spec.quota import figure

NO_LIMIT = "none"

USAGES: Columns = (
    ("Name", lambda u: u["name"]),
    ("Limit", lambda u: figure(u["name"], u["limit"])),
    ("Used", lambda u: figure(u["name"], u["used"])),
    ("Free", lambda u: figure(u["name"], u["free"])),
    ("Quota", lambda u: "" if u["quota"] is None else figure(u["name"], u["quota"])),
    ("Held by", lambda u: _holders(u["name"], u["holders"])),
)
LIMITS: Columns = (
    ("Name", lambda line: line["name"]),
    ("Set by", lambda line: line["source"]),
    ("Limit", lambda line: figure(line["name"], line["limit"])),
    ("Free", lambda line: figure(line["name"], line["free"])),
    ("Needed", lambda line: figure(line["name"], line["needed"])),
    ("Fits", lambda line: "no" if line["short"] else "yes"),
    ("Held by", lambda line: _holders(line["name"], line["holders"])),
)
HOLDERS: Columns = (
    ("Deployment", lambda one: one["deployment"]),
    ("Holds", lambda one: one["holds"]),
    ("Instances", lambda one: one["instances"]),
)


def _resource_name(*, required: bool) -> click.Option:
    return click.Option(
        ["--resource-name", "--family", "resource_name"],
        metavar="NAME",
        required=required,
        help=f"A family, as `moor compute list-sizes` shows it, or {quota.CORES}: vCPUs of all families.",
    )


@leaf(
    "list",
    "List what the workspace may use, what is used, and by which deployments.",
    click.Option(["--all", "all_"], is_flag=True, help="Families too of which nothing is used or set."),
)
def list_(session: Session, all_: bool) -> None:
    found = [_usage(one) for one in remote.usages(session.client)]
    basic = (quota.CORES, quota.MEMORY, quota.GPUS)
    shown = [one for one in found if all_ or one["name"] in basic or one["used"] or one["quota"] is not None]
    session.emit(shown, USAGES, usual="table")


@leaf(
    "show",
    "Show who holds a quota (--resource-name), or what a deployment needs, with what is kept free for its updates, and "
    "whether that fits (-f, or -e and -n).",
    _resource_name(required=False),
    flags.file(what="deployment"),
    flags.deployment_name(),
    flags.endpoint_name("--endpoint-name", "-e"),
    flags.set_(),
)
def show(
    session: Session,
    resource_name: str | None,
    file: Path | None,
    name: str | None,
    endpoint_name: str | None,
    set_: tuple[str, ...],
) -> None:
    if resource_name is not None:
        if file is not None or name is not None:
            fields = {"command": f"moor quota show --resource-name {resource_name}"}
            raise error("FlagsExclusive", "--resource-name is about no single deployment", fields=fields)
        _show_holders(session, resource_name)
    elif file is not None:
        spec = specs.deployment_to_create(
            file, name, endpoint_name, session.defaults.get("endpoint"), set_
        ).valid()
        _show_fit(session, remote.would_fit(session.client, spec))
    elif name is not None:
        endpoint = session.endpoint_name(endpoint_name, "--endpoint-name")
        _show_fit(session, session.client.check_quota(endpoint, name, {}))
    else:
        raise click.UsageError("give --resource-name, or -f, or -e and -n")


@leaf(
    "set",
    "Limit the vCPUs that deployments of a family, or of all (cores), may hold.",
    _resource_name(required=True),
    click.Option(
        ["--limit"],
        required=True,
        metavar="VCPUS",
        help=f"Most vCPUs; `{NO_LIMIT}`: no quota of its own, only what the machine has.",
    ),
)
def set_(session: Session, resource_name: str, limit: str) -> None:
    most: int | None = None
    if limit.lower() != NO_LIMIT:
        if not (limit.isascii() and limit.isdigit()) or len(limit) > 9:
            command = f"moor quota set --resource-name {resource_name} --limit 24"
            fix = sentence("Give a whole number: {command}", command=command)
            message = f"--limit {limit!r}: expected a whole number of vCPUs, or {NO_LIMIT}"
            raise error("QuotaLimitInvalid", message, target="--limit", fix=fix)
        most = int(limit)
    remote.set_quotas(session.client, {resource_name: most})
    session.emit(_find(session, resource_name), USAGES, usual="table")


def _usage(body: dict[str, Any]) -> dict[str, Any]:
    ours = body["moorings"]
    return {
        "name": body["name"]["value"],
        "localized_name": body["name"]["localizedValue"],
        "limit": body["limit"],
        "used": body["currentValue"],
        "free": ours["free"],
        "quota": ours["quota"],
        "holders": ours["holders"],
    }


def _find(session: Session, name: str) -> dict[str, Any]:
    found = [_usage(one) for one in remote.usages(session.client)]
    for one in found:
        if one["name"].lower() == name.lower():
            return one
    names = ", ".join(one["name"] for one in found)
    fix = sentence("Name one of them: {command}", command="moor quota show --resource-name cores")
    message = f"there is no quota named {name!r}"
    raise error("QuotaLimitInvalid", message, target=name, evidence=(f"names: {names}",), fix=fix)


def _show_holders(session: Session, name: str) -> None:
    found = _find(session, name)
    if session.options.output not in (None, "table") or session.options.query is not None:
        session.emit(found)
        return
    session.emit(found, USAGES[:5], usual="table")
    holders = [
        {
            "deployment": one["deployment"],
            "holds": figure(found["name"], one["amount"]),
            "instances": ", ".join(f"{p['counted']} x {p['instanceType']}" for p in one["instances"]),
        }
        for one in found["holders"]
    ]
    if holders:
        click.echo()
        session.emit(holders, HOLDERS, usual="table")


def _show_fit(session: Session, found: dict[str, Any]) -> None:
    if session.options.output not in (None, "table") or session.options.query is not None:
        session.emit(found)
        return
    session.emit(found["limits"], LIMITS, usual="table")
    verdict = "It fits." if found["fits"] else f"It does not fit: {found['error']['message']}"
    session.say(f"{found['deployment']} needs {found['needs']['said']}. {verdict}")
    for info in (found["error"] or {}).get("additionalInfo", ()):
        session.say(f"{label('fix_short', session.language)} {info['info']['fix']}")


def _holders(name: str, holders: list[dict[str, Any]]) -> str:
    return ", ".join(f"{one['deployment']} {figure(name, one['amount'])}" for one in holders)
