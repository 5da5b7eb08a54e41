"""Time as a value that is passed in: a clock for loops and edges, back-off delays. Nobody else reads the clock."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What a loop may ask about time."""

    def now(self) -> float:
        """Unix time in seconds; for timestamps people see and that survive a restart."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin that never jump; for durations and deadlines."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told; for tests."""

    def __init__(self, start_s: float = 1_000_000.0) -> None:
        self._time_s = start_s

    def now(self) -> float:
        return self._time_s

    def monotonic(self) -> float:
        return self._time_s

    def advance(self, seconds: float) -> None:
        self._time_s += seconds


@dataclass(frozen=True)
class Backoff:
    """Exponential delays: `first_s`, doubled at each failure up to `cap_s`, with +-`jitter` as a fraction."""

    first_s: float = 0.5
    cap_s: float = 60.0
    jitter: float = 0.0

    def delay_s(self, failures: int) -> float:
        """Delay after `failures` (>= 1) failures in a row, in seconds."""
        delay = min(self.cap_s, self.first_s * 2.0 ** min(max(failures, 1) - 1, 30))
        return delay * (1 + self.jitter * (2 * random.random() - 1))  # noqa: S311 - spreads load, hides nothing


def rfc3339(unix_s: float) -> str:
    """`2026-11-21T01:15:24.861360Z` for a Unix time in seconds."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
