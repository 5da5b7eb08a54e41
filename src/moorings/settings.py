"""Settings: file and environment read once into frozen values that are passed down. Must not act on anything it reads."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from moorings.errors.exceptions import error
from moorings.spec.limits import MAX_CONNECTIONS, MAX_CONNECTIONS_LIMIT, MAX_RATE_LIMIT_PER_S

T = TypeVar("T")

CONDA_SOLVERS = ("auto", "conda", "index")

LONGEST_SOCKET_NAME = 40
"""Bytes kept free for the name of a socket below `run_dir` (a unix socket path has at most 107 bytes)."""


@dataclass(frozen=True)
class GatewayPort:
    port: int = 8650
    """TCP port of the gateway."""
    bind: str = "127.0.0.1"
    """Address the gateway listens on; loopback unless asked otherwise."""
    rate_limit_per_s: int = 100
    """Requests per second each endpoint may get before 429 (behaviour reference, section 5.8)."""
    local_requires_key: bool = False
    """Whether endpoints made with `--local` want a key from callers on this machine too. Set it where a reverse
    proxy on this machine forwards to the gateway: its requests look like local ones."""
    max_connections: int = MAX_CONNECTIONS
    """Callers' connections at once, all endpoints together; one more is closed."""


@dataclass(frozen=True)
class Clients:
    port: int = 0
    """TCP port of the listener for the ecosystem's own clients, on loopback, which `moor workspace env` turns on.
    0: one that is free then, and the same from then on."""


@dataclass(frozen=True)
class WorkspaceName:
    """The scope in every resource id."""

    subscription: str = "00000000-0000-0000-0000-000000000000"
    resource_group: str = "local"
    name: str = "local"

    @property
    def path(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )


@dataclass(frozen=True)
class Controller:
    resync_s: float = 1.0
    """How often a settled deployment is looked at again (a crashed worker is seen within this)."""
    busy_s: float = 0.05
    """The same while something is under way."""
    progress_deadline_s: float = 0.0
    """Most seconds from start to ready; 0 = what the deployment's own probes allow."""


@dataclass(frozen=True)
class Environments:
    allow_python_download: bool = True
    """Whether a missing Python may be fetched through uv."""
    conda_solver: str = "auto"
    """How conda files that name channels are installed: `conda` (from the channels), `index` (translated to Python
    packages), `auto` (from the channels where they can be reached, else translated)."""


@dataclass(frozen=True)
class Instances:
    cgroup_parent: str = ""
    """Control group (v1 or v2) below which instances get groups of their own, which hold the CPU and memory limits of
    their instance type. Empty: one that the system has delegated to this user, where there is one; else no limits."""


@dataclass(frozen=True)
class Settings:
    """Everything one workspace on this machine needs to know."""

    home: Path
    """State folder, 0700; `MOORINGS_HOME`, else `~/.moorings`."""
    run_dir: Path
    """Folder of the sockets, 0700; short, because socket paths are limited to 107 bytes."""
    workspace: WorkspaceName = field(default_factory=WorkspaceName)
    gateway: GatewayPort = field(default_factory=GatewayPort)
    clients: Clients = field(default_factory=Clients)
    controller: Controller = field(default_factory=Controller)
    environments: Environments = field(default_factory=Environments)
    instances: Instances = field(default_factory=Instances)

    @property
    def api_socket(self) -> Path:
        return self.run_dir / "api.sock"

    @property
    def database(self) -> Path:
        return self.home / "state.db"

    @property
    def daemon_lock(self) -> Path:
        return self.home / "daemon.lock"

    @property
    def logs_dir(self) -> Path:
        return self.home / "logs"

    @property
    def defaults_file(self) -> Path:
        """What `moor configure --defaults` keeps."""
        return self.home / "defaults.json"

    @property
    def datastores_file(self) -> Path:
        """Stores elsewhere and their credentials; read at each intake."""
        return self.home / "datastores.json"

    @property
    def settings_file(self) -> Path:
        return self.home / "settings.json"

    @property
    def gateway_url(self) -> str:
        host = "127.0.0.1" if self.gateway.bind == "0.0.0.0" else self.gateway.bind  # noqa: S104 - a compare
        return f"http://{host}:{self.gateway.port}"

    @staticmethod
    def load(environ: Mapping[str, str] | None = None) -> Settings:
        """Read `settings.json` of the home and the `MOORINGS_*` variables (which win).

        Raises `SettingsInvalid` (the user's fault) naming the file and key.
        """
        env = os.environ if environ is None else environ
        home = Path(env.get("MOORINGS_HOME") or Path(env.get("HOME", "/")) / ".moorings").absolute()
        data = _read(home / "settings.json")
        settings = Settings(
            home=home,
            run_dir=_run_dir(home),
            gateway=_section(GatewayPort, data, "gateway"),
            clients=_section(Clients, data, "clients"),
            controller=_section(Controller, data, "controller"),
            environments=_section(Environments, data, "environments"),
            instances=_section(Instances, data, "instances"),
        )
        _check(settings)
        rate = settings.gateway.rate_limit_per_s
        if not 1 <= rate <= MAX_RATE_LIMIT_PER_S:
            message = (
                f"settings.json: gateway.rate_limit_per_s is {rate}; possible: 1 to {MAX_RATE_LIMIT_PER_S}"
            )
            raise error("SettingsInvalid", message, target="gateway.rate_limit_per_s")
        connections = settings.gateway.max_connections
        if not 1 <= connections <= MAX_CONNECTIONS_LIMIT:
            message = f"settings.json: gateway.max_connections is {connections}; possible: 1 to {MAX_CONNECTIONS_LIMIT}"
            raise error("SettingsInvalid", message, target="gateway.max_connections")
        port = env.get("MOORINGS_GATEWAY_PORT")
        if port is None:
            return settings
        if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise error("SettingsInvalid", f"MOORINGS_GATEWAY_PORT is {port!r}: expected a port, 1 to 65535")
        return replace(settings, gateway=replace(settings.gateway, port=int(port)))


def _check(settings: Settings) -> None:
    """Values of the right kind that still cannot be."""
    port, controller = settings.gateway.port, settings.controller
    solver = settings.environments.conda_solver
    wrong: dict[str, tuple[object, str, bool]] = {
        "environments.conda_solver": (
            solver,
            ", ".join(CONDA_SOLVERS),
            solver in CONDA_SOLVERS,
        ),
        "gateway.port": (port, "a port, 1 to 65535", 0 < port < 65536),
        "clients.port": (
            settings.clients.port,
            "a port, 1 to 65535, or 0",
            0 <= settings.clients.port < 65536,
        ),
        "controller.resync_s": (controller.resync_s, "above 0", 0 < controller.resync_s < math.inf),
        "controller.busy_s": (controller.busy_s, "above 0", 0 < controller.busy_s < math.inf),
        "controller.progress_deadline_s": (
            controller.progress_deadline_s,
            "0 or more",
            0 <= controller.progress_deadline_s < math.inf,
        ),
    }
    for key, (value, expected, right) in wrong.items():
        if not right:
            raise error(
                "SettingsInvalid", f"settings.json: {key} is {value}; expected {expected}", target=key
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise error("SettingsInvalid", f"{path}: {problem}", target=str(path)) from None
    if not isinstance(data, dict):
        raise error("SettingsInvalid", f"{path}: expected an object", target=str(path))
    unknown = set(data) - {"gateway", "clients", "controller", "environments", "instances"}
    if unknown:
        raise error("SettingsInvalid", f"{path}: unknown keys {sorted(unknown)}", target=str(path))
    return data


def _section(kind: type[T], data: Mapping[str, Any], key: str) -> T:
    given = data.get(key, {})
    known = {f.name: type(f.default) for f in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(given, dict):
        raise error("SettingsInvalid", f"settings.json: {key} must be an object", target=key)
    for name, value in given.items():
        expected = known.get(name)
        if expected is None:
            raise error("SettingsInvalid", f"settings.json: unknown key {key}.{name}", target=f"{key}.{name}")
        right = isinstance(value, bool) == (expected is bool) and (
            isinstance(value, expected) or (expected is float and isinstance(value, int))
        )
        if not right:
            message = f"settings.json: {key}.{name} must be {expected.__name__}, not {value!r}"
            raise error("SettingsInvalid", message, target=f"{key}.{name}")
    return kind(**given)


def _run_dir(home: Path) -> Path:
    """`<home>/run` where sockets fit below it, else a folder of ours in `/tmp` named by the home."""
    near = home / "run"
    if len(os.fsencode(near)) + LONGEST_SOCKET_NAME <= 107:
        return near
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path(f"/tmp/moorings-{os.getuid()}-{digest}")  # noqa: S108 - made 0700 and checked for its owner
