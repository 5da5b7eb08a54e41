"""Identities, roles and role assignments over HTTP. Handlers only translate."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from moorings.api.bodies import Json, JsonBody
from moorings.api.identities import Identities
from moorings.errors.exceptions import error
from moorings.lib.timing import rfc3339
from moorings.security.callers import caller_of
from moorings.security.places import Places
from moorings.security.roles import ROLES
from moorings.state.principal_rows import Assignment, Principal

TENANT = "local"


def router(identities: Identities) -> APIRouter:
    """Routes below the resource group."""
    routes = APIRouter()
    _assigned(routes, identities)
    _roles(routes, identities)
    return routes


def _assigned(routes: APIRouter, identities: Identities) -> None:
    at = "/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    places = identities.places

    @routes.get(at)
    def list_identities() -> Json:
        return {"value": [_identity(each, places) for each in identities.identities()]}

    @routes.get(at + "/{name}")
    def show(name: str) -> Json:
        return _identity(identities.identity(name), places)

    @routes.put(at + "/{name}")
    def put(name: str, body: JsonBody, response: Response) -> Json:
        tags = body.get("tags") or {}
        if not isinstance(tags, dict) or not all(isinstance(v, str) for v in tags.values()):
            raise error("RequestInvalid", "tags: expected an object of texts", target="tags")
        made, created = identities.put_identity(name, tags)
        response.status_code = 201 if created else 200
        return _identity(made, places)

    @routes.delete(at + "/{name}")
    def delete(name: str) -> Response:
        return Response(status_code=200 if identities.delete_identity(name) else 204)


def _roles(routes: APIRouter, identities: Identities) -> None:
    at = "/providers/Microsoft.Authorization/roleAssignments"

    @routes.get("/providers/Microsoft.Authorization/roleDefinitions")
    def definitions() -> Json:
        return {
            "value": [
                {"roleName": r.name, "description": r.means, "actions": r.gives, "notActions": r.less}
                for r in ROLES.values()
            ]
        }

    @routes.get(at)
    def list_assignments(assignee: str | None = None, scope: str | None = None) -> Json:
        found = identities.assignments(assignee, scope)
        return {"value": [_assignment(each, whom, identities.places) for each, whom in found]}

    @routes.post(at)
    def assign(request: Request, body: JsonBody, response: Response) -> Json:
        """`{"principal", "role", "scope"}`; the answer is the assignment, new or not."""
        given = {key: body.get(key) for key in ("principal", "role", "scope")}
        for key, value in given.items():
            if not isinstance(value, str) or not value.strip():
                raise error("RequestInvalid", f"{key}: expected text", target=key)
        made, whom, created = identities.assign(
            str(given["principal"]),
            str(given["role"]),
            str(given["scope"]),
            by=caller_of(request.scope).name,
        )
        response.status_code = 201 if created else 200
        return _assignment(made, whom, identities.places)

    @routes.delete(at + "/{id_}")
    def unassign(id_: str) -> Response:
        return Response(status_code=200 if identities.unassign(id_) else 204)


def _identity(row: Principal, places: Places) -> Json:
    return {
        "id": places.identity(row.name),
        "name": row.name,
        "type": "Microsoft.ManagedIdentity/userAssignedIdentities",
        "location": "local",
        "tags": dict(row.body.get("tags") or {}),
        "properties": {"clientId": row.client_id, "principalId": row.id, "tenantId": TENANT},
        "systemData": {"createdAt": rfc3339(row.created_at)},
    }


def _assignment(row: Assignment, whom: Principal | None, places: Places) -> Json:
    return {
        "id": f"{places.group}/providers/Microsoft.Authorization/roleAssignments/{row.id}",
        "name": row.id,
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {
            "principalId": row.principal,
            "principalName": None if whom is None else whom.name,
            "principalType": None if whom is None else whom.kind,
            "roleDefinitionName": row.role,
            "scope": row.scope,
            "automatic": row.automatic,
            "createdBy": row.created_by,
            "createdOn": rfc3339(row.created_at),
        },
    }
