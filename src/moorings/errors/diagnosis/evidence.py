"""What is known of an instance that does not serve, as a value. Judges nothing.

The kinds of a report are words of the runtime contract and of the engines, which are above this layer: they
are repeated here, and a test holds them equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class InstanceEvidence:
    """An instance at the moment it is judged."""

    endpoint: str
    deployment: str
    phase: str
    """One of `engines.base.Phase`."""
    exit_code: int | None = None
    signal: int | None = None
    report: Mapping[str, Any] | None = None
    """The boot report, or the supervisor's own (same keys)."""
    step: str = STEP_SERVER
    """Which container-equivalent ended."""
    oom: bool = False
    restarts: int = 0
    overdue: bool = False
    """It has not become ready within the time the rollout allows."""
    waited_s: float | None = None
    """How long it was waited for, in seconds."""
    memory_bytes: int | None = None
    log_tail: tuple[str, ...] = ()
    """Last lines of the log of the container-equivalent named by `step`, oldest first."""
