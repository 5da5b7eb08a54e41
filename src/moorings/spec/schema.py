"""JSON Schemas of the spec files, for editors: `python -m moorings.spec.schema OUT_DIR`. Derived from the
models alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moorings.spec.assets import DataSpec, EnvironmentSpec, ModelSpec
from moorings.spec.base import Spec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.loader import (
    DATA_READ_ONLY,
    DEPLOYMENT_READ_ONLY,
    ENDPOINT_READ_ONLY,
    ENVIRONMENT_READ_ONLY,
    MODEL_READ_ONLY,
)

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_FILES: tuple[tuple[str, type[Spec], tuple[str, ...]], ...] = (
    ("managedOnlineEndpoint.schema.json", EndpointSpec, ENDPOINT_READ_ONLY),
    ("managedOnlineDeployment.schema.json", DeploymentSpec, DEPLOYMENT_READ_ONLY),
    ("model.schema.json", ModelSpec, MODEL_READ_ONLY),
    ("environment.schema.json", EnvironmentSpec, ENVIRONMENT_READ_ONLY),
    ("data.schema.json", DataSpec, DATA_READ_ONLY),
)
FORM_2021 = "endpointWithDeployments.schema.json"
"""The endpoint of 2021 with its deployments in it."""


def schemas() -> Mapping[str, dict[str, Any]]:
    """File name -> JSON Schema of what the loader takes in such a file."""
    found: dict[str, dict[str, Any]] = {}
    for name, model, read_only in _FILES:
        schema = model.model_json_schema(by_alias=True)
        schema["properties"] |= _read_only(read_only)
        _as_written(schema)
        found[name] = {"$schema": DRAFT, **schema}
    found[FORM_2021] = {"$schema": DRAFT, **_form_2021()}
    return found


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema below `folder`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, schema in schemas().items():
        file = folder / name
        file.write_text(json.dumps(schema, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        written.append(file)
    return written


class _Form(EndpointSpec):
    """The endpoint of 2021: with its deployments in it. Keys of today are taken as well."""

    deployments: tuple[DeploymentSpec, ...] = ()


def _form_2021() -> dict[str, Any]:
    """Today's keys and beside them, with the same limits, those of 2021."""
    schema = _Form.model_json_schema(by_alias=True)
    schema["title"] = "EndpointForm"
    kinds = {"": schema, **schema["$defs"]}
    item = kinds["DeploymentSpec"]
    del item["properties"]["endpoint_name"]
    item["required"].remove("endpoint_name")
    count = item["properties"]["instance_count"]
    text: dict[str, Any] = {"type": "string"}
    older: dict[str, dict[str, Any]] = {
        "": {
            "type": {"const": "online", "default": "online"},
            "target": {**text, "description": "`azureml:<name>` of a cluster; no cluster is attached here."},
            "app_insights_enabled": item["properties"]["app_insights_enabled"],
            "allow_public_access": {"type": "boolean", "default": True},
        },
        "ModelSpec": {"local_path": {**text, "description": "The file or folder; today `path`."}},
        "EnvironmentSpec": {
            "path": {**text, "description": "The folder its files lie in; a Docker context if it is built."},
            "docker": _mapping(
                image={**text, "description": "Base image; today `image`."},
                build=_mapping(dockerfile={**text, "description": "A path below `path`."}),
            ),
        },
        "ScaleSettings": {"scale_type": {"const": "manual"}, "instance_count": count},
    }
    for kind, keys in older.items():
        kinds[kind]["properties"] |= keys
    code = kinds["CodeConfiguration"]["properties"]
    code["code"] = {"anyOf": [code["code"], {**_mapping(local_path=text), "required": ["local_path"]}]}
    for kind, read_only in (("", ENDPOINT_READ_ONLY), ("DeploymentSpec", DEPLOYMENT_READ_ONLY)):
        kinds[kind]["properties"] |= _read_only(read_only)
    _as_written(schema)
    return schema


def _mapping(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _read_only(keys: Iterable[str]) -> dict[str, Any]:
    return {key: {"readOnly": True, "description": "Shown, ignored in files."} for key in keys}


def _as_written(schema: dict[str, Any]) -> None:
    """What the loader takes beyond the value it makes: a conda file by its path, numbers where text is
    meant."""
    for owner in (schema, *schema.get("$defs", {}).values()):
        properties = owner.get("properties", {})
        if "conda_file" in properties:
            properties["conda_file"]["anyOf"].insert(
                0, {"type": "string", "description": "Path of a conda file."}
            )
        if "version" in properties and "dockerfile_path" not in properties:
            properties["version"]["anyOf"].insert(0, {"type": "number"})
        for key in ("tags", "properties", "environment_variables"):
            free = properties.get(key, {}).get("additionalProperties")
            if free == {"type": "string"}:
                properties[key]["additionalProperties"] = {"type": ["string", "number", "boolean"]}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m moorings.spec.schema OUT_DIR")
    for path in write_schemas(Path(sys.argv[1])):
        print(path)
