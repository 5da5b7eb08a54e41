"""Where whoever follows a log is, so that a broken connection can be taken up again: no line twice, none left out. Knows no
connection."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

BREAKS = ("WorkspaceUnreachable", "DaemonStartFailed")
"""What a connection breaks with that may be taken up again: the other side is gone, or was gone again while it started."""
TRIES = 10
"""Connections in a row that may break without a line between them."""
PAUSE_S = 0.5
OVERLAP_S = 10.0
"""Lines of several logs come a little out of order: after a break those of so long are asked for again."""
MOST_KEPT = 20_000
"""Lines that are remembered for that."""
ALL_LINES = 100_000


@dataclass
class Thread:
    """`asked` is the body of the first request; each line goes to `heard`."""

    first: dict[str, Any]
    heard: Callable[[dict[str, Any]], None]
    ended: bool = False
    """Whether the last line has come: there will be no more."""
    _recent: deque[tuple[str, int]] = field(default_factory=deque)
    """The times of the lines that came last, and what they are."""
    _skip: Counter[int] = field(default_factory=Counter)
    """Lines that come again after a break."""
    _breaks: int = 0

    @property
    def heard_any(self) -> bool:
        return bool(self._recent)

    def asked(self) -> dict[str, Any]:
        """The body of the next request."""
        if not self._recent:
            return self.first
        since = max(_earlier(max(at for at, _ in self._recent)), min(at for at, _ in self._recent))
        self._skip = Counter(line for at, line in self._recent if at >= since)
        return {**self.first, "since": since, "tail": ALL_LINES}

    def line(self, raw: bytes) -> None:
        if not raw.strip():
            return
        entry = json.loads(raw)
        if "end" in entry:
            self.ended = True
            return
        self._breaks = 0
        # Not its phase: that is told from the lines around it.
        line = hash((entry.get("time"), entry.get("container"), entry.get("instance"), entry.get("text")))
        if self._skip[line] > 0:
            self._skip[line] -= 1
            return
        self._recent.append((str(entry.get("time") or ""), line))
        if len(self._recent) > MOST_KEPT:
            self._recent.popleft()
        self.heard(entry)

    def try_again(self) -> bool:
        """After a break, which may be a restart: waits a moment. False when it has been tried often enough."""
        self._breaks += 1
        if self._breaks > TRIES:
            return False
        time.sleep(PAUSE_S)
        return True


def _earlier(at: str) -> str:
    """The stamp of `OVERLAP_S` before this one."""
    try:
        moment = datetime.fromisoformat(at) - timedelta(seconds=OVERLAP_S)
    except ValueError:
        return at
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
