"""`moor ad ...`, `moor account ...`, `moor audit ...`: callers of the control API, their tokens, and what they did."""

from __future__ import annotations

import click

from moorings.cli.commands import flags
from moorings.cli.framework import SeveralOption, leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session

SP, USERS = "servicePrincipals", "users"
COLUMNS: Columns = (
    ("Name", lambda c: c.get("displayName")),
    ("PrincipalId", lambda c: c.get("id")),
    ("AppId", lambda c: c.get("appId")),
)
RECORDS: Columns = (
    ("At", lambda r: r.get("at")),
    ("Who", lambda r: r.get("who")),
    ("Action", lambda r: str(r.get("action")).partition("/")[2]),
    ("Target", lambda r: str(r.get("target")).partition("/providers/")[2]),
    ("Result", lambda r: r.get("result")),
    ("Status", lambda r: r.get("status")),
)


def _name(*more: str) -> click.Option:
    names = ["--name", "-n", "--display-name", "--id", *more, "name"]
    return click.Option(names, metavar="NAME", required=True, help="Its name (or id).")


@leaf("create", "Create a service principal; prints its secret, this once.", _name())
def sp_create(session: Session, name: str) -> None:
    session.emit(session.access.create_caller(SP, name), COLUMNS)


@leaf(
    "create-for-rbac",
    "Create a service principal with a role; prints its secret, this once.",
    _name(),
    click.Option(["--role"], metavar="NAME", help="The role to give."),
    SeveralOption(["--scopes"], metavar="ID ...", help="Where; as `moor role assignment create --scope`."),
)
def sp_create_for_rbac(session: Session, name: str, role: str | None, scopes: tuple[str, ...]) -> None:
    made = session.access.create_caller(SP, name)
    for scope in scopes or (("workspace",) if role else ()):
        session.access.assign_role(made["id"], role or "Contributor", scope)
    session.emit(made, COLUMNS)


@leaf("show", "Show a service principal.", _name())
def sp_show(session: Session, name: str) -> None:
    session.emit(session.access.caller(SP, name), COLUMNS)


@leaf("list", "List the service principals.")
def sp_list(session: Session) -> None:
    session.emit(session.access.callers(SP), COLUMNS)


@leaf("reset", "Give a service principal a new secret in place of the old ones.", _name())
def sp_reset(session: Session, name: str) -> None:
    session.emit(session.access.reset_caller(name), COLUMNS)


@leaf("delete", "Delete a service principal with its roles.", _name(), flags.yes())
def sp_delete(session: Session, name: str, yes: bool) -> None:
    _delete(session, SP, name, yes, f"moor ad sp delete -n {name} --yes")


@leaf("create", "Create a user. What they may do is said by roles.", _name())
def user_create(session: Session, name: str) -> None:
    session.emit(session.access.create_caller(USERS, name), COLUMNS)


@leaf("show", "Show a user.", _name())
def user_show(session: Session, name: str) -> None:
    session.emit(session.access.caller(USERS, name), COLUMNS)


@leaf("list", "List the users.")
def user_list(session: Session) -> None:
    session.emit(session.access.callers(USERS), COLUMNS)


@leaf("delete", "Delete a user with their roles.", _name(), flags.yes())
def user_delete(session: Session, name: str, yes: bool) -> None:
    _delete(session, USERS, name, yes, f"moor ad user delete -n {name} --yes")


@leaf(
    "get-access-token",
    "Print a token for a user or a service principal; it holds for an hour.",
    click.Option(["--principal", "--user"], metavar="NAME", required=True, help="Whom it is for."),
    click.Option(["--resource", "--scope"], metavar="URL", help="What it is for; default: the control API."),
)
def account_get_access_token(session: Session, principal: str, resource: str | None) -> None:
    session.emit(session.access.token_for(principal, resource))


@leaf(
    "list",
    "Print the last records of the audit log, oldest first.",
    click.Option(
        ["--lines", "-l"],
        type=click.IntRange(min=1, max=10_000),
        default=100,
        show_default=True,
        help="How many.",
    ),
    click.Option(["--who"], metavar="NAME", help="Only what this caller did."),
)
def audit_list(session: Session, lines: int, who: str | None) -> None:
    found = session.access.audit(lines)
    if found.get("brokenAt"):
        session.warn(f"a line of the audit log was changed or taken out: {found['brokenAt']}")
    records = [each for each in found.get("value") or () if who in (None, each.get("who"))]
    session.emit(records, RECORDS)


def _delete(session: Session, kind: str, name: str, yes: bool, command: str) -> None:
    session.confirm(f"Delete {name} with all roles?", yes=yes, command=command)
    if not session.access.delete_caller(kind, name):
        session.say(f"There was no {name}.")
