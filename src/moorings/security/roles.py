"""Who may do what where: built-in roles as sets of actions, scopes as a tree, assignments that join the two. Pure.

There is one workspace on this machine, so subscription and resource group of a scope are not compared: a scope that
names nothing below them covers everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

ENDPOINTS = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
WORKSPACE = "Microsoft.MachineLearningServices/workspaces"

# Actions that are asked for by name. Those of routes are made from paths (`api/permissions.py`).
PULL_IMAGE = "Microsoft.ContainerRegistry/registries/pull/read"
READ_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"
READ_SECRET = "Microsoft.KeyVault/vaults/secrets/getSecret/action"  # noqa: S105 - the name of an action
READ_CONNECTION = f"{WORKSPACE}/connections/listsecrets/action"
ASSIGN_IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
GIVE_ROLES = "Microsoft.Authorization/roleAssignments/write"
SCORE = f"{ENDPOINTS}/score/action"

ACR_PULL = "AcrPull"
BLOB_READER = "Storage Blob Data Reader"
METRICS_WRITER = "AzureML Metrics Writer (preview)"
CONNECTION_READER = "Azure Machine Learning Workspace Connection Secrets Reader"
SECRETS_USER = "Key Vault Secrets User"
OWNER, CONTRIBUTOR, READER = "Owner", "Contributor", "Reader"
DATA_SCIENTIST = "AzureML Data Scientist"
IDENTITY_OPERATOR = "Managed Identity Operator"


@dataclass(frozen=True)
class Role:
    """A built-in role: patterns of actions it gives (`*` stands for anything), less those it does not."""

    name: str
    gives: tuple[str, ...]
    less: tuple[str, ...] = ()
    means: str = ""

    def allows(self, action: str) -> bool:
        wanted = action.lower()
        return _any(self.gives, wanted) and not _any(self.less, wanted)


_ROLES = (
    Role(OWNER, ("*",), means="everything, role assignments too"),
    Role(
        CONTRIBUTOR,
        ("*",),
        (
            *("Microsoft.Authorization/*/write", "Microsoft.Authorization/*/delete", READ_SECRET),
            # Whoever makes tokens or secrets of others can do what they can.
            *("Microsoft.Graph/*/write", "Microsoft.Graph/*/delete"),
        ),
        "everything but role assignments, users and service principals, and the values of secrets",
    ),
    Role(
        READER,
        ("*/read",),
        (PULL_IMAGE, READ_BLOBS, f"{WORKSPACE}/metadata/secrets/read"),
        "see everything; no keys, no content",
    ),
    Role(
        DATA_SCIENTIST,
        (f"{WORKSPACE}/*",),
        (f"{WORKSPACE}/write", f"{WORKSPACE}/delete", READ_CONNECTION, f"{WORKSPACE}/clientAccess/*"),
        "endpoints, deployments, assets of the workspace, and scoring",
    ),
    Role(ACR_PULL, (PULL_IMAGE,), means="pull images"),
    Role("AcrPush", (PULL_IMAGE, "Microsoft.ContainerRegistry/registries/push/write"), means="pull and push"),
    Role(BLOB_READER, (READ_BLOBS,), means="read models and code"),
    Role(
        "Storage Blob Data Contributor",
        ("Microsoft.Storage/storageAccounts/blobServices/*",),
        means="read and write models and code",
    ),
    Role(METRICS_WRITER, (f"{WORKSPACE}/metrics/*/write",), means="write metrics"),
    Role(
        CONNECTION_READER,
        (READ_CONNECTION, f"{WORKSPACE}/metadata/secrets/read"),
        means="read the credentials of connections",
    ),
    Role(SECRETS_USER, (READ_SECRET,), means="read the values of secrets"),
    Role(
        "Key Vault Secrets Officer",
        ("Microsoft.KeyVault/vaults/secrets/*",),
        means="read, set and delete secrets",
    ),
    Role(
        IDENTITY_OPERATOR,
        ("Microsoft.ManagedIdentity/userAssignedIdentities/*/read", ASSIGN_IDENTITY),
        means="give an endpoint a user-assigned identity",
    ),
    Role("Key Vault Administrator", ("Microsoft.KeyVault/*",), means="vaults, their policies and secrets"),
)
ROLES: Mapping[str, Role] = {role.name.lower(): role for role in _ROLES}


def role_named(text: str) -> Role | None:
    """The role of this name (case does not count, nor a bracketed word at the end)."""
    name = text.strip().lower()
    return ROLES.get(name) or next((r for k, r in ROLES.items() if k.partition(" (")[0] == name), None)


# --- scopes ---

_PROVIDERS: Mapping[str, str] = {
    "microsoft.machinelearningservices/workspaces": "workspace",
    "microsoft.containerregistry/registries": "registry",
    "microsoft.storage/storageaccounts": "storage",
    "microsoft.keyvault/vaults": "vault",
    "microsoft.managedidentity/userassignedidentities": "identity",
}
_BELOW: Mapping[str, tuple[str, ...]] = {
    "workspace": ("onlineendpoints", "connections"),
    "vault": ("secrets",),
}
_ARM = re.compile(
    r"/subscriptions/[^/]+(?:/resourcegroups/[^/]+)?(?:/providers/(?P<rest>.+))?", re.IGNORECASE
)


@dataclass(frozen=True)
class Scope:
    """Where an assignment holds: () is everything; else `(kind, name[, kind below, name])`, all lower case."""

    parts: tuple[str, ...] = ()

    def covers(self, other: Scope) -> bool:
        return other.parts[: len(self.parts)] == self.parts


EVERYTHING = Scope()


def scope_of(text: str) -> Scope:
    """The scope an ARM id names. Raises ValueError for what is none."""
    found = _ARM.fullmatch(text.strip().rstrip("/"))
    if found is None:
        raise ValueError("expected an id that begins with /subscriptions/")
    if not found["rest"]:
        return EVERYTHING
    parts = found["rest"].lower().split("/")
    kind = _PROVIDERS.get("/".join(parts[:2]))
    if kind is None or len(parts) not in (3, 5) or not all(parts):
        raise ValueError("expected a workspace, registry, storage account, vault, or one endpoint or secret")
    if len(parts) == 3:
        return Scope((kind, parts[2]))
    if parts[3] not in _BELOW.get(kind, ()):
        raise ValueError(f"nothing of the kind {parts[3]!r} can be a scope")
    return Scope((kind, parts[2], parts[3], parts[4]))


@dataclass(frozen=True)
class Grant:
    """One role of one principal at one scope."""

    role: str
    scope: str
    """As it was given: an ARM id."""


def allowed(grants: Iterable[Grant], action: str, at: Iterable[Scope]) -> bool:
    """Whether one of the grants gives the action at one of the scopes (names of the same thing)."""
    wanted = tuple(at)
    for grant in grants:
        role = role_named(grant.role)
        if role is None or not role.allows(action):
            continue
        where = scope_of(grant.scope)
        if any(where.covers(scope) for scope in wanted):
            return True
    return False


def _any(patterns: Iterable[str], action: str) -> bool:
    return any(fnmatchcase(action, pattern.lower()) for pattern in patterns)
