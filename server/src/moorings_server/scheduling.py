"""Whom a thread of this process interrupts when it wakes on a CPU that somebody uses (Linux; elsewhere nothing changes).

Knows the scheduler of the system, and nothing of what the threads do.
"""

from __future__ import annotations

import os


def interrupt_nobody() -> None:
    """Have whoever runs on a CPU go on when this thread, or one that it starts from now on, wakes there (SCHED_BATCH). A
    gateway that shares a CPU with its workers then hands out all the requests it has before the first of them is
    computed, instead of being switched away from after each."""
    _use("SCHED_BATCH")


def interrupt_as_usual() -> None:
    """Undo `interrupt_nobody` for this thread. A thread that has little to do then does it at once, between two of
    those that compute, instead of when all of them rest."""
    _use("SCHED_OTHER")


def _use(policy: str) -> None:
    try:
        os.sched_setscheduler(0, getattr(os, policy), os.sched_param(0))
    except (OSError, AttributeError):  # another system, or one that forbids it
        return
