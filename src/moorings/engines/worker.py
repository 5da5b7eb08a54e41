"""What a supervisor knows of one worker process of its instance. Values only: it starts and ends nothing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from moorings.contract import BOOT_FAILED
from moorings.lib import procs

LONGEST_REPORT_BYTES = 256 * 1024


class Worker:
    """One worker: at most one process at a time. Times are monotonic seconds."""

    def __init__(self, index: int, socket: Path) -> None:
        self.index = index
        self.socket = socket
        self.pid: int | None = None
        self.ticks: int | None = None
        self.ready = False
        self.begun_at = 0.0
        self.ready_at = 0.0
        self.start_at: float | None = 0.0
        """When it is to be started; None while it runs or is not to."""
        self.crashes = 0
        """Ends in a row."""
        self.restarts = 0
        """Starts after the instance's first boot."""
        self.killed_for: dict[str, Any] | None = None
        """Why the supervisor itself ended it: a report."""
        self.kill_at: float | None = None
        """When one that is to be killed has said where it is, and is."""

    def started(self, pid: int, now: float) -> None:
        self.pid, self.ticks = pid, procs.start_ticks(pid)
        self.ready, self.begun_at, self.start_at = False, now, None
        self.killed_for = self.kill_at = None

    def became_ready(self, now: float) -> None:
        self.ready, self.ready_at = True, now

    def ended(self) -> None:
        self.pid, self.ticks, self.ready, self.kill_at = None, None, False, None
        with contextlib.suppress(OSError):
            self.socket.unlink()

    def as_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "pid": self.pid,
            "ticks": self.ticks,
            "socket": str(self.socket),
            "ready": self.ready,
            "restarts": self.restarts,
        }


def boot_failure(path: Path, pid: int) -> dict[str, Any] | None:
    """The report of a boot of process `pid` that failed; None when there is none that can be read."""
    try:
        with path.open("rb") as handle:
            report = json.loads(handle.read(LONGEST_REPORT_BYTES))
    except (OSError, ValueError):
        return None
    if not isinstance(report, dict) or report.get("outcome") != BOOT_FAILED or report.get("pid") != pid:
        return None
    return report
