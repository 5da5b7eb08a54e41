"""The documents `show` prints: bodies of the control API in the snake_case spelling of the YAML, with the
read-only facts.

Views never refuse: what a newer or older server answers is shown as far as it is understood.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

from moorings.spec.durations import parse_duration_ms
from moorings.spec.endpoint import EndpointOwn
from moorings.spec.own_settings import KNOWN

_AUTH = {"key": "key", "amltoken": "aml_token", "aadtoken": "aad_token"}
_IDENTITY = {"systemassigned": "system_assigned", "userassigned": "user_assigned", "none": "none"}
_PROBE = (
    ("initialDelay", "initial_delay"),
    ("period", "period"),
    ("timeout", "timeout"),
    ("successThreshold", "success_threshold"),
    ("failureThreshold", "failure_threshold"),
)
_DURATIONS = ("initialDelay", "period", "timeout", "pollingInterval")
_OWN = "moorings."
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def endpoint_view(arm: Mapping[str, Any]) -> dict[str, Any]:
    """The `show` document of an endpoint body; keys of section 2.8 plus conditions and failure where the body
    has them."""
    properties = _object(arm.get("properties"))
    view = {
        "id": arm.get("id"),
        "name": arm.get("name"),
        "kind": arm.get("kind"),
        "location": arm.get("location"),
        "description": properties.get("description"),
        "auth_mode": _spelled(properties.get("authMode"), _AUTH),
        "scoring_uri": properties.get("scoringUri"),
        "openapi_uri": properties.get("swaggerUri"),
        "traffic": dict(_object(properties.get("traffic"))),
        "mirror_traffic": dict(_object(properties.get("mirrorTraffic"))),
        "identity": _identity(arm.get("identity")),
        "compute": properties.get("compute"),
        "public_network_access": _lower(properties.get("publicNetworkAccess")),
        "provisioning_state": properties.get("provisioningState"),
        "tags": dict(_object(arm.get("tags"))),
        "properties": _endpoint_properties(properties.get("properties")),
        "creation_context": system_data(arm.get("systemData")),
    }
    limits = _object(_object(properties.get("moorings")).get("limits"))
    if limits:
        view["limits"] = dict(limits)
    return _with_status(view, properties)


def deployment_view(arm: Mapping[str, Any]) -> dict[str, Any]:
    """The `show` document of a deployment body: request settings in milliseconds, probes in seconds."""
    properties = _object(arm.get("properties"))
    code = _object(properties.get("codeConfiguration"))
    requests = _object(properties.get("requestSettings"))
    view = {
        "id": arm.get("id"),
        "name": arm.get("name"),
        "endpoint_name": _endpoint_of(arm.get("id")),
        "type": _lower(properties.get("endpointComputeType")),
        "location": arm.get("location"),
        "description": properties.get("description"),
        "provisioning_state": properties.get("provisioningState"),
        "model": properties.get("model"),
        "model_mount_path": properties.get("modelMountPath"),
        "code_configuration": {"code": code.get("codeId"), "scoring_script": code.get("scoringScript")}
        if code
        else None,
        "environment": properties.get("environmentId"),
        "environment_variables": dict(_object(properties.get("environmentVariables"))),
        "instance_type": properties.get("instanceType"),
        "instance_count": _object(arm.get("sku")).get("capacity"),
        "app_insights_enabled": properties.get("appInsightsEnabled"),
        "scale_settings": _scale(properties.get("scaleSettings")),
        "request_settings": {
            "request_timeout_ms": _ms(requests.get("requestTimeout")),
            "max_concurrent_requests_per_instance": requests.get("maxConcurrentRequestsPerInstance"),
            "max_queue_wait_ms": _ms(requests.get("maxQueueWait")),
        },
        "liveness_probe": _probe(properties.get("livenessProbe")),
        "readiness_probe": _probe(properties.get("readinessProbe")),
        "egress_public_network_access": _lower(properties.get("egressPublicNetworkAccess")),
        "data_collector": _collector(properties.get("dataCollector")),
        "tags": dict(_object(arm.get("tags"))),
        "properties": _user_properties(properties.get("properties"), KNOWN),
        "creation_context": system_data(arm.get("systemData")),
    }
    return _with_status(view, properties)


def _with_status(view: dict[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    own = _object(properties.get("moorings"))
    scaling = _object(own.get("scaling"))
    if scaling:
        view["instance_count"] = scaling.get("count", view.get("instance_count"))
    for theirs, ours in (
        ("scaling", "scaling"),
        ("environment", "environment_build"),
        ("conditions", "conditions"),
        ("noEffectYet", "no_effect_yet"),
        ("serving", "serving"),
        ("failed", "failed"),
        ("error", "error"),
    ):
        if own.get(theirs):
            view[ours] = own[theirs] if ours == "error" else snake_case(own[theirs])
    return view


def snake_case(value: Any) -> Any:
    """`value` with the names in it spelled as in the YAML. For facts of ours: not where users choose names."""
    if isinstance(value, Mapping):
        return {_CAMEL.sub("_", key).lower(): snake_case(item) for key, item in value.items()}
    return [snake_case(item) for item in value] if isinstance(value, list | tuple) else value


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _spelled(value: Any, names: Mapping[str, str]) -> Any:
    return names.get(value.lower().replace("_", ""), value) if isinstance(value, str) else value


def _user_properties(value: Any, keep: Container[str] = ()) -> dict[str, Any]:
    return {key: item for key, item in _object(value).items() if key in keep or not key.startswith(_OWN)}


def _endpoint_properties(value: Any) -> dict[str, Any]:
    """The user's own entries, and those of Moorings in the nested form of the YAML."""
    known = {
        key.removeprefix(_OWN): _plain(item)
        for key, item in _object(value).items()
        if key.removeprefix(_OWN) in EndpointOwn.model_fields and key.startswith(_OWN)
    }
    own = _user_properties(value)
    return {**own, "moorings": known} if known else own


def _plain(value: Any) -> Any:
    """A number or a switch that travelled as text."""
    if not isinstance(value, str):
        return value
    return int(value) if value.isdecimal() else {"true": True, "false": False}.get(value.lower(), value)


def _identity(value: Any) -> dict[str, Any] | None:
    identity = _object(value)
    if not identity:
        return None
    view: dict[str, Any] = {"type": _spelled(identity.get("type"), _IDENTITY)}
    for theirs, ours in (("principalId", "principal_id"), ("tenantId", "tenant_id")):
        if identity.get(theirs) is not None:
            view[ours] = identity[theirs]
    assigned = _object(identity.get("userAssignedIdentities"))
    if assigned:
        view["user_assigned_identities"] = [
            {
                "resource_id": resource_id,
                "client_id": _object(facts).get("clientId"),
                "object_id": _object(facts).get("principalId"),
            }
            for resource_id, facts in assigned.items()
        ]
    return view


def system_data(value: Any) -> dict[str, Any] | None:
    data = _object(value)
    names = (
        ("createdAt", "created_at"),
        ("createdBy", "created_by"),
        ("lastModifiedAt", "last_modified_at"),
        ("lastModifiedBy", "last_modified_by"),
    )
    return {ours: data[theirs] for theirs, ours in names if theirs in data} or None


def _ms(value: Any) -> Any:
    try:
        return parse_duration_ms(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _seconds(value: Any) -> Any:
    milliseconds = _ms(value)
    if not isinstance(milliseconds, int):
        return value
    return milliseconds // 1000 if milliseconds % 1000 == 0 else milliseconds / 1000


def _probe(value: Any) -> dict[str, Any] | None:
    probe = _object(value)
    return {
        ours: _seconds(probe[theirs]) if theirs in _DURATIONS else probe[theirs]
        for theirs, ours in _PROBE
        if theirs in probe
    } or None


def _scale(value: Any) -> dict[str, Any] | None:
    scale = _object(value)
    if not scale:
        return None
    names = (
        ("minInstances", "min_instances"),
        ("maxInstances", "max_instances"),
        ("targetUtilizationPercentage", "target_utilization_percentage"),
        ("pollingInterval", "polling_interval"),
    )
    view = {
        "type": _spelled(
            scale.get("scaleType"), {"default": "default", "targetutilization": "target_utilization"}
        )
    }
    view |= {ours: _seconds(scale[t]) if t in _DURATIONS else scale[t] for t, ours in names if t in scale}
    return view


def _collector(value: Any) -> dict[str, Any] | None:
    collector = _object(value)
    if not collector:
        return None
    view: dict[str, Any] = {"collections": {}}
    for name, item in _object(collector.get("collections")).items():
        facts = _object(item)
        view["collections"][name] = {"enabled": _lower(facts.get("dataCollectionMode")) == "enabled"}
        if facts.get("samplingRate") is not None:
            view["collections"][name]["sampling_rate"] = facts["samplingRate"]
        if facts.get("dataId") is not None:
            view["collections"][name]["data"] = facts["dataId"]
    if collector.get("rollingRate") is not None:
        view["rolling_rate"] = _lower(collector["rollingRate"])
    headers = _object(collector.get("requestLogging")).get("captureHeaders")
    if headers is not None:
        view["request_logging"] = {"capture_headers": headers}
    return view


def _endpoint_of(resource_id: Any) -> str | None:
    parts = resource_id.split("/") if isinstance(resource_id, str) else []
    lowered = [part.lower() for part in parts]
    if "onlineendpoints" in lowered[:-1]:
        return str(parts[lowered.index("onlineendpoints") + 1])
    return None
