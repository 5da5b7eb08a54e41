"""The seam between deciding and running: what an engine is asked and what it answers. Knows no particular
engine.

An engine works in *instance groups*: one deployment (the owner) at one revision, with a count. Ordinals
0..count-1 name the instances of a group for ever, so "begin to make it so" can be repeated after any crash
without a memory.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from moorings.lib.logfile import Line, LogSource

CONTAINER_SERVER = "inference-server"
CONTAINER_INITIALIZER = "storage-initializer"
CONTAINER_PULLER = "image-puller"
"""Its log tells what was pulled for an instance; it is asked for only as a part of the whole."""
CONTAINERS = (CONTAINER_SERVER, CONTAINER_INITIALIZER)


DUMP_PATIENCE_S = 0.3
"""How long a worker is given to print its stacks."""


class Phase(StrEnum):
    """Where an instance is. RUNNING means its worker processes serve; whether traffic may come is the
    prober's word."""

    STARTING = "starting"
    """Initialising storage, or booting (`init()` is running)."""
    RUNNING = "running"
    BACKOFF = "backoff"
    """Crashed after it had been running; the supervisor waits before the next start."""
    FAILED = "failed"
    """Gave up before it was ever running; `Exit` says how. It stays visible and keeps its logs until
    removed."""
    STOPPING = "stopping"
    GONE = "gone"
    """Known from what it left behind (logs), but nothing runs: for instance its supervisor was killed."""


@dataclass(frozen=True)
class ProbeTimes:
    """A probe in seconds and counts (behaviour reference, section 3.6)."""

    initial_delay_s: float
    period_s: float
    timeout_s: float
    success_threshold: int
    failure_threshold: int


@dataclass(frozen=True)
class ModelMount:
    """Model content to lay out at `azureml-models/<name>/<version>/` of the instance (section 6.4)."""

    digest: str
    """Tree digest in the content store."""
    name: str
    version: str


@dataclass(frozen=True)
class Routes:
    """Where a container with a server of its own is asked: paths begin with `/`, ports are the container's."""

    liveness_path: str
    liveness_port: int
    readiness_path: str
    readiness_port: int
    scoring_path: str
    scoring_port: int


@dataclass(frozen=True)
class ContainerTemplate:
    """What an engine that runs containers needs beside the rest."""

    image: str
    """Reference it can be pulled by."""
    image_id: str
    """`sha256:...`: the very image that was built or found when the deployment was made."""
    routes: Routes | None = None
    """A container that is run as it is; None: our inference server runs in it."""
    model_mount_path: str | None = None
    """Folder that takes the place of `/var/azureml-app/azureml-models` in a container that is run as it is."""


@dataclass(frozen=True)
class InstanceTemplate:
    """All that one instance needs. JSON-safe through `dataclasses.asdict`. Equal templates are the same
    revision."""

    endpoint: str
    deployment: str
    python: str
    """Interpreter of the built environment (process engine): absolute path."""
    environment_key: str
    code_digest: str
    """Tree digest of the code folder in the content store."""
    code_folder: str
    """Name the code folder gets inside the instance."""
    scoring_script: str
    """Relative to the code folder."""
    model: ModelMount | None
    environment_variables: Mapping[str, str]
    """The user's; they win over product values of the same name (section 3.7)."""
    max_concurrent_requests: int
    request_timeout_ms: int
    liveness: ProbeTimes
    cpus: float | None
    """Cores an instance may use; None for no limit."""
    memory_bytes: int | None
    container: ContainerTemplate | None = None
    """None on engines that do not run containers; then it is no part of the revision."""


@dataclass(frozen=True)
class InstanceIdentity:
    """How an instance gets tokens for the identity of its endpoint."""

    socket: str
    """Unix socket of the workspace that makes them, as this machine calls it."""
    credential: str
    """What it shows there."""
    client_id: str
    principal_id: str

    def __repr__(self) -> str:
        return f"InstanceIdentity({self.principal_id})"


@dataclass(frozen=True)
class Private:
    """What an instance is told that no log, answer, command line or file that others can read may hold."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables with the values of secrets; they take the place of the template's references."""
    identity: InstanceIdentity | None = None

    def __repr__(self) -> str:
        return f"Private({', '.join(self.variables)})"

    def to_json(self) -> dict[str, Any]:
        identity = None if self.identity is None else vars(self.identity)
        return {"variables": dict(self.variables), "identity": identity}


@dataclass(frozen=True)
class GroupSpec:
    """One deployment at one revision, `count` times."""

    owner: str
    """`<endpoint>/<deployment>`."""
    revision: str
    """12 lower-case hex digits; hash of the template."""
    count: int
    template: InstanceTemplate
    grace_s: float = 30.0
    """How long an instance that goes away may finish its requests."""
    private: Private = field(default_factory=Private)
    """No part of the revision. What runs keeps what it was started with."""
    proven: bool = False
    """This revision has served, whole: an instance of it that cannot start now is tried again for ever, where one that never
    could has failed."""


@dataclass(frozen=True)
class Exit:
    """How the last worker process that ended did end."""

    code: int | None
    """Exit status; None when a signal ended it."""
    signal: int | None
    at: float
    """Unix seconds."""
    report: Mapping[str, Any] | None = None
    """The boot report (`contract.py`) when the worker wrote one."""
    step: str = CONTAINER_SERVER
    """Which container-equivalent ended."""
    oom: bool = False
    """The kernel ended it for want of memory (where the engine can tell)."""
    oom_sign: str = ""
    """What shows that: a counter of the kernel, a line of its log, a word of the container runtime."""
    oom_certain: bool = True
    """False: the kernel has ended some process just then, and it does not say which."""
    served_s: float | None = None
    """How long it had been ready; None: it never was, or the engine cannot tell."""
    memory_peak_bytes: int | None = None
    """The most memory it had, all its processes together where they have a control group of their own."""


@dataclass(frozen=True)
class Instance:
    """What is, as far as the engine can see now."""

    id: str
    """`<endpoint>-<deployment>-<revision>-<ordinal>`; unique for ever within a workspace, safe in a path."""
    owner: str
    revision: str
    ordinal: int
    phase: Phase
    addresses: tuple[str, ...]
    """One per worker: absolute path of a unix socket (begins with `/`) or `host:port`."""
    started_at: float
    restarts: int
    """Worker restarts after the first boot, all workers together."""
    exit: Exit | None = None
    pids: Mapping[str, int] = field(default_factory=dict)
    """Role (`supervisor`, `worker-0`, ...) -> pid."""
    probes: Mapping[str, str] = field(default_factory=dict)
    """Address -> `host:port/path` to ask for readiness, where that is not `GET /` at the address itself."""
    probe_ports: Mapping[str, int] = field(default_factory=dict)
    """Address -> the port inside the container that its probe leads to."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """How limits are held: `{"memory": "cgroup", "cpu": "cgroup"}`; `none` where the OS does not allow it."""
    exits: tuple[Exit, ...] = ()
    """The last ends, oldest first, without their reports; the newest is `exit`."""
    code_dir: str = ""
    """The code folder as its processes see it; empty where they have none."""
    model_dir: str = ""
    """`AZUREML_MODEL_DIR` as its processes see it."""
    boot_budget_s: float | None = None
    """How long a worker may take to become ready before it is killed; None: nobody kills it."""


@dataclass(frozen=True)
class Inspection:
    """What a closer look at a living instance shows; None: the engine cannot tell."""

    processor_s: float | None = None
    """Seconds of processor time its workers have used since they were started."""
    processor_share: float | None = None
    """Processors they kept busy during the look: 0 for one that waits, about 1 for one that computes."""
    listening: tuple[str, ...] | None = None
    """`address:port` that a container with a server of its own listens on."""


class Engine(Protocol):
    """Runs instances. Holds no state of its own: `observe` is the truth after any restart.

    Every method is prompt and idempotent: nothing here waits for an instance to become anything.
    Raises MooringsError with a catalogue code, which says whose fault it is and whether to retry.
    """

    name: str

    async def apply(self, group: GroupSpec) -> None:
        """Begin to make it so: start ordinals below `count` that do not live, begin to stop those at or
        above it.

        A FAILED instance is left as it is (another revision, or `remove`, ends it); a GONE one is started
        again.
        """

    async def observe(self, owner: str | None = None) -> Sequence[Instance]:
        """All instances of this workspace (or of one owner), including ones nobody asked for."""

    async def remove(self, owner: str, revision: str, *, grace_s: float) -> None:
        """Begin to stop a whole group: SIGTERM, wait at most `grace_s`, kill. Unknown is success.

        Once stopped the instances leave `observe`; their logs stay readable.
        """

    async def forget(self, owner: str) -> None:
        """Drop leftovers of an owner with no living instance, but for its logs, which the workspace keeps. Unknown is
        success."""

    async def logs(self, owner: str, *, container: str, tail: int, instance: str | None = None) -> str | None:
        """The last `tail` lines, oldest first, of the named or the most telling instance (running, else
        newest); works after the instance has died. None when that container has not been up yet."""

    async def log_sources(self, owner: str) -> Sequence[LogSource]:
        """All logs there are of an owner, those of instances that have ended too."""

    async def log_lines(self, owner: str, source: LogSource, *, most: int | None) -> Iterator[Line]:
        """The lines of one log, the newest first; at least the last `most`, all of them with None. To be read on a
        thread: it may look at files."""

    def follow_log(self, owner: str, source: LogSource, *, after: float) -> AsyncGenerator[Line, None]:
        """Lines of one log that are written later than `after` (Unix seconds, not long ago; 0: all), as they come, until the
        caller stops or the instance is gone and has been heard to its end."""

    async def inspect(self, instance: Instance) -> Inspection:
        """Look closer at one that lives, for a diagnosis: its workers print into their log where all their threads are
        (they go on meanwhile; what cannot do so is left alone). Takes about `DUMP_PATIENCE_S`."""
