"""Create or change a deployment: register what the spec holds inline, then ask for the deployment. Reads no
files itself."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moorings.client.client import Accepted, Client
from moorings.spec.arm import (
    code_version_to_arm,
    deployment_to_arm,
    environment_version_to_arm,
    model_version_to_arm,
)
from moorings.spec.assets import CodeVersion, EnvironmentSpec, ModelSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.references import is_local_path

CODES, MODELS, ENVIRONMENTS = "codes", "models", "environments"
ANONYMOUS_ENVIRONMENT = "CliV2AnonymousEnvironment"

Say = Callable[[str], None]
"""Takes a line for people about what is being done."""


def create_or_update_deployment(client: Client, spec: DeploymentSpec, say: Say) -> Accepted:
    """Register the inline model, code and environment of `spec`, then PUT the deployment.

    The spec may come from the loader (absolute paths) or from the server (references). Raises `ApiError` with
    the server's code: the user's fault (an asset that cannot be read, an endpoint that is missing) or the
    machine's.
    """
    changes: dict[str, Any] = {}
    code = spec.code_configuration
    if code is not None and is_local_path(code.code):
        say(f"code         {code.code}")
        changes["code_configuration"] = code.model_copy(update={"code": register_code(client, code.code)})
    if isinstance(spec.environment, EnvironmentSpec):
        say(f"environment  {_described(spec.environment)}")
        changes["environment"] = register_environment(client, spec.environment)
    if isinstance(spec.model, ModelSpec):
        say(f"model        {spec.model.path or spec.model.name or ''}")
        changes["model"] = register_model(client, spec.model)
    ready = spec.model_copy(update=changes)
    return client.put_deployment(spec.endpoint_name, spec.name, deployment_to_arm(ready))


def register_code(client: Client, folder: str) -> str:
    """Register a folder on this machine as an anonymous code version; returns its id."""
    name = str(uuid.uuid4())
    body = code_version_to_arm(CodeVersion(name=name, version="1", uri=_uri(folder)))
    return _id(client.put_asset(CODES, name, "1", body))


def register_model(client: Client, spec: ModelSpec) -> str:
    """Register a model; without a name it is anonymous, without a version it gets the next one. Returns its
    id."""
    name, version = (uuid.uuid4().hex, "1") if spec.name is None else (spec.name, spec.version)
    return _id(client.put_asset(MODELS, name, version, model_body(spec)))


def model_body(spec: ModelSpec) -> dict[str, Any]:
    """What is sent to register a model: paths of this machine as addresses."""
    with_uri = spec.model_copy(update={"path": _uri(spec.path)}) if spec.path else spec
    return model_version_to_arm(with_uri, anonymous=spec.name is None)


def register_environment(client: Client, spec: EnvironmentSpec) -> str:
    """Register an environment; without a name its version is the hash of what it is made of. Returns its
    id."""
    body = environment_body(spec)
    if spec.name is None:
        # What is in a build context is not in the body: were it known by its path, an edited one would be refused.
        version = environment_hash(body) if spec.build is None else uuid.uuid4().hex
        return _id(client.put_asset(ENVIRONMENTS, ANONYMOUS_ENVIRONMENT, version, body))
    return _id(client.put_asset(ENVIRONMENTS, spec.name, spec.version, body))


def environment_body(spec: EnvironmentSpec) -> dict[str, Any]:
    """What is sent to register an environment; see `model_body`."""
    if spec.build is not None:
        context = spec.build.model_copy(update={"path": _uri(spec.build.path)})
        spec = spec.model_copy(update={"build": context})
    return environment_version_to_arm(spec, anonymous=spec.name is None)


def environment_hash(body: Mapping[str, Any]) -> str:
    """64 hex digits over the content of an environment body; equal content, equal version."""
    canonical = json.dumps(body["properties"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _id(answer: Mapping[str, Any]) -> str:
    return str(answer["id"])


def _uri(path: str) -> str:
    return Path(path).as_uri() if is_local_path(path) else path


def _described(spec: EnvironmentSpec) -> str:
    if spec.name is not None:
        return spec.name + (f":{spec.version}" if spec.version else "")
    parts = [spec.image] if spec.image else []
    if spec.conda_file is not None:
        parts.append("conda file")
    if spec.build is not None:
        parts.append(f"build of {spec.build.path}")
    return " + ".join(parts) or "default"
