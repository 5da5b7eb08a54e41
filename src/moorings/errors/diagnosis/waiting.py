"""Verdicts on an instance that lives and does not serve: it boots too long, or its probe is not answered. Pure."""

from __future__ import annotations

from moorings.errors.diagnosis import evidence as ev
from moorings.errors.diagnosis import lines
from moorings.errors.diagnosis.ends import user_frame, waits_for_lock
from moorings.errors.diagnosis.evidence import InstanceEvidence, Probed
from moorings.errors.diagnosis.verdicts import Report, has_ended, history, make, seconds
from moorings.errors.exceptions import Confidence, Failure
from moorings.errors.sentence import sentence

WORKING_SHARE = 0.2
"""A boot that used at least this share of its time on a processor is at work, not stuck."""
WORKING_NOW = 0.05
"""So is one that kept this share of a processor busy while it was looked at, whatever else the machine had to do."""
_SERVES_ITSELF = (
    "serve_forever",
    "run_simple",
    "run_server",
    "uvicorn",
    "werkzeug",
    "socketserver",
    "aiohttp",
)


def of_starting(instance: InstanceEvidence) -> Failure | None:
    """Not ready, and it has not ended."""
    if has_ended(instance) or not (instance.overdue or instance.phase == "starting"):
        return None
    allowed, waited = instance.boot_allowed_s, instance.waited_s
    if allowed is not None and waited is not None and waited < allowed and _at_work(instance):
        frames = lines.last_dump(instance.log_tail)
        own = user_frame(instance, frames)
        at = "" if own is None else f", at {own.place} in {own.function}()"
        text = (
            f"the readiness probe gave up after {seconds(waited)}, while the script was still loading{at}; "
            f"the liveness probe would have let it load for {seconds(allowed)}"
        )
        return make(
            instance,
            "ProbeTooEarly",
            text,
            confidence=Confidence.LIKELY,
            target=own.place if own else None,
            evidence=(*_worked(instance), *_stack(instance), *lines.tail(instance.log_tail, 4)),
        )
    return _hanging(instance, f"the instance was not ready{_waited(instance)}")


def boot_deadline(instance: InstanceEvidence, report: Report) -> Failure:
    """The supervisor killed a worker that was not ready in time; before that it asked it where it is."""
    return _hanging(instance, str(report.get("message") or "the worker was not ready in time"))


def _hanging(instance: InstanceEvidence, text: str) -> Failure:
    frames = lines.last_dump(instance.log_tail)
    own = user_frame(instance, frames)
    remedy = None
    if own is not None:
        text += f": it was still at {own.place}, in {own.function}()"
    if any(sign in f"{f.file} {f.function}" for f in frames for sign in _SERVES_ITSELF):
        text += ", where the script serves requests itself"
        remedy = sentence(
            "Remove the script's own server: init() has to return, and run() is called for each request"
        )
    elif waits_for_lock(frames):
        text += ", waiting for another thread or process"
    return make(
        instance,
        "BootTimeout",
        text,
        confidence=Confidence.CERTAIN if own else Confidence.LIKELY,
        target=own.place if own else None,
        evidence=(*_stack(instance), *history(instance))
        if frames
        else (*lines.log_evidence(instance.log_tail), *history(instance)),
        remedy=remedy,
    )


def of_running(instance: InstanceEvidence) -> Failure:
    """It runs, and its readiness probe was not answered with 200."""
    probed = instance.probed
    if probed is not None and probed.port is not None:
        return _foreign(instance, probed, probed.port)
    text = f"the instance runs, but its readiness probe was not answered{_waited(instance)}"
    if probed is not None:
        text += f" ({_words(probed)})"
    return make(
        instance,
        "ResourceNotReady",
        text,
        confidence=Confidence.LIKELY,
        evidence=(*_stack(instance), *lines.log_evidence(instance.log_tail)),
    )


def _foreign(instance: InstanceEvidence, probed: Probed, port: int) -> Failure:
    """A container with a server of its own."""
    asked = f"GET {probed.path} on port {port}"
    said = f"readiness probe: {asked}: {_words(probed)}" + (
        f", {probed.failures} times in a row" if probed.failures > 1 else ""
    )
    heard = instance.listening
    listens = () if heard is None else (f"the container listens on: {', '.join(heard) or 'nothing'}",)
    evidence = (said, *listens, *lines.tail(instance.log_tail, 8))
    if probed.said.isdigit():
        text = f"the container answers {asked} with {probed.said}, not with 200"
        code = (
            "ProbeRouteWrong"
            if probed.said in ("404", "405", "301", "302", "307", "308")
            else "ProbeUnhealthy"
        )
        return make(instance, code, text, evidence=evidence, fields={"route": probed.path, "port": port})
    if heard is not None:
        verdict = _of_listeners(instance, port, heard, evidence)
        if verdict is not None:
            return verdict
    text = f"the container runs, but {asked} is not answered{_waited(instance)}: {_words(probed)}"
    return make(
        instance,
        "ResourceNotReady",
        text,
        confidence=Confidence.LIKELY if heard is not None else Confidence.POSSIBLE,
        evidence=evidence,
    )


def _of_listeners(
    instance: InstanceEvidence, port: int, heard: tuple[str, ...], evidence: tuple[str, ...]
) -> Failure | None:
    """A container that does not listen where it is asked; `evidence`: the probe and the listeners, then the log."""
    hosts: dict[str, set[str]] = {}
    for address in heard:
        host, _, heard_port = address.rpartition(":")
        hosts.setdefault(heard_port, set()).add(host.strip("[]"))
    elsewhere = str(port) not in hosts
    if elsewhere and (instance.processor_share or 0.0) >= WORKING_NOW:
        text = f"the readiness probe gave up{_after(instance)}, while the program in the container was still starting"
        return make(
            instance,
            "ProbeTooEarly",
            text,
            confidence=Confidence.LIKELY,
            evidence=(*evidence[:2], *_worked(instance)),
        )
    if not heard:
        return make(
            instance,
            "NothingListens",
            f"the container runs, but no program in it listens on any port{_waited(instance)}",
            evidence=evidence,
            fields={"port": port},
        )
    if elsewhere:
        other = ", ".join(sorted(hosts))
        return make(
            instance,
            "ProbePortWrong",
            f"the probe asks port {port}, but the container listens on {other}",
            evidence=evidence,
            fields={"port": port, "other": other},
        )
    inside = hosts.get(str(port), set())
    if inside and all(host == "::1" or host.startswith("127.") for host in inside):
        return make(
            instance,
            "ListensOnLoopback",
            f"the program in the container listens on {min(inside)}:{port}, where nobody outside of it can connect",
            evidence=evidence,
            fields={"port": port},
        )
    return None


def _words(probed: Probed) -> str:
    said = {
        ev.SAID_OK: "answered",
        ev.SAID_REFUSED: "nobody accepts the connection",
        ev.SAID_CLOSED: "the connection is closed without an answer",
        ev.SAID_SILENT: "no answer within the probe's time-out",
        ev.SAID_NO_HTTP: "what answers does not speak HTTP",
    }
    return said.get(probed.said, f"answered with {probed.said}")


def _at_work(instance: InstanceEvidence) -> bool:
    if (instance.processor_share or 0.0) >= WORKING_NOW:
        return True
    if instance.processor_s is None or not instance.waited_s:
        return False
    return instance.processor_s >= WORKING_SHARE * instance.waited_s


def _worked(instance: InstanceEvidence) -> tuple[str, ...]:
    if instance.processor_s is None or instance.waited_s is None:
        return ()
    return (f"processor time used so far: {seconds(instance.processor_s)} of {seconds(instance.waited_s)}",)


def _after(instance: InstanceEvidence) -> str:
    return "" if instance.waited_s is None else f" after {seconds(instance.waited_s)}"


def _stack(instance: InstanceEvidence) -> tuple[str, ...]:
    return tuple(
        f'  File "{f.file}", line {f.line} in {f.function}' for f in lines.last_dump(instance.log_tail)[:12]
    )


def _waited(instance: InstanceEvidence) -> str:
    return "" if instance.waited_s is None else f" within {seconds(instance.waited_s)}"
