"""Vaults, secrets and connections over HTTP. Handlers only translate; answers with values are not to be stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from moorings.api.bodies import Json, JsonBody
from moorings.api.rights import Rights
from moorings.api.secrets import Secrets, VaultView
from moorings.errors.exceptions import error
from moorings.lib.timing import rfc3339
from moorings.security.callers import caller_of
from moorings.security.places import Places
from moorings.spec.secret_references import secret_uri, vault_uri
from moorings.state.secret_rows import ConnectionRow, SecretRow

_PRIVATE = {"Cache-Control": "no-store"}
_SHOWN = ("category", "target", "authType", "metadata", "isSharedToAll")


def vault_router(secrets: Secrets, rights: Rights) -> APIRouter:
    """Routes below the resource group."""
    routes = APIRouter(prefix="/providers/Microsoft.KeyVault/vaults")
    places = secrets.places
    _policies(routes, secrets)
    _secrets(routes, secrets)

    @routes.get("")
    def list_vaults() -> Json:
        return {"value": [_vault(view, places) for view in secrets.vaults()]}

    @routes.get("/{vault}")
    def show(vault: str) -> Json:
        return _vault(secrets.vault(vault), places)

    @routes.put("/{vault}")
    def put(vault: str, request: Request, body: JsonBody, response: Response) -> Json:
        properties = _object(body.get("properties"), "properties")
        rbac = properties.get("enableRbacAuthorization")
        if rbac is not None and not isinstance(rbac, bool):
            raise _wrong("properties.enableRbacAuthorization", "true or false")
        if secrets.changes_how_it_goes(vault, rbac):
            rights.to_change_how_a_vault_goes(caller_of(request.scope), vault)
        tags = body.get("tags")
        view, created = secrets.put_vault(
            vault,
            rbac=rbac,
            tags=None if tags is None else _texts(tags, "tags"),
            policies=_policies_of(properties.get("accessPolicies")),
            replace=properties.get("createMode") == "replace",
        )
        response.status_code = 201 if created else 200
        return _vault(view, places)

    @routes.delete("/{vault}")
    def delete(vault: str) -> Response:
        return Response(status_code=200 if secrets.delete_vault(vault) else 204)

    return routes


def _policies(routes: APIRouter, secrets: Secrets) -> None:
    @routes.put("/{vault}/accessPolicies/{principal}")
    def set_policy(vault: str, principal: str, body: JsonBody) -> Json:
        permissions = body.get("secrets")
        if not isinstance(permissions, list):
            raise _wrong("secrets", "a list of permissions")
        return _vault(secrets.set_policy(vault, principal, permissions), secrets.places)

    @routes.delete("/{vault}/accessPolicies/{principal}")
    def delete_policy(vault: str, principal: str) -> Json:
        return _vault(secrets.set_policy(vault, principal, ()), secrets.places)


def _secrets(routes: APIRouter, secrets: Secrets) -> None:
    @routes.get("/{vault}/secrets")
    def list_secrets(vault: str) -> Json:
        return {"value": [_secret(row) for row in secrets.secrets(vault)]}

    @routes.get("/{vault}/secrets/{name}")
    def show(vault: str, name: str) -> Json:
        return _secret(secrets.secret(vault, name, None))

    @routes.get("/{vault}/secrets/{name}/versions")
    def versions(vault: str, name: str) -> Json:
        return {"value": [_secret(row) for row in secrets.versions(vault, name)]}

    @routes.put("/{vault}/secrets/{name}")
    def put(vault: str, name: str, body: JsonBody) -> Json:
        """A new version; the answer is without its value."""
        properties = _object(body.get("properties"), "properties")
        return _secret(
            secrets.set_secret(
                vault,
                name,
                properties.get("value"),
                content_type=str(properties.get("contentType") or ""),
                tags=_texts(body.get("tags") or {}, "tags"),
            )
        )

    @routes.patch("/{vault}/secrets/{name}")
    def enable(vault: str, name: str, body: JsonBody) -> Json:
        enabled = body.get("enabled")
        if not isinstance(enabled, bool):
            raise _wrong("enabled", "true or false")
        return _secret(secrets.enable(vault, name, _version(body), enabled=enabled))

    @routes.post("/{vault}/secrets/{name}/getSecret")
    def value(vault: str, name: str, response: Response, body: JsonBody | None = None) -> Json:
        row = secrets.secret(vault, name, _version(body or {}))
        response.headers.update(_PRIVATE)
        return {**_secret(row), "value": secrets.value(row)}

    @routes.delete("/{vault}/secrets/{name}")
    def delete(vault: str, name: str) -> Response:
        return Response(status_code=200 if secrets.delete_secret(vault, name) else 204)


def connection_router(secrets: Secrets) -> APIRouter:
    """Routes below the workspace."""
    routes = APIRouter(prefix="/connections")
    workspace = secrets.places.workspace

    @routes.get("")
    def list_connections() -> Json:
        return {"value": [_connection(row, workspace) for row in secrets.connections()]}

    @routes.get("/{name}")
    def show(name: str) -> Json:
        return _connection(secrets.connection(name), workspace)

    @routes.put("/{name}")
    def put(name: str, body: JsonBody, response: Response) -> Json:
        properties = _object(body.get("properties"), "properties")
        credentials = properties.get("credentials")
        shown = {key: properties[key] for key in _SHOWN if properties.get(key) is not None}
        shown["metadata"] = _texts(shown.get("metadata") or {}, "properties.metadata")
        row, created = secrets.put_connection(
            name, shown, None if credentials is None else _object(credentials, "properties.credentials")
        )
        response.status_code = 201 if created else 200
        return _connection(row, workspace)

    @routes.delete("/{name}")
    def delete(name: str) -> Response:
        return Response(status_code=200 if secrets.delete_connection(name) else 204)

    @routes.post("/{name}/listsecrets")
    def list_secrets(name: str, response: Response) -> Json:
        row = secrets.connection(name)
        document = _connection(row, workspace)
        document["properties"]["credentials"] = secrets.credentials(row)
        response.headers.update(_PRIVATE)
        return document

    return routes


def _vault(view: VaultView, places: Places) -> Json:
    policies = [
        {"objectId": principal, "permissions": {"secrets": list(permissions)}}
        for principal, permissions in view.policies.items()
    ]
    row = view.row
    return {
        "id": places.vault(row.name),
        "name": row.name,
        "type": "Microsoft.KeyVault/vaults",
        "location": "local",
        "tags": dict(row.tags),
        "properties": {
            "vaultUri": vault_uri(row.name),
            "enableRbacAuthorization": row.rbac,
            "accessPolicies": policies,
            "provisioningState": "Succeeded",
        },
        "systemData": {"createdAt": rfc3339(row.created_at)},
    }


def _secret(row: SecretRow) -> Json:
    return {
        "id": f"{secret_uri(row.vault, row.name)}/{row.version}",
        "name": row.name,
        "version": row.version,
        "contentType": row.content_type,
        "tags": dict(row.tags),
        "attributes": {"enabled": row.enabled, "created": rfc3339(row.created_at)},
    }


def _connection(row: ConnectionRow, workspace: str) -> Json:
    return {
        "id": f"{workspace}/connections/{row.name}",
        "name": row.name,
        "type": "Microsoft.MachineLearningServices/workspaces/connections",
        "properties": {**row.body, "credentials": None},
        "systemData": {
            "createdAt": rfc3339(row.created_at),
            "lastModifiedAt": rfc3339(row.updated_at),
        },
    }


def _policies_of(value: Any) -> dict[str, list[str]]:
    if value is None:
        return {}
    if not isinstance(value, list):
        raise _wrong("properties.accessPolicies", "a list")
    found: dict[str, list[str]] = {}
    for index, item in enumerate(value):
        where = f"properties.accessPolicies[{index}]"
        each = _object(item, where)
        permissions = _object(each.get("permissions"), f"{where}.permissions").get("secrets") or []
        if not isinstance(each.get("objectId"), str) or not isinstance(permissions, list):
            raise _wrong(where, "objectId, and permissions.secrets as a list")
        found[each["objectId"]] = [str(p) for p in permissions]
    return found


def _version(body: Json) -> str | None:
    version = body.get("version")
    return str(version) if version else None


def _object(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(where, "an object")
    return value


def _texts(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise _wrong(where, "an object of texts")
    return dict(value)


def _wrong(where: str, expected: str) -> Exception:
    return error("RequestInvalid", f"{where}: expected {expected}", target=where)
