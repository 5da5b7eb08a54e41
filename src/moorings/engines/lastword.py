"""What a storage initializer that failed said last, as a report. Shared by everybody who runs one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moorings.engines import layout
from moorings.lib.logfile import tail


def with_last_word(report: dict[str, Any] | None, log: Path) -> dict[str, Any]:
    """The report of an initializer, completed by the `ERROR <Code>: <message>` line its log ends with."""
    report = dict(report or {"outcome": "failed", "kind": layout.KIND_INITIALIZER, "message": ""})
    last = (tail(log, 1) or "").strip()
    head, _, message = last.partition(": ")
    if head.startswith("ERROR "):
        report.update(code=head[len("ERROR ") :], message=message)
    elif not report["message"]:
        report["message"] = last
    return report
