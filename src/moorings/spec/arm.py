"""JSON bodies of the control API <-> spec values, for the client and the server alike; and the documents
`show` prints.

What a body cannot carry (keys without a property of their own) travels in `properties.properties` under
`moorings.<key>`
as JSON text and is taken out again on the way back. `$schema` is not carried: it says nothing about the
resource.
Unknown properties are ignored, absent and null ones take the defaults of the spec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from moorings.errors.exceptions import error
from moorings.spec.arm_assets import (
    OWN_PREFIX,
    SERVER_PROPERTIES,
    code_version_from_arm,
    code_version_to_arm,
    conda_text,
    data_version_from_arm,
    data_version_to_arm,
    environment_version_from_arm,
    environment_version_to_arm,
    is_anonymous,
    json_object,
    model_version_from_arm,
    model_version_to_arm,
    own_entries,
)
from moorings.spec.arm_views import deployment_view, endpoint_view
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import OWN, EndpointLimits, EndpointSpec
from moorings.spec.own_settings import KNOWN
from moorings.spec.problems import Problem, path_text, shown
from moorings.spec.references import is_local_path
from moorings.spec.slots import (
    Slot,
    WireValueError,
    build,
    choice,
    counts,
    flag,
    mapping,
    milliseconds,
    number,
    read_slots,
    seconds,
    slot,
    text,
    texts,
    whole,
    write_slots,
)
from moorings.spec.validate import deployment_problems, endpoint_problems

__all__ = [
    "OWN_PREFIX",
    "SERVER_PROPERTIES",
    "code_version_from_arm",
    "code_version_to_arm",
    "conda_text",
    "data_version_from_arm",
    "data_version_to_arm",
    "deployment_from_arm",
    "deployment_to_arm",
    "deployment_view",
    "endpoint_from_arm",
    "endpoint_to_arm",
    "endpoint_view",
    "environment_version_from_arm",
    "environment_version_to_arm",
    "is_anonymous",
    "model_version_from_arm",
    "model_version_to_arm",
]

_SWITCH = {"enabled": "Enabled", "disabled": "Disabled"}
_AUTH = {"key": "Key", "aml_token": "AMLToken", "aad_token": "AADToken"}
_IDENTITY = {"system_assigned": "SystemAssigned", "user_assigned": "UserAssigned"}


def _empty(value: Any) -> bool:
    return not value


def _own_json(value: Any) -> Any:
    try:
        return json.loads(text(value))
    except (json.JSONDecodeError, RecursionError):
        raise WireValueError("found text that is not JSON; this entry is written by Moorings only") from None


def _json_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


# --- endpoint -----------------------------------------------------------------------------------------------
def _decode_identities(value: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for resource_id, facts in mapping(value).items():
        known = mapping(facts or {})
        item: dict[str, Any] = {"resource_id": resource_id}
        item |= {ours: text(known[theirs]) for ours, theirs in _ID_FACTS if known.get(theirs) is not None}
        found.append(item)
    return found


def _encode_identities(value: Any) -> dict[str, Any]:
    return {
        identity.resource_id: {
            theirs: getattr(identity, ours)
            for ours, theirs in _ID_FACTS
            if getattr(identity, ours) is not None
        }
        for identity in value
    }


_ID_FACTS = (("client_id", "clientId"), ("object_id", "principalId"))


def _limit(key: str) -> Slot:
    """A limit travels as text, under its flat name: other clients' properties are a map of text to text."""
    default = EndpointLimits.model_fields[key].default
    return Slot(
        ("properties", OWN, key),
        ("properties", "properties", OWN_PREFIX + key),
        _whole_text,
        str,
        lambda value: value == default,
    )


def _flag_text(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return flag(value)


def _whole_text(value: Any) -> int:
    try:
        return int(value) if isinstance(value, str) else whole(value)
    except ValueError:
        raise WireValueError(f"found {shown(value)}; expected a whole number") from None


_ENDPOINT: tuple[Slot, ...] = (
    slot("description", "properties.description", text),
    slot("tags", "tags", texts),
    choice("auth_mode", "properties.authMode", _AUTH),
    slot("compute", "properties.compute", text),
    choice("identity.type", "identity.type", _IDENTITY),
    slot(
        "identity.user_assigned_identities",
        "identity.userAssignedIdentities",
        _decode_identities,
        _encode_identities,
        omit=_empty,
    ),
    slot("traffic", "properties.traffic", counts),
    slot("mirror_traffic", "properties.mirrorTraffic", counts),
    choice("public_network_access", "properties.publicNetworkAccess", _SWITCH),
    slot(
        "properties.enforce_access_to_default_secret_stores",
        "properties.properties.enforce_access_to_default_secret_stores",
        text,
        omit=lambda value: value == "disabled",
    ),
    *(_limit(key) for key in EndpointLimits.model_fields),
    Slot(
        ("properties", OWN, "local"),
        ("properties", "properties", OWN_PREFIX + "local"),
        _flag_text,
        lambda value: str(value).lower(),
        _empty,
    ),
)


def endpoint_to_arm(spec: EndpointSpec) -> dict[str, Any]:
    """The body of PUT endpoint: `tags`, `identity` and `properties`; read-only facts are the server's to
    add."""
    body: dict[str, Any] = {
        "tags": {},
        "properties": {"description": None, "compute": None, "properties": {}},
    }
    return write_slots(_ENDPOINT, spec, body)


def endpoint_from_arm(name: str, body: Any, *, check: bool = True) -> EndpointSpec:
    """The spec value of an endpoint body; `name` is that of the path.

    Raises SpecInvalid, each problem with its JSON path, for wrong types and (with `check`) broken rules
    across fields.
    """
    what = f"the body of endpoint {name}"
    plain, problems = read_slots(_ENDPOINT, _without_identity_none(json_object(body, what)))
    return build(
        EndpointSpec,
        _ENDPOINT,
        {**plain, "name": name},
        problems,
        what=what,
        check=endpoint_problems if check else None,
    )


def _without_identity_none(body: Mapping[str, Any]) -> Mapping[str, Any]:
    identity = body.get("identity")
    if isinstance(identity, Mapping):
        kind = identity.get("type")
        if kind is None or (isinstance(kind, str) and kind.lower() == "none"):
            return {key: value for key, value in body.items() if key != "identity"}
    return body


# --- deployment ---------------------------------------------------------------------------------------------
def _probe(key: str, where: str) -> tuple[Slot, ...]:
    return (
        seconds(f"{key}.initial_delay", f"properties.{where}.initialDelay"),
        seconds(f"{key}.period", f"properties.{where}.period"),
        seconds(f"{key}.timeout", f"properties.{where}.timeout"),
        slot(f"{key}.success_threshold", f"properties.{where}.successThreshold", whole),
        slot(f"{key}.failure_threshold", f"properties.{where}.failureThreshold", whole),
    )


def _collections_in(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, item in mapping(value).items():
        facts = mapping(item or {})
        entry: dict[str, Any] = {}
        mode = facts.get("dataCollectionMode")
        if mode is not None:
            if text(mode).lower() not in ("enabled", "disabled"):
                raise WireValueError(
                    f"`{name}.dataCollectionMode`: found {shown(mode)}; expected Enabled or Disabled"
                )
            entry["enabled"] = text(mode).lower() == "enabled"
        if facts.get("samplingRate") is not None:
            entry["sampling_rate"] = number(facts["samplingRate"])
        if facts.get("dataId") is not None:
            try:
                entry["data"] = text(facts["dataId"])
            except WireValueError as wrong:
                raise WireValueError(f"`{name}.dataId`: {wrong}") from None
        found[name] = entry
    return found


def _collections_out(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, item in value.items():
        found[name] = {"dataCollectionMode": "Enabled" if item.enabled else "Disabled"}
        if item.sampling_rate is not None:
            found[name]["samplingRate"] = item.sampling_rate
        if isinstance(item.data, str):
            found[name]["dataId"] = item.data
    return found


def _headers_in(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise WireValueError(f"found {shown(value)}; expected a list of header names")
    return [text(item) for item in value]


_ROLLING = {"minute": "Minute", "hour": "Hour", "day": "Day", "month": "Month", "year": "Year"}
_COLLECTOR_EXTRA = OWN_PREFIX + "data_collector"
_PRIVATE_NETWORK = OWN_PREFIX + "private_network_connection"

_DEPLOYMENT: tuple[Slot, ...] = (
    slot("description", "properties.description", text),
    slot("tags", "tags", texts),
    slot("properties", "properties.properties", partial(own_entries, keep=KNOWN), dict),
    choice("type", "properties.endpointComputeType", {"managed": "Managed"}),
    slot("model", "properties.model", text),
    slot("model_mount_path", "properties.modelMountPath", text),
    slot("code_configuration.code", "properties.codeConfiguration.codeId", text),
    slot("code_configuration.scoring_script", "properties.codeConfiguration.scoringScript", text),
    slot("environment", "properties.environmentId", text),
    slot("environment_variables", "properties.environmentVariables", texts, dict),
    slot("instance_type", "properties.instanceType", text),
    slot("instance_count", "sku.capacity", whole),
    slot("app_insights_enabled", "properties.appInsightsEnabled", flag),
    choice(
        "scale_settings.type",
        "properties.scaleSettings.scaleType",
        {"default": "Default", "target_utilization": "TargetUtilization"},
    ),
    slot("scale_settings.min_instances", "properties.scaleSettings.minInstances", whole),
    slot("scale_settings.max_instances", "properties.scaleSettings.maxInstances", whole),
    slot(
        "scale_settings.target_utilization_percentage",
        "properties.scaleSettings.targetUtilizationPercentage",
        whole,
    ),
    seconds("scale_settings.polling_interval", "properties.scaleSettings.pollingInterval"),
    milliseconds("request_settings.request_timeout_ms", "properties.requestSettings.requestTimeout"),
    slot(
        "request_settings.max_concurrent_requests_per_instance",
        "properties.requestSettings.maxConcurrentRequestsPerInstance",
        whole,
    ),
    milliseconds("request_settings.max_queue_wait_ms", "properties.requestSettings.maxQueueWait"),
    *_probe("liveness_probe", "livenessProbe"),
    *_probe("readiness_probe", "readinessProbe"),
    choice("egress_public_network_access", "properties.egressPublicNetworkAccess", _SWITCH),
    slot(
        "data_collector.collections",
        "properties.dataCollector.collections",
        _collections_in,
        _collections_out,
    ),
    choice("data_collector.rolling_rate", "properties.dataCollector.rollingRate", _ROLLING),
    slot(
        "data_collector.request_logging.capture_headers",
        "properties.dataCollector.requestLogging.captureHeaders",
        _headers_in,
        list,
    ),
)
_SCALE_DEFAULT_ONLY = ("minInstances", "maxInstances", "targetUtilizationPercentage", "pollingInterval")


def deployment_to_arm(spec: DeploymentSpec) -> dict[str, Any]:
    """The body of PUT deployment. The endpoint and the deployment name are in the path, not in the body.

    Raises MooringsError AssetNotRegistered when the model, code or environment is not a reference: the client
    registers
    inline assets first.
    """
    _require_references(spec)
    body: dict[str, Any] = {
        "tags": {},
        "sku": {"name": "Default"},
        "properties": {"description": None, "properties": {}},
    }
    write_slots(_DEPLOYMENT, spec, body)
    properties = body["properties"]
    if spec.scale_settings.type == "default" and spec.scale_settings == type(spec.scale_settings)():
        for key in _SCALE_DEFAULT_ONLY:
            del properties["scaleSettings"][key]
    own = properties["properties"]
    if spec.private_network_connection is not None:
        own[_PRIVATE_NETWORK] = _json_text(spec.private_network_connection)
    if spec.data_collector is not None:
        properties.setdefault("dataCollector", {"collections": {}})
        extra: dict[str, Any] = {
            "data": {
                name: item.data.model_dump(exclude_none=True)
                for name, item in spec.data_collector.collections.items()
                if item.data is not None and not isinstance(item.data, str)
            },
            "sampling_rate": spec.data_collector.sampling_rate,
        }
        own[_COLLECTOR_EXTRA] = _json_text(extra)
    return body


def deployment_from_arm(endpoint: str, name: str, body: Any, *, check: bool = True) -> DeploymentSpec:
    """The spec value of a deployment body; `endpoint` and `name` are those of the path.

    Raises SpecInvalid, each problem with its JSON path, for wrong types and (with `check`) broken rules
    across fields;
    a deployment for a cluster is a problem KubernetesNotAvailable.
    """
    what = f"the body of deployment {endpoint}/{name}"
    document = json_object(body, what)
    plain, problems = read_slots(_DEPLOYMENT, document)
    problems = [_kubernetes(problem, document) for problem in problems]
    try:
        _read_own(document, plain)
    except ValueError as wrong:
        where = ("properties", "properties")
        problems.append(Problem(where, f"`{path_text(where)}`: {wrong}"))
    return build(
        DeploymentSpec,
        _DEPLOYMENT,
        {**plain, "name": name, "endpoint_name": endpoint},
        problems,
        what=what,
        check=deployment_problems if check else None,
    )


def _kubernetes(problem: Problem, document: Mapping[str, Any]) -> Problem:
    where = ("properties", "endpointComputeType")
    if problem.path != where or str(document["properties"][where[1]]).lower() not in ("kubernetes", "k8s"):
        return problem
    return Problem(
        where,
        f"`{path_text(where)}`: no cluster is attached here; expected Managed",
        "KubernetesNotAvailable",
    )


def _read_own(document: Mapping[str, Any], plain: dict[str, Any]) -> None:
    """Take the entries under `moorings.` of `properties.properties` into `plain`."""
    properties = document.get("properties")
    own = properties.get("properties") if isinstance(properties, Mapping) else None
    if not isinstance(own, Mapping):
        own = {}
    if own.get(_PRIVATE_NETWORK) is not None:
        plain["private_network_connection"] = _own_json(own[_PRIVATE_NETWORK])
    given = isinstance(properties, Mapping) and isinstance(properties.get("dataCollector"), Mapping)
    if not given:
        plain.pop("data_collector", None)
        return
    collector = plain.setdefault("data_collector", {})
    if own.get(_COLLECTOR_EXTRA) is None:
        return
    extra = mapping(_own_json(own[_COLLECTOR_EXTRA]))
    collector["sampling_rate"] = extra.get("sampling_rate", 1.0)
    for name, data in mapping(extra.get("data") or {}).items():
        if name in collector.get("collections", {}):
            collector["collections"][name].setdefault("data", data)


def _require_references(spec: DeploymentSpec) -> None:
    inline = [
        key
        for key, value in (
            ("model", spec.model),
            ("environment", spec.environment),
            ("code_configuration.code", spec.code_configuration.code if spec.code_configuration else None),
        )
        if value is not None and (not isinstance(value, str) or is_local_path(value))
    ]
    if inline:
        raise error(
            "AssetNotRegistered",
            f"deployment {spec.name} would be sent with an inline {' and '.join(inline)}",
            target=inline[0],
        )
