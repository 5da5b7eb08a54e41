"""What one metric was over time, and what can be said of a stretch of it. Pure: `now` is an argument.

A stretch with a gap says nothing: whoever decides on it must not take silence for quiet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]
"""When (seconds, monotonic) and how much."""
Points = Sequence[Point]
"""Oldest first. A point stands for the time between it and the one before."""


def needed(concurrent: float, slots: int, utilization: float) -> int:
    """Instances for so many requests at once, when each runs `slots` of them and shall be busy to the share
    `utilization` (0 < utilization <= 1): behaviour reference, section 9.3. None for none."""
    if concurrent <= 0:
        return 0
    # What floating point adds must not cost an instance: 0.7 * 10 / 0.7 is 10, and not 11.
    return max(1, math.ceil(round(concurrent / utilization / slots, 9)))


def concurrency(rate_per_s: float, request_s: float) -> float:
    """Requests that run at once when so many a second come and each takes so long."""
    return rate_per_s * request_s


def latest(points: Points, now_s: float, gap_s: float) -> float | None:
    """The last value, unless it is older than `gap_s`."""
    if not points or now_s - points[-1][0] > gap_s:
        return None
    return points[-1][1]


def stretch(points: Points, now_s: float, length_s: float, gap_s: float) -> list[float] | None:
    """The values of the last `length_s`; None where more than `gap_s` of it was not measured."""
    start_s = now_s - length_s
    values: list[float] = []
    after_s = now_s
    for at_s, value in reversed(points):
        if after_s - at_s > gap_s:
            return None
        after_s = at_s
        if at_s <= start_s:
            return values or [value]
        values.append(value)
    return None


def gap_of(period_s: float) -> float:
    """The longest silence between two measurements, taken each `period_s`, that is no gap."""
    return max(3 * period_s, 5.0)
