"""Which principal acts for an endpoint, and that each endpoint has one."""

from __future__ import annotations

from collections.abc import Sequence

from moorings.errors.exceptions import error
from moorings.spec.endpoint import AuthMode, EndpointSpec
from moorings.state.principal_rows import (
    SERVICE_PRINCIPAL,
    SYSTEM_ASSIGNED,
    USER,
    USER_ASSIGNED,
    Principal,
)
from moorings.state.transaction import ENDPOINT, Resource, Transaction

KINDS = (USER_ASSIGNED, SERVICE_PRINCIPAL, USER, SYSTEM_ASSIGNED)
WORKSPACE_ITSELF = "workspace"
"""Who gives the roles that come by themselves."""


def identity_name(resource_id: str) -> str:
    """The name of a user-assigned identity: the last part of its id, or the name itself."""
    return resource_id.strip().rstrip("/").rpartition("/")[2]


def assigned_identity(spec: EndpointSpec) -> str | None:
    """The name of the user-assigned identity that a spec names; None: the endpoint has one of its own."""
    identity = spec.identity
    if identity is None or identity.type != "user_assigned" or not identity.user_assigned_identities:
        return None
    return identity_name(identity.user_assigned_identities[0].resource_id)


def identity_of(tx: Transaction, endpoint: Resource) -> Principal | None:
    """Who acts for the endpoint: pulls its images, reads its models and secrets. None: it is no longer there."""
    name = assigned_identity(EndpointSpec.model_validate(endpoint.spec))
    if name is not None:
        return tx.principal(USER_ASSIGNED, name)
    return tx.principal_of(endpoint.uid)


def ensure_own_identity(
    tx: Transaction, endpoint: Resource, roles: Sequence[tuple[str, str]]
) -> Principal | None:
    """Make the system-assigned identity of an endpoint, with `roles` (role, scope), unless it is there. None for an
    endpoint that has a user-assigned one."""
    if assigned_identity(EndpointSpec.model_validate(endpoint.spec)) is not None:
        return None
    found = tx.principal_of(endpoint.uid)
    if found is not None:
        return found
    stale = tx.principal(SYSTEM_ASSIGNED, endpoint.name)
    if stale is not None:
        tx.drop_principal(stale.id)
    made = tx.add_principal(SYSTEM_ASSIGNED, endpoint.name, owner=endpoint.uid)
    for role, scope in roles:
        tx.assign(made.id, role, scope, by=WORKSPACE_ITSELF, automatic=True)
    return made


def ensure_own_identities(tx: Transaction, roles: Sequence[tuple[str, str]]) -> int:
    """The same for all endpoints: those of a workspace made before there were identities. How many were made."""
    made = 0
    for endpoint in tx.resources(ENDPOINT):
        if not endpoint.deleting and tx.principal_of(endpoint.uid) is None:
            made += ensure_own_identity(tx, endpoint, roles) is not None
    return made


def callers_changed(tx: Transaction) -> None:
    """Who may call endpoints by role is published anew; those that go by it get a new generation."""
    for row in tx.resources(ENDPOINT):
        if not row.deleting and EndpointSpec.model_validate(row.spec).auth_mode is AuthMode.AAD_TOKEN:
            tx.put(ENDPOINT, row.name, row.spec, touch=True)


def find_principal(tx: Transaction, text: str) -> Principal:
    """Whoever `text` names: a principal id, a client id, the id of a user-assigned identity, or a name.

    Raises `PrincipalNotFound` (the user's fault), also for a name that several have.
    """
    wanted = text.strip()
    found = tx.principal_by_id(wanted)
    if found is not None:
        return found
    name = identity_name(wanted) or wanted
    named = [p for kind in KINDS if (p := tx.principal(kind, name)) is not None]
    if len(named) == 1:
        return named[0]
    message = f"{wanted!r} is nobody of this workspace"
    if named:
        message = f"{wanted!r} is the name of {len(named)}: give the principal id"
    evidence = tuple(f"{p.kind}: {p.id}" for p in named)
    raise error("PrincipalNotFound", message, target=wanted, evidence=evidence)
