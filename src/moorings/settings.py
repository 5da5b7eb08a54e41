"""Settings: file and environment read once into frozen values that are passed down. Must not act on anything it reads."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from moorings.errors.exceptions import error
from moorings.errors.sentence import sentence
from moorings.lib import atomic
from moorings.spec.limits import MAX_CONNECTIONS, MAX_CONNECTIONS_LIMIT, MAX_RATE_LIMIT_PER_S

T = TypeVar("T")

PROCESS, DOCKER = "process", "docker"
ENGINES = (PROCESS, DOCKER)
CONDA_SOLVERS = ("auto", "conda", "index")

_KEYS = frozenset(
    {
        "gateway",
        "clients",
        "controller",
        "capacity",
        "environments",
        "instances",
        "engine",
        "docker",
        "registry",
        "image_aliases",
        "logs",
        "audit",
        "directory",
        "state",
    }
)
STATE_URL_VARIABLE = "MOORINGS_STATE_URL"
DAEMON_VARIABLE = "MOORINGS_DAEMON"
FIRST_DAEMON = "first"
_DAEMON_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,15}")
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
class Docker:
    host: str = ""
    """Where the Docker Engine listens (`unix:///path`); empty: `DOCKER_HOST`, else the usual place."""
    network: str = "bridge"
    """Network of the Docker Engine that instances are in."""
    build_network: str = ""
    """Network of the steps of a Dockerfile; empty: the engine's default."""


@dataclass(frozen=True)
class Registry:
    """The workspace's image registry."""

    repository: str = ""
    """Where built images are put and looked for, such as `registry.example:5000/team`; empty: nowhere."""
    user: str = ""
    """Empty: what `docker login` has left in Docker's own configuration."""
    password_file: str = ""
    """File that holds the password (or token) of `user`; nobody else should be able to read it."""


@dataclass(frozen=True)
class DirectoryOfUsers:
    """An OpenID Connect issuer whose users may be given roles (`moor ad user create -n <what its claim says>`)."""

    issuer: str = ""
    """`iss` of its tokens; empty: there is none."""
    audience: str = "https://ml.azure.com"
    """`aud` of the tokens that are taken."""
    claim: str = "sub"
    """The claim that names a user."""
    keys: str = ""
    """Its JSON Web Key Set: an https address, or the path of a file. Empty: what its configuration names."""


@dataclass(frozen=True)
class StateSettings:
    """Where desired state, operations and secrets (encrypted) are kept."""

    url: str = field(default="", repr=False)
    """`postgresql://user@host/database`; empty: `state.db` in the home. `MOORINGS_STATE_URL` wins. It may hold a
    password: nothing shows it. Where it holds none, the usual ways of PostgreSQL's clients apply (`~/.pgpass`)."""


@dataclass(frozen=True)
class Audit:
    """The audit log of the control API (`audit/audit.jsonl` in the home)."""

    file_mb: int = 8
    """Size in MiB from which a file is put aside."""
    files: int = 10
    """How many files are kept; the oldest goes."""


@dataclass(frozen=True)
class Instances:
    cgroup_parent: str = ""
    """Control group (v1 or v2) below which instances get groups of their own, which hold the CPU and memory limits of
    their instance type. Empty: one that the system has delegated to this user, where there is one; else no limits."""


@dataclass(frozen=True)
class CapacitySettings:
    """What instances may take of this machine in all. Instance types are ceilings, and most instances stay far below
    them: so more is promised than there is, unless these say otherwise."""

    vcpus: float = 0.0
    """Cores there are; 0: those of this machine."""
    memory_gib: float = 0.0
    """Memory there is; 0: that of this machine."""
    gpus: int = -1
    """GPUs there are; -1: those found on this machine."""
    cpu_overcommit: float = 64.0
    """vCPUs that are promised for each core."""
    memory_overcommit: float = 64.0
    """Bytes that are promised for each byte of memory."""


@dataclass(frozen=True)
class Logs:
    """How much is kept of what deployments write, and for how long."""

    instance_bytes: int = 16 * 1024 * 1024
    """Most bytes of one container of one instance; the oldest lines go first."""
    instance_bytes_per_s: int = 4 * 1024 * 1024
    """What an instance may write in the long run (twice as much at once); what is more is dropped and counted."""
    kept_days: float = 30.0
    """How long the logs of instances that have ended, and of deployments that were deleted, are kept."""
    kept_bytes: int = 1024 * 1024 * 1024
    """Most bytes of all those together; the oldest go first."""


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
    capacity: CapacitySettings = field(default_factory=CapacitySettings)
    environments: Environments = field(default_factory=Environments)
    instances: Instances = field(default_factory=Instances)
    audit: Audit = field(default_factory=Audit)
    directory: DirectoryOfUsers = field(default_factory=DirectoryOfUsers)
    engine: str = PROCESS
    """What runs instances: one of `ENGINES`."""
    docker: Docker = field(default_factory=Docker)
    registry: Registry = field(default_factory=Registry)
    logs: Logs = field(default_factory=Logs)
    state: StateSettings = field(default_factory=StateSettings)
    daemon_name: str = ""
    """Tells several daemons of one workspace apart (`MOORINGS_DAEMON`); empty: the first, and with SQLite the only one."""
    image_aliases: Mapping[str, str] = field(default_factory=dict)
    """Image names of specs -> names this machine has or can pull (`"mcr.example/*"`: all that begin so)."""

    @property
    def api_socket(self) -> Path:
        """Of the daemon that leads."""
        return self.run_dir / "api.sock"

    @property
    def own_socket(self) -> Path:
        """Of the daemon of this name, whether it leads or not; made where there can be several."""
        return self.run_dir / f"api-{self.daemon_name or FIRST_DAEMON}.sock"

    @property
    def database(self) -> Path:
        return self.home / "state.db"

    @property
    def state_place(self) -> Path | str:
        """The file, or the address of PostgreSQL (with its password), with the state."""
        return self.state.url or self.database

    @property
    def daemon_lock(self) -> Path:
        """Held by the living daemon of this name."""
        return self.home / (f"daemon-{self.daemon_name}.lock" if self.daemon_name else "daemon.lock")

    @property
    def daemon_log(self) -> Path:
        return self.logs_dir / (f"daemon-{self.daemon_name}.log" if self.daemon_name else "daemon.log")

    @property
    def logs_dir(self) -> Path:
        return self.home / "logs"

    @property
    def deployment_logs(self) -> Path:
        """What deployments and their instances have written, those that are no more too."""
        return self.logs_dir / "deployments"

    @property
    def defaults_file(self) -> Path:
        """What `moor configure --defaults` keeps."""
        return self.home / "defaults.json"

    def instances_root(self, engine: str) -> Path:
        """Folder of the instances that an engine runs."""
        return self.home / {PROCESS: "instances", DOCKER: "containers"}[engine]

    def engine_in_use(self) -> str | None:
        """The engine whose instances are there; None: there are none."""
        for engine in ENGINES:
            root = self.instances_root(engine)
            if root.is_dir() and any(path.is_dir() for path in root.iterdir()):
                return engine
        return None

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
            capacity=_section(CapacitySettings, data, "capacity"),
            environments=_section(Environments, data, "environments"),
            instances=_section(Instances, data, "instances"),
            audit=_section(Audit, data, "audit"),
            directory=_section(DirectoryOfUsers, data, "directory"),
            engine=_engine(data),
            docker=_docker(data, env),
            registry=_section(Registry, data, "registry"),
            logs=_section(Logs, data, "logs"),
            state=_state(data, env),
            daemon_name=_daemon_name(env),
            image_aliases=_aliases(data),
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
    solver, logs = settings.environments.conda_solver, settings.logs
    wrong: dict[str, tuple[object, str, bool]] = {
        "environments.conda_solver": (
            solver,
            ", ".join(CONDA_SOLVERS),
            solver in CONDA_SOLVERS,
        ),
        "audit.file_mb": (settings.audit.file_mb, "1 to 1024", 1 <= settings.audit.file_mb <= 1024),
        "audit.files": (settings.audit.files, "2 to 1000", 2 <= settings.audit.files <= 1000),
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
        **_capacity_checks(settings.capacity),
        "logs.instance_bytes": (logs.instance_bytes, "65536 or more", logs.instance_bytes >= 65536),
        "logs.instance_bytes_per_s": (
            logs.instance_bytes_per_s,
            "1024 or more",
            logs.instance_bytes_per_s >= 1024,
        ),
        "logs.kept_days": (logs.kept_days, "0 or more", 0 <= logs.kept_days < math.inf),
        "logs.kept_bytes": (logs.kept_bytes, "0 or more", logs.kept_bytes >= 0),
    }
    for key, (value, expected, right) in wrong.items():
        if not right:
            raise error(
                "SettingsInvalid", f"settings.json: {key} is {value}; expected {expected}", target=key
            )


def _capacity_checks(capacity: CapacitySettings) -> dict[str, tuple[object, str, bool]]:
    most = 1e6
    wrong: dict[str, tuple[object, str, bool]] = {
        "capacity.gpus": (capacity.gpus, "a whole number, or -1", -1 <= capacity.gpus <= most)
    }
    for name in ("vcpus", "memory_gib"):
        value = getattr(capacity, name)
        wrong[f"capacity.{name}"] = (value, f"0 to {most:g}", 0 <= value <= most)
    for name in ("cpu_overcommit", "memory_overcommit"):
        value = getattr(capacity, name)
        wrong[f"capacity.{name}"] = (value, f"above 0, to {most:g}", 0 < value <= most)
    return wrong


def choose_engine(settings: Settings, engine: str) -> None:
    """Keep in the settings file which engine runs the instances.

    Raises `WorkspaceEngineFixed` while instances of another one are there, `SettingsInvalid`, OSError.
    """
    check_engine(settings, engine)
    data = _read(settings.settings_file)
    if _engine(data) != engine:
        text = json.dumps({**data, "engine": engine}, indent=2) + "\n"
        atomic.write(settings.settings_file, text.encode())


def check_engine(settings: Settings, engine: str) -> None:
    """Raises `WorkspaceEngineFixed` while instances of another engine than `engine` are there."""
    used = settings.engine_in_use()
    if used not in (None, engine):
        fix = sentence(
            "Delete the deployments first (moor workspace start --engine {used}; "
            "moor online-endpoint delete -n <endpoint> --yes), or use a workspace of its own (MOORINGS_HOME).",
            used=used,
        )
        message = f"this workspace has instances of the engine {used!r}, and {engine!r} is asked for"
        raise error("WorkspaceEngineFixed", message, target="engine", fix=fix)


def _engine(data: Mapping[str, Any]) -> str:
    engine = data.get("engine", PROCESS)
    if engine not in ENGINES:
        message = f"settings.json: engine is {engine!r}; possible: {', '.join(ENGINES)}"
        raise error("SettingsInvalid", message, target="engine")
    return str(engine)


def _docker(data: Mapping[str, Any], env: Mapping[str, str]) -> Docker:
    docker = _section(Docker, data, "docker")
    return docker if docker.host else replace(docker, host=env.get("DOCKER_HOST", ""))


def _state(data: Mapping[str, Any], env: Mapping[str, str]) -> StateSettings:
    state = _section(StateSettings, data, "state")
    url = env.get(STATE_URL_VARIABLE, "") or state.url
    if url and not url.startswith(
        ("postgresql://", "postgres://")
    ):  # what it is may be a secret: it is not told
        message = f"{STATE_URL_VARIABLE} or state.url in settings.json must begin with postgresql://"
        raise error("SettingsInvalid", message, target="state.url")
    return StateSettings(url)


def _daemon_name(env: Mapping[str, str]) -> str:
    name = env.get(DAEMON_VARIABLE, "")
    if name and not _DAEMON_NAME.fullmatch(name):
        message = f"{DAEMON_VARIABLE} is {name!r}: expected up to 16 lower-case letters, digits and '-'"
        raise error("SettingsInvalid", message, target=DAEMON_VARIABLE)
    return "" if name == FIRST_DAEMON else name


def _aliases(data: Mapping[str, Any]) -> Mapping[str, str]:
    given = data.get("image_aliases", {})
    if not isinstance(given, dict) or not all(isinstance(v, str) and v for v in given.values()):
        message = "settings.json: image_aliases must be an object of image names"
        raise error("SettingsInvalid", message, target="image_aliases")
    return given


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise error("SettingsInvalid", f"{path}: {problem}", target=str(path)) from None
    if not isinstance(data, dict):
        raise error("SettingsInvalid", f"{path}: expected an object", target=str(path))
    unknown = set(data) - _KEYS
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
            told = "what is there" if key == "state" else repr(value)
            message = f"settings.json: {key}.{name} must be {expected.__name__}, not {told}"
            raise error("SettingsInvalid", message, target=f"{key}.{name}")
    return kind(**given)


def _run_dir(home: Path) -> Path:
    """`<home>/run` where sockets fit below it, else a folder of ours in `/tmp` named by the home."""
    near = home / "run"
    if len(os.fsencode(near)) + LONGEST_SOCKET_NAME <= 107:
        return near
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path(f"/tmp/moorings-{os.getuid()}-{digest}")  # noqa: S108 - made 0700 and checked for its owner
