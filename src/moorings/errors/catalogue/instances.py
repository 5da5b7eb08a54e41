"""Failures of instances, scoring scripts and what a failing instance shows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from moorings.errors.entry import Entry, Evidence, Fault, Step

_LOGS = "moor online-deployment get-logs -e {endpoint} -n {deployment}"
_UPDATE = "moor online-deployment update -e {endpoint} -n {deployment} -f <deployment.yml>"


_EVIDENCE: Mapping[str, tuple[Evidence, ...]] = MappingProxyType(
    {
        "ScriptMissing": (Evidence.LOG, Evidence.FILES, Evidence.PLACES),
        "UserScriptSyntaxError": (Evidence.TRACEBACK, Evidence.LOG, Evidence.PLACES),
        "UserScriptImportError": (Evidence.TRACEBACK, Evidence.LOG, Evidence.PLACES),
        "UserScriptFunctionNotFound": (Evidence.TRACEBACK, Evidence.LOG, Evidence.FILES, Evidence.PLACES),
        "UserScriptBadSignature": (Evidence.TRACEBACK, Evidence.LOG, Evidence.PLACES),
        "UserScriptInitFailed": (Evidence.TRACEBACK, Evidence.LOG, Evidence.PLACES),
        "ModelPathNotFound": (Evidence.TRACEBACK, Evidence.LOG, Evidence.FILES, Evidence.PLACES),
        "BootTimeout": (Evidence.LOG, Evidence.PROBES),
        "ResourceNotReady": (Evidence.LOG, Evidence.PROBES),
        "LivenessProbeFailed": (Evidence.LOG, Evidence.PROBES),
        "CrashLoop": (Evidence.LOG, Evidence.EXIT),
        "KilledBySignal": (Evidence.LOG, Evidence.EXIT),
        "UserContainerCrash": (Evidence.LOG, Evidence.EXIT),
    }
)
"""Where it is not the user's frames or the end of the log."""

_ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "CrashLoop": ("DeploymentCrashLoopBackOff",),
        "UserScriptSyntaxError": ("ScriptSyntaxError",),
        "UserContainerCrash": ("UserContainerCrashed", "UserContainerTerminated"),
    }
)
"""Names of the ecosystem for the same failure, or of an older version."""


def _script(code: str, title: str, cause: str, fix: str) -> Entry:
    return Entry(
        code=code,
        title=title,
        cause=cause,
        fix=fix,
        fault=Fault.USER,
        step=Step.SCRIPT,
        http_status=400,
        numeric="ERR_2200",
        evidence=_EVIDENCE.get(code, (Evidence.TRACEBACK, Evidence.LOG)),
        family=None if code == "ResourceNotReady" else "ResourceNotReady",
        aliases=_ALIASES.get(code, ()),
    )


_SCRIPTS = (
    _script(
        "ScriptMissing",
        "The scoring script is not there",
        "The code folder has no file at the path that `scoring_script` names.",
        f"Correct `code_configuration.scoring_script` (it is relative to `code`), then: {_UPDATE}",
    ),
    _script(
        "UserScriptSyntaxError",
        "The scoring script is not valid Python",
        "Python could not compile the script, or a module it imports, with the environment's interpreter.",
        f"Correct the line named above, then: {_UPDATE}",
    ),
    _script(
        "UserScriptImportError",
        "The scoring script imports something the environment does not have",
        "A module could not be imported: its package is not in the environment, or not in a version "
        "that has it.",
        "{remedy}, then: " + _UPDATE,
    ),
    _script(
        "UserScriptFunctionNotFound",
        "The scoring script lacks a function",
        "A scoring script needs `init()` and `run(data)` at its top level.",
        f"Define {{missing}} in the script, then: {_UPDATE}",
    ),
    _script(
        "UserScriptBadSignature",
        "`init` or `run` cannot be called as it is declared",
        "`init` takes no argument; `run` takes at least one named parameter and neither *args, **kwargs nor "
        "positional-only ones.",
        f"Declare it as `def run(data):`, then: {_UPDATE}",
    ),
    _script(
        "ScriptRaised",
        "The scoring script raised an exception while it was imported",
        "Code at the top level of the script, or of a module it imports, failed.",
        f"Correct the line named above, then: {_UPDATE}",
    ),
    _script(
        "UserScriptInitFailed",
        "init() of the scoring script raised an exception",
        "`init()` ran when the instance started and did not return.",
        f"Correct the line named above, then: {_UPDATE}   (the whole log: {_LOGS})",
    ),
    _script(
        "ModelPathNotFound",
        "init() looks for a model file that is not there",
        "The path below AZUREML_MODEL_DIR that the script opens does not exist; a registered file is "
        "directly in that folder, a registered folder is a folder in it.",
        f"Make the path in the script fit what is listed above, or register the right files, then: {_UPDATE}",
    ),
    _script(
        "ServerSettingsInvalid",
        "The inference server refuses its settings",
        "An environment variable of the deployment, or a settings file beside the script, has a value that "
        "cannot be used.",
        f"Correct the setting named above, then: {_UPDATE}",
    ),
    _script(
        "BootTimeout",
        "The instance was not ready in time",
        "Loading the model in `init()` takes longer than the liveness probe allows, or does not end at all.",
        "See where it stays: "
        + _LOGS
        + "   If it only needs longer, raise liveness_probe.failure_threshold or "
        f".initial_delay, then: {_UPDATE}",
    ),
    _script(
        "ResourceNotReady",
        "The instance runs but does not answer its readiness probe",
        "The worker processes serve, but `GET /` did not answer with 200 within the readiness probe's time.",
        "See what it does: "
        + _LOGS
        + f"   If it is only slow, raise readiness_probe.timeout, then: {_UPDATE}",
    ),
    _script(
        "LivenessProbeFailed",
        "A worker was killed because it stopped answering",
        "The worker did not answer its liveness probe; something holds the whole process, for instance "
        "native code that does not let go of the interpreter.",
        "See what it did last: "
        + _LOGS
        + f"   If it is only slow, raise liveness_probe.timeout, then: {_UPDATE}",
    ),
    _script(
        "CrashLoop",
        "The instance crashes again and again",
        "The worker process ends shortly after each start.",
        f"See what it says before it ends: {_LOGS}",
    ),
    _script(
        "KilledBySignal",
        "The worker process was ended by a signal",
        "Native code crashed (SIGSEGV, SIGABRT, SIGILL), or somebody on this machine killed the process.",
        f"See what it said last: {_LOGS}   For a crash in native code, "
        "try another version of the package it was in.",
    ),
    _script(
        "UserContainerCrash",
        "The instance has ended",
        "The worker process ended and left no report of why.",
        f"See what it said last: {_LOGS}",
    ),
)

ENTRIES: tuple[Entry, ...] = (
    *_SCRIPTS,
    Entry(
        code="OutOfMemory",
        title="The instance ran out of memory",
        cause="Model and requests need more memory than the instance type gives, or than this "
        "machine has left.",
        fix="Choose a larger instance_type, or a smaller WORKER_COUNT (each worker loads the model), then: "
        + _UPDATE,
        fault=Fault.USER,
        step=Step.INSTANCE,
        http_status=400,
        numeric="ERR_2200",
        evidence=(
            Evidence.MEMORY,
            Evidence.EXIT,
            Evidence.LOG,
        ),
        family="OutOfQuota",
        aliases=("OutOfQuotaMemory",),
    ),
    Entry(
        code="ContainerCannotStart",
        title="The instance cannot be started",
        cause="The operating system refused to start a process of the instance: its interpreter is gone, or "
        "a limit of the machine is reached.",
        fix="Deploy again, which builds the environment anew if it is gone: " + _UPDATE,
        fault=Fault.MACHINE,
        step=Step.INSTANCE,
        http_status=500,
        retryable=True,
        numeric="ERR_2100",
        evidence=(
            Evidence.OPERATING_SYSTEM,
            Evidence.REGISTRY,
            Evidence.LOG,
        ),
        family="OutOfQuota",
        aliases=(
            "OutOfQuotaOther",
            "UnableToStartUserContainer",
        ),
    ),
    Entry(
        code="DiskFull",
        title="No space is left on the disk",
        cause="The instance, or what starts it, could not write because a disk (or a quota) is full.",
        fix="Free space on the disk named above (see: df -h), then: " + _UPDATE,
        fault=Fault.MACHINE,
        step=Step.INSTANCE,
        http_status=507,
        retryable=True,
        numeric="ERR_1350",
        evidence=(
            Evidence.OPERATING_SYSTEM,
            Evidence.DISK,
            Evidence.LOG,
        ),
        family="OutOfQuota",
    ),
    Entry(
        code="LogContainerUnknown",
        title="There is no container of this name",
        cause="An instance has the containers `inference-server` and `storage-initializer`.",
        fix="Name one of the two: moor online-deployment get-logs -e <endpoint> -n <deployment> "
        "--container storage-initializer",
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
    ),
)
