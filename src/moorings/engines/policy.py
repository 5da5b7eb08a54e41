"""When a worker that ended is started again, and when its instance has failed. Pure: no clock, no process."""

from __future__ import annotations

from collections.abc import Sequence

from moorings import contract
from moorings.engines import layout

MOST_BOOT_TRIES = 3
"""Starts of an instance that has never been running before it has failed."""
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
CRASH_LOOP_ENDS = 3
"""So many ends in a row, none after a long service, are a loop."""
HEALTHY_AFTER_S = 60.0
"""After so much time in service an end is a first one again."""

_HOPELESS = (layout.KIND_BOOT_TIMEOUT, layout.KIND_CANNOT_START)


def restart_delay_s(
    *, proven: bool, code: int | None, kind: str | None, crashes: int, over_its_limit: bool = False
) -> float | None:
    """Seconds to wait before the next start; None: give up, the instance has failed.

    `crashes` (>= 1) counts ends in a row, this one included; `kind` is why the supervisor itself ended it;
    `over_its_limit`: the kernel did, because it needs more memory than its own limit.
    What has never been running and cannot change by trying again (the script's own failure, a boot that takes
    too long) is not tried again; what is `proven`, since it or another of its revision has been running, is started again
    for ever.
    """
    if not proven:
        hopeless = code == contract.EXIT_BOOT_FAILED or kind in _HOPELESS or over_its_limit
        if hopeless or crashes >= MOST_BOOT_TRIES:
            return None
    return delay_s(crashes)


def delay_s(crashes: int) -> float:
    """Seconds before the next start after so many ends in a row (>= 1)."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(crashes - 1, 30)))


def crash_loops(ends: Sequence[tuple[float, float | None]], now: float) -> bool:
    """Whether what is started again does not stay. `ends`: for each end, oldest first, when it was (Unix seconds) and how
    many seconds of service came before it; `now` in Unix seconds."""
    last = ends[-CRASH_LOOP_ENDS:]
    short = all(served_s is not None and served_s < HEALTHY_AFTER_S for _, served_s in last)
    return len(last) == CRASH_LOOP_ENDS and short and now - last[-1][0] < HEALTHY_AFTER_S


def crashes_in_a_row(before: int, *, served_s: float) -> int:
    """The count with the end of a worker that had been ready for `served_s` seconds."""
    return 1 if served_s >= HEALTHY_AFTER_S else before + 1
