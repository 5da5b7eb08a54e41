"""What an unknown key was probably meant to be: misspelt, at another place, or an older spelling. Text
only."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from moorings.spec.assets import EnvironmentSpec, ModelSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.problems import FieldPath, path_text

_OLDER: Mapping[tuple[str, str], str] = {
    ("EndpointSpec", "allow_public_access"): "write `public_network_access: enabled` (or disabled)",
    ("EndpointSpec", "swagger_uri"): "it is read-only and now called `openapi_uri`; leave it out",
    ("EndpointSpec", "deployments"): (
        "with deployments inside it is a file of the older form: moor endpoint create -f "
        "(or give each deployment a file of its own: moor online-deployment create -f)"
    ),
    ("EndpointSpec", "target"): "it is now called `compute`",
    ("EndpointSpec", "type"): "the command says what it is; leave it out",
    ("EndpointSpec", "app_insights_enabled"): "it is a key of each deployment",
    ("DeploymentSpec", "swagger_uri"): "it is a read-only key of the endpoint; leave it out",
    (
        "DeploymentSpec",
        "resource_requirements",
    ): "it is for clusters only; `instance_type` says how large an instance is",
    ("DeploymentSpec", "resources"): "it is for clusters only; `instance_type` says how large an instance is",
    ("ModelSpec", "local_path"): "it is now called `path`",
    ("ModelSpec", "model_uri"): "it is now called `path`",
    ("ModelSpec", "model_format"): "it is now called `type` (custom_model, mlflow_model, triton_model)",
    ("CodeConfiguration", "local_path"): "write the folder as `code: ./folder`",
    ("EnvironmentSpec", "context_uri"): "write `build: {path: ./folder}`",
    ("EnvironmentSpec", "local_path"): "write `build: {path: ./folder}`",
    ("EnvironmentSpec", "path"): "write `build: {path: ./folder}`",
    (
        "EnvironmentSpec",
        "docker",
    ): "write the image as `image: registry/name:tag`, or a Dockerfile as `build: {path: ./folder}`",
    ("BuildContext", "context_uri"): "it is now called `path`",
    ("BuildContext", "local_path"): "it is now called `path`",
    ("BuildContext", "dockerfile"): "it is called `dockerfile_path`",
    ("ScaleSettings", "scale_type"): "it is now called `type` (default)",
    ("ScaleSettings", "instance_count"): "it is a key of the deployment itself, not of `scale_settings`",
}
_FILES: tuple[tuple[type[BaseModel], str], ...] = (
    (EndpointSpec, "an endpoint"),
    (DeploymentSpec, "a deployment"),
    (EnvironmentSpec, "an environment"),
    (ModelSpec, "a model"),
)


def unknown_key_hint(root: type[BaseModel], path: FieldPath, *, top: str = "at the top of the file") -> str:
    """A clause for the message about the unknown key at `path` of a spec of class `root`; empty when nothing
    is near. `top` says where the spec itself stands."""
    model = model_at(root, path[:-1])
    key = str(path[-1])
    if model is None:
        return ""
    older = _OLDER.get((model.__name__, key))
    if older is not None:
        return older
    elsewhere = [(where, name) for where, name in _all_keys(root, ()) if name == key and where != path[:-1]]
    if elsewhere:
        where = min((where for where, _ in elsewhere), key=len)
        return f"it belongs under `{path_text(where)}`" if where else f"it belongs {top}"
    near = difflib.get_close_matches(key, keys_of(model), n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    for other, name in _FILES:
        if other is not root and len(path) == 1 and key in keys_of(other):
            return f"it is a key of {name} file"
    far = [
        (where, name)
        for where, name in _all_keys(root, ())
        if difflib.SequenceMatcher(None, key, name).ratio() > 0.85
    ]
    return f"did you mean `{path_text((*far[0][0], far[0][1]))}`?" if far else ""


def keys_of(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def model_at(root: type[BaseModel], path: FieldPath) -> type[BaseModel] | None:
    """The class of the mapping at `path`, or None where the keys are free or the path leads nowhere."""
    at: Any = root
    for part in path:
        if isinstance(at, type) and issubclass(at, BaseModel):
            if not isinstance(part, str):
                return None
            fields = {info.alias or name: info.annotation for name, info in at.model_fields.items()}
            at = fields.get(part)
        else:
            arguments = _members(at)
            at = next((a for a in reversed(arguments) if a is not Ellipsis), None) if arguments else None
        model = _model_in(at)
        at = model if model is not None else at
    return at if isinstance(at, type) and issubclass(at, BaseModel) else None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The one spec class `annotation` is, directly or as a member of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return next((m for m in map(_model_in, typing.get_args(annotation)) if m is not None), None)
    return None


def _members(annotation: Any) -> tuple[Any, ...]:
    """What a dict or tuple annotation holds."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        for argument in typing.get_args(annotation):
            found = _members(argument)
            if found:
                return found
        return ()
    return typing.get_args(annotation) if origin in (dict, tuple, list) else ()


def _all_keys(model: type[BaseModel], at: FieldPath) -> Iterator[tuple[FieldPath, str]]:
    for name, info in model.model_fields.items():
        key = info.alias or name
        yield at, key
        inner = _model_in(info.annotation)
        if inner is not None:
            yield from _all_keys(inner, (*at, key))
