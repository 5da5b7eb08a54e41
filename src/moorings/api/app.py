"""The control API as one table of routes, in reading order; handlers only translate. What they mean is in `resources.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from moorings import __version__
from moorings.api import (
    asset_routes,
    autoscale_routes,
    caller_routes,
    datastores,
    environments,
    error_pages,
    errors,
    identity_routes,
    logs,
    quota_routes,
    rollout_routes,
    secret_routes,
    wire,
)
from moorings.api.assets import Assets
from moorings.api.autoscale import AutoscaleSettings
from moorings.api.blobs import Blobs
from moorings.api.bodies import Json, JsonBody
from moorings.api.callers import Callers
from moorings.api.datastores import ClientListener
from moorings.api.guard import in_our_name
from moorings.api.identities import Identities
from moorings.api.limits import Limits
from moorings.api.logs import DeploymentLogs
from moorings.api.resources import Accepted, Resources
from moorings.api.rights import Rights
from moorings.api.rollouts import Rollouts
from moorings.api.secrets import Secrets
from moorings.errors.exceptions import error
from moorings.security.audit import AuditLog
from moorings.security.callers import caller_of
from moorings.state.lookup import ENVIRONMENTS
from moorings.state.transaction import Event, Operation, OperationStatus, Resource

RETRY_MS = "100"
"""Hint on every answer that is not final; clients wait 5 to 30 s without it."""


class BuildLogs(Protocol):
    def log(self, key: str) -> str | None: ...

    def key_of(self, properties: Mapping[str, Any]) -> str | None: ...


class Diagnoses(Protocol):
    async def of(self, row: Resource) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Api:
    """Everything the handlers work with."""

    resources: Resources
    assets: Assets
    blobs: Blobs
    logs: DeploymentLogs
    build_logs: BuildLogs
    environment_builds: environments.EnvironmentBuilds
    secrets: Secrets
    identities: Identities
    callers: Callers
    audit: AuditLog
    workspace_path: str
    workspace_name: str
    workspace_id: str
    gateway_url: str
    rate_limit_per_s: int
    """Of endpoints that have none of their own."""
    local_requires_key: bool
    """Whether local endpoints want a key too."""
    diagnoses: Diagnoses
    rollouts: Rollouts
    facts: Callable[[], Mapping[str, Any]]
    """Facts for `workspace status`: home, sockets, gateway."""
    listener: ClientListener | None = None
    """None: only the socket's owner is served, and nothing can be uploaded."""

    @property
    def rights(self) -> Rights:
        return Rights(self.callers, self.resources)


_GROUP = "/subscriptions/{subscription}/resourceGroups/{group}"


def create_app(api: Api) -> FastAPI:
    """The ASGI app. Any `api-version` is accepted."""
    app = FastAPI(title="Moorings control API", version=__version__, docs_url=None, redoc_url=None)
    errors.install(app)
    app.add_middleware(Limits, workspace=api.workspace_name)
    app.include_router(error_pages.router(), tags=["errors"])
    app.include_router(_workspace(api), prefix=_prefix(), tags=["workspace"])
    app.include_router(_endpoints(api), prefix=_prefix(), tags=["online endpoints"])
    app.include_router(_deployments(api), prefix=_prefix(), tags=["online deployments"])
    rollouts = rollout_routes.router(api.rollouts, api.workspace_path)
    app.include_router(rollouts, prefix=_prefix(), tags=["rollouts"])
    app.include_router(logs.routes(api.logs), prefix=_prefix(), tags=["online deployments"])
    app.include_router(asset_routes.router(api.assets, api.workspace_path), prefix=_prefix(), tags=["assets"])
    app.include_router(_build_logs(api), prefix=_prefix(), tags=["assets"])
    if api.listener is not None:
        router = datastores.router(api.listener, api.blobs, api.workspace_path)
        app.include_router(router, prefix=_prefix(), tags=["datastores"])
    app.include_router(secret_routes.connection_router(api.secrets), prefix=_prefix(), tags=["connections"])
    app.include_router(secret_routes.vault_router(api.secrets, api.rights), prefix=_GROUP, tags=["vaults"])
    app.include_router(identity_routes.router(api.identities), prefix=_GROUP, tags=["identities"])
    app.include_router(caller_routes.router(api.callers), prefix=_GROUP, tags=["callers"])
    settings = AutoscaleSettings(
        api.resources.database, api.resources.quotas, api.workspace_path, api.resources.hint
    )
    app.include_router(autoscale_routes.router(settings), prefix=_GROUP, tags=["autoscale"])
    app.include_router(caller_routes.audit_router(api.audit), prefix=_prefix(), tags=["callers"])
    app.include_router(environments.routes(api.environment_builds), prefix=_prefix(), tags=["environments"])
    quotas = api.resources.quotas
    app.include_router(quota_routes.workspace_router(quotas), prefix=_prefix(), tags=["quota"])
    regional = quota_routes.location_router(quotas, api.workspace_path)
    app.include_router(regional, prefix=quota_routes.LOCATION_PREFIX, tags=["quota"])
    return app


def _prefix() -> str:
    return _GROUP + "/providers/Microsoft.MachineLearningServices/workspaces/{workspace}"


def _workspace(api: Api) -> APIRouter:
    router = APIRouter()

    @router.put("")
    def put_workspace() -> Json:
        """There is one, and it is there: applying it again changes nothing, and takes nothing away."""
        api.secrets.put_vault(api.secrets.places.vault_name, rbac=None, tags=None, policies={}, replace=False)
        return workspace()

    @router.get("")
    def workspace() -> Json:
        places = api.secrets.places
        return {
            "id": api.workspace_path,
            "name": api.workspace_name,
            "type": wire.PROVIDER,
            "location": wire.LOCATION,
            "properties": {
                "friendlyName": api.workspace_name,
                "workspaceId": api.workspace_id,
                "provisioningState": "Succeeded",
                "keyVault": places.vault(places.vault_name),
                "storageAccount": places.storage,
                "containerRegistry": places.registry,
                "mlFlowTrackingUri": f"azureml://moorings{api.workspace_path}",
                "moorings": {"version": __version__, "gatewayUrl": api.gateway_url, **api.facts()},
            },
        }

    @router.get("/operations/{operation}")
    def operation(operation: str, response: Response) -> Json:
        found, row = api.resources.operation(operation)
        if found.status is OperationStatus.IN_PROGRESS:
            response.headers["x-ms-retry-after-ms"] = RETRY_MS
        return wire.operation_json(found, row, f"{api.workspace_path}/operations/{operation}")

    @router.get("/environmentBuilds/{key}/log")
    def build_log(key: str) -> Json:
        content = api.build_logs.log(key)
        if content is None:
            raise error("AssetNotFound", f"no build of key {key}", target=key, fields={"reference": key})
        return {"key": key, "content": content}

    return router


def _endpoints(api: Api) -> APIRouter:
    router = APIRouter(prefix="/onlineEndpoints")
    resources = api.resources

    def document(row: Resource, events: Sequence[Event] = ()) -> Json:
        return wire.endpoint_json(
            row,
            api.workspace_path,
            api.gateway_url,
            rate_limit_per_s=api.rate_limit_per_s,
            local_requires_key=api.local_requires_key,
            events=events,
            scoring_path=resources.scoring_path(row),
            identity=resources.identity(row),
        )

    @router.get("")
    def list_endpoints() -> Json:
        return {"value": [document(row) for row in resources.endpoints()]}

    @router.get("/{endpoint}")
    def get_endpoint(endpoint: str) -> Json:
        return document(*resources.endpoint(endpoint))

    @router.put("/{endpoint}")
    def put_endpoint(endpoint: str, request: Request, body: JsonBody) -> Response:
        api.rights.to_put_endpoint(caller_of(request.scope), endpoint, body)
        accepted = resources.put_endpoint(endpoint, body)
        return _accepted(api, request, accepted, document(accepted.row))

    @router.delete("/{endpoint}")
    def delete_endpoint(endpoint: str, request: Request) -> Response:
        return _started(api, request, resources.delete_endpoint(endpoint))

    @router.post("/{endpoint}/listKeys")
    def list_keys(endpoint: str) -> Json:
        primary, secondary = resources.keys(endpoint)
        return {"primaryKey": primary, "secondaryKey": secondary}

    @router.post("/{endpoint}/regenerateKeys")
    def regenerate_keys(endpoint: str, request: Request, body: JsonBody) -> Response:
        return _started(api, request, resources.regenerate_key(endpoint, str(body.get("keyType", ""))))

    @router.post("/{endpoint}/token")
    def token(endpoint: str) -> Json:
        return wire.token_json(resources.token(endpoint))

    return router


def _deployments(api: Api) -> APIRouter:
    router = APIRouter(prefix="/onlineEndpoints/{endpoint}/deployments")
    resources = api.resources

    @router.get("")
    def list_deployments(endpoint: str) -> Json:
        rows = resources.deployments(endpoint)
        return {"value": [wire.deployment_json(r, api.workspace_path, []) for r in rows]}

    @router.get("/{deployment}")
    def get_deployment(endpoint: str, deployment: str) -> Json:
        row, events = resources.deployment(endpoint, deployment)
        return wire.deployment_json(row, api.workspace_path, events)

    @router.put("/{deployment}")
    def put_deployment(endpoint: str, deployment: str, request: Request, body: JsonBody) -> Response:
        api.rights.to_put_deployment(caller_of(request.scope), endpoint)
        accepted = resources.put_deployment(endpoint, deployment, _in_our_name(api, request, body))
        return _accepted(api, request, accepted, wire.deployment_json(accepted.row, api.workspace_path, []))

    @router.patch("/{deployment}")
    def patch_deployment(endpoint: str, deployment: str, request: Request, body: JsonBody) -> Response:
        accepted = resources.patch_deployment(endpoint, deployment, body)
        return _accepted(api, request, accepted, wire.deployment_json(accepted.row, api.workspace_path, []))

    @router.delete("/{deployment}")
    def delete_deployment(endpoint: str, deployment: str, request: Request) -> Response:
        return _started(api, request, resources.delete_deployment(endpoint, deployment))

    @router.post("/{deployment}/diagnose")
    async def diagnose(endpoint: str, deployment: str) -> Json:
        row, _ = await asyncio.to_thread(resources.deployment, endpoint, deployment)
        return wire.diagnosis_json(row, await api.diagnoses.of(row))

    return router


def _in_our_name(api: Api, request: Request, body: Json) -> Json:
    """The body of a deployment with the ids of what it is made of in the name of this workspace."""
    properties = body.get("properties")
    if not isinstance(properties, dict):
        return body
    changed = dict(properties)
    for key in ("model", "environmentId"):
        if key in changed:
            changed[key] = in_our_name(request.scope, changed[key], api.workspace_path)
    code = changed.get("codeConfiguration")
    if isinstance(code, dict) and "codeId" in code:
        changed["codeConfiguration"] = {
            **code,
            "codeId": in_our_name(request.scope, code["codeId"], api.workspace_path),
        }
    collector = changed.get("dataCollector")
    if isinstance(collector, dict) and isinstance(collector.get("collections"), dict):
        changed["dataCollector"] = {
            **collector,
            "collections": {
                name: {**facts, "dataId": in_our_name(request.scope, facts["dataId"], api.workspace_path)}
                if isinstance(facts, dict) and "dataId" in facts
                else facts
                for name, facts in collector["collections"].items()
            },
        }
    return {**body, "properties": changed}


def _build_logs(api: Api) -> APIRouter:
    router = APIRouter()

    @router.get("/environments/{name}/versions/{version}/build")
    def build(name: str, version: str) -> Json:
        asset = api.assets.get(ENVIRONMENTS, name, version)
        return {"build": api.environment_builds.of_properties(asset.body)}

    @router.get("/environments/{name}/versions/{version}/buildLog")
    def build_log(name: str, version: str) -> Json:
        asset = api.assets.get(ENVIRONMENTS, name, version)
        key = api.build_logs.key_of(asset.body)
        content = api.build_logs.log(key) if key else None
        if content is None:
            message = f"environment {name}, version {version}, has not been built"
            raise error(
                "AssetNotFound", message, target=name, fields={"reference": f"azureml:{name}:{version}"}
            )
        return {"key": key, "content": content}

    return router


def _accepted(api: Api, request: Request, accepted: Accepted, document: Json) -> Response:
    headers = _operation_headers(api, request, accepted.operation)
    del headers["Location"]  # the answer to a PUT is the resource itself
    return JSONResponse(document, status_code=201 if accepted.created else 200, headers=headers)


def _started(api: Api, request: Request, operation: Operation | None) -> Response:
    if operation is None:
        return Response(status_code=204)
    return Response(status_code=202, headers=_operation_headers(api, request, operation))


def _operation_headers(api: Api, request: Request, operation: Operation) -> dict[str, str]:
    base = str(request.base_url).rstrip("/")
    url = f"{base}{api.workspace_path}/operations/{operation.id}"
    version = request.query_params.get("api-version")
    if version:
        url += f"?api-version={version}"
    return {"Azure-AsyncOperation": url, "Location": url, "x-ms-retry-after-ms": RETRY_MS}
