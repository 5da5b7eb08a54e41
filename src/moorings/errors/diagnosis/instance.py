"""The verdict on an instance that does not serve: exactly one code, the lines that prove it, the next
command. Pure."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moorings.errors.catalogue import CATALOGUE
from moorings.errors.diagnosis import evidence as ev
from moorings.errors.diagnosis.evidence import InstanceEvidence
from moorings.errors.diagnosis.packages import package_of
from moorings.errors.exceptions import Failure, failure

MOST_LINES = 40
"""Evidence is at most a screenful."""
CRASH_LOOP_RESTARTS = 3
OUR_PREFIX = "moorings: "
"""Begins the lines a supervisor writes into the log."""

_NO_SPACE = ("No space left on device", "Disk quota exceeded")


def diagnose_instance(instance: InstanceEvidence) -> Failure:
    """Why this instance does not serve. Always an answer; the fallback is `UserContainerCrash`."""
    for judge in (_of_silence, _of_initializer, _of_machine, _of_report, _of_end, _of_waiting):
        verdict = judge(instance)
        if verdict is not None:
            return verdict
    return _make(
        instance,
        "UserContainerCrash",
        f"the worker process ended ({_how(instance)}) and left no report of why",
        evidence=_log(instance),
    )


# --- judges, the most certain first -------------------------------------------------------------------------


def _of_silence(instance: InstanceEvidence) -> Failure | None:
    """It runs: an end before that explains nothing, unless it ends again and again."""
    if instance.phase != "running" or instance.restarts >= CRASH_LOOP_RESTARTS:
        return None
    text = f"the instance runs, but its readiness probe was not answered{_waited(instance)}"
    return _make(instance, "ResourceNotReady", text, evidence=_log(instance))


def _of_initializer(instance: InstanceEvidence) -> Failure | None:
    if instance.step != ev.STEP_INITIALIZER or not _has_ended(instance):
        return None
    report = instance.report or {}
    if report.get("kind") == ev.KIND_CANNOT_START:
        return _cannot_start(instance, report)
    code, message = str(report.get("code") or ""), str(report.get("message") or "")
    if not code:
        code, message = _last_error_line(instance.log_tail)
    if code not in CATALOGUE:
        code = "ArtifactsUnavailable"
    message = (
        message or f"the storage initializer ended ({_how(instance)}) before model and code were in place"
    )
    return _make(instance, code, message, evidence=_last(instance.log_tail))


def _of_machine(instance: InstanceEvidence) -> Failure | None:
    """Memory and disk: whatever else was reported is a consequence of it."""
    report = instance.report or {}
    message = str(report.get("message") or "")
    limit = "" if instance.memory_bytes is None else f"; its limit is {_size(instance.memory_bytes)}"
    if instance.oom:
        text = f"the kernel ended the worker for want of memory{limit}"
        return _make(instance, "OutOfMemory", text, evidence=(_how(instance), *_log(instance)))
    last = next((line for line in reversed(_script_log(instance)) if line.strip()), "")
    ended_so = _has_ended(instance) and not report
    if _is_exception(message, "MemoryError") or (ended_so and _is_exception(last, "MemoryError")):
        text = f"the script could not get the memory it asked for{limit}"
        return _make(instance, "OutOfMemory", text, target=_place(report), evidence=_proof(instance, report))
    if any(sign in text for sign in _NO_SPACE for text in (message, last if ended_so else "")):
        return _make(instance, "DiskFull", message or last, evidence=_proof(instance, report))
    return None


def _of_report(instance: InstanceEvidence) -> Failure | None:
    report = instance.report
    if report is None:
        return None
    kind = str(report.get("kind"))
    judge = _BY_KIND.get(kind)
    if judge is not None:
        return judge(instance, report)
    simple = _SIMPLE.get(kind)
    if simple is None:
        return None
    code, text = simple
    message = str(report.get("message") or "")
    return _make(
        instance,
        code,
        f"{text}: {message}" if message else text,
        target=_place(report),
        evidence=_proof(instance, report),
    )


def _of_end(instance: InstanceEvidence) -> Failure | None:
    if not _has_ended(instance):
        return None
    if instance.restarts >= CRASH_LOOP_RESTARTS:
        text = f"the worker has ended {instance.restarts + 1} times, last with {_how(instance)}"
        return _make(instance, "CrashLoop", text, evidence=_log(instance))
    if instance.signal is not None:
        text = f"the worker was ended by {_how(instance)}"
        return _make(instance, "KilledBySignal", text, evidence=_log(instance))
    return None


def _of_waiting(instance: InstanceEvidence) -> Failure | None:
    if _has_ended(instance) or not (instance.overdue or instance.phase == "starting"):
        return None
    text = f"the instance was not ready{_waited(instance)}"
    return _make(instance, "BootTimeout", text, evidence=_log(instance))


# --- verdicts on a report -----------------------------------------------------------------------------------

Report = Mapping[str, Any]

_SIMPLE: Mapping[str, tuple[str, str]] = {
    ev.KIND_SCRIPT_MISSING: ("ScriptMissing", "the scoring script is not there"),
    ev.KIND_SYNTAX_ERROR: ("UserScriptSyntaxError", "the scoring script is not valid Python"),
    ev.KIND_SCRIPT_RAISED: ("ScriptRaised", "the scoring script failed while it was imported"),
    ev.KIND_BAD_SIGNATURE: ("UserScriptBadSignature", "the scoring script cannot be called"),
    ev.KIND_INIT_RAISED: ("UserScriptInitFailed", "init() failed"),
    ev.KIND_BAD_SETTINGS: ("ServerSettingsInvalid", "the inference server refuses its settings"),
    ev.KIND_LIVENESS: ("LivenessProbeFailed", "a worker was killed"),
}


def _import_error(instance: InstanceEvidence, report: Report) -> Failure:
    module = str(report.get("missing") or "")
    detail = str(report.get("message") or f"No module named {module!r}")
    if not module:
        remedy = "Put a version of the package that has this name into the environment"
    elif _is_absent(detail, module):
        package = package_of(module)
        remedy = (
            f"Add `{package}` to the pip list of the environment's conda_file "
            f"(or, if `{module}` is a file of yours, put it beside the scoring script)"
        )
    else:
        remedy = f"Pin a version of `{package_of(module)}` that has this name, and what it needs"
    text = f"the scoring script cannot import {module or 'a module'}: {detail}"
    return _make(
        instance,
        "UserScriptImportError",
        text,
        target=_place(report),
        evidence=_proof(instance, report),
        fields={"remedy": remedy},
    )


def _function_missing(instance: InstanceEvidence, report: Report) -> Failure:
    names = [name.strip() for name in str(report.get("missing") or "run").split(",")]
    shown = " and ".join(f"{name}()" for name in names)
    return _make(
        instance,
        "UserScriptFunctionNotFound",
        f"the scoring script has no {shown}",
        target=_place(report),
        evidence=_proof(instance, report),
        fields={"missing": shown},
    )


def _model_path(instance: InstanceEvidence, report: Report) -> Failure:
    path = str(report.get("missing") or report.get("message") or "")
    tree = _model_tree(instance.log_tail)
    evidence = (*_user_frames(report), *(tree or _log(instance)))
    text = f"init() asked for {path}, which is not in the model folder"
    return _make(instance, "ModelPathNotFound", text, target=_place(report), evidence=evidence)


def _boot_timeout(instance: InstanceEvidence, report: Report) -> Failure:
    text = str(report.get("message") or "the worker was not ready in time")
    return _make(instance, "BootTimeout", text, evidence=_log(instance))


def _cannot_start(instance: InstanceEvidence, report: Report) -> Failure:
    text = str(report.get("message") or "the process could not be started")
    told = str(report.get("code") or "")
    if told in CATALOGUE:  # whoever could not start it knows why
        said = tuple(str(line) for line in report.get("evidence") or ())
        return _make(instance, told, text, evidence=said or (text,), fix=str(report.get("fix") or "") or None)
    code = "DiskFull" if any(sign in text for sign in _NO_SPACE) else "ContainerCannotStart"
    return _make(instance, code, text, evidence=(text, *_log(instance)))


_BY_KIND: Mapping[str, Callable[[InstanceEvidence, Report], Failure]] = {
    ev.KIND_IMPORT_ERROR: _import_error,
    ev.KIND_FUNCTION_MISSING: _function_missing,
    ev.KIND_MODEL_PATH: _model_path,
    ev.KIND_BOOT_TIMEOUT: _boot_timeout,
    ev.KIND_CANNOT_START: _cannot_start,
}


# --- evidence -----------------------------------------------------------------------------------------------


def _make(
    instance: InstanceEvidence,
    code: str,
    message: str,
    *,
    target: str | None = None,
    evidence: Sequence[str] = (),
    fields: Mapping[str, object] | None = None,
    fix: str | None = None,
) -> Failure:
    known = {"endpoint": instance.endpoint, "deployment": instance.deployment, **(fields or {})}
    return failure(
        code, message, target=target, evidence=tuple(evidence)[-MOST_LINES:], fields=known, fix=fix
    )


def _proof(instance: InstanceEvidence, report: Report) -> tuple[str, ...]:
    """The user's own frames and the message; the end of the log where the report has none."""
    frames = _user_frames(report)
    if not frames:
        return _log(instance)
    message = str(report.get("message") or "")
    return frames if not message or message in frames[-1] else (*frames, message)


def _user_frames(report: Report) -> tuple[str, ...]:
    trace = report.get("traceback")
    lines = trace.splitlines() if isinstance(trace, str) else [str(line).rstrip("\n") for line in trace or ()]
    place = _place(report)
    if not lines and place is not None:
        lines = [place]
        if report.get("text"):
            lines.append(f"    {str(report['text']).strip()}")
    return tuple(line for line in lines if line.strip())


def _place(report: Report) -> str | None:
    if not report.get("file"):
        return None
    return f"{report['file']}:{report['line']}" if report.get("line") else str(report["file"])


def _script_log(instance: InstanceEvidence) -> list[str]:
    return [line for line in instance.log_tail if not line.startswith(OUR_PREFIX)]


def _log(instance: InstanceEvidence) -> tuple[str, ...]:
    """The last traceback of the log to its end, else its last lines."""
    lines = [line for line in instance.log_tail if line.strip()]
    starts = [n for n, line in enumerate(lines) if "Traceback (most recent call last)" in line]
    if starts and len(lines) - starts[-1] <= MOST_LINES:
        return tuple(lines[starts[-1] :])
    return _last(lines)


def _last(lines: Sequence[str], count: int = 12) -> tuple[str, ...]:
    return tuple(line for line in lines if line.strip())[-count:]


def _model_tree(lines: Sequence[str]) -> tuple[str, ...]:
    """What the server listed of the model folder."""
    starts = [n for n, line in enumerate(lines) if "Model Directory Contents:" in line]
    if not starts:
        return ()
    return tuple(line for line in lines[starts[-1] : starts[-1] + MOST_LINES - 10] if line.strip())


def _last_error_line(lines: Sequence[str]) -> tuple[str, str]:
    for line in reversed(lines):
        head, found, message = line.strip().partition(": ")
        if found and head.startswith("ERROR "):
            return head[len("ERROR ") :], message
    return "", ""


def _has_ended(instance: InstanceEvidence) -> bool:
    return instance.exit_code is not None or instance.signal is not None or instance.report is not None


def _is_absent(detail: str, module: str) -> bool:
    """A module that is not there at all, not one that failed inside or lacks a name."""
    return "No module named" in detail and module in detail


def _is_exception(text: str, name: str) -> bool:
    """Whether a message or log line is that exception's own, not one that mentions it."""
    head = text.strip().partition(":")[0].strip()
    return head == name or head.endswith((f".{name}", f"_Array{name}"))


def _how(instance: InstanceEvidence) -> str:
    if instance.signal is not None:
        try:
            return f"signal {signal.Signals(instance.signal).name}"
        except ValueError:
            return f"signal {instance.signal}"
    return "no exit status" if instance.exit_code is None else f"exit code {instance.exit_code}"


def _waited(instance: InstanceEvidence) -> str:
    return "" if instance.waited_s is None else f" within {instance.waited_s:.0f} s"


def _size(count: int) -> str:
    gib = count / 2**30
    return f"{gib:.3g} GiB" if gib >= 1 else f"{count / 2**20:.3g} MiB"
