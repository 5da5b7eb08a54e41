"""Operations that take time: what they report, and waiting for their end. Knows no resources and draws
nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from moorings.client.faults import from_body
from moorings.errors.exceptions import MooringsError, error
from moorings.lib.timing import Clock

SHORTEST_POLL_S = 0.02
LONGEST_POLL_S = 5.0
USUAL_POLL_S = 0.25


@dataclass(frozen=True)
class Operation:
    """Where an operation that was accepted can be asked after."""

    url: str
    retry_after_s: float = USUAL_POLL_S


@dataclass(frozen=True)
class Phase:
    """One step of an operation."""

    name: str
    status: str
    """`waiting`, `running`, `done` or `failed`."""
    message: str
    seconds: float | None
    """From start to end; None while it has not ended or started."""


@dataclass(frozen=True)
class Report:
    """What an operation says of itself at one moment."""

    name: str
    status: str
    """`InProgress`, `Succeeded`, `Failed` or `Canceled`."""
    phases: tuple[Phase, ...] = ()
    waiting_for: str = ""
    error: Mapping[str, Any] | None = None
    retry_after_s: float = USUAL_POLL_S

    @property
    def ended(self) -> bool:
        return self.status.lower() in ("succeeded", "failed", "canceled")


class Polls(Protocol):
    """What waiting needs of the client."""

    def report(self, operation: Operation) -> Report: ...


def wait(
    client: Polls,
    operation: Operation,
    *,
    on_progress: Callable[[Report], None],
    clock: Clock,
    sleep: Callable[[float], None] = time.sleep,
    timeout_s: float | None = None,
) -> Report:
    """Ask until the operation has ended well, calling `on_progress` with every report.

    Raises what the operation failed with, `OperationCanceled` when a newer request took its place, and
    `OperationTimeout` after `timeout_s` seconds (the operation itself goes on).
    """
    deadline = None if timeout_s is None else clock.monotonic() + timeout_s
    delay_s = operation.retry_after_s
    while True:
        report = client.report(operation)
        on_progress(report)
        if report.ended:
            return _ended_well(report)
        if deadline is not None and clock.monotonic() >= deadline:
            message = f"operation {report.name} is still in progress after {timeout_s:g} s"
            waiting = (f"waiting for: {report.waiting_for}",) if report.waiting_for else ()
            raise error("OperationTimeout", message, evidence=waiting)
        delay_s = report.retry_after_s
        sleep(delay_s)


def wait_all(
    client: Polls,
    operations: Mapping[str, Operation],
    *,
    on_progress: Callable[[Report], None],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, MooringsError]:
    """Ask after all of them until each has ended; returns what failed, by name.

    `on_progress` gets one report of all, whose phases are called `<name> <phase>`. A failure of one does not end
    the wait for the others; one of the workspace itself (it cannot be reached) is raised.
    """
    last: dict[str, Report] = {}
    failed: dict[str, MooringsError] = {}
    going = dict(operations)
    while going:
        for name in list(going):
            last[name] = client.report(going[name])
            if last[name].ended:
                del going[name]
                try:
                    _ended_well(last[name])
                except MooringsError as problem:
                    failed[name] = problem
        on_progress(_together(last))
        if going:
            sleep(max(SHORTEST_POLL_S, min(last[name].retry_after_s for name in going)))
    return failed


def _together(reports: Mapping[str, Report]) -> Report:
    """Several operations as one. What each waits for is told where none of its phases says it."""
    going = {name: report for name, report in reports.items() if not report.ended}
    silent = {
        name: report
        for name, report in going.items()
        if report.waiting_for and not any(p.status == "running" and p.message for p in report.phases)
    }
    return Report(
        name=", ".join(reports),
        status="InProgress" if going else "Succeeded",
        phases=tuple(
            replace(phase, name=f"{name} {phase.name}")
            for name, report in reports.items()
            for phase in report.phases
        ),
        waiting_for="; ".join(f"{name}: {report.waiting_for}" for name, report in silent.items()),
    )


def report_from(body: Mapping[str, Any], retry_after_ms: str | None) -> Report:
    """Read the polled document; keys that are absent stay empty."""
    properties = body.get("properties") or {}
    return Report(
        name=str(body.get("name") or ""),
        status=str(body.get("status") or "InProgress"),
        phases=tuple(_phase(p) for p in properties.get("phases") or () if isinstance(p, dict)),
        waiting_for=str(properties.get("waitingFor") or ""),
        error=body.get("error"),
        retry_after_s=poll_delay_s(retry_after_ms),
    )


def poll_delay_s(retry_after_ms: str | None) -> float:
    """The wait a server asks for, kept within bounds."""
    try:
        asked_s = float(retry_after_ms or "") / 1000
    except ValueError:
        asked_s = USUAL_POLL_S
    return min(max(asked_s, SHORTEST_POLL_S), LONGEST_POLL_S)


def _ended_well(report: Report) -> Report:
    status = report.status.lower()
    if status == "succeeded":
        return report
    if report.error is not None:
        raise from_body(report.error)
    if status == "canceled":
        raise error("OperationCanceled", f"operation {report.name} was cancelled")
    raise error("WorkspaceAnswerInvalid", f"operation {report.name} failed and does not say why")


def _phase(data: Mapping[str, Any]) -> Phase:
    started, ended = _moment(data.get("startedAt")), _moment(data.get("endedAt"))
    seconds = max(0.0, ended - started) if started is not None and ended is not None else None
    return Phase(
        name=str(data.get("name") or ""),
        status=str(data.get("status") or "waiting"),
        message=str(data.get("message") or ""),
        seconds=seconds,
    )


def _moment(value: Any) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and value:
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return None
    return None
