"""From flags and files to spec values: which names count, and which loader to ask. Sends nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorings.cli.defaults import endpoint_missing
from moorings.errors.exceptions import error
from moorings.spec.assets import DataSpec, EnvironmentSpec, ModelSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.documents import Draft, Examined, read_document
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.loader import (
    data_of,
    environment_of,
    examine_deployment,
    examine_endpoint,
    model_of,
    prepare_endpoint,
)
from moorings.spec.references import is_local_path
from moorings.spec.update import examine_updated, update_endpoint
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


def retyped(
    command: str,
    file: Path | None,
    *,
    name: str | None = None,
    endpoint: str | None = None,
    set_: Sequence[str] = (),
    more: Sequence[str] = (),
) -> str:
    """The command as it was typed, for fixes that end in typing it again."""
    words = [command]
    words += ["-f", shlex.quote(str(file))] if file is not None else []
    words += ["-n", name] if name else []
    words += ["-e", endpoint] if endpoint else []
    words += [*more, *(["--set", *map(shlex.quote, set_)] if set_ else [])]
    return " ".join(words)


def endpoint_to_create(file: Path | None, name: str | None, overrides: Sequence[str]) -> EndpointSpec:
    """The endpoint of a file, or of flags alone. Raises as the loader, and `NameMissing`."""
    if file is not None:
        return examine_endpoint(file, overrides=overrides, name=name).valid()
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
        raise endpoint_missing(f"neither --name nor {file} names the endpoint", "--name")
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
    file: Path,
    name: str | None,
    endpoint: str | None,
    default_endpoint: str | None,
    overrides: Sequence[str],
    *,
    command: str = "moor online-deployment create",
) -> Examined[DeploymentSpec]:
    """The deployment of a file, with its problems; flags beat the file, a configured endpoint is used when nothing names
    one. Raises for a file that is no mapping. `command`: what asks, for the fixes that it is told."""
    if endpoint is None and default_endpoint is not None and "endpoint_name" not in _set_keys(overrides):
        document = _document(file, command)
        endpoint = None if _text(document, "endpoint_name") else default_endpoint
    return examine_deployment(file, overrides=overrides, name=name, endpoint_name=endpoint, command=command)


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
        raise endpoint_missing("the name of the endpoint is missing", "--endpoint-name")
    if not name:
        raise _missing("the name of the deployment is missing", "--name")
    return endpoint, name


def deployment_to_update(
    existing: DeploymentSpec, file: Path | None, changes: Changes
) -> Examined[DeploymentSpec]:
    """`existing` with a file and expressions applied, and its problems; flags beat the names in the file."""
    names = {"name": existing.name, "endpoint_name": existing.endpoint_name}
    return examine_updated(
        existing,
        path=file,
        changes=names if file else None,
        set_=changes.set_,
        add=changes.add,
        remove=changes.remove,
        force_string=changes.force_string,
    )


def model_to_create(
    file: Path | None, given: Mapping[str, Any], overrides: Sequence[str], tags: Sequence[str]
) -> ModelSpec:
    """The model of a file, of flags, or of both; see `loader.model_of`. Raises also `NameMissing`."""
    _check_named(file, given, overrides)
    return model_of(file, _from_here(given, "path"), overrides=overrides, tags=tags)


def data_to_create(
    file: Path | None, given: Mapping[str, Any], overrides: Sequence[str], tags: Sequence[str]
) -> DataSpec:
    """The data asset of a file, of flags, or of both; see `loader.data_of`. Raises also `NameMissing`."""
    _check_named(file, given, overrides)
    return data_of(file, given, overrides=overrides, tags=tags)


def environment_to_create(
    file: Path | None, given: Mapping[str, Any], overrides: Sequence[str], tags: Sequence[str]
) -> EnvironmentSpec:
    """As `model_to_create`; `build_context` and `dockerfile_path` are those of the build."""
    _check_named(file, given, overrides)
    rest = dict(_from_here(given, "conda_file", "build_context"))
    context, dockerfile = rest.pop("build_context", None), rest.pop("dockerfile_path", None)
    if context is not None:
        rest["build"] = {"path": context, **({"dockerfile_path": dockerfile} if dockerfile else {})}
    elif dockerfile is not None:
        overrides = [*overrides, f"build.dockerfile_path={dockerfile}"]
    return environment_of(file, rest, overrides=overrides, tags=tags)


def _check_named(file: Path | None, given: Mapping[str, Any], overrides: Sequence[str]) -> None:
    if file is None and not given.get("name") and "name" not in _set_keys(overrides):
        raise _missing("neither a file nor --name names what to create", "--name")


def _from_here(given: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Paths of flags start at the current folder, those in the file at its own."""
    found = dict(given)
    for key in keys:
        value = found.get(key)
        if isinstance(value, str) and is_local_path(value):
            found[key] = os.path.abspath(value)  # noqa: PTH100 - a path of somebody else, links stay
    return found


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
