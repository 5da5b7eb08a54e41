"""JSON bodies of asset versions (models, code, environments, data) <-> spec values, and what all bodies share."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from typing import Any

import yaml

from moorings.spec.assets import CodeVersion, DataSpec, DataVersion, EnvironmentSpec, ModelSpec
from moorings.spec.problems import Located, Problem, shown, spec_invalid
from moorings.spec.slots import (
    RESEND,
    Slot,
    WireValueError,
    build,
    choice,
    flag,
    mapping,
    read_slots,
    slot,
    text,
    texts,
    whole,
    write_slots,
)
from moorings.spec.validate import data_problems, environment_problems
from moorings.spec.yamltext import YamlProblem, parse_yaml

OWN_PREFIX = "moorings."
"""Property names below `properties.properties` that are ours."""
SERVER_PROPERTIES = frozenset(
    {
        "createdBy",
        "createdAt",
        "lastModifiedBy",
        "lastModifiedAt",
        "AzureAsyncOperationUri",
        "azureml.onlineendpointid",
    }
)
"""What answers put into `properties.properties`; clients send it back with an update, and it is no spec."""


def own_entries(value: Any, keep: Container[str] = ()) -> dict[str, str]:
    """The user's own entries of `properties.properties`; of ours only those in `keep`."""
    own = {
        k: v
        for k, v in mapping(value).items()
        if (k in keep or not k.startswith(OWN_PREFIX)) and k not in SERVER_PROPERTIES
    }
    return texts(own)


def json_object(body: Any, what: str) -> Mapping[str, Any]:
    """The body itself; raises SpecInvalid when it is no JSON object."""
    if isinstance(body, Mapping):
        return body
    problem = Problem((), f"found {shown(body)}; expected a JSON object with `properties`")
    raise spec_invalid([problem], what=what, locate=lambda _: Located("$"), command=RESEND)


def _model_type(value: Any) -> str:
    names = {"custom_model": "CustomModel", "mlflow_model": "MLFlowModel", "triton_model": "TritonModel"}
    plain = text(value).replace("_", "").lower()
    for name, wire in names.items():
        if plain == wire.lower():
            return name
    raise WireValueError(f"found {shown(value)}; expected one of {', '.join(names)}")


def _nothing(value: Any) -> bool:
    """A body says what is set: what it leaves out stays as it is in a version that is there."""
    return not value


_MODEL: tuple[Slot, ...] = (
    slot("path", "properties.modelUri", text),
    slot("type", "properties.modelType", _model_type, str),
    slot("description", "properties.description", text),
    slot("tags", "properties.tags", texts, omit=_nothing),
    slot("properties", "properties.properties", own_entries, dict, omit=_nothing),
    slot("stage", "properties.stage", text),
    slot("flavors", "properties.flavors", mapping, dict, omit=_nothing),
    slot("datastore", "properties.datastore", text),
)


def model_version_to_arm(spec: ModelSpec, *, anonymous: bool = False) -> dict[str, Any]:
    """The body of PUT model version; `path` goes as it is (`file:///...` or an address). Name and version are
    the path's."""
    return write_slots(_MODEL, spec, _version_body(anonymous))


def model_version_from_arm(name: str, version: str, body: Any) -> ModelSpec:
    """The spec value of a model version body; raises SpecInvalid with JSON paths."""
    what = f"the body of model {name}:{version}"
    plain, problems = read_slots(_MODEL, json_object(body, what))
    return build(ModelSpec, _MODEL, {**plain, "name": name, "version": version}, problems, what=what)


_CODE: tuple[Slot, ...] = (
    slot("uri", "properties.codeUri", text),
    slot("description", "properties.description", text),
    slot("tags", "properties.tags", texts, omit=_nothing),
    slot("properties", "properties.properties", own_entries, dict, omit=_nothing),
)


def code_version_to_arm(spec: CodeVersion, *, anonymous: bool = True) -> dict[str, Any]:
    return write_slots(_CODE, spec, _version_body(anonymous))


def code_version_from_arm(name: str, version: str, body: Any) -> CodeVersion:
    """The value of a code version body; raises SpecInvalid with JSON paths."""
    what = f"the body of code {name}:{version}"
    plain, problems = read_slots(_CODE, json_object(body, what))
    return build(CodeVersion, _CODE, {**plain, "name": name, "version": version}, problems, what=what)


def _conda_in(value: Any) -> dict[str, Any]:
    try:
        document = parse_yaml(text(value).encode(), "condaFile")
    except YamlProblem as wrong:
        raise WireValueError(f"in its line {wrong.place.line or 1}: {wrong.problem.message}") from None
    if document.problems:
        problem, place = document.problems[0]
        raise WireValueError(f"in its line {place.line or 1}: {problem.message}")
    return mapping(document.value)


def conda_text(conda_file: Mapping[str, Any]) -> str:
    """The YAML text of a conda file, keys sorted: equal content gives equal text."""
    return yaml.safe_dump(dict(conda_file), sort_keys=True, default_flow_style=False, allow_unicode=True)


def _routes() -> tuple[Slot, ...]:
    names = (
        ("liveness_route", "livenessRoute"),
        ("readiness_route", "readinessRoute"),
        ("scoring_route", "scoringRoute"),
    )
    return tuple(
        slot(f"inference_config.{ours}.{part}", f"properties.inferenceConfig.{theirs}.{part}", decode)
        for ours, theirs in names
        for part, decode in (("path", text), ("port", whole))
    )


_ENVIRONMENT: tuple[Slot, ...] = (
    slot("image", "properties.image", text),
    slot("conda_file", "properties.condaFile", _conda_in, conda_text),
    slot("build.path", "properties.build.contextUri", text),
    slot("build.dockerfile_path", "properties.build.dockerfilePath", text),
    choice("os_type", "properties.osType", {"linux": "Linux", "windows": "Windows"}),
    *_routes(),
    slot("description", "properties.description", text),
    slot("tags", "properties.tags", texts, omit=_nothing),
    slot("properties", "properties.properties", own_entries, dict, omit=_nothing),
    slot("datastore", "properties.datastore", text),
)


def environment_version_to_arm(spec: EnvironmentSpec, *, anonymous: bool = False) -> dict[str, Any]:
    """The body of PUT environment version; the conda file goes as YAML text with sorted keys."""
    return write_slots(_ENVIRONMENT, spec, _version_body(anonymous))


def environment_version_from_arm(
    name: str, version: str, body: Any, *, check: bool = True
) -> EnvironmentSpec:
    """The spec value of an environment version body; raises SpecInvalid with JSON paths."""
    what = f"the body of environment {name}:{version}"
    plain, problems = read_slots(_ENVIRONMENT, json_object(body, what))
    return build(
        EnvironmentSpec,
        _ENVIRONMENT,
        {**plain, "name": name, "version": version},
        problems,
        what=what,
        check=environment_problems if check else None,
    )


def _addresses(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise WireValueError(f"found {shown(value)}; expected a list of addresses")
    return [text(item) for item in value]


_DATA: tuple[Slot, ...] = (
    choice("type", "properties.dataType", {key: key for key in ("uri_folder", "uri_file", "mltable")}),
    slot("path", "properties.dataUri", text),
    slot("description", "properties.description", text),
    slot("tags", "properties.tags", texts, omit=_nothing),
    slot("properties", "properties.properties", own_entries, dict, omit=_nothing),
    slot("referenced_uris", "properties.referencedUris", _addresses, list, omit=_nothing),
    slot("archived", "properties.isArchived", flag, omit=_nothing),
    slot("anonymous", "properties.isAnonymous", flag),
)


def data_version_to_arm(spec: DataSpec) -> dict[str, Any]:
    """The body of PUT data version."""
    version = DataVersion.model_validate(spec.model_dump(exclude={"schema_"}))
    return write_slots(_DATA, version, _version_body(version.anonymous))


def data_version_from_arm(name: str, version: str, body: Any, *, datastores: Collection[str]) -> DataVersion:
    """The spec value of a data version body; `datastores` are the names an address may go by.

    Raises SpecInvalid with JSON paths; an unknown datastore is a problem DatastoreUnknown.
    """
    what = f"the body of data {name}:{version}"
    plain, problems = read_slots(_DATA, json_object(body, what))
    return build(
        DataVersion,
        _DATA,
        {**plain, "name": name, "version": version},
        problems,
        what=what,
        check=lambda spec: data_problems(spec, datastores),
    )


def is_anonymous(body: Mapping[str, Any]) -> bool:
    """Whether the body of a version says that it was registered implicitly, with a deployment."""
    properties = body.get("properties")
    return isinstance(properties, Mapping) and properties.get("isAnonymous") is True


def _version_body(anonymous: bool) -> dict[str, Any]:
    return {"properties": {"isAnonymous": anonymous}}
