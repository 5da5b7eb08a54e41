"""Whether the calls of a script that may run several at once are so brief that the event loop had better make them
itself: to give one to a thread and to take its answer back costs more than such a call.

A call that waits on the loop holds up those that could have run beside it, once: then threads make the calls again,
and each time it has to go well for four times as long before the loop gets another try. A script whose calls wait
now and then so ends up on threads, after some calls that somebody waited for. Pure: knows durations only.
"""

from __future__ import annotations

QUICK_S = 0.0005
"""Calls that take less on average share a thread: to hand one over costs about a fiftieth of this."""
BRIEF_S = 0.00004
"""Calls that take less on average are no work for a thread. (From twice that on, threads do better where the gateway
shares the CPU: the loop, which has done little, may then send all answers before the gateway wakes for the first.)"""
SLOW_S = 0.002
"""A call that takes longer is looked at: has it waited or computed, or was it only kept from running?"""
FIRST_CALLS = 1_000
MOST_CALLS = 1 << 20
AGAIN = 4
WEIGHT = 0.05
"""Of one call in the average."""


class Pace:
    """`typical_s`: what a call takes on average, seconds. `on_loop`: whether the loop may make the next one.

    `typical_s` is written by the threads that make calls, everything else on the loop.
    """

    __slots__ = ("_calls", "_left", "on_loop", "typical_s")

    def __init__(self) -> None:
        self.typical_s = 1.0  # unknown: every call has its thread
        self.on_loop = False
        self._calls = self._left = FIRST_CALLS

    @property
    def quick(self) -> bool:
        return self.typical_s < QUICK_S

    def took(self, seconds: float) -> None:
        """A call has ended, wherever it was made."""
        self.typical_s += (seconds - self.typical_s) * WEIGHT

    def ended_on_thread(self) -> None:
        """The loop has learned of the end of a call that a thread made."""
        self._left -= 1
        if self._left <= 0 and self.typical_s < BRIEF_S:
            self.on_loop = True

    def held_up(self) -> None:
        """A call on the loop was not quick after all."""
        self.on_loop = False
        self._calls = self._left = min(self._calls * AGAIN, MOST_CALLS)
