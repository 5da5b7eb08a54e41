"""Which environments have been handed out and are not yet written down anywhere as used. In memory only: whoever was
handed one before a restart asks again after it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LEASE_S = 900.0
"""The longest time for which a lease counts that nobody gives back."""


class Leases:
    """Counts leases by key. `guard` makes "look, then take" and "look, then remove" one step each; it is held for
    moments only, and may be taken again by the thread that holds it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.guard = threading.RLock()
        self._monotonic = monotonic
        self._until: dict[str, list[float]] = {}

    def take(self, key: str) -> None:
        with self.guard:
            self._until.setdefault(key, []).append(self._monotonic() + LEASE_S)

    def release(self, key: str) -> None:
        """Give one lease back; without effect when there is none."""
        with self.guard:
            held = self._until.get(key, [])
            if held:
                held.pop(0)
            if not held:
                self._until.pop(key, None)

    def held(self, key: str) -> bool:
        with self.guard:
            now = self._monotonic()
            return any(until > now for until in self._until.get(key, ()))
