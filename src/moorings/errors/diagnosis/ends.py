"""Verdicts on how a worker ended: memory, disk, signals, crash loops, a `run()` without end. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence

from moorings.errors.catalogue import CATALOGUE
from moorings.errors.diagnosis import evidence as ev
from moorings.errors.diagnosis import lines
from moorings.errors.diagnosis.evidence import InstanceEvidence
from moorings.errors.diagnosis.lines import Frame
from moorings.errors.diagnosis.raised import Raised, chain_of, telling
from moorings.errors.diagnosis.verdicts import (
    Report,
    has_ended,
    history,
    how,
    make,
    proof,
    reported,
    signal_name,
    size,
)
from moorings.errors.exceptions import Confidence, Failure
from moorings.errors.sentence import Sentence, sentence

CRASH_LOOP_RESTARTS = 3
LONG_SERVICE_S = 60.0
"""An end after so long is a first one again."""
_LAST_RESORT = re.compile(r"Timeout \(\d+:\d\d:\d\d(\.\d+)?\)!")
"""What the interpreter's own timer says before it ends a process that keeps all Python from running."""
_NOT_GIVEN = "the script could not get the memory it asked for"

_NO_SPACE = (
    "[Errno 28]",
    "[Errno 122]",
    "errno = 28",
    "No space left on device",
    "Disk quota exceeded",
    "database or disk is full",
)
_NO_MEMORY = ("[Errno 12]", "std::bad_alloc", "can't allocate memory", "CUDA out of memory")
_MEMORY_ERRORS = frozenset({"MemoryError", "_ArrayMemoryError", "OutOfMemoryError"})
_WANTED_ITSELF: Mapping[int, str] = {
    signal.SIGVTALRM: "a timer that the script has set (signal.setitimer)",
    signal.SIGPROF: "a timer that the script has set (signal.setitimer)",
    signal.SIGXCPU: "a limit of its processor time (RLIMIT_CPU)",
    signal.SIGXFSZ: "a limit of the size of its files (RLIMIT_FSIZE)",
    signal.SIGPIPE: "a pipe or connection whose other end was closed",
}
_NATIVE = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGBUS, signal.SIGFPE, signal.SIGTRAP}
)
_WAITS_FOR_A_LOCK = re.compile(
    r"\.(?:acquire|wait|get|result|communicate)\(|(?<!path)(?<![\"'])\.join\(|"
    r"\bwith\s+[\w.]*(?:[lL]ock|LOCK|[mM]utex|[sS]emaphore|\bsem)\w*\s*[:,]"
)
_LOCKS_INSIDE = frozenset({"acquire", "wait", "join", "_wait_for_tstate_lock", "get", "__enter__", "_recv"})


def of_machine(instance: InstanceEvidence) -> Failure | None:
    """Memory and disk: whatever else was reported is a consequence of it."""
    report = instance.report or {}
    if instance.oom:
        sure = Confidence.CERTAIN if instance.oom_certain else Confidence.LIKELY
        return out_of_memory(instance, report, "the kernel ended the worker for want of memory", sure)
    for raised in told(instance, report):
        failed = of_resources(instance, placed(instance, report, raised), raised)
        if failed is not None:
            return failed
    if report or not has_ended(instance):
        return None
    last = next(
        (s for s in reversed(instance.log_tail) if s.strip() and not s.startswith(lines.OUR_PREFIX)), ""
    )
    if is_exception(last, "MemoryError") or "std::bad_alloc" in last:
        return out_of_memory(instance, report, _NOT_GIVEN, Confidence.LIKELY)
    return _disk_full(instance, report, last, Confidence.LIKELY) if _any(_NO_SPACE, last) else None


def told(instance: InstanceEvidence, report: Report) -> tuple[Raised, ...]:
    """The exceptions of a report that say why; its message where it has no traceback, which then is ours."""
    trace = lines.traceback_of(report)
    message = str(report.get("message") or "")
    if not trace:
        return (Raised((), message.rpartition(" raised ")[2]),) if message else ()
    return telling(instance.code_root, chain_of(trace))


def placed(instance: InstanceEvidence, report: Report, raised: Raised) -> Report:
    """The report with the place in the user's code where this one of its exceptions came from."""
    own = user_frame(instance, raised.frames[::-1])
    return report if own is None else {**report, "file": own.file, "line": own.line, "text": own.text}


def of_resources(instance: InstanceEvidence, report: Report, raised: Raised) -> Failure | None:
    """Memory or disk, where an exception says so."""
    if raised.name in _MEMORY_ERRORS or _any(_NO_MEMORY, raised.words):
        who = str(report.get("who") or "the script")
        return out_of_memory(instance, report, _NOT_GIVEN.replace("the script", who))
    return _disk_full(instance, report, raised.words) if _any(_NO_SPACE, raised.words) else None


def _any(signs: Sequence[str], text: str) -> bool:
    return any(sign in text for sign in signs)


def _disk_full(
    instance: InstanceEvidence, report: Report, said: str, confidence: Confidence = Confidence.CERTAIN
) -> Failure:
    free = instance.disk_free_bytes
    left = () if free is None else (f"free on the disk of the workspace: {size(free)}",)
    return reported(instance, report, "DiskFull", said, more=left, confidence=confidence)


def out_of_memory(
    instance: InstanceEvidence, report: Report, text: str, confidence: Confidence = Confidence.CERTAIN
) -> Failure:
    figures = []
    if instance.memory_peak_bytes is not None:
        figures.append(f"most memory the worker had: {size(instance.memory_peak_bytes)}")
    if instance.memory_bytes is not None:
        figures.append(f"limit of the instance: {size(instance.memory_bytes)}")
    sign = (instance.oom_sign,) if instance.oom_sign else ()
    served = instance.served_s is not None
    limit = "" if instance.memory_bytes is None else f"; its limit is {size(instance.memory_bytes)}"
    when = (
        f"{text} while it served requests"
        if served
        else f"{text} while it loaded (before init() had returned)"
    )
    shown = (
        (how(instance.exit_code, instance.signal), *sign, *figures, *lines.log_evidence(instance.log_tail))
        if instance.oom
        else (*proof(instance, report), *figures)
    )
    return make(
        instance,
        "OutOfMemoryServing" if served else "OutOfMemory",
        f"{when}{limit}",
        confidence=confidence,
        target=lines.place_of(report),
        evidence=(*shown, *history(instance)),
    )


def of_end(instance: InstanceEvidence) -> Failure | None:
    if not has_ended(instance) and instance.restarts < CRASH_LOOP_RESTARTS:
        return None
    if instance.exit_code == ev.EXIT_RUN_STUCK and (
        instance.served_s is not None or _stuck_lines(instance.log_tail)
    ):
        return _run_stuck(instance)
    if instance.exit_code == 1 and any(_LAST_RESORT.fullmatch(line) for line in instance.log_tail):
        return _run_stuck(instance)
    if instance.signal in _NATIVE:
        return _native(instance)
    killed = instance.signal is not None and all(e.signal == instance.signal for e in instance.ends)
    often = instance.restarts >= CRASH_LOOP_RESTARTS or _ends_quickly(instance)
    loops = often and not _stayed(instance)
    if loops and not (killed and instance.restarts < CRASH_LOOP_RESTARTS):
        return _crash_loop(instance)
    if instance.signal is not None:
        why = _WANTED_ITSELF.get(instance.signal) or "somebody on this machine, or by the script itself"
        text = f"the worker was ended by {how(None, instance.signal)}: by {why}"
        return make(
            instance,
            "KilledBySignal",
            text,
            evidence=(how(None, instance.signal), *history(instance), *lines.tail(instance.log_tail, 6)),
        )
    return _exited(instance)


def _stayed(instance: InstanceEvidence) -> bool:
    """Whether one of the last few was in service for long: restarts over weeks are no loop."""
    return any((e.served_s or 0.0) >= LONG_SERVICE_S for e in instance.ends[-CRASH_LOOP_RESTARTS:])


def _ends_quickly(instance: InstanceEvidence) -> bool:
    """Ended as often in a row as it is tried before it has ever been ready."""
    return len(instance.ends) >= CRASH_LOOP_RESTARTS and all(e.why == "" for e in instance.ends)


def _crash_loop(instance: InstanceEvidence) -> Failure:
    count = max(instance.restarts + 1, len(instance.ends))
    last = f", last with {how(instance.exit_code, instance.signal)}" if has_ended(instance) else ""
    text = f"the worker has ended {count} times{last}"
    frames = lines.frames_of(lines.last_traceback(instance.log_tail))
    own = user_frame(instance, frames[::-1])
    return make(
        instance,
        "CrashLoop",
        text,
        target=own.place if own else None,
        evidence=(*lines.log_evidence(instance.log_tail), *history(instance)),
    )


def _exited(instance: InstanceEvidence) -> Failure | None:
    """It ended by itself with a status of its own: what it said last is why."""
    trace = lines.last_traceback(instance.log_tail)
    if not trace:
        return None
    own = user_frame(instance, lines.frames_of(trace)[::-1])
    text = (
        f"the worker process ended ({how(instance.exit_code, None)}); the last it said: {trace[-1].strip()}"
    )
    return make(
        instance,
        "UserContainerCrash",
        text,
        confidence=Confidence.LIKELY,
        target=own.place if own else None,
        evidence=(*trace, *history(instance)),
    )


def _native(instance: InstanceEvidence) -> Failure:
    assert instance.signal is not None
    name = signal_name(instance.signal)
    frames = lines.last_dump(instance.log_tail)
    own = user_frame(instance, frames)
    inner = frames[0] if frames else None
    where = "" if own is None else f", called from {own.place}"
    said = lines.fatal_line(instance.log_tail)
    stack = tuple(f'  File "{f.file}", line {f.line} in {f.function}' for f in frames[:15])
    remedy = (
        sentence(
            "The processor of this machine lacks an instruction the package was compiled for: take a build "
            "for an older processor, or another machine"
        )
        if instance.signal == signal.SIGILL
        else sentence(
            "Try another version of the package that {place} calls", place=own.place if own else "score.py"
        )
    )
    return make(
        instance,
        "NativeCodeCrashed",
        f"native code crashed with {name}{where}"
        + ("" if inner is None or own is None or inner == own else f" (innermost: {inner.function})"),
        confidence=Confidence.CERTAIN if frames else Confidence.LIKELY,
        target=own.place if own else None,
        evidence=(
            *([said] if said else []),
            *(stack or lines.tail(instance.log_tail, 6)),
            *history(instance),
        ),
        remedy=remedy,
    )


def _stuck_lines(log: Sequence[str]) -> bool:
    return any("run() has taken longer than" in line for line in log)


def _run_stuck(instance: InstanceEvidence) -> Failure:
    """The inference server gave its own worker up, or (with the interpreter held) its last resort did."""
    frames = lines.last_dump(instance.log_tail)
    own = user_frame(instance, frames)
    locked = waits_for_lock(frames)
    at = "" if own is None else f" at {own.place}, in {own.function}()"
    stack = tuple(_shown(f) for f in frames[:12])
    text = (
        f"run() waits for ever{at}: for something that another thread or process does not let go of"
        if locked
        else f"run() did not end within its time limit: it was still{at or ' running'}"
    )
    return make(
        instance,
        "WorkerDeadlocked" if locked else "RunStuck",
        text,
        confidence=Confidence.LIKELY if locked else Confidence.CERTAIN,
        target=own.place if own else None,
        evidence=(*(stack or lines.tail(instance.log_tail)), *history(instance)),
    )


def liveness(instance: InstanceEvidence, report: Report) -> Failure:
    """The supervisor killed a worker that did not answer; before that it asked it where it is."""
    frames = lines.last_dump(instance.log_tail)
    own = user_frame(instance, frames)
    text = f"a worker was killed: {report.get('message') or 'it did not answer its liveness probe'}"
    if own is not None:
        text += f"; it was at {own.place}, in {own.function}()"
    return make(
        instance,
        "LivenessProbeFailed",
        text,
        target=own.place if own else lines.place_of(report),
        evidence=(
            str(report.get("message") or ""),
            *(_shown(f) for f in frames[:12]),
            *([] if frames else proof(instance, report)),
            *history(instance),
        ),
    )


def cannot_start(instance: InstanceEvidence, report: Report) -> Failure:
    text = str(report.get("message") or "the process could not be started")
    told = str(report.get("code") or "")
    if told in CATALOGUE:  # whoever could not start it knows why
        said = tuple(str(line) for line in report.get("evidence") or ())
        remedy = report.get("remedy")
        fix = Sentence.from_json(remedy) if isinstance(remedy, Mapping) else None
        return make(instance, told, text, evidence=said or (text,), fix=fix)
    code = "DiskFull" if any(sign in text for sign in _NO_SPACE) else "ContainerCannotStart"
    return make(instance, code, text, evidence=(text, *lines.tail(instance.log_tail)))


def user_frame(instance: InstanceEvidence, innermost_first: Sequence[Frame]) -> Frame | None:
    """The innermost frame of the user's own code."""
    root = instance.code_root.rstrip("/")
    for frame in innermost_first:
        if root and frame.file.startswith(f"{root}/"):
            return frame
    if root:
        return None
    return next((f for f in innermost_first if f.file.endswith("score.py")), None)


def waits_for_lock(innermost_first: Sequence[Frame]) -> bool:
    """Whether the innermost thing is a wait for another thread or process, without a time limit of its own."""
    if not innermost_first:
        return False
    inner = innermost_first[0]
    inside = "threading" in inner.file or "queue" in inner.file or "multiprocessing" in inner.file
    return bool(_WAITS_FOR_A_LOCK.search(inner.text)) or (inside and inner.function in _LOCKS_INSIDE)


def _shown(frame: Frame) -> str:
    return f'  File "{frame.file}", line {frame.line}, in {frame.function}' + (
        f": {frame.text}" if frame.text else ""
    )


def is_exception(text: str, name: str) -> bool:
    """Whether a message or log line is that exception's own, not one that mentions it."""
    head = text.strip().partition(":")[0].strip()
    return head == name or head.endswith((f".{name}", f"_Array{name}", f" raised {name}"))
