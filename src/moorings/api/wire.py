"""Rows of the state <-> JSON of the control API. No behaviour: what a request means is in `resources.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from moorings.api.errors import body_of
from moorings.assets.tree import Tree
from moorings.contract import ROUTE_SCORE
from moorings.errors.exceptions import Failure
from moorings.lib.timing import rfc3339
from moorings.security.tokens import Token
from moorings.spec.arm import deployment_to_arm, endpoint_to_arm
from moorings.spec.blob_places import parse_blob_uri
from moorings.spec.datastore_uris import content_digest, content_uri
from moorings.spec.deployment import DeploymentSpec, no_effect_yet
from moorings.spec.endpoint import EndpointLimits, EndpointSpec
from moorings.spec.quota import REGION
from moorings.spec.scaling import count_of, scales
from moorings.spec.status import Condition, provisioning_state
from moorings.state.asset_rows import Asset, Container, Numbering
from moorings.state.lookup import CODES, DATA, MODELS
from moorings.state.principal_rows import Principal
from moorings.state.transaction import DEPLOYMENT, Event, Operation, OperationStatus, Resource

PROVIDER = "Microsoft.MachineLearningServices/workspaces"
LOCATION = REGION


def state_of(row: Resource) -> str:
    """The provisioning state, derived from the stored conditions."""
    stored = row.status.get("conditions", {})
    conditions = {k: Condition.from_json(v) for k, v in stored.items()}
    return provisioning_state(conditions, generation=row.generation, deleting=row.deleting)


def endpoint_json(
    row: Resource,
    workspace: str,
    gateway_url: str,
    *,
    rate_limit_per_s: int,
    local_requires_key: bool,
    events: Sequence[Event],
    scoring_path: str = ROUTE_SCORE,
    identity: Principal | None = None,
) -> dict[str, Any]:
    """The document of an endpoint; `rate_limit_per_s` holds where the endpoint says nothing."""
    spec = EndpointSpec.model_validate(row.spec)
    body = endpoint_to_arm(spec)
    base = f"{gateway_url}/api/v1/endpoint/{row.name}"
    body["properties"] |= {
        "provisioningState": state_of(row),
        "scoringUri": f"{base}{scoring_path}",
        "swaggerUri": f"{base}/swagger.json",
        "compute": spec.compute,
        "moorings": {
            **_extra(row, _endpoint_no_effect(spec, local_requires_key), events),
            "limits": _limits(spec, rate_limit_per_s),
        },
    }
    body["identity"] = _identity(body.get("identity") or {"type": "SystemAssigned"}, identity)
    return _envelope(
        row, body, f"{workspace}/onlineEndpoints/{row.name}", f"{PROVIDER}/onlineEndpoints", "Managed"
    )


def deployment_json(row: Resource, workspace: str, events: list[Event]) -> dict[str, Any]:
    spec = DeploymentSpec.model_validate(row.spec)
    body = deployment_to_arm(spec)
    extra_scaling = _scaling(row, spec)
    if extra_scaling:
        # Clients that send the document back expect a count they may send.
        body["sku"]["capacity"] = max(1, extra_scaling["count"])
    endpoint, _, name = row.name.partition("/")
    extra = _extra(row, no_effect_yet(spec), events)
    extra |= {k: row.status[k] for k in ("environment", "instances", "waitingFor") if k in row.status}
    if extra_scaling:
        extra["scaling"] = extra_scaling
    extra |= generations_json(row)
    body["properties"] |= {"provisioningState": state_of(row), "moorings": extra}
    body["properties"].setdefault("scaleSettings", {"scaleType": "Default"})
    id_ = f"{workspace}/onlineEndpoints/{endpoint}/deployments/{name}"
    return _envelope(row, body, id_, f"{PROVIDER}/onlineEndpoints/deployments", "Managed")


def _scaling(row: Resource, spec: DeploymentSpec) -> dict[str, Any]:
    """How many instances count now and why; nothing for a deployment that does not scale by itself."""
    if not scales(row.spec, row.autoscale):
        return {}
    decided = row.scale or {}
    return {
        "count": count_of(spec, row.autoscale, row.scale),
        "by": row.autoscale["name"] if row.autoscale else "scale_settings",
        "reason": decided.get("reason", "Initial"),
        "message": decided.get("message", "nothing has been decided yet"),
        "since": rfc3339(decided["at"]) if decided else None,
    }


def generations_json(row: Resource) -> dict[str, Any]:
    """`serving` and `failed`: which generation serves and which one could not, each with its revision. A part that is
    not so is missing."""
    found: dict[str, Any] = {}
    known = row.status.get("served")
    if known:
        found["serving"] = {
            "generation": known["generation"],
            "revision": known["revision"],
            "instanceCount": known["count"],
            "since": rfc3339(known["since"]),
        }
    gave_up = row.status.get("gave_up")
    if gave_up and gave_up["generation"] == row.generation:
        failed = Failure.from_json(gave_up["failure"])
        resolved = row.status.get("resolved") or {}
        found["failed"] = {
            "generation": row.generation,
            "revision": resolved.get("revision") if resolved.get("generation") == row.generation else None,
            "code": failed.code,
            "message": failed.message,
        }
    return found


def asset_json(asset: Asset, workspace: str) -> dict[str, Any]:
    """The document of a version. Content that came from this machine is shown by the address of the stored copy,
    and so is uploaded content."""
    properties = {k: v for k, v in asset.body.items() if k != "moorings"}
    facts = dict(asset.body.get("moorings") or {})
    if asset.kind == MODELS:
        own = facts.pop("flavors", None) or {}
        properties["flavors"] = properties.get("flavors") or own
    key = {MODELS: "modelUri", CODES: "codeUri"}.get(asset.kind, "")
    uri = str(properties.get(key) or "")
    if asset.digest and _is_taken_in(uri):
        name = str(facts.get("folder") or "") if asset.kind == MODELS else ""
        properties[key] = content_uri(workspace, asset.digest, name)
        facts["source"] = uri
    build = properties.get("build")
    if isinstance(build, Mapping) and facts.get("digest"):
        shown = {"dockerfilePath": "Dockerfile", **build}
        if _is_upload(str(shown.get("contextUri") or "")):
            facts["source"] = shown["contextUri"]
            shown["contextUri"] = content_uri(workspace, str(facts["digest"]), "")
        properties["build"] = shown
    if facts:
        properties["moorings"] = facts
    properties |= {"isArchived": asset.archived, "provisioningState": "Succeeded"}
    properties.setdefault("isAnonymous", False)
    return {
        "id": f"{workspace}/{asset.kind}/{asset.name}/versions/{asset.version}",
        "name": asset.version,
        "type": f"{PROVIDER}/{asset.kind}/versions",
        "properties": properties,
        "systemData": _system_data(asset.created_at, asset.updated_at),
    }


def _is_taken_in(uri: str) -> bool:
    """Whether the content behind the address may change or go, while the copy that was stored does not."""
    return uri.startswith("/") or uri.lower().startswith("file:") or _is_upload(uri)


def _is_upload(uri: str) -> bool:
    return content_digest(uri) is None and parse_blob_uri(uri) is not None


def container_json(container: Container, numbering: Numbering, workspace: str) -> dict[str, Any]:
    """The document of a container: what its versions share, the latest and the next one."""
    return {
        "id": f"{workspace}/{container.kind}/{container.name}",
        "name": container.name,
        "type": f"{PROVIDER}/{container.kind}",
        "properties": {
            "tags": {},
            "properties": {},
            **({"dataType": "uri_folder"} if container.kind == DATA else {}),
            **container.body,
            "isArchived": container.archived,
            "latestVersion": numbering.latest,
            "nextVersion": numbering.following,
            "provisioningState": "Succeeded",
        },
        "systemData": _system_data(container.created_at, container.updated_at),
    }


def tree_json(tree: Tree) -> dict[str, Any]:
    """The files of a version, paths percent-encoded."""
    return {
        "digest": tree.digest,
        "sizeBytes": tree.size_bytes,
        "files": [
            {
                "path": quote(entry.path, errors="surrogateescape"),
                "sizeBytes": entry.size_bytes,
                "sha256": entry.sha256,
                "executable": entry.executable,
            }
            for entry in tree.files
        ],
        "emptyFolders": [quote(folder, errors="surrogateescape") for folder in tree.empty_folders],
    }


def operation_json(operation: Operation, row: Resource | None, path: str) -> dict[str, Any]:
    """The polled document; phases come from the resource, if it is still at the operation's generation."""
    body: dict[str, Any] = {
        "id": path,
        "name": operation.id,
        "status": str(operation.status),
        "startTime": rfc3339(operation.started_at),
        "properties": {"verb": operation.verb, "target": f"{operation.kind} {operation.name}"},
    }
    if operation.ended_at is not None:
        body["endTime"] = rfc3339(operation.ended_at)
    if operation.error is not None:
        body["error"] = body_of(Failure.from_json({"message": "", **operation.error}))
    if row is not None and row.status.get("generation") == operation.generation:
        phases = row.status.get("phases", [])
        running = next((p["name"] for p in phases if p["status"] in ("running", "waiting", "failed")), None)
        body["properties"] |= {
            "phase": running,
            "phases": phases,
            "waitingFor": row.status.get("waitingFor", ""),
        }
    elif operation.status is OperationStatus.IN_PROGRESS and operation.verb == "delete":
        body["properties"]["waitingFor"] = "running requests to end and instances to stop"
    return body


def _endpoint_no_effect(spec: EndpointSpec, local_requires_key: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    if spec.properties.moorings.local and local_requires_key:
        found["properties.moorings.local"] = (
            "gateway.local_requires_key of this workspace asks every caller for a key"
        )
    if spec.compute:
        found["compute"] = "attached clusters come with the Kubernetes engine"
    if spec.public_network_access == "disabled":
        found["public_network_access"] = "the gateway listens on its own address whatever this says"
    return found


def _identity(shown: dict[str, Any], found: Principal | None) -> dict[str, Any]:
    """With the ids by which roles are given."""
    if found is None:
        return shown
    assigned = shown.get("userAssignedIdentities")
    if assigned:
        ids = {"clientId": found.client_id, "principalId": found.id}
        return {**shown, "userAssignedIdentities": dict.fromkeys(assigned, ids)}
    return {**shown, "principalId": found.id, "tenantId": "local"}


def _limits(spec: EndpointSpec, rate_limit_per_s: int) -> dict[str, int]:
    """The limits as they hold, in the spelling of the YAML."""
    given = spec.properties.moorings
    limits = given.model_dump(include=set(EndpointLimits.model_fields))
    return {**limits, "rate_limit_per_s": given.rate_limit_per_s or rate_limit_per_s}


def diagnosis_json(row: Resource, found: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to `diagnose`; `verdict` is an error object, or null when nothing is wrong."""
    endpoint, _, deployment = row.name.partition("/")
    verdict: Failure | None = found["verdict"]
    return {
        **found,
        "endpoint": endpoint,
        "deployment": deployment,
        "provisioningState": state_of(row),
        "generation": row.generation,
        "verdict": None if verdict is None else body_of(verdict),
    }


def token_json(token: Token) -> dict[str, Any]:
    """The answer to `token`; times are whole Unix seconds."""
    return {
        "accessToken": token.text,
        "expiryTimeUtc": token.expires_at,
        "refreshAfterTimeUtc": token.refresh_after,
        "tokenType": "Bearer",
    }


def _extra(row: Resource, no_effect: Mapping[str, str], events: Sequence[Event]) -> dict[str, Any]:
    found = row.status.get("gave_up")
    failed = found["failure"] if found and found["generation"] == row.generation else None
    return {
        "generation": row.generation,
        "conditions": [c | {"since": rfc3339(c["since"])} for c in row.status.get("conditions", {}).values()],
        "noEffectYet": dict(no_effect),
        "error": body_of(Failure.from_json(failed)) if failed else None,
        "events": [{"at": rfc3339(e.at), "reason": e.reason, "message": e.message} for e in events[-20:]],
    }


def _system_data(created_at: float, updated_at: float) -> dict[str, Any]:
    return {
        "createdAt": rfc3339(created_at),
        "lastModifiedAt": rfc3339(updated_at),
        "createdBy": "local",
        "createdByType": "User",
        "lastModifiedBy": "local",
        "lastModifiedByType": "User",
    }


def _envelope(row: Resource, body: dict[str, Any], id_: str, type_: str, kind: str) -> dict[str, Any]:
    return {
        **body,
        "id": id_,
        "name": row.name.rpartition("/")[2] if row.kind == DEPLOYMENT else row.name,
        "type": type_,
        "location": LOCATION,
        "kind": kind,
        "systemData": _system_data(row.created_at, row.updated_at),
    }
