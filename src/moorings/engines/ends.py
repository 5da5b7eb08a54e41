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

from moorings.engines.cgroup import MACHINE, Group
from moorings.engines.kernellog import KernelLog
from moorings.engines.worker import boot_failure
from moorings.lib import atomic
from moorings.lib.redaction import Redactor

MOST_EXITS = 8
"""Ends that are remembered."""
RECENT_S = 10.0
"""A process may be gone, and its end be seen, so long after the kernel has counted that it ended it."""
LOOK_EVERY_S = 1.0


class Ends:
    """What has ended so far; the kernel's counter and its log tell which end was for want of memory. Times are monotonic
    seconds unless named `at`."""

    def __init__(self, group: Group, now: float, log: KernelLog | None = None) -> None:
        self.last: dict[str, Any] | None = None
        self.all: list[dict[str, Any]] = []
        self._group = group
        self._log = log
        self._counted = [(now, group.oom_kills())]
        """What the counter was, oldest first: not more than one of them from before `RECENT_S`."""
        self._told = 0
        """What the counter was with the last end that it has explained."""
        self._named: dict[int, tuple[float, str]] = {}
        """Who was named in the log of late: when that was read, and the line."""

    def look(self, now: float) -> None:
        """Take note of what the kernel says. Without this now and then, a kill of long ago would explain the next end."""
        if now - self._counted[-1][0] >= LOOK_EVERY_S:
            self._look(now)

    def _look(self, now: float) -> None:
        self._counted.append((now, self._group.oom_kills()))
        while len(self._counted) > 1 and self._counted[1][0] <= now - RECENT_S:
            del self._counted[0]
        named = {} if self._log is None else self._log.killed() or {}
        self._named.update({pid: (now, line) for pid, line in named.items()})
        self._named = {pid: told for pid, told in self._named.items() if told[0] > now - RECENT_S}

    def _starved(self, pid: int | None, now: float) -> tuple[str, bool]:
        """What shows that this process, killed just now, was so for want of memory, or nothing does; and whether that is
        sure."""
        self._look(now)
        before, count = max(self._told, self._counted[0][1]), self._counted[-1][1]
        _, line = self._named.pop(pid or 0, (0.0, ""))
        if count <= before and not line:
            return "", True
        counter = self._group.oom_counter()
        alone = counter != MACHINE
        if not line and not alone and len(self._named) >= count - before:
            return "", True  # the log names others
        self._told = before + 1
        if line:
            return f"the kernel's log: {line}", True
        whose = "of its control group" if alone else "of the whole machine"
        return f"{counter.name} {whose}: oom_kill {count}, {count - before} more than before", alone

    def note(
        self,
        step: str,
        code: int | None,
        signum: int | None,
        report: dict[str, Any] | None,
        *,
        now: float,
        pid: int | None = None,
        served_s: float | None = None,
        peak_bytes: int | None = None,
    ) -> None:
        """One process has ended: `engines.base.Exit` as JSON. `report`: what it, or we, have to say about that."""
        sign, certain = "", True
        if signum == signal.SIGKILL and report is None:
            sign, certain = self._starved(pid, now)
        self.last = {
            "code": code,
            "signal": signum,
            "at": time.time(),
            "report": report,
            "step": step,
            "oom": bool(sign),
            "oom_sign": sign,
            "oom_certain": certain,
            "served_s": None if served_s is None else round(served_s, 3),
            "memory_peak_bytes": self._group.memory_peak_bytes() or peak_bytes,
        }
        kind = None if report is None else {"kind": report.get("kind")}
        self.all = [*self.all, {**self.last, "report": kind}][-MOST_EXITS:]

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
