"""What every operation on identities and role assignments means. No HTTP here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorings.errors.exceptions import error
from moorings.errors.sentence import verbatim
from moorings.security.places import Places
from moorings.security.roles import ROLES, role_named, scope_of
from moorings.spec.endpoint import EndpointSpec, Identity, UserAssignedIdentity
from moorings.spec.limits import MAX_ROLE_ASSIGNMENTS
from moorings.state.database import Database
from moorings.state.identities import assigned_identity, callers_changed, find_principal
from moorings.state.principal_rows import USER_ASSIGNED, Assignment, Principal
from moorings.state.transaction import ENDPOINT, Resource, Transaction

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-_]{2,127}")
_ASSIGNMENT = re.compile(r"[0-9a-fA-F\-]{36}")


@dataclass(frozen=True)
class Identities:
    database: Database
    places: Places

    # --- user-assigned identities ---

    def identities(self) -> list[Principal]:
        with self.database.read() as tx:
            return list(tx.principals(USER_ASSIGNED))

    def identity(self, name: str) -> Principal:
        with self.database.read() as tx:
            return _identity(tx, name)

    def put_identity(self, name: str, tags: Mapping[str, str]) -> tuple[Principal, bool]:
        """Make it, or set its tags; it keeps its ids. Raises `RequestInvalid` for a name that cannot be."""
        if _NAME.fullmatch(name) is None:
            message = f"{name!r} cannot be the name of an identity: 3 to 128 letters, digits, `-` and `_`"
            raise error(
                "RequestInvalid", message, target="name", fix=verbatim("moor identity create -n <name>")
            )
        with self.database.write() as tx:
            old = tx.principal(USER_ASSIGNED, name)
            if old is None:
                return tx.add_principal(USER_ASSIGNED, name, body={"tags": dict(tags)}), True
            return tx.change_principal(old, body={**old.body, "tags": dict(tags)}, secret=old.secret), False

    def delete_identity(self, name: str) -> bool:
        """With its roles. Raises `IdentityInUse` while an endpoint has it."""
        with self.database.write() as tx:
            found = tx.principal(USER_ASSIGNED, name)
            if found is None:
                return False
            for row in tx.resources(ENDPOINT):
                if assigned_identity(EndpointSpec.model_validate(row.spec)) == name:
                    message = f"endpoint {row.name} has the identity {name}"
                    raise error("IdentityInUse", message, target=name, fields={"endpoint": row.name})
            tx.drop_principal(found.id)
            callers_changed(tx)
            return True

    # --- role assignments ---

    def assignments(
        self, principal: str | None, scope: str | None
    ) -> list[tuple[Assignment, Principal | None]]:
        """Of one or all, at one scope or everywhere, each with whom it is for. Raises `PrincipalNotFound`,
        `ScopeInvalid`."""
        with self.database.read() as tx:
            who = None if principal is None else find_principal(tx, principal).id
            found = [(each, tx.principal_by_id(each.principal)) for each in tx.assignments(who)]
        if scope is None:
            return found
        at = self._scope(scope)[1]
        return [(each, whom) for each, whom in found if scope_of(each.scope) == at]

    def assign(
        self, principal: str, role: str, scope: str, *, by: str, id_: str | None = None
    ) -> tuple[Assignment, Principal, bool]:
        """Give a role; doing it again changes nothing. Raises `PrincipalNotFound`, `RoleUnknown`, `ScopeInvalid`,
        `RoleAssignmentQuotaReached`."""
        known = role_named(role)
        if known is None:
            names = ", ".join(each.name for each in ROLES.values())
            raise error(
                "RoleUnknown", f"there is no role {role!r}", target="role", evidence=(f"roles: {names}",)
            )
        where, _ = self._scope(scope)
        if id_ is not None and _ASSIGNMENT.fullmatch(id_) is None:
            raise error("RequestInvalid", f"{id_!r} is no id of a role assignment (a UUID)", target="id")
        with self.database.write() as tx:
            whom = find_principal(tx, principal)
            made, new = tx.assign(whom.id, known.name, where, by=by, id_=id_)
            if new:
                check_room_for_roles(tx, 0, target=whom.name)
                callers_changed(tx)
            return made, whom, new

    def unassign(self, id_: str) -> bool:
        with self.database.write() as tx:
            gone = tx.unassign(id_)
            if gone:
                callers_changed(tx)
            return gone

    def _scope(self, text: str) -> tuple[str, Any]:
        """The id a scope is kept as. Short forms: `workspace`, `registry`, `storage`, `keyvault/<name>`,
        `endpoint/<name>`."""
        kind, _, name = text.strip().partition("/")
        short = {
            "workspace": self.places.workspace,
            "registry": self.places.registry,
            "storage": self.places.storage,
            "keyvault": self.places.vault(name or self.places.vault_name),
        }.get(kind.lower())
        if kind.lower() == "endpoint" and name:
            short = self.places.endpoint(name)
        wanted = short or text.strip()
        try:
            return wanted, scope_of(wanted)
        except ValueError as problem:
            raise error("ScopeInvalid", f"{text!r} cannot be a scope: {problem}", target="scope") from None


def check_room_for_roles(tx: Transaction, more: int, *, target: str) -> None:
    """Whether so many more role assignments may be made. Raises `RoleAssignmentQuotaReached`."""
    there = tx.assignment_count()
    if there + more > MAX_ROLE_ASSIGNMENTS:
        needs = f"{target} needs {more} more" if more else f"one more, for {target}, is too many"
        message = f"the workspace may have {MAX_ROLE_ASSIGNMENTS} role assignments, and {needs}"
        evidence = (f"role assignments: {there if more else there - 1}",)
        raise error("RoleAssignmentQuotaReached", message, target=target, evidence=evidence)


def identity_kept(tx: Transaction, old: Resource | None, spec: EndpointSpec, places: Places) -> EndpointSpec:
    """The spec of an endpoint with its identity in the form it is kept in.

    Raises `ImmutableProperty` for another one than it was created with, `IdentityNotFound`.
    """
    name = assigned_identity(spec)
    if old is not None:
        before = EndpointSpec.model_validate(old.spec)
        if spec.identity is None:
            return spec.model_copy(update={"identity": before.identity})
        had = assigned_identity(before)
        if had != name:
            shown = "system-assigned" if had is None else f"the user-assigned {had}"
            message = f"the identity of endpoint {spec.name} is {shown} and cannot change"
            raise error("ImmutableProperty", message, target="identity")
    if name is None:
        return spec
    _identity(tx, name)
    kept = UserAssignedIdentity(resource_id=places.identity(name))
    return spec.model_copy(
        update={"identity": Identity(type="user_assigned", user_assigned_identities=(kept,))}
    )


def _identity(tx: Transaction, name: str) -> Principal:
    found = tx.principal(USER_ASSIGNED, name)
    if found is None:
        message = f"the workspace has no user-assigned identity {name}"
        raise error("IdentityNotFound", message, target=name, fields={"name": name})
    return found
