"""Vaults, secrets, connections, identities, roles and callers as small methods over the client of the control API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from moorings.client.client import Client, part


class Access:
    """Every method raises what `Client` raises; bodies are the JSON of the API."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._group = client.workspace_path.partition("/providers/")[0]

    # --- workspace ---

    def put_workspace(self) -> dict[str, Any]:
        return self._client.call("PUT", self._client.workspace_path, {})[1]

    # --- vaults ---

    def vaults(self) -> list[dict[str, Any]]:
        return self._list(self._vault())

    def vault(self, name: str) -> dict[str, Any]:
        return self._client.call("GET", self._vault(name))[1]

    def put_vault(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._client.call("PUT", self._vault(name), body)[1]

    def delete_vault(self, name: str) -> bool:
        return self._client.call("DELETE", self._vault(name))[0] != 204

    def set_policy(self, vault: str, principal: str, permissions: Sequence[str]) -> dict[str, Any]:
        path = f"{self._vault(vault)}/accessPolicies/{quote(principal, safe='')}"
        return self._client.call("PUT", path, {"secrets": list(permissions)})[1]

    def delete_policy(self, vault: str, principal: str) -> dict[str, Any]:
        path = f"{self._vault(vault)}/accessPolicies/{quote(principal, safe='')}"
        return self._client.call("DELETE", path)[1]

    def secrets(self, vault: str) -> list[dict[str, Any]]:
        return self._list(self._secret(vault))

    def secret_versions(self, vault: str, name: str) -> list[dict[str, Any]]:
        return self._list(f"{self._secret(vault, name)}/versions")

    def set_secret(self, vault: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._client.call("PUT", self._secret(vault, name), body)[1]

    def secret_value(self, vault: str, name: str, version: str | None) -> dict[str, Any]:
        """With its `value`."""
        path = f"{self._secret(vault, name)}/getSecret"
        return self._client.call("POST", path, {"version": version} if version else {})[1]

    def enable_secret(self, vault: str, name: str, version: str | None, *, enabled: bool) -> dict[str, Any]:
        body = {"version": version, "enabled": enabled}
        return self._client.call("PATCH", self._secret(vault, name), body)[1]

    def delete_secret(self, vault: str, name: str) -> bool:
        return self._client.call("DELETE", self._secret(vault, name))[0] != 204

    # --- connections ---

    def connections(self) -> list[dict[str, Any]]:
        return self._list(self._connection())

    def connection(self, name: str, *, secrets: bool = False) -> dict[str, Any]:
        if secrets:
            return self._client.call("POST", f"{self._connection(name)}/listsecrets")[1]
        return self._client.call("GET", self._connection(name))[1]

    def put_connection(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._client.call("PUT", self._connection(name), body)[1]

    def delete_connection(self, name: str) -> bool:
        return self._client.call("DELETE", self._connection(name))[0] != 204

    # --- identities and roles ---

    def identities(self) -> list[dict[str, Any]]:
        return self._list(self._identity())

    def identity(self, name: str) -> dict[str, Any]:
        return self._client.call("GET", self._identity(name))[1]

    def put_identity(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._client.call("PUT", self._identity(name), body)[1]

    def delete_identity(self, name: str) -> bool:
        return self._client.call("DELETE", self._identity(name))[0] != 204

    def role_definitions(self) -> list[dict[str, Any]]:
        return self._list(f"{self._group}/providers/Microsoft.Authorization/roleDefinitions")

    def role_assignments(self, *, assignee: str | None, scope: str | None) -> list[dict[str, Any]]:
        return self._list(self._assignments(), {"assignee": assignee, "scope": scope})

    def assign_role(self, principal: str, role: str, scope: str) -> dict[str, Any]:
        body = {"principal": principal, "role": role, "scope": scope}
        return self._client.call("POST", self._assignments(), body)[1]

    def unassign_role(self, id_: str) -> bool:
        return self._client.call("DELETE", _below(self._assignments(), id_))[0] != 204

    # --- users, service principals, audit ---

    def callers(self, kind: str) -> list[dict[str, Any]]:
        """`kind`: `servicePrincipals` or `users`."""
        return self._list(self._graph(kind))

    def caller(self, kind: str, name: str) -> dict[str, Any]:
        return self._client.call("GET", _below(self._graph(kind), name))[1]

    def create_caller(self, kind: str, name: str) -> dict[str, Any]:
        """A service principal's answer has its secret, this once (`password`)."""
        return self._client.call("POST", self._graph(kind), {"displayName": name})[1]

    def reset_caller(self, name: str) -> dict[str, Any]:
        return self._client.call("POST", f"{_below(self._graph('servicePrincipals'), name)}/reset")[1]

    def delete_caller(self, kind: str, name: str) -> bool:
        return self._client.call("DELETE", _below(self._graph(kind), name))[0] != 204

    def token_for(self, principal: str, resource: str | None) -> dict[str, Any]:
        body = {"principal": principal, **({"resource": resource} if resource else {})}
        return self._client.call("POST", self._graph("tokens"), body)[1]

    def audit(self, lines: int) -> dict[str, Any]:
        path = f"{self._client.workspace_path}/auditLog"
        return self._client.call("GET", path, asked={"tail": str(lines)})[1]

    # --- paths ---

    def _graph(self, kind: str) -> str:
        return f"{self._group}/providers/Microsoft.Graph/{kind}"

    def _list(self, path: str, asked: Mapping[str, str | None] | None = None) -> list[dict[str, Any]]:
        found = self._client.call("GET", path, asked=asked)[1].get("value")
        return [item for item in found or () if isinstance(item, dict)]

    def _identity(self, name: str | None = None) -> str:
        return _below(f"{self._group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities", name)

    def _assignments(self) -> str:
        return f"{self._group}/providers/Microsoft.Authorization/roleAssignments"

    def _vault(self, name: str | None = None) -> str:
        return _below(f"{self._group}/providers/Microsoft.KeyVault/vaults", name)

    def _secret(self, vault: str, name: str | None = None) -> str:
        return _below(f"{self._vault(vault)}/secrets", name)

    def _connection(self, name: str | None = None) -> str:
        return _below(f"{self._client.workspace_path}/connections", name)


def _below(path: str, name: str | None) -> str:
    return path if name is None else f"{path}/{part(name)}"
