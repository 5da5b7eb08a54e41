"""The storage initializer of one instance: when it is to be started, and whether a failed one is tried again.

It runs inside containers as well (where there is none to run): standard library only, Python 3.8.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from moorings.engines import children, layout, policy
from moorings.engines.launch import Launch
from moorings.lib import atomic


class Initializer:
    """At most one process at a time. Times are monotonic seconds."""

    def __init__(self, launch: Launch, role: str, output: Callable[[], int]) -> None:
        """`output` gives the descriptor that its words go to; its log appears with that."""
        self.pid: int | None = None
        self.done = not launch.initializer_argv
        self.start_at = None if self.done else 0.0
        """When it is to be started; None while it runs and once it has succeeded."""
        self._launch = launch
        self._role = role
        self._output = output
        self._crashes = 0

    def is_due(self, now: float) -> bool:
        return self.start_at is not None and self.start_at <= now

    def start(self) -> None:
        """Raises OSError or subprocess.SubprocessError."""
        launch = self._launch
        plan = launch.folder / layout.PLAN
        self.start_at = None
        atomic.write(plan, json.dumps(launch.plan()).encode())
        self.pid = children.start(
            [*launch.initializer_argv, str(plan)],
            env={**os.environ, "MOORINGS_ROLE": self._role},
            cwd=launch.folder,
            output_fd=self._output(),
            enter=_nothing,
        )

    def ended(self, code: int | None) -> bool:
        """Whether it has done its work."""
        self.pid = None
        self.done = code == 0
        return self.done

    def try_again(self, now: float, code: int | None, *, refused: bool) -> bool:
        """After a failure: one that says itself what is wrong, or that could not be started (`refused`), is final, except for
        what is proven."""
        self._crashes += 1
        final = refused or bool(code) or self._crashes >= policy.MOST_BOOT_TRIES
        if final and not self._launch.proven:
            return False
        self.start_at = now + policy.delay_s(self._crashes)
        return True


def _nothing() -> None:
    return
