"""The rows of principals (identities of endpoints, users, service principals) and of what they may do."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from moorings.state import tables

SYSTEM_ASSIGNED = "system-assigned"
USER_ASSIGNED = "user-assigned"
SERVICE_PRINCIPAL = "service-principal"
USER = "user"


@dataclass(frozen=True)
class Principal:
    """Somebody who can be given roles."""

    id: str
    """Principal (object) id: what roles are given to."""
    kind: str
    name: str
    """Of a system-assigned identity: the name of its endpoint."""
    client_id: str
    """What programs know it by."""
    owner: str | None
    """Uid of the endpoint a system-assigned identity belongs to, and goes with."""
    body: Mapping[str, Any]
    secret: str | None
    """Of service principals: hashes of their secrets, as JSON."""
    created_at: float


@dataclass(frozen=True)
class Assignment:
    """One role of one principal at one scope."""

    id: str
    principal: str
    role: str
    scope: str
    automatic: bool
    """Made by the workspace for a system-assigned identity."""
    created_at: float
    created_by: str


class PrincipalRows:
    """The part of a transaction that is about principals and role assignments."""

    _connection: Connection
    now: float

    def principal(self, kind: str, name: str) -> Principal | None:
        t = tables.principals
        return self._one(t.c.kind == kind, t.c.name == name)

    def principal_by_id(self, id_: str) -> Principal | None:
        """By principal id or by client id."""
        t = tables.principals
        return self._one((t.c.id == id_) | (t.c.client_id == id_))

    def principal_of(self, endpoint_uid: str) -> Principal | None:
        """The system-assigned identity of an endpoint."""
        t = tables.principals
        return self._one(t.c.owner == endpoint_uid)

    def principals(self, *kinds: str) -> Sequence[Principal]:
        t = tables.principals
        query = select(t).where(t.c.kind.in_(kinds)).order_by(t.c.kind, t.c.name)
        return [_principal(row) for row in self._connection.execute(query)]

    def add_principal(
        self, kind: str, name: str, *, owner: str | None = None, body: Mapping[str, Any] | None = None
    ) -> Principal:
        row: dict[str, Any] = {"id": str(uuid.uuid4()), "kind": kind, "name": name, "owner": owner}
        row |= {"client_id": str(uuid.uuid4()), "body": dict(body or {}), "secret": None}
        row |= {"created_at": self.now}
        self._connection.execute(insert(tables.principals).values(**row))
        return Principal(**row)

    def change_principal(
        self, principal: Principal, *, body: Mapping[str, Any], secret: str | None
    ) -> Principal:
        t = tables.principals
        values = {"body": dict(body), "secret": secret}
        self._connection.execute(update(t).where(t.c.id == principal.id).values(**values))
        return Principal(**{**vars(principal), **values})

    def drop_principal(self, id_: str) -> None:
        """With all it was given: roles and places in the policies of vaults."""
        t, a, p = tables.principals, tables.role_assignments, tables.access_policies
        self._connection.execute(delete(t).where(t.c.id == id_))
        self._connection.execute(delete(a).where(a.c.principal == id_))
        self._connection.execute(delete(p).where(p.c.principal == id_))

    # --- role assignments ---

    def assignments(self, principal: str | None = None) -> Sequence[Assignment]:
        """Oldest first; of one principal, or all."""
        t = tables.role_assignments
        query = select(t).order_by(t.c.created_at, t.c.id)
        if principal is not None:
            query = query.where(t.c.principal == principal)
        return [_assignment(row) for row in self._connection.execute(query)]

    def assignment_count(self) -> int:
        return int(
            self._connection.execute(select(func.count()).select_from(tables.role_assignments)).scalar() or 0
        )

    def assignment(self, id_: str) -> Assignment | None:
        t = tables.role_assignments
        row = self._connection.execute(select(t).where(t.c.id == id_)).first()
        return None if row is None else _assignment(row)

    def assign(
        self,
        principal: str,
        role: str,
        scope: str,
        *,
        by: str,
        automatic: bool = False,
        id_: str | None = None,
    ) -> tuple[Assignment, bool]:
        """Give a role; what is there already stays as it is. And whether it is new."""
        t = tables.role_assignments
        for old in self.assignments(principal):
            if old.role == role and old.scope.lower() == scope.lower():
                return old, False
        row: dict[str, Any] = {"id": id_ or str(uuid.uuid4()), "principal": principal, "role": role}
        row |= {"scope": scope, "automatic": automatic, "created_at": self.now, "created_by": by}
        self._connection.execute(insert(t).values(**row))
        return Assignment(**row), True

    def unassign(self, id_: str) -> bool:
        t = tables.role_assignments
        return bool(self._connection.execute(delete(t).where(t.c.id == id_)).rowcount)

    def _one(self, *where: Any) -> Principal | None:
        row = self._connection.execute(select(tables.principals).where(*where)).first()
        return None if row is None else _principal(row)


def _principal(row: Row[Any]) -> Principal:
    return Principal(**row._mapping)


def _assignment(row: Row[Any]) -> Assignment:
    return Assignment(**row._mapping)
