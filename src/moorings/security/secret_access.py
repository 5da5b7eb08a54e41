"""Whether a principal may read a secret, and with which command it would be allowed to. Pure: facts in, a verdict out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from moorings.security.places import Places
from moorings.security.roles import (
    CONNECTION_READER,
    READ_CONNECTION,
    READ_SECRET,
    SECRETS_USER,
    Grant,
    allowed,
    scope_of,
)


def may_read_secret(
    grants: Iterable[Grant],
    policies: Mapping[str, Sequence[str]],
    principal: str,
    *,
    rbac: bool,
    places: Places,
    vault: str,
    name: str,
) -> bool:
    """By role where the vault goes by roles, else by its access policies."""
    if not rbac:
        return "get" in policies.get(principal, ())
    return allowed(grants, READ_SECRET, [scope_of(places.secret(vault, name))])


def may_read_connection(grants: Iterable[Grant], *, places: Places, name: str) -> bool:
    return allowed(grants, READ_CONNECTION, [scope_of(f"{places.workspace}/connections/{name}")])


def grant_secret(
    principal: str, policies: Mapping[str, Sequence[str]], *, rbac: bool, places: Places, vault: str
) -> str:
    """The command after which it may be read."""
    if rbac:
        return grant(principal, SECRETS_USER, places.vault(vault))
    return grant_permission(principal, "get", policies, vault=vault)


def grant_permission(
    principal: str, permission: str, policies: Mapping[str, Sequence[str]], *, vault: str
) -> str:
    """The command that adds a permission: a policy is set as a whole, so what is in it already is named, too."""
    wanted = " ".join(dict.fromkeys((*policies.get(principal, ()), permission)))
    return f"moor keyvault set-policy --name {vault} --object-id {principal} --secret-permissions {wanted}"


def grant_connection(principal: str, *, places: Places) -> str:
    return grant(principal, CONNECTION_READER, places.workspace)


def grant(principal: str, role: str, scope: str) -> str:
    return f'moor role assignment create --assignee {principal} --role "{role}" --scope "{scope}"'
