"""The verdict on an instance that does not serve: exactly one code, the lines that prove it, the next command. Pure.

The judges are asked in the order of how certain they are; the first that knows has the word.
"""

from __future__ import annotations

from moorings.errors.catalogue import CATALOGUE
from moorings.errors.diagnosis import ends, lines, scripts, waiting
from moorings.errors.diagnosis import evidence as ev
from moorings.errors.diagnosis.evidence import InstanceEvidence
from moorings.errors.diagnosis.verdicts import has_ended, how, make
from moorings.errors.exceptions import Confidence, Failure
from moorings.errors.sentence import Sentence, sentence

CRASH_LOOP_RESTARTS = ends.CRASH_LOOP_RESTARTS


def diagnose_instance(instance: InstanceEvidence) -> Failure:
    """Why this instance does not serve. Always an answer; the fallback is `UserContainerCrash`."""
    instance = ev.readable(instance)
    judges = (
        _of_silence,
        _of_initializer,
        ends.of_machine,
        _of_report,
        ends.of_end,
        waiting.of_starting,
    )
    for judge in judges:
        verdict = judge(instance)
        if verdict is not None:
            return verdict
    return make(
        instance,
        "UserContainerCrash",
        f"the worker process ended ({how(instance.exit_code, instance.signal)}) and left no report of why",
        confidence=Confidence.POSSIBLE,
        evidence=lines.log_evidence(instance.log_tail),
    )


def _of_silence(instance: InstanceEvidence) -> Failure | None:
    """It runs: an end before that explains nothing, unless it ends again and again."""
    if instance.phase != "running" or instance.ready or instance.restarts >= CRASH_LOOP_RESTARTS:
        return None
    return waiting.of_running(instance)


def _of_initializer(instance: InstanceEvidence) -> Failure | None:
    if instance.step != ev.STEP_INITIALIZER or not has_ended(instance):
        return None
    report = instance.report or {}
    if report.get("kind") == ev.KIND_CANNOT_START:
        return ends.cannot_start(instance, report)
    code, message = str(report.get("code") or ""), str(report.get("message") or "")
    if not code:
        code, message = _last_error_line(instance.log_tail)
    if code not in CATALOGUE:
        code = "ArtifactsUnavailable"
    message = message or (
        f"the storage initializer ended ({how(instance.exit_code, instance.signal)}) before model and code were in place"
    )
    fix = put_back(message.partition(":")[0], instance.model) if code == "ArtifactsUnavailable" else None
    return make(instance, code, message, evidence=lines.tail(instance.log_tail), fix=fix)


def put_back(what: str, model: str) -> Sentence:
    """What brings lost content back: of a model (`name:version`) that was registered by itself, else of the
    deployment's own files."""
    name, _, version = model.rpartition(":")
    if what != "model" or not name:
        return sentence(
            "Send the files again, which stores them anew: moor online-deployment update -f <deployment.yml>"
        )
    return sentence(
        "Store the same files again: moor model create -n {name} --version {version} --path <its files>   Then: moor "
        "online-deployment update -f <deployment.yml>",
        name=name,
        version=version,
    )


def _of_report(instance: InstanceEvidence) -> Failure | None:
    report = instance.report
    if report is None:
        return None
    kind = str(report.get("kind"))
    if kind == ev.KIND_CANNOT_START:
        return ends.cannot_start(instance, report)
    if kind == ev.KIND_BOOT_TIMEOUT:
        return waiting.boot_deadline(instance, report)
    if kind == ev.KIND_LIVENESS:
        return ends.liveness(instance, report)
    return scripts.of_report(instance, report)


def _last_error_line(log: tuple[str, ...]) -> tuple[str, str]:
    for line in reversed(log):
        head, found, message = line.strip().partition(": ")
        if found and head.startswith("ERROR "):
            return head[len("ERROR ") :], message
    return "", ""
