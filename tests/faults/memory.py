"""Resident memory of processes over time, and whether it grows: sampled from outside, judged by a line and its uncertainty.

It must not know what is done to the processes meanwhile.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil

MIB = 2**20
_T_975 = (
    12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13,
    2.12, 2.11, 2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04,
)  # fmt: skip
"""97.5 % points of Student's t for 1 to 30 degrees of freedom; 1.96 to 2.04 beyond."""


@dataclass(frozen=True)
class Slope:
    """A line through points: how much it rises an hour, and half the width of its 95 % interval."""

    per_hour: float
    give_or_take: float

    def __str__(self) -> str:
        return f"{self.per_hour:+.2f} +- {self.give_or_take:.2f}"


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """The least-squares line through (seconds, value); needs three points at different times.

    Points must be independent of one another for the interval to hold: give means over whole cycles of what recurs.
    """
    count = len(points)
    if count < 3:
        return Slope(math.nan, math.inf)
    at = sum(x for x, _ in points) / count
    level = sum(y for _, y in points) / count
    spread = sum((x - at) ** 2 for x, _ in points)
    rise = sum((x - at) * (y - level) for x, y in points) / spread
    left = sum((y - level - rise * (x - at)) ** 2 for x, y in points)
    error = math.sqrt(left / (count - 2) / spread)
    freedom = count - 2
    t = _T_975[freedom - 1] if freedom <= len(_T_975) else 2.04
    return Slope(3600 * rise, 3600 * t * error)


def means(points: Sequence[tuple[float, float]], cycle_s: float) -> list[tuple[float, float]]:
    """The mean of each whole cycle of `cycle_s` seconds, in the middle of it; the first cycle, in which what is set up once
    comes up, is left out."""
    if not points:
        return []
    began = points[0][0]
    cycles: dict[int, list[float]] = {}
    for at, value in points:
        cycles.setdefault(int((at - began) / cycle_s), []).append(value)
    last = int((points[-1][0] - began) / cycle_s)
    return [
        (began + (number + 0.5) * cycle_s, sum(values) / len(values))
        for number, values in sorted(cycles.items())
        if 0 < number < last
    ]


@dataclass
class Watch:
    """Samples the memory of processes every `period_s` seconds while its block runs. A process that is gone has no
    further samples."""

    pids: Mapping[str, int]
    """By the name that is shown."""
    period_s: float
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By name: (`time.monotonic`, resident MiB)."""

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._sample()

    def first(self, name: str) -> float:
        return self.samples[name][0][1]

    def after(self, name: str, seconds: float) -> float:
        """What it had so long after its first sample."""
        began = self.samples[name][0][0]
        return next(value for at, value in reversed(self.samples[name]) if at - began <= seconds)

    def last(self, name: str) -> float:
        return self.samples[name][-1][1]

    def most(self, name: str) -> float:
        return max(value for _, value in self.samples[name])

    def _run(self) -> None:
        while not self._over.wait(self.period_s):
            self._sample()

    def _sample(self) -> None:
        for name, pid in self.pids.items():
            with contextlib.suppress(psutil.Error):
                found = psutil.Process(pid).memory_info().rss / MIB
                self.samples.setdefault(name, []).append((time.monotonic(), found))
