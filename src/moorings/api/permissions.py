"""Which action a request is, and where: from method and path to what roles are asked for. Pure.

What is not known here asks for an action that only roles with everything give: a new route is closed until it has a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from moorings.security.roles import (
    CONTRIBUTOR,
    DATA_SCIENTIST,
    ENDPOINTS,
    EVERYTHING,
    OWNER,
    READER,
    ROLES,
    WORKSPACE,
    Scope,
    scope_of,
)

_VERBS = {
    "GET": "read",
    "HEAD": "read",
    "PUT": "write",
    "PATCH": "write",
    "POST": "write",
    "DELETE": "delete",
}
_PATH = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/(?P<provider>Microsoft\.[A-Za-z]+)/(?P<rest>.+)",
    re.IGNORECASE,
)
_ACTIONS = {
    "listkeys": f"{ENDPOINTS}/listKeys/action",
    "regeneratekeys": f"{ENDPOINTS}/regenerateKeys/action",
    "token": f"{ENDPOINTS}/token/action",
}
_SECRET_VERBS = {
    "GET": ("readMetadata/action", "list"),
    "HEAD": ("readMetadata/action", "list"),
    "PUT": ("setSecret/action", "set"),
    "PATCH": ("setSecret/action", "set"),
    "DELETE": ("delete", "delete"),
    "POST": ("getSecret/action", "get"),
}


@dataclass(frozen=True)
class Needed:
    """What a request asks for. `scope_id` is the ARM id of the scope, for the command that gives a role there."""

    action: str
    scope: Scope
    scope_id: str
    vault: str | None = None
    """A secret of this vault: where the vault goes by access policies, `permission` is asked for instead."""
    permission: str = ""

    @property
    def role(self) -> str:
        """The smallest usual role that gives it."""
        usual = (READER, "Key Vault Secrets User", "Key Vault Secrets Officer", DATA_SCIENTIST, CONTRIBUTOR)
        return next((name for name in usual if ROLES[name.lower()].allows(self.action)), OWNER)


def needed(method: str, path: str) -> Needed:
    """What this request needs of whoever is not the owner."""
    if path.endswith("/token") and not path.startswith("/subscriptions/"):
        return Needed("Moorings/signIn/action", EVERYTHING, "/")
    found = _PATH.fullmatch(path.rstrip("/"))
    group = "/".join(path.split("/")[:5])
    unknown = Needed(f"Moorings/{_VERBS.get(method, 'write')}Unknown", EVERYTHING, group)
    if found is None:
        return unknown
    provider, parts = found["provider"].lower(), found["rest"].split("/")
    kind = parts[0].lower()
    if provider == "microsoft.machinelearningservices" and kind == "workspaces" and len(parts) > 1:
        return _workspace(method, path, parts)
    if provider == "microsoft.keyvault" and kind == "vaults":
        return _vault(method, path, parts, group)
    if provider == "microsoft.insights" and kind == "autoscalesettings":
        return Needed(
            f"Microsoft.Insights/autoscaleSettings/{_VERBS.get(method, 'write')}", EVERYTHING, group
        )
    if provider in ("microsoft.managedidentity", "microsoft.authorization", "microsoft.graph"):
        return Needed(f"{found['provider']}/{parts[0]}/{_VERBS.get(method, 'write')}", EVERYTHING, group)
    return unknown


def _workspace(method: str, path: str, parts: list[str]) -> Needed:
    verb = _VERBS.get(method, "write")
    workspace = path[: path.lower().index("/workspaces/")] + f"/workspaces/{parts[1]}"
    if len(parts) == 2:
        return _at(f"{WORKSPACE}/{verb}", workspace)
    kind, rest = parts[2], parts[3:]
    if kind.lower() == "onlineendpoints":
        where = f"{workspace}/onlineEndpoints/{rest[0]}" if rest else workspace
        below = rest[1].lower() if len(rest) > 1 else ""
        if below == "deployments":
            logs = len(rest) > 3 and rest[3].lower() == "getlogs"
            return _at(f"{ENDPOINTS}/deployments/{'read' if logs else verb}", where)
        return _at(_ACTIONS.get(below) or f"{ENDPOINTS}/{verb}", where)
    if kind.lower() == "connections":
        where = f"{workspace}/connections/{rest[0]}" if rest else workspace
        if len(rest) > 1:
            return _at(f"{WORKSPACE}/connections/listsecrets/action", where)
        return _at(f"{WORKSPACE}/connections/{verb}", where)
    if rest and rest[-1].lower() == "listsecrets":
        return _at(f"{WORKSPACE}/{kind}/listSecrets/action", workspace)
    return _at(f"{WORKSPACE}/{kind}/{verb}", workspace)


def _vault(method: str, path: str, parts: list[str], group: str) -> Needed:
    verb = _VERBS.get(method, "write")
    if len(parts) == 1:
        return Needed(f"Microsoft.KeyVault/vaults/{verb}", EVERYTHING, group)
    vault = path[: path.lower().index("/vaults/")] + f"/vaults/{parts[1]}"
    below = parts[2].lower() if len(parts) > 2 else ""
    if below != "secrets":
        action = f"Microsoft.KeyVault/vaults/{'accessPolicies/' if below else ''}{verb}"
        return _at(action, vault)
    action, permission = _SECRET_VERBS.get(method, ("setSecret/action", "set"))
    where = f"{vault}/secrets/{parts[3]}" if len(parts) > 3 else vault
    asked = _at(f"Microsoft.KeyVault/vaults/secrets/{action}", where)
    return Needed(asked.action, asked.scope, vault, parts[1].lower(), permission)


def _at(action: str, scope_id: str) -> Needed:
    try:
        return Needed(action, scope_of(scope_id), scope_id)
    except ValueError:
        return Needed(action, EVERYTHING, scope_id)
