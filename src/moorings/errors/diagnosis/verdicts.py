"""How a verdict is made: one code of the catalogue, its words, its proof with the user's own paths, how sure it is."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from moorings.errors.diagnosis import lines
from moorings.errors.diagnosis.evidence import InstanceEvidence
from moorings.errors.exceptions import Confidence, Failure, failure
from moorings.errors.sentence import Sentence, sentence

Report = Mapping[str, Any]

MODEL_DIR = "$AZUREML_MODEL_DIR/"


def make(
    instance: InstanceEvidence,
    code: str,
    message: str,
    *,
    confidence: Confidence = Confidence.CERTAIN,
    target: str | None = None,
    evidence: Sequence[str] = (),
    fields: Mapping[str, object] | None = None,
    remedy: Sentence | None = None,
    fix: Sentence | None = None,
) -> Failure:
    """The verdict `code` on an instance; paths of the instance's own folders are written as the user knows them.
    `remedy`: what to do before the deployment is sent again; `fix`: all that is to be done. Without either it is what the
    catalogue says."""
    roots = {instance.code_root: "", instance.model_root: MODEL_DIR}

    def own(text: str) -> str:
        return lines.shown(lines.text_of(text), roots)

    if remedy:
        fix = sentence(
            "{remedy}, then: moor online-deployment update -e {endpoint} -n {deployment} -f <deployment.yml>",
            remedy=remedy,
            endpoint=instance.endpoint,
            deployment=instance.deployment,
        )
    known = {"endpoint": instance.endpoint, "deployment": instance.deployment, **(fields or {})}
    place = own(target) if target else None
    proof = [own(line) for line in evidence]
    if place is not None and proof and place not in proof[0]:
        proof = [f"{place}", *proof]
    verdict = failure(
        code,
        lines.fitted([own(message)])[0],
        target=place,
        evidence=lines.fitted(proof),
        fields=known,
        fix=fix,
        confidence=confidence,
    )
    return replace(verdict, remedy=verdict.remedy.mapped(own))


def reported(
    instance: InstanceEvidence,
    report: Report,
    code: str,
    message: str,
    *,
    more: Sequence[str] = (),
    confidence: Confidence = Confidence.CERTAIN,
    fields: Mapping[str, object] | None = None,
    remedy: Sentence | None = None,
    fix: Sentence | None = None,
) -> Failure:
    """`make`, with the place and the proof of a report, and then `more` evidence."""
    return make(
        instance,
        code,
        message,
        confidence=confidence,
        target=lines.place_of(report),
        evidence=(*proof(instance, report), *more),
        fields=fields,
        remedy=remedy,
        fix=fix,
    )


def proof(instance: InstanceEvidence, report: Report) -> tuple[str, ...]:
    """Where it was, the frames and the message; the end of the log where the report has none."""
    place = lines.place_of(report)
    first = () if place is None else ((place,) if not report.get("text") else (place, _source(report)))
    frames = lines.traceback_of(report)
    message = str(report.get("message") or "")
    if not frames:
        return (*first, message) if first and message else first or lines.log_evidence(instance.log_tail)
    said = () if not message or message in frames[-1] or frames[-1] in message else (message,)
    return (*(first[:1]), *frames, *said)


def _source(report: Report) -> str:
    return f"    {str(report['text']).strip()}"


def has_ended(instance: InstanceEvidence) -> bool:
    return instance.exit_code is not None or instance.signal is not None or instance.report is not None


def how(code: int | None, signum: int | None) -> str:
    if signum is not None:
        return f"signal {signal_name(signum)}"
    return "no exit status" if code is None else f"exit code {code}"


def signal_name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return str(signum)


def seconds(value: float) -> str:
    """`0.4 s`, `12 s`."""
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"


def size(count: int) -> str:
    gib = count / 2**30
    return f"{gib:.3g} GiB" if gib >= 1 else f"{count / 2**20:.3g} MiB"


def history(instance: InstanceEvidence) -> tuple[str, ...]:
    """The ends of its workers, one a line, when there was more than one."""
    if len(instance.ends) < 2:
        return ()
    newest = instance.ends[-1].at
    found = []
    for end in instance.ends:
        served = "never ready" if end.served_s is None else f"after {seconds(end.served_s)} in service"
        ago = "the last one" if end.at == newest else f"{seconds(newest - end.at)} before the last one"
        memory = ", out of memory" if end.oom else ""
        found.append(f"ended with {how(end.code, end.signal)} {served}{memory} ({ago})")
    return tuple(found)
