"""What can be done to the state in one transaction: resources, secrets, assets, operations, events. Rows in, values out."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, Text, cast, delete, func, insert, null, or_, select, update

from moorings.spec.quota import Count
from moorings.state import tables
from moorings.state.asset_rows import Asset, AssetRows
from moorings.state.blob_rows import BlobRows
from moorings.state.holding_rows import HoldingRows, counts_of
from moorings.state.lease_rows import LeaseRows
from moorings.state.principal_rows import PrincipalRows
from moorings.state.quota_rows import QuotaRows
from moorings.state.secret_rows import SecretRows

__all__ = ["Asset", "Event", "Mark", "Operation", "OperationStatus", "Resource", "Transaction"]

ENDPOINT = "endpoint"
ROLLOUT = "rollout"
DEPLOYMENT = "deployment"

KEEP_OPERATIONS_S = 7 * 24 * 3600.0
KEEP_EVENTS = 200
"""Events kept per resource."""


class OperationStatus(StrEnum):
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELED = "Canceled"


@dataclass(frozen=True)
class Resource:
    """An endpoint (`name` = its name) or a deployment (`name` = `<endpoint>/<deployment>`): desired and observed."""

    kind: str
    name: str
    uid: str
    """Changes when a resource is deleted and made again under the same name."""
    generation: int
    """Counts accepted changes, from 1."""
    accepted_at: float
    """When this generation was accepted; Unix seconds."""
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    deleting: bool
    created_at: float
    updated_at: float
    earlier: Mapping[str, Any] | None = None
    """What it held when this desired state was accepted (`spec/quota.py`); written with the desired state alone."""
    autoscale: Mapping[str, Any] | None = None
    """The autoscale setting of a deployment (the document of the API); None: it has none."""
    scale: Mapping[str, Any] | None = None
    """What the scaler has decided last: `count`, `at` (Unix seconds), `reason`, `message`."""


@dataclass(frozen=True)
class Mark:
    """What differs whenever there is something new to do for a resource."""

    uid: str
    generation: int
    deleting: bool
    autoscale: Mapping[str, Any] | None
    scale: Mapping[str, Any] | None
    waiting: bool = False
    """Whether an operation on it goes on."""

    @staticmethod
    def of(row: Resource, *, waiting: bool) -> Mark:
        return Mark(row.uid, row.generation, row.deleting, row.autoscale, row.scale, waiting)


@dataclass(frozen=True)
class Operation:
    """A long-running request a client can poll."""

    id: str
    verb: str
    kind: str
    name: str
    uid: str
    generation: int
    status: OperationStatus
    started_at: float
    ended_at: float | None
    error: Mapping[str, Any] | None


@dataclass(frozen=True)
class Event:
    """What happened to a resource, and why."""

    at: float
    reason: str
    message: str


class Transaction(AssetRows, BlobRows, HoldingRows, LeaseRows, PrincipalRows, QuotaRows, SecretRows):
    """Handed out by `Database.read()` and `Database.write()`; not to be kept."""

    # --- resources ---

    def resource(self, kind: str, name: str) -> Resource | None:
        t = tables.resources
        row = self._connection.execute(select(t).where(t.c.kind == kind, t.c.name == name)).first()
        return None if row is None else _resource(row)

    def resources(self, kind: str, *, below: str | None = None) -> Sequence[Resource]:
        """All of a kind, sorted by name; `below` an endpoint: only its deployments."""
        t = tables.resources
        query = select(t).where(t.c.kind == kind).order_by(t.c.name)
        if below is not None:
            # All that begin with "<below>/", told by the order of characters: "0" is the one after "/".
            query = query.where(t.c.name > f"{below}/", t.c.name < f"{below}0")
        return [_resource(row) for row in self._connection.execute(query)]

    def may_scale(self, text: str) -> Sequence[Resource]:
        """Deployments that have an autoscale setting, or this text anywhere in their spec; sorted by name."""
        t = tables.resources
        said = or_(t.c.autoscale.is_not(null()), cast(t.c.spec, Text).contains(text, autoescape=True))
        query = select(t).where(t.c.kind == DEPLOYMENT, said).order_by(t.c.name)
        return [_resource(row) for row in self._connection.execute(query)]

    def marks(self, kind: str, name: str | None = None) -> dict[str, Mark]:
        """What tells whether resources are still as they were, by name, sorted: of all of a kind, or of one. Far cheaper than
        to read them."""
        t, o = tables.resources, tables.operations
        going = select(o.c.name).where(o.c.kind == kind, o.c.status == OperationStatus.IN_PROGRESS)
        query = select(t.c.name, t.c.uid, t.c.generation, t.c.deleting, t.c.autoscale, t.c.scale)
        query = query.where(t.c.kind == kind).order_by(t.c.name)
        if name is not None:
            going, query = going.where(o.c.name == name), query.where(t.c.name == name)
        waiting = set(self._connection.execute(going).scalars())
        return {row[0]: Mark(*row[1:], row[0] in waiting) for row in self._connection.execute(query)}

    def names(self, kind: str) -> Sequence[str]:
        """Of all of a kind, sorted: a list that is asked for every second must not decode what they hold."""
        t = tables.resources
        return list(
            self._connection.execute(select(t.c.name).where(t.c.kind == kind).order_by(t.c.name)).scalars()
        )

    def count(self, kind: str, *, below: str | None = None) -> int:
        """How many there are of a kind; `below` an endpoint: only its own."""
        t = tables.resources
        query = select(func.count()).select_from(t).where(t.c.kind == kind)
        if below is not None:
            query = query.where(t.c.name > f"{below}/", t.c.name < f"{below}0")
        return int(self._connection.execute(query).scalar_one())

    def put(
        self,
        kind: str,
        name: str,
        spec: Mapping[str, Any],
        *,
        touch: bool = False,
        earlier: Mapping[str, Any] | None = None,
    ) -> Resource:
        """Accept `spec` as the desired state: a new generation when it differs (or `touch`), else nothing changes.

        A resource that is being deleted is desired again, under the same uid. `earlier` is stored with a new
        generation of a resource that is there already.
        """
        t = tables.resources
        old = self.resource(kind, name)
        if old is None:
            row = {"kind": kind, "name": name, "uid": str(uuid.uuid4()), "generation": 1, "spec": dict(spec)}
            row |= {"status": {}, "deleting": False, "accepted_at": self.now}
            self._connection.execute(insert(t).values(**row, created_at=self.now, updated_at=self.now))
        elif touch or old.deleting or dict(old.spec) != dict(spec):
            self._connection.execute(
                update(t)
                .where(t.c.kind == kind, t.c.name == name)
                .values(
                    spec=dict(spec),
                    generation=old.generation + 1,
                    accepted_at=self.now,
                    deleting=False,
                    updated_at=self.now,
                    earlier=None if earlier is None else dict(earlier),
                    # What is desired anew begins anew: what scaled it went with the deletion.
                    **({"autoscale": null(), "scale": null()} if old.deleting else {}),
                )
            )
        found = self.resource(kind, name)
        if found is None:
            raise AssertionError("a resource vanished inside its own transaction")
        self._count(found)
        return found

    def mark_deleting(self, kind: str, name: str) -> Resource | None:
        """Ask for the resource to go; None when it is not there. Asking again changes nothing."""
        t = tables.resources
        old = self.resource(kind, name)
        if old is None or old.deleting:
            return old
        self._connection.execute(
            update(t)
            .where(t.c.kind == kind, t.c.name == name)
            .values(deleting=True, generation=old.generation + 1, accepted_at=self.now, updated_at=self.now)
        )
        return self.resource(kind, name)

    def set_status(self, resource: Resource, status: Mapping[str, Any]) -> bool:
        """Write what was observed, unless the resource was deleted (and perhaps made again) meanwhile."""
        t = tables.resources
        done = self._connection.execute(
            update(t)
            .where(t.c.kind == resource.kind, t.c.name == resource.name, t.c.uid == resource.uid)
            .values(status=dict(status))
        )
        if done.rowcount:
            self._count(self.resource(resource.kind, resource.name))
        return bool(done.rowcount)

    def set_autoscale(self, resource: Resource, setting: Mapping[str, Any] | None) -> None:
        """Keep the autoscale setting of a deployment; None takes it away."""
        if self._set_column(resource, "autoscale", setting):
            self._count(self.resource(resource.kind, resource.name))

    def set_scale(self, resource: Resource, decided: Mapping[str, Any] | None) -> bool:
        """Write what the scaler has decided, unless the deployment is gone or has changed since `resource` was read."""
        return self._set_column(resource, "scale", decided)

    def _set_column(self, resource: Resource, column: str, value: Mapping[str, Any] | None) -> bool:
        t = tables.resources
        stored = None if value is None else dict(value)
        done = self._connection.execute(
            update(t)
            .where(
                t.c.kind == resource.kind,
                t.c.name == resource.name,
                t.c.uid == resource.uid,
                t.c.generation == resource.generation,
            )
            .values({column: null() if stored is None else stored})
        )
        return bool(done.rowcount)

    def drop(self, resource: Resource) -> bool:
        """Forget a deleted resource with its secrets and its own identity, unless it has been desired again meanwhile."""
        t, s = tables.resources, tables.secrets
        where = (t.c.kind == resource.kind, t.c.name == resource.name, t.c.uid == resource.uid, t.c.deleting)
        done = self._connection.execute(delete(t).where(*where))
        if not done.rowcount:
            return False
        if resource.kind == DEPLOYMENT:
            self.hold(resource.name, ())
        self._connection.execute(delete(s).where(s.c.owner == _owner(resource.kind, resource.name)))
        identity = self.principal_of(resource.uid)
        if identity is not None:
            self.drop_principal(identity.id)
        return True

    def forget(self, resource: Resource) -> None:
        """Drop the row of a resource that nothing runs for."""
        t = tables.resources
        where = (t.c.kind == resource.kind, t.c.name == resource.name, t.c.uid == resource.uid)
        self._connection.execute(delete(t).where(*where))

    # --- what deployments hold ---

    def recount(self) -> int:
        """Have the rows of holdings say what those of deployments do; returns for how many they did not."""
        wanted = {row.name: _held_by(row) for row in self.resources(DEPLOYMENT)}
        before = self.holdings()
        wrong = [name for name in {**wanted, **before} if wanted.get(name, ()) != before.get(name, ())]
        for name in wrong:
            self.hold(name, wanted.get(name, ()))
        return len(wrong)

    def _count(self, row: Resource | None) -> None:
        """Whatever it follows from may have changed."""
        if row is not None and row.kind == DEPLOYMENT:
            self.hold(row.name, _held_by(row))

    # --- secrets (already encrypted) ---

    def secret_values(self, kind: str, name: str) -> dict[str, str]:
        s = tables.secrets
        rows = self._connection.execute(select(s.c.name, s.c.value).where(s.c.owner == _owner(kind, name)))
        return {row.name: row.value for row in rows}

    def set_secret(self, kind: str, name: str, secret: str, value: str) -> None:
        s = tables.secrets
        owner = _owner(kind, name)
        self._connection.execute(delete(s).where(s.c.owner == owner, s.c.name == secret))
        self._connection.execute(insert(s).values(owner=owner, name=secret, value=value))

    # --- operations ---

    def start_operation(self, verb: str, resource: Resource) -> Operation:
        """Record a request; running ones on the same resource for an older generation are taken over (Canceled)."""
        t = tables.operations
        canceled = {
            "code": "OperationCanceled",
            "message": f"a newer {verb} of {resource.kind} {resource.name} took the place of this operation",
        }
        self._connection.execute(
            update(t)
            .where(
                t.c.kind == resource.kind,
                t.c.name == resource.name,
                t.c.status == OperationStatus.IN_PROGRESS,
                t.c.generation < resource.generation,
            )
            .values(status=OperationStatus.CANCELED, ended_at=self.now, error=canceled)
        )
        row: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "verb": verb,
            "kind": resource.kind,
            "name": resource.name,
            "uid": resource.uid,
            "generation": resource.generation,
            "status": OperationStatus.IN_PROGRESS,
            "started_at": self.now,
            "ended_at": None,
            "error": None,
        }
        self._connection.execute(insert(t).values(**row))
        ended = [each for each in OperationStatus if each is not OperationStatus.IN_PROGRESS]
        old = (t.c.started_at < self.now - KEEP_OPERATIONS_S, t.c.status.in_(ended))
        self._connection.execute(delete(t).where(*old))
        return Operation(**row)

    def operation(self, id_: str) -> Operation | None:
        t = tables.operations
        row = self._connection.execute(select(t).where(t.c.id == id_)).first()
        return None if row is None else _operation(row)

    def running_operations(self, kind: str, name: str) -> Sequence[Operation]:
        t = tables.operations
        where = (t.c.kind == kind, t.c.name == name, t.c.status == OperationStatus.IN_PROGRESS)
        return [_operation(row) for row in self._connection.execute(select(t).where(*where))]

    def finish_operations(
        self, resource: Resource, status: OperationStatus, error: Mapping[str, Any] | None = None
    ) -> int:
        """End every running operation of the resource up to its generation; returns how many there were."""
        t = tables.operations
        done = self._connection.execute(
            update(t)
            .where(
                t.c.kind == resource.kind,
                t.c.name == resource.name,
                t.c.status == OperationStatus.IN_PROGRESS,
                t.c.generation <= resource.generation,
            )
            .values(status=status, ended_at=self.now, error=dict(error) if error else None)
        )
        return int(done.rowcount)

    # --- events ---

    def add_event(self, kind: str, name: str, reason: str, message: str) -> None:
        t = tables.events
        text = message.replace("\0", "\ufffd").encode("utf-8", "replace").decode()  # it may quote anything
        row = {"at": self.now, "kind": kind, "name": name, "reason": reason, "message": text}
        self._connection.execute(insert(t).values(**row))
        mine = select(t.c.id).where(t.c.kind == kind, t.c.name == name)
        newest = mine.order_by(t.c.id.desc()).limit(KEEP_EVENTS)
        self._connection.execute(
            delete(t).where(t.c.kind == kind, t.c.name == name, t.c.id.not_in(newest.scalar_subquery()))
        )

    def events(self, kind: str, name: str) -> Sequence[Event]:
        """Oldest first."""
        t = tables.events
        query = select(t).where(t.c.kind == kind, t.c.name == name).order_by(t.c.id)
        return [Event(row.at, row.reason, row.message) for row in self._connection.execute(query)]


def _held_by(row: Resource) -> tuple[Count, ...]:
    return counts_of(row.spec, row.earlier, row.status, row.autoscale)


def _owner(kind: str, name: str) -> str:
    return f"{kind}:{name}"


def _resource(row: Row[Any]) -> Resource:
    return Resource(**row._mapping)


def _operation(row: Row[Any]) -> Operation:
    values = dict(row._mapping)
    return Operation(**{**values, "status": OperationStatus(values["status"])})
