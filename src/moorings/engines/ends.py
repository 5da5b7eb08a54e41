"""How the processes of one instance have ended, as its status tells: the last end, and the last few of them.

It must not decide what follows from an end. It runs inside containers as well: standard library only, Python 3.8.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from pathlib import Path
from typing import Any

from moorings.engines.cgroup import Group
from moorings.engines.worker import boot_failure
from moorings.lib import atomic
from moorings.lib.redaction import Redactor

MOST_EXITS = 8
"""Ends that are remembered."""


class Ends:
    """What has ended so far; the group of the instance tells whether it was the memory limit."""

    def __init__(self, group: Group) -> None:
        self.last: dict[str, Any] | None = None
        self.all: list[dict[str, Any]] = []
        self._group = group
        self._oom_kills = group.oom_kills()

    def note(
        self,
        step: str,
        code: int | None,
        signum: int | None,
        report: dict[str, Any] | None,
        *,
        served_s: float | None = None,
        peak_bytes: int | None = None,
    ) -> None:
        """One process has ended: `engines.base.Exit` as JSON. `report`: what it, or we, have to say about that."""
        oom_kills = self._group.oom_kills()
        self.last = {
            "code": code,
            "signal": signum,
            "at": time.time(),
            "report": report,
            "step": step,
            "oom": signum == signal.SIGKILL and report is None and oom_kills > self._oom_kills,
            "served_s": None if served_s is None else round(served_s, 3),
            "memory_peak_bytes": self._group.memory_peak_bytes() or peak_bytes,
        }
        kind = None if report is None else {"kind": report.get("kind")}
        self.all = [*self.all, {**self.last, "report": kind}][-MOST_EXITS:]
        self._oom_kills = oom_kills

    @property
    def over_memory(self) -> bool:
        """Whether the last end was for want of memory, by a limit of this instance's own."""
        return bool(self.last and self.last["oom"]) and self._group.holds_memory


def report_of(kind: str, message: str, **more: Any) -> dict[str, Any]:
    """What the supervisor itself has to say about an end, in the form of a boot report."""
    return {"outcome": "failed", "kind": kind, "message": message, **more}


def boot_report(path: Path, pid: int, redactor: Redactor) -> dict[str, Any] | None:
    """What the worker wrote of its failed boot; the file is rid of what a script put into its error, too."""
    report = boot_failure(path, pid)
    if report is None:
        return None
    safe: dict[str, Any] = redactor.within(report)
    with contextlib.suppress(OSError):
        atomic.write(path, json.dumps(safe).encode())
    return safe


def how(code: int | None, signum: int | None) -> str:
    """An end in words."""
    if signum is not None:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(signum).name}"
        return f"signal {signum}"
    return "could not be started" if code is None else f"exit code {code}"
