"""Where whoever follows a log is, so that a broken connection can be taken up again: no line twice, none left out. Knows no
connection."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TRIES = 10
"""Connections in a row that may break without a line between them."""
PAUSE_S = 0.5


@dataclass
class Thread:
    """`asked` is the body of the first request; each line goes to `heard`."""

    first: dict[str, Any]
    heard: Callable[[dict[str, Any]], None]
    ended: bool = False
    """Whether the last line has come: there will be no more."""
    _last: str = ""
    _at_last: Counter[str] = field(default_factory=Counter)
    """Lines with the last time, which come again after a break."""
    _skip: Counter[str] = field(default_factory=Counter)
    _breaks: int = 0

    def asked(self) -> dict[str, Any]:
        """The body of the next request."""
        if not self._last:
            return self.first
        self._skip = Counter(self._at_last)
        return {**self.first, "since": self._last, "tail": 100_000}

    def line(self, raw: bytes) -> None:
        if not raw.strip():
            return
        entry = json.loads(raw)
        if "end" in entry:
            self.ended = True
            return
        text, at = raw.decode(), str(entry.get("time") or "")
        self._breaks = 0
        if self._skip[text] > 0:
            self._skip[text] -= 1
            return
        if at > self._last:
            self._last, self._at_last = at, Counter()
        if at == self._last:
            self._at_last[text] += 1
        self.heard(entry)

    def try_again(self) -> bool:
        """After a break, which may be a restart: waits a moment. False when it has been tried often enough."""
        self._breaks += 1
        if self._breaks > TRIES:
            return False
        time.sleep(PAUSE_S)
        return True
