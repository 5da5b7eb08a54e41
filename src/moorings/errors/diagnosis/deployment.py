"""The verdict on a whole deployment: the one thing that is wrong with it now, if something is. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from moorings.errors.diagnosis.ends import of_resources, placed, told, user_frame
from moorings.errors.diagnosis.evidence import InstanceEvidence
from moorings.errors.diagnosis.instance import diagnose_instance
from moorings.errors.diagnosis.raised import chain_of, trace_in
from moorings.errors.diagnosis.scripts import of_exception
from moorings.errors.diagnosis.verdicts import has_ended, make
from moorings.errors.exceptions import Confidence, Failure

RECENT_S = 3600.0
"""An end that is longer ago explains nothing of today."""
_SERVES_FROM = "ready for serving traffic"
_RAISED = "Encountered Exception "


@dataclass(frozen=True)
class DeploymentEvidence:
    """A deployment at the moment somebody asks what is wrong with it."""

    failed: Failure | None = None
    """What its last rollout failed with: found when it failed, with the evidence of that moment."""
    blocked: Failure | None = None
    """What a condition says is in the way now (the gateway, the engine)."""
    instances: tuple[InstanceEvidence, ...] = ()
    """Those of the revision that is wanted."""
    now: float = 0.0
    """Unix seconds."""


def diagnose(deployment: DeploymentEvidence) -> Failure | None:
    """What is wrong, the most certain first; None when nothing is known to be."""
    if deployment.failed is not None:
        return deployment.failed
    ended = [i for i in deployment.instances if _has_ended_lately(i, deployment.now)]
    if ended:
        return diagnose_instance(max(ended, key=_ended_at))
    if deployment.blocked is not None:
        return deployment.blocked
    for instance in deployment.instances:
        verdict = _of_requests(instance)
        if verdict is not None:
            return verdict
    return None


def _has_ended_lately(instance: InstanceEvidence, now: float) -> bool:
    return has_ended(instance) and (not instance.ready or now - _ended_at(instance) <= RECENT_S)


def _ended_at(instance: InstanceEvidence) -> float:
    return instance.ends[-1].at if instance.ends else 0.0


def _of_requests(instance: InstanceEvidence) -> Failure | None:
    """The last exception that `run()` raised, where one was since it serves."""
    since = max((n for n, line in enumerate(instance.log_tail) if _SERVES_FROM in line), default=0)
    served = instance.log_tail[since:]
    raises = [n for n, line in enumerate(served) if _RAISED in line]
    if not raises:
        return None
    first = served[raises[-1]].partition(_RAISED)[2]
    trace = trace_in((first, *served[raises[-1] + 1 :]))
    chain = chain_of(trace)
    last, count = chain[-1].words, len(raises)
    own = user_frame(instance, chain[-1].frames[::-1])
    report = {
        "who": "run()",
        "traceback": "\n".join(trace),
        "message": last,
        "file": own.file if own else None,
        "line": own.line if own else None,
        "text": own.text if own else None,
    }
    served_so_far = replace(instance, served_s=0.0)
    for raised in told(instance, report):
        failed = of_resources(served_so_far, placed(instance, report, raised), raised)
        if failed is not None:
            return failed
    return of_exception(instance, report) or make(
        instance,
        "UserScriptRunFailed",
        f"run() raised {last}" + (f" ({count} times in the last lines of the log)" if count > 1 else ""),
        confidence=Confidence.CERTAIN if own else Confidence.LIKELY,
        target=own.place if own else None,
        evidence=trace,
    )


def said_in_short(failed: Failure | None, *, ready: bool, waiting_for: str) -> str:
    """One sentence for people on how the deployment is."""
    if failed is not None:
        return failed.message
    if ready:
        return "It serves, and nothing is known to be wrong with it."
    return f"It is not ready yet, and nothing has failed so far; it waits for: {waiting_for or 'its turn'}."
