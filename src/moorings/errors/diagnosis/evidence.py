"""What is known of an instance that does not serve, as a value. Judges nothing.

The kinds of a report and the exit codes are words of the runtime contract and of the engines, which are above this
layer: they are repeated here, and a test holds them equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

LINE_HEAD_CHARS, LINE_TAIL_CHARS = 3000, 1000
"""What is read of a line: scripts say as much as they like, and a pattern must not take a minute over it."""

KIND_SCRIPT_MISSING = "script_missing"
KIND_SYNTAX_ERROR = "syntax_error"
KIND_IMPORT_ERROR = "import_error"
KIND_SCRIPT_RAISED = "script_raised"
KIND_FUNCTION_MISSING = "function_missing"
KIND_BAD_SIGNATURE = "bad_signature"
KIND_INIT_RAISED = "init_raised"
KIND_MODEL_PATH = "model_path"
KIND_BAD_SETTINGS = "bad_settings"
KIND_BOOT_TIMEOUT = "boot_timeout"
KIND_LIVENESS = "liveness"
KIND_CANNOT_START = "cannot_start"
KIND_INITIALIZER = "initializer"

STEP_SERVER = "inference-server"
STEP_INITIALIZER = "storage-initializer"

EXIT_RUN_STUCK = 6

SAID_OK = "ok"
SAID_REFUSED = "refused"
SAID_CLOSED = "closed"
SAID_SILENT = "silent"
SAID_NO_HTTP = "no HTTP"
"""What a probe can be told; a status that is not 200 is its number."""


@dataclass(frozen=True)
class End:
    """How one worker process ended, for the history."""

    at: float
    """Unix seconds."""
    code: int | None = None
    signal: int | None = None
    oom: bool = False
    served_s: float | None = None
    """How long it had been ready; None: it never was."""
    why: str = ""
    """Kind of its report, if it left one."""


@dataclass(frozen=True)
class Probed:
    """What the readiness probe was answered last, and where it asked."""

    said: str
    """One of `SAID_*`, or an HTTP status as text."""
    path: str = "/"
    port: int | None = None
    """The container's port; None: the inference server's own socket."""
    failures: int = 0
    """In a row."""


@dataclass(frozen=True)
class InstanceEvidence:
    """An instance at the moment it is judged."""

    endpoint: str
    deployment: str
    phase: str
    """One of `engines.base.Phase`."""
    ready: bool = False
    """It serves now: what it ended with before is worth telling all the same."""
    exit_code: int | None = None
    signal: int | None = None
    report: Mapping[str, Any] | None = None
    """The boot report, or the supervisor's own (same keys)."""
    step: str = STEP_SERVER
    """Which container-equivalent ended."""
    oom: bool = False
    oom_sign: str = ""
    """What shows that."""
    oom_certain: bool = True
    served_s: float | None = None
    """How long the worker that ended had been ready; None: it never was, or nobody knows."""
    restarts: int = 0
    ends: tuple[End, ...] = ()
    """The last ends, oldest first; the newest is the one above."""
    overdue: bool = False
    """It has not become ready within the time the rollout allows."""
    waited_s: float | None = None
    """How long it was waited for, in seconds."""
    boot_allowed_s: float | None = None
    """How long the liveness probe lets a worker boot."""
    processor_s: float | None = None
    """Processor time its processes have used so far."""
    processor_share: float | None = None
    """Processors they kept busy while they were looked at."""
    memory_bytes: int | None = None
    """Its limit."""
    memory_peak_bytes: int | None = None
    """The most that the worker which ended had in memory."""
    disk_free_bytes: int | None = None
    probed: Probed | None = None
    listening: tuple[str, ...] | None = None
    """`address:port` of what a container with a server of its own listens on; None: not known."""
    code_root: str = ""
    """Where the code folder is for the worker: paths below it are shown without it."""
    model: str = ""
    """The model as it is registered, `name:version`; empty where the deployment has none."""
    model_root: str = ""
    """Where the model is for the worker: its `AZUREML_MODEL_DIR`."""
    log_tail: tuple[str, ...] = ()
    """Last lines of the log of the container-equivalent named by `step`, oldest first."""


def readable(instance: InstanceEvidence) -> InstanceEvidence:
    """The same with every line no longer than patterns are made for; its beginning and its end stay."""
    report = instance.report and {key: _shortened(value) for key, value in instance.report.items()}
    return replace(instance, report=report, log_tail=tuple(_line(line) for line in instance.log_tail))


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return "".join(_line(line) for line in value.splitlines(keepends=True))
    return [_shortened(one) for one in value] if isinstance(value, list | tuple) else value


def _line(line: str) -> str:
    if len(line) <= LINE_HEAD_CHARS + LINE_TAIL_CHARS:
        return line
    return f"{line[:LINE_HEAD_CHARS]} ... ({len(line)} characters) ... {line[-LINE_TAIL_CHARS:]}"
