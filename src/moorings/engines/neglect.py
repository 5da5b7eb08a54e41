"""Supervisors that live and do nothing (stopped, or hanging), told from what they leave undone. It ends nobody.

A supervisor takes note of a worker's end within milliseconds, and ends itself soon after its grace; one that does not is not
coming back by itself. One that is merely stopped is left alone as long as nothing is to be done: its workers serve.
"""

from __future__ import annotations

UNREAPED_S = 5.0
"""How long a worker that has ended may wait for its supervisor to notice."""
LATE_S = 20.0
"""How much longer than its grace a supervisor may take to end."""


class Neglect:
    """Since when what is due has not been done; `now` in monotonic seconds."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}

    def lasts(self, instance: str, duty: str, undone: bool, *, allowed_s: float, now: float) -> bool:
        """Note what was seen; whether the duty has been left undone for longer than allowed."""
        key = (instance, duty)
        if not undone:
            self._since.pop(key, None)
            return False
        return now - self._since.setdefault(key, now) > allowed_s
