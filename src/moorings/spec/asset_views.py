"""The documents `show` and `list` print of models, code, environments and data: bodies of the control API in the snake_case
spelling of the YAML. Views never refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from moorings.spec.arm_views import system_data

_TYPES = {"custommodel": "custom_model", "mlflowmodel": "mlflow_model", "tritonmodel": "triton_model"}
_ROUTES = (
    ("livenessRoute", "liveness_route"),
    ("readinessRoute", "readiness_route"),
    ("scoringRoute", "scoring_route"),
)


def model_view(arm: Mapping[str, Any]) -> dict[str, Any]:
    """The `show` document of a model version."""
    properties = _object(arm.get("properties"))
    kind = str(properties.get("modelType") or "custom_model")
    return {
        **_head(arm, properties),
        "path": properties.get("modelUri"),
        "type": _TYPES.get(kind.replace("_", "").lower(), kind),
        "stage": properties.get("stage"),
        "flavors": dict(_object(properties.get("flavors"))),
        **_tail(arm, properties),
    }


def code_view(arm: Mapping[str, Any]) -> dict[str, Any]:
    """The `show` document of a code version."""
    properties = _object(arm.get("properties"))
    return {**_head(arm, properties), "path": properties.get("codeUri"), **_tail(arm, properties)}


def environment_view(arm: Mapping[str, Any]) -> dict[str, Any]:
    """The `show` document of an environment version."""
    properties = _object(arm.get("properties"))
    build = _object(properties.get("build"))
    routes = _object(properties.get("inferenceConfig"))
    return {
        **_head(arm, properties),
        "image": properties.get("image"),
        "conda_file": _conda(properties.get("condaFile")),
        "build": {"path": build.get("contextUri"), "dockerfile_path": build.get("dockerfilePath")}
        if build
        else None,
        "os_type": str(properties.get("osType") or "linux").lower(),
        "inference_config": {ours: routes.get(theirs) for theirs, ours in _ROUTES} if routes else None,
        **_tail(arm, properties),
    }


def data_view(arm: Mapping[str, Any]) -> dict[str, Any]:
    """The `show` document of a data version."""
    properties = _object(arm.get("properties"))
    return {
        **_head(arm, properties),
        "path": properties.get("dataUri"),
        "type": properties.get("dataType"),
        **_tail(arm, properties),
    }


def container_view(arm: Mapping[str, Any]) -> dict[str, Any]:
    """One line of a list of names: what all versions share, and the latest of them."""
    properties = _object(arm.get("properties"))
    view = {**_head(arm, properties), **_tail(arm, properties)}
    view["name"], view["version"] = arm.get("name"), None
    view["latest_version"] = properties.get("latestVersion")
    view["next_version"] = properties.get("nextVersion")
    return view


def _head(arm: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": arm.get("id"),
        "name": _name_of(arm.get("id")),
        "version": arm.get("name"),
        "description": properties.get("description"),
        "tags": dict(_object(properties.get("tags"))),
        "properties": dict(_object(properties.get("properties"))),
    }


def _tail(arm: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    view: dict[str, Any] = {
        "archived": properties.get("isArchived") is True,
        "creation_context": system_data(arm.get("systemData")),
    }
    facts = _object(properties.get("moorings"))
    names = (
        ("digest", "digest"),
        ("files", "files"),
        ("sizeBytes", "size_bytes"),
        ("source", "source"),
    )
    content = {ours: facts[theirs] for theirs, ours in names if theirs in facts}
    if content:
        view["content"] = content
    return view


def _name_of(resource_id: Any) -> str | None:
    parts = resource_id.split("/") if isinstance(resource_id, str) else []
    return str(parts[-3]) if len(parts) > 3 and parts[-2] == "versions" else None


def _conda(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
