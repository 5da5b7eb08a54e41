"""From flags and files to spec values: which names count, and which loader to ask. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorings.errors.exceptions import error
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.documents import Draft, read_document
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.loader import load_deployment, load_endpoint, prepare_endpoint
from moorings.spec.update import update_deployment, update_endpoint
from moorings.spec.validate import endpoint_problems


@dataclass(frozen=True)
class Changes:
    """What `--set`, `--add` and `--remove` ask for."""

    set_: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    force_string: bool = False

    def __bool__(self) -> bool:
        return bool(self.set_ or self.add or self.remove)


def endpoint_to_create(file: Path | None, name: str | None, overrides: Sequence[str]) -> EndpointSpec:
    """The endpoint of a file, or of flags alone. Raises as the loader, and `NameMissing`."""
    if file is not None:
        return load_endpoint(file, overrides=overrides, name=name)
    if name is None and "name" not in _set_keys(overrides):
        raise _missing("the name of the endpoint is missing", "--name")
    draft = Draft.of_value({}, EndpointSpec, command=f"moor online-endpoint create -n {name or '<name>'}")
    draft.apply(set_=overrides)
    if name is not None:
        draft.put("name", name, "-n")
    prepare_endpoint(draft)
    return draft.build(endpoint_problems, EndpointSpec)


def marked_local(spec: EndpointSpec) -> EndpointSpec:
    """`spec` as one made with `--local`, unless it says itself whether it is local."""
    own = spec.properties.moorings
    if "local" in own.model_fields_set:
        return spec
    properties = spec.properties.model_copy(update={"moorings": own.model_copy(update={"local": True})})
    return spec.model_copy(update={"properties": properties})


def endpoint_name_of(file: Path, given: str | None, default: str | None) -> str:
    """The endpoint an update is about: the flag, else the file's, else the default. Raises `NameMissing`."""
    name = given or _text(_document(file, "moor online-endpoint update"), "name") or default
    if name is None:
        raise _missing(f"neither --name nor {file} names the endpoint", "--name")
    return name


def endpoint_to_update(existing: EndpointSpec, file: Path | None, changes: Changes) -> EndpointSpec:
    """`existing` with a file and expressions applied; the flag beats the name in the file."""
    return update_endpoint(
        existing,
        path=file,
        changes={"name": existing.name} if file else None,
        set_=changes.set_,
        add=changes.add,
        remove=changes.remove,
        force_string=changes.force_string,
    )


def deployment_to_create(
    file: Path, name: str | None, endpoint: str | None, default_endpoint: str | None, overrides: Sequence[str]
) -> DeploymentSpec:
    """The deployment of a file; flags beat the file, a configured endpoint is used when nothing names one."""
    if endpoint is None and default_endpoint is not None and "endpoint_name" not in _set_keys(overrides):
        document = _document(file, "moor online-deployment create")
        endpoint = None if _text(document, "endpoint_name") else default_endpoint
    return load_deployment(file, overrides=overrides, name=name, endpoint_name=endpoint)


def deployment_names_of(
    file: Path | None,
    name: str | None,
    endpoint: str | None,
    default_endpoint: str | None,
    overrides: Sequence[str],
) -> tuple[str, str]:
    """Endpoint and deployment an update is about. Raises `NameMissing`."""
    document = _document(file, "moor online-deployment update") if file is not None else {}
    given = _set_keys(overrides)
    endpoint = endpoint or given.get("endpoint_name") or _text(document, "endpoint_name") or default_endpoint
    name = name or given.get("name") or _text(document, "name")
    if not endpoint:
        raise _missing("the name of the endpoint is missing", "--endpoint-name")
    if not name:
        raise _missing("the name of the deployment is missing", "--name")
    return endpoint, name


def deployment_to_update(existing: DeploymentSpec, file: Path | None, changes: Changes) -> DeploymentSpec:
    """`existing` with a file and expressions applied; flags beat the names in the file."""
    names = {"name": existing.name, "endpoint_name": existing.endpoint_name}
    return update_deployment(
        existing,
        path=file,
        changes=names if file else None,
        set_=changes.set_,
        add=changes.add,
        remove=changes.remove,
        force_string=changes.force_string,
    )


def _document(file: Path, command: str) -> dict[str, Any]:
    value = read_document(file, command=f"{command} -f {file}").value
    return value if isinstance(value, dict) else {}


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) and value else None


def _set_keys(overrides: Sequence[str]) -> dict[str, str]:
    """The top-level `key=value` pairs among `--set` expressions."""
    pairs = (text.partition("=") for text in overrides)
    return {key.strip(): value for key, equals, value in pairs if equals}


def _missing(message: str, flag: str) -> Exception:
    return error("NameMissing", message, target=flag, fields={"flag": flag})
