"""What a container of an instance is created with: labels, mounts, limits, command. Pure: values in, a request out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from moorings import contract
from moorings.containers.workspace import LABEL_HOME
from moorings.engines import layout
from moorings.lib.redaction import secret_values

LABEL_WORKSPACE = "moorings.workspace"
LABEL_OWNER = "moorings.owner"
LABEL_REVISION = "moorings.revision"
LABEL_ORDINAL = "moorings.ordinal"
LABEL_INSTANCE = "moorings.instance"
LABEL_SECRETS = "moorings.secrets"
"""On a container with a server of its own: the names of its variables that nothing may show, as a JSON list."""
LABEL_COMPANION = "moorings.companion"
"""On the container beside an instance: whose it is. It has none of the others, and is no instance."""

APPS = "/var/azureml-app"
"""Where code and model are in a container (behaviour reference, sections 4.9 and 6.4)."""
RUN = "/run/moorings"
"""The folder that is shared with the host: sockets, status, wishes."""
IDENTITY = "/run/moorings-identity"
BUNDLE = "/opt/moorings/supervisor.pyz"
RUNTIME = "/opt/moorings/runtime"
LOOPBACK = "127.0.0.1"
METADATA_PORTS = (41741, 41742, 41743, 41744)
"""Ports of loopback inside for the tokens of an instance with a server of its own: the first that the server does not use."""
METADATA_ADDRESSES = frozenset(f"{LOOPBACK}:{port}" for port in METADATA_PORTS)
COMPANION_MEMORY_BYTES = 128 * 1024 * 1024
COMPANION_PROCESSES = 16
_SHARED = "container:"
CPU_PERIOD_US = 100_000


@dataclass(frozen=True)
class Site:
    """What of this machine goes into every container of a workspace."""

    workspace_id: str
    home_digest: str
    user: str
    """`uid:gid` that our own processes run as inside."""
    network: str
    log_file_bytes: int
    log_files: int
    bundle: str
    """Path of the supervisor's file."""
    runtime_root: str
    """Folder of this machine for the Python of companions."""
    identity_folder: str = ""
    """Folder of this machine with the socket that makes tokens for identities; empty: there is none."""


@dataclass(frozen=True)
class Beside:
    """The companion of a container with a server of its own."""

    container: str
    """Its id."""
    variables: Mapping[str, str]
    """What leads the server to its tokens."""

    def __repr__(self) -> str:
        return f"Beside({self.container})"


def container_name(workspace_id: str, instance: str) -> str:
    return f"moorings-{workspace_id[:8]}-{instance}"


def companion_name(workspace_id: str, instance: str) -> str:
    """A name of its own kind: who looks for the containers of an endpoint by name finds its instances."""
    return f"moorings-{workspace_id[:8]}.companion.{hashlib.sha256(instance.encode()).hexdigest()[:16]}"


def companion_of(container: Mapping[str, Any]) -> str | None:
    """The container in whose network this one is."""
    mode = str(container["HostConfig"].get("NetworkMode") or "")
    return mode.removeprefix(_SHARED) if mode.startswith(_SHARED) else None


def metadata_port(routes: Mapping[str, Any]) -> int:
    return next(port for port in METADATA_PORTS if port not in ports_of(routes))


def sockets(workers: int) -> list[str]:
    """The workers' sockets as they are called inside."""
    return [f"{RUN}/{index}.sock" for index in range(workers)]


def inside(data: Mapping[str, Any]) -> dict[str, Any]:
    """`instance.json` for the supervisor in the container: only what it needs, only paths of the container."""
    template = data["template"]
    kept = (
        *("python", "code_folder", "scoring_script", "model", "environment_variables", "liveness"),
        *("max_concurrent_requests", "request_timeout_ms", "cpus", "memory_bytes"),
    )
    return {
        **{k: data[k] for k in ("id", "owner", "revision", "ordinal", "workspace_id", "grace_s")},
        "in_container": True,
        "proven": data.get("proven", False),
        **({"log_bytes_per_s": data["log_bytes_per_s"]} if "log_bytes_per_s" in data else {}),
        "worker_argv": list(data["worker_argv"]),
        "sockets": list(data["inside_sockets"]),
        "apps": APPS,
        "template": {k: template[k] for k in kept},
    }


def config_of(
    site: Site,
    data: Mapping[str, Any],
    *,
    folder: str,
    run_folder: str,
    secrets: Mapping[str, str] = MappingProxyType({}),
    beside: Beside | None = None,
) -> dict[str, Any]:
    """The request that creates the container of an instance. `folder`, `run_folder`: its folders on this machine;
    `secrets`: variables whose values are for a container with a server of its own, which can be told in no other way;
    `beside`: the companion in whose network it is to be."""
    template = data["template"]
    routes = template["container"]["routes"]
    own = _custom(data, routes, secrets, beside) if routes else _ours(site, data, run_folder)
    host = {
        "Mounts": [*_assets(template, folder), *own.pop("Mounts", ())],
        "RestartPolicy": {"Name": "unless-stopped"},
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": str(site.log_file_bytes), "max-file": str(site.log_files)},
        },
        "NetworkMode": site.network,
        "SecurityOpt": ["no-new-privileges"],
        **_limits(template),
        **own.pop("HostConfig", {}),
    }
    hidden = sorted({*secrets, *(beside.variables if beside else {})}) if routes else []
    return {
        "Image": template["container"]["image_id"],
        "Labels": {
            **labels(data),
            LABEL_HOME: site.home_digest,
            **({LABEL_SECRETS: json.dumps(hidden)} if hidden else {}),
        },
        "StopTimeout": max(1, round(float(data["grace_s"]))),
        "HostConfig": host,
        **own,
    }


def secrets_of(container: Mapping[str, Any]) -> list[str]:
    """The values that what a container with a server of its own prints is to be rid of."""
    config = container["Config"]
    variables = dict(each.partition("=")[::2] for each in config.get("Env") or ())
    hidden = json.loads(config["Labels"].get(LABEL_SECRETS) or "[]")
    # An address is no secret, and helps whoever looks for a fault.
    told = [variables[name] for name in hidden if name in variables and not name.endswith("_ENDPOINT")]
    return [*told, *secret_values(variables)]


def labels(data: Mapping[str, Any]) -> dict[str, str]:
    """Who a container is: enough to find it again with nothing else left."""
    return {
        LABEL_WORKSPACE: str(data["workspace_id"]),
        LABEL_OWNER: str(data["owner"]),
        LABEL_REVISION: str(data["revision"]),
        LABEL_ORDINAL: str(data["ordinal"]),
        LABEL_INSTANCE: str(data["id"]),
    }


def ports_of(routes: Mapping[str, Any]) -> tuple[int, ...]:
    """The ports of a container with a server of its own that have to be reached, the scoring port first."""
    found = (routes["scoring_port"], routes["readiness_port"], routes["liveness_port"])
    return tuple(dict.fromkeys(int(port) for port in found))


def _ours(site: Site, data: Mapping[str, Any], run_folder: str) -> dict[str, Any]:
    return {
        "User": site.user,
        "Entrypoint": [data["template"]["python"], "-I", BUNDLE, RUN],
        "Cmd": [],
        "WorkingDir": "/",
        # Whoever we run as need not have a home, and Python has to write somewhere.
        "Env": ["HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1", f"AZUREML_INFERENCE_PYTHON_PATH={_prefix(data)}"],
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "Mounts": [
            _mount(run_folder, RUN, read_only=False),
            _mount(site.bundle, BUNDLE),
            *([_mount(site.identity_folder, IDENTITY)] if site.identity_folder else ()),
        ],
        "HostConfig": {"CapDrop": ["ALL"]},
    }


def _prefix(data: Mapping[str, Any]) -> str:
    return str(PurePosixPath(data["template"]["python"]).parents[1])


def companion_config(
    site: Site, data: Mapping[str, Any], *, runtime: str, command: Sequence[str], run_folder: str
) -> dict[str, Any]:
    """The request that creates the container beside that of an instance with a server of its own. It is made of the same
    image, of which it runs nothing: `runtime` is the folder of its own Python, `command` what runs there."""
    return {
        "Image": data["template"]["container"]["image_id"],
        "Labels": {LABEL_COMPANION: str(data["id"]), LABEL_HOME: site.home_digest},
        "User": site.user,
        "Entrypoint": list(command),
        "Cmd": [],
        "WorkingDir": "/",
        "Env": ["LC_ALL=C.UTF-8", "LD_PRELOAD=", "LD_LIBRARY_PATH="],
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "ExposedPorts": {port: {} for port in _published(data)},
        "HostConfig": {
            "Mounts": [
                _mount(run_folder, RUN, read_only=False),
                _mount(site.bundle, BUNDLE),
                _mount(runtime, RUNTIME),
                _mount(site.identity_folder, IDENTITY),
            ],
            "PortBindings": _published(data),
            "NetworkMode": site.network,
            "RestartPolicy": {"Name": "unless-stopped"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
            "SecurityOpt": ["no-new-privileges"],
            "CapDrop": ["ALL"],
            "ReadonlyRootfs": True,
            "Memory": COMPANION_MEMORY_BYTES,
            "MemorySwap": COMPANION_MEMORY_BYTES,
            "PidsLimit": COMPANION_PROCESSES,
        },
    }


def _custom(
    data: Mapping[str, Any], routes: Mapping[str, Any], secrets: Mapping[str, str], beside: Beside | None
) -> dict[str, Any]:
    template = data["template"]
    env = dict(_product(template))
    env.update(beside.variables if beside else {})
    env.update({str(k): str(v) for k, v in template["environment_variables"].items()})
    env.update(secrets)
    shown = [f"{name}={value}" for name, value in sorted(env.items())]
    if beside is not None:
        return {"Env": shown, "HostConfig": {"NetworkMode": f"{_SHARED}{beside.container}"}}
    published = _published(data)
    return {
        "Env": shown,
        "ExposedPorts": {port: {} for port in published},
        "HostConfig": {"PortBindings": published},
    }


def _published(data: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Each port of a server of its own, at one of this machine's loopback."""
    return {
        f"{port}/tcp": [{"HostIp": LOOPBACK, "HostPort": str(data["ports"][str(port)])}]
        for port in ports_of(data["template"]["container"]["routes"])
    }


def _product(template: Mapping[str, Any]) -> dict[str, str]:
    """What a container with a server of its own is told of its model and code."""
    found: dict[str, str] = {}
    model = template["model"]
    if model is not None:
        found[contract.ENV_MODEL_DIR] = _model_folder(template)
    if template["code_digest"]:
        found[contract.ENV_APP_ROOT] = f"{APPS}/{template['code_folder']}"
        found[contract.ENV_ENTRY_SCRIPT] = str(template["scoring_script"])
    return found


def _model_folder(template: Mapping[str, Any]) -> str:
    model = template["model"]
    root = template["container"].get("model_mount_path") or f"{APPS}/azureml-models"
    return f"{str(root).rstrip('/')}/{model['name']}/{model['version']}"


def _assets(template: Mapping[str, Any], folder: str) -> Sequence[dict[str, Any]]:
    mounts = []
    if template["code_digest"]:
        name = template["code_folder"]
        mounts.append(_mount(f"{folder}/app/{name}", f"{APPS}/{name}"))
    model = template["model"]
    if model is not None:
        source = f"{folder}/app/azureml-models/{model['name']}/{model['version']}"
        mounts.append(_mount(source, _model_folder(template)))
    return mounts


def _mount(source: str, target: str, *, read_only: bool = True) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def _limits(template: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if template["memory_bytes"]:
        # Equal to the memory: no swap, so that the limit is one.
        found.update(Memory=int(template["memory_bytes"]), MemorySwap=int(template["memory_bytes"]))
    if template["cpus"]:
        # Not NanoCpus: the engine refuses more of those than the machine has cores.
        found.update(CpuPeriod=CPU_PERIOD_US, CpuQuota=int(float(template["cpus"]) * CPU_PERIOD_US))
    return found


def workers_of(template: Mapping[str, Any]) -> int:
    """Worker processes of an instance that runs our inference server."""
    variables = {str(k): str(v) for k, v in template["environment_variables"].items()}
    return layout.worker_count(variables, contract.ENV_WORKER_COUNT, int(template["max_concurrent_requests"]))
