"""Rules across fields of a spec: a value in, its problems out, all of them. Pure; sees neither files nor the
workspace."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, urlsplit

from moorings.spec import secret_references
from moorings.spec.assets import DataSpec, DataVersion, EnvironmentSpec, ModelSpec, ModelType
from moorings.spec.datastore_uris import DEFAULT_DATASTORE, parse_datastore_uri
from moorings.spec.deployment import DeploymentSpec, Probe
from moorings.spec.endpoint import AuthMode, EndpointSpec
from moorings.spec.own_settings import KNOWN, MAX_SURGE, PREFIX, nothing_moves, problem_of
from moorings.spec.problems import FieldPath, Problem, path_text, shown
from moorings.spec.references import AssetRef, is_local_path, is_reference, parse_reference

MIRROR_MAX_PER_CENT = 50
SMALL_INSTANCE_TYPES = ("standard_ds1_v2", "standard_ds2_v2")
"""Sizes that are often too small for a model server (section 10.4)."""

_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


def endpoint_problems(spec: EndpointSpec) -> list[Problem]:
    """What is wrong with an endpoint whose fields are each well formed."""
    return [*_traffic_problems(spec), *_identity_problems(spec), *_mode_problems(spec)]


def deployment_problems(spec: DeploymentSpec, *, complete: bool = False) -> list[Problem]:
    """What is wrong with a deployment whose fields are each well formed.

    With `complete` it must also say everything a deployment needs to start, as far as the spec itself tells:
    a model
    given as a reference may be of a type that needs no environment, so nothing is asked for then.
    """
    found = [
        *_reference_problems(spec),
        *_probe_problems(("liveness_probe",), spec.liveness_probe, liveness=True),
        *_probe_problems(("readiness_probe",), spec.readiness_probe, liveness=False),
        *_scale_problems(spec),
        *_variable_problems(spec),
    ]
    if isinstance(spec.model, ModelSpec):
        found += [_below("model", p) for p in model_problems(spec.model)]
    if isinstance(spec.environment, EnvironmentSpec):
        found += [_below("environment", p) for p in environment_problems(spec.environment)]
    if spec.model_mount_path is not None and not PurePosixPath(spec.model_mount_path).is_absolute():
        found.append(
            Problem(
                ("model_mount_path",),
                f"`model_mount_path`: found {spec.model_mount_path!r}; expected an absolute path",
            )
        )
    found += _own_problems(spec)
    if complete:
        found += _need_problems(spec)
    return found


def _own_problems(spec: DeploymentSpec) -> Iterator[Problem]:
    """What is wrong with the properties that are settings of ours."""
    for key, value in spec.properties.items():
        if not key.startswith(PREFIX):
            continue
        if key not in KNOWN:
            known = ", ".join(f"`{name}`" for name in KNOWN)
            text = f"`properties.{key}`: names that begin with `{PREFIX}` are settings; there are {known}"
            yield Problem(("properties", key), text, on_key=True)
        elif wrong := problem_of(key, value):
            yield Problem(("properties", key), f"`properties.{key}`: {wrong}")
    if nothing_moves(spec.properties):
        text = (
            f"`properties.{MAX_SURGE}` and `max_unavailable` are both 0: an update could neither add an instance nor "
            "take one away"
        )
        yield Problem(("properties", MAX_SURGE), text)


def environment_problems(spec: EnvironmentSpec) -> list[Problem]:
    """What is wrong with an environment whose fields are each well formed. A conda file alone is accepted:
    environments
    of the process engine have no base image."""
    found: list[Problem] = []
    if spec.build is not None and spec.image is not None:
        found.append(
            Problem(
                ("build",), "`image` and `build` exclude each other: give the one that is meant", on_key=True
            )
        )
    if spec.build is not None and spec.conda_file is not None:
        found.append(
            Problem(
                ("conda_file",),
                "`conda_file` goes with `image`; a `build` context installs its own packages",
                on_key=True,
            )
        )
    if spec.build is None and spec.image is None and spec.conda_file is None:
        found.append(
            Problem((), "the environment names none of `image`, `conda_file` and `build`", "SpecKeyMissing")
        )
    if spec.image is not None and (not spec.image.strip() or any(c.isspace() for c in spec.image)):
        found.append(
            Problem(("image",), f"`image`: found {spec.image!r}; expected an image such as registry/name:tag")
        )
    return found + _version_problems(spec.version)


_ADDRESS = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.\-]*)://.+")
_SIGNATURES = frozenset({"sig", "x-amz-signature", "x-goog-signature"})


def data_problems(spec: DataSpec, datastores: Collection[str] | None = None) -> list[Problem]:
    """What is wrong with a data asset whose fields are each well formed; `datastores`: the names there are,
    None where they are not known."""
    found = _version_problems(spec.version)
    referenced = spec.referenced_uris if isinstance(spec, DataVersion) else ()
    for path, uri in (
        (("path",), spec.path),
        *((("referenced_uris", n), uri) for n, uri in enumerate(referenced)),
    ):
        problem = _address_problem(path, uri, datastores)
        if problem is not None:
            found.append(problem)
    if referenced and spec.type != "mltable":
        message = f"`referenced_uris`: only an mltable has them; this is a {spec.type}"
        found.append(Problem(("referenced_uris",), message, on_key=True))
    return found


def _address_problem(path: FieldPath, uri: str, datastores: Collection[str] | None) -> Problem | None:
    name = path_text(path)
    expected = "azureml://datastores/<datastore>/paths/<path>"
    address = _ADDRESS.fullmatch(uri)
    if address is None or not uri.isprintable():
        return Problem(path, f"`{name}`: found {shown(uri)}; expected {expected} or a URL")
    if address["scheme"].lower() != "azureml":
        if not _carries_secret(uri):
            return None
        message = (
            f"`{name}`: the address carries a password or a signature, which would be kept and shown; expected one "
            "without, or the path in a datastore"
        )
        return Problem(path, message)
    parsed = parse_datastore_uri(uri)
    if parsed is None:
        return Problem(path, f"`{name}`: found {shown(uri)}; expected {expected}")
    if datastores is None or parsed.datastore == DEFAULT_DATASTORE or parsed.datastore in datastores:
        return None
    known = ", ".join(sorted({DEFAULT_DATASTORE, *datastores}))
    message = f"`{name}`: this workspace has no datastore {shown(parsed.datastore)}; there are: {known}"
    return Problem(path, message, "DatastoreUnknown")


def _carries_secret(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "@" in uri or "?" in uri
    signed = any(key.lower() in _SIGNATURES for key, _ in parse_qsl(parts.query))
    return signed or ":" in parts.netloc.rpartition("@")[0]


def model_problems(spec: ModelSpec) -> list[Problem]:
    """What is wrong with a model whose fields are each well formed."""
    found = _version_problems(spec.version)
    if spec.path is None:
        found.append(
            Problem(("path",), "`path` is required: the file or folder of the model", "SpecKeyMissing")
        )
    return found


def deployment_warnings(spec: DeploymentSpec) -> list[str]:
    """Sentences for the user about what is allowed but seldom meant."""
    found: list[str] = []
    if spec.instance_type is not None and spec.instance_type.lower() in SMALL_INSTANCE_TYPES:
        found.append(
            f"instance_type {spec.instance_type} is small: "
            "Standard_DS3_v2 or larger is recommended for a model server"
        )
    settings = spec.request_settings
    if settings.max_queue_wait_ms > settings.request_timeout_ms:
        found.append(
            f"max_queue_wait_ms ({settings.max_queue_wait_ms}) is longer than request_timeout_ms "
            f"({settings.request_timeout_ms}): a request times out before its wait is over"
        )
    return found


def needs_environment(spec: DeploymentSpec) -> bool:
    """Whether the deployment cannot start without an `environment`, as far as the spec itself tells."""
    if spec.environment is not None:
        return False
    if isinstance(spec.model, str):
        return spec.code_configuration is not None
    no_code = spec.model is not None and spec.model.type in (ModelType.MLFLOW, ModelType.TRITON)
    return not (no_code and spec.code_configuration is None)


# --- endpoint -----------------------------------------------------------------------------------------------
def _traffic_problems(spec: EndpointSpec) -> Iterator[Problem]:
    total = sum(spec.traffic.values())
    if total not in (0, 100):
        table = ", ".join(f"{name}={share}" for name, share in spec.traffic.items())
        first = next(iter(spec.traffic))
        yield Problem(
            ("traffic",),
            f"`traffic` adds up to {total} ({table}); expected 0 or 100",
            "TrafficInvalid",
            fields={"endpoint": spec.name, "example": f"{first}=100"},
        )
    if len(spec.mirror_traffic) > 1:
        names = ", ".join(spec.mirror_traffic)
        yield Problem(("mirror_traffic",), f"`mirror_traffic` names {names}; expected exactly one deployment")
    for name, share in spec.mirror_traffic.items():
        if share > MIRROR_MAX_PER_CENT:
            yield Problem(
                ("mirror_traffic", name), f"`mirror_traffic.{name}`: found {share}; expected 0 to 50"
            )
        if spec.traffic.get(name):
            yield Problem(
                ("mirror_traffic", name),
                f"deployment {name!r} takes live traffic; it cannot take mirrored traffic as well",
                on_key=True,
            )


def _identity_problems(spec: EndpointSpec) -> Iterator[Problem]:
    identity = spec.identity
    if identity is None:
        return
    given = identity.user_assigned_identities
    path: FieldPath = ("identity", "user_assigned_identities")
    if identity.type == "user_assigned" and len(given) != 1:
        code = "SpecValueInvalid" if given else "SpecKeyMissing"
        yield Problem(path, f"a user-assigned identity is exactly one; found {len(given)}", code)
    if identity.type == "system_assigned" and given:
        yield Problem(path, "`user_assigned_identities` goes with `type: user_assigned`", on_key=True)
    if (
        identity.type == "user_assigned"
        and spec.properties.enforce_access_to_default_secret_stores != "disabled"  # noqa: S105 - a switch
    ):
        yield Problem(
            ("properties", "enforce_access_to_default_secret_stores"),
            "`enforce_access_to_default_secret_stores` works with a system-assigned identity only",
        )


def _mode_problems(spec: EndpointSpec) -> Iterator[Problem]:
    if spec.compute is None:
        return
    if spec.auth_mode is AuthMode.AAD_TOKEN:
        yield Problem(("auth_mode",), "`auth_mode: aad_token` is not for endpoints with a `compute`")
    if spec.mirror_traffic:
        yield Problem(
            ("mirror_traffic",), "`mirror_traffic` is not for endpoints with a `compute`", on_key=True
        )


# --- deployment ---------------------------------------------------------------------------------------------
def _reference_problems(spec: DeploymentSpec) -> Iterator[Problem]:
    code = spec.code_configuration.code if spec.code_configuration else None
    for path, value in (
        (("model",), spec.model),
        (("environment",), spec.environment),
        (("code_configuration", "code"), code if code is not None and is_reference(code) else None),
        *(
            (("data_collector", "collections", key, "data"), item.data)
            for key, item in (spec.data_collector.collections if spec.data_collector else {}).items()
        ),
    ):
        if isinstance(value, str):
            problem = reference_problem(path, value)
            if problem is not None:
                yield problem


def reference_problem(path: FieldPath, value: str) -> Problem | None:
    """Why `value` cannot be used as the reference at `path`, or None."""
    name = ".".join(str(part) for part in path)
    if not is_reference(value):
        if is_local_path(value):
            hint = (
                f"a path is given as `{name}: {{path: {value}}}`"
                if path == ("model",)
                else "a file belongs inline"
            )
            return Problem(
                path,
                f"`{name}`: found {value!r}; expected azureml:<name>:<version> ({hint})",
                "ReferenceInvalid",
            )
        return Problem(
            path, f"`{name}`: found {value!r}; expected azureml:<name>:<version>", "ReferenceInvalid"
        )
    try:
        ref: AssetRef = parse_reference(value)
    except ValueError as wrong:
        return Problem(path, f"`{name}`: {wrong}", "ReferenceInvalid")
    if ref.version is None and ref.label is None:
        return Problem(
            path,
            f"`{name}`: {value!r} names no version; "
            f"expected azureml:{ref.name}:<version> or azureml:{ref.name}@latest",
            "ReferenceInvalid",
        )
    return None


def _probe_problems(path: FieldPath, probe: Probe, *, liveness: bool) -> Iterator[Problem]:
    name = path[0]
    if liveness and probe.success_threshold != 1:
        yield Problem(
            (*path, "success_threshold"),
            f"`{name}.success_threshold`: found {probe.success_threshold}; a liveness probe takes 1 only",
        )


def _scale_problems(spec: DeploymentSpec) -> Iterator[Problem]:
    scale = spec.scale_settings
    if scale.min_instances > scale.max_instances:
        yield Problem(
            ("scale_settings", "min_instances"),
            f"`scale_settings.min_instances` ({scale.min_instances}) is above "
            f"`max_instances` ({scale.max_instances})",
        )
    if scale.type == "default" and scale.min_instances == 0:
        yield Problem(
            ("scale_settings", "min_instances"),
            "`scale_settings.min_instances`: found 0; only `type: target_utilization` may go to no instance",
        )


def _variable_problems(spec: DeploymentSpec) -> Iterator[Problem]:
    for name, value in spec.environment_variables.items():
        path: FieldPath = ("environment_variables", name)
        if _ENV_NAME.fullmatch(name) is None:
            yield Problem(path, f"{name!r} cannot be the name of an environment variable", on_key=True)
        if "\x00" in value:
            yield Problem(path, f"the value of environment variable {name!r} contains a NUL character")
        try:
            secret_references.parse(value)
        except ValueError:
            text = f"the secret reference of environment variable {name!r} has none of the known forms; expected "
            yield Problem(path, text + secret_references.FORMS, "SecretsInjectionError")


def _need_problems(spec: DeploymentSpec) -> Iterator[Problem]:
    if spec.instance_type is None:
        yield Problem(
            ("instance_type",), "`instance_type` is required (such as Standard_DS3_v2)", "SpecKeyMissing"
        )
    if needs_environment(spec):
        yield Problem(
            ("environment",),
            "`environment` is required; "
            "only MLflow and Triton models without `code_configuration` do without",
            "SpecKeyMissing",
        )
    custom = isinstance(spec.environment, EnvironmentSpec) and spec.environment.inference_config is not None
    known_model = spec.model is None or (
        isinstance(spec.model, ModelSpec) and spec.model.type is ModelType.CUSTOM
    )
    if (
        spec.code_configuration is None
        and known_model
        and not custom
        and not isinstance(spec.environment, str)
    ):
        yield Problem(
            ("code_configuration",),
            "`code_configuration` is required: a custom model is served by a scoring script",
            "SpecKeyMissing",
        )


def _version_problems(version: str | None) -> list[Problem]:
    if version is None or re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9\-_.]{0,254}", version):
        return []
    return [
        Problem(("version",), f"`version`: found {version!r}; expected letters, digits, `-`, `_` and `.`")
    ]


def _below(key: str, problem: Problem) -> Problem:
    message = (
        problem.message.replace("`", f"`{key}.", 1) if problem.message.startswith("`") else problem.message
    )
    return Problem((key, *problem.path), message, problem.code, problem.on_key, problem.fields, problem.fix)
