"""`moor role ...`: role assignments and definitions; flags in, client calls, result out."""

from __future__ import annotations

from typing import Any

import click

from moorings.cli.commands import flags
from moorings.cli.framework import SeveralOption, leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.errors.exceptions import error

ASSIGNMENTS: Columns = (
    ("Principal", lambda a: a.get("principalName") or a.get("principalId")),
    ("Kind", lambda a: a.get("principalType")),
    ("Role", lambda a: a.get("roleDefinitionName")),
    ("Scope", lambda a: _short(str(a.get("scope") or ""))),
    ("By", lambda a: a.get("createdBy")),
)
DEFINITIONS: Columns = (("Role", lambda r: r.get("roleName")), ("Gives", lambda r: r.get("description")))


def _assignee(*, required: bool) -> click.Option:
    return click.Option(
        ["--assignee", "--assignee-object-id", "assignee"],
        metavar="PRINCIPAL",
        required=required,
        help="Principal id, client id or name.",
    )


def _role(*, required: bool) -> click.Option:
    return click.Option(
        ["--role"], metavar="NAME", required=required, help='Such as AcrPull or "Storage Blob Data Reader".'
    )


def _scope(*, required: bool) -> click.Option:
    return click.Option(
        ["--scope"],
        metavar="ID",
        required=required,
        help="An id (moor workspace show), or: workspace, registry, storage, keyvault/NAME, endpoint/NAME.",
    )


@leaf(
    "create",
    "Give somebody a role at a scope. Giving it again changes nothing.",
    _assignee(required=True),
    _role(required=True),
    _scope(required=True),
    click.Option(["--assignee-principal-type"], hidden=True),
)
def assignment_create(
    session: Session, assignee: str, role: str, scope: str, assignee_principal_type: str | None
) -> None:
    session.emit(view(session.access.assign_role(assignee, role, scope)), ASSIGNMENTS)


@leaf(
    "list",
    "List who has which role where.",
    _assignee(required=False),
    _role(required=False),
    _scope(required=False),
    click.Option(["--all", "all_"], is_flag=True, help="Accepted: without a scope all are listed."),
)
def assignment_list(
    session: Session, assignee: str | None, role: str | None, scope: str | None, all_: bool
) -> None:
    session.emit(_found(session, assignee, role, scope), ASSIGNMENTS)


@leaf(
    "delete",
    "Take roles away: those that all of the flags given fit. What runs goes on; what starts later has them no more.",
    _assignee(required=False),
    _role(required=False),
    _scope(required=False),
    SeveralOption(["--ids"], metavar="ID ...", help="Ids of the assignments, as the list shows them."),
    flags.yes(),
)
def assignment_delete(
    session: Session,
    assignee: str | None,
    role: str | None,
    scope: str | None,
    ids: tuple[str, ...],
    yes: bool,
) -> None:
    if not ids and assignee is None and scope is None:
        raise error("RoleAssignmentNotFound", "--assignee, --scope or --ids is needed", target="--assignee")
    wanted = [each.rpartition("/")[2] for each in ids]
    if not wanted:
        wanted = [str(each["name"]) for each in _found(session, assignee, role, scope)]
    if not wanted:
        raise error("RoleAssignmentNotFound", "no role assignment fits these flags", target="--assignee")
    for id_ in wanted:
        if not session.access.unassign_role(id_):
            raise error("RoleAssignmentNotFound", f"there is no role assignment {id_}", target="--ids")
    session.say(f"{len(wanted)} role assignment{'' if len(wanted) == 1 else 's'} taken away.")


@leaf(
    "list",
    "List the roles there are, and what they give.",
    click.Option(["--name", "-n"], help="Only this one."),
)
def definition_list(session: Session, name: str | None) -> None:
    found = session.access.role_definitions()
    session.emit([each for each in found if name in (None, each["roleName"])], DEFINITIONS)


def view(body: dict[str, Any]) -> dict[str, Any]:
    """Flat, as scripts of the ecosystem read it."""
    return {"id": body.get("id"), "name": body.get("name"), **(body.get("properties") or {})}


def _found(
    session: Session, assignee: str | None, role: str | None, scope: str | None
) -> list[dict[str, Any]]:
    found = [view(each) for each in session.access.role_assignments(assignee=assignee, scope=scope)]
    return [each for each in found if role is None or each["roleDefinitionName"].lower() == role.lower()]


def _short(scope: str) -> str:
    return scope.partition("/providers/")[2] or scope
