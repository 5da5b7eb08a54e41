"""Liveness probes of the workers of one instance: asks each in its rhythm and counts. What follows is not its business."""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Mapping
from typing import Any

from moorings.engines.probe import Probe

RETRY_S = 0.05


class _Watched:
    def __init__(self, path: str, next_at: float) -> None:
        self.path = path
        self.next_at = next_at
        self.failures = 0
        self.probe: Probe | None = None


class Liveness:
    """Times are monotonic seconds; `times` are those of `engines.base.ProbeTimes`."""

    def __init__(self, selector: selectors.BaseSelector, times: Mapping[str, Any]) -> None:
        self._selector = selector
        self._period_s = float(times["period_s"])
        self._timeout_s = float(times["timeout_s"])
        self._most_failures = int(times["failure_threshold"])
        self._watched: dict[int, _Watched] = {}

    def watch(self, index: int, path: str, first_at: float) -> None:
        self.forget(index)
        self._watched[index] = _Watched(path, first_at)

    def forget(self, index: int) -> None:
        watched = self._watched.pop(index, None)
        if watched is not None and watched.probe is not None:
            self._end(watched, watched.probe)

    def failed(self, now: float) -> list[tuple[int, int]]:
        """Asks what is due, never blocks: the workers that have failed too often, and how often in a row."""
        for watched in self._watched.values():
            self._ask(watched, now)
        return [(i, w.failures) for i, w in self._watched.items() if w.failures >= self._most_failures]

    def next_at(self, now: float) -> float | None:
        """When to look again, if no answer comes before."""
        return min(
            (now + RETRY_S if w.probe is not None else w.next_at for w in self._watched.values()),
            default=None,
        )

    def _ask(self, watched: _Watched, now: float) -> None:
        probe = watched.probe
        if probe is None:
            if now < watched.next_at:
                return
            watched.next_at = now + self._period_s
            probe = watched.probe = Probe(watched.path, deadline=now + self._timeout_s)
        connected = probe.sock is not None
        answer = probe.step(now)
        if answer is not None:
            watched.failures = 0 if answer else watched.failures + 1
            self._end(watched, probe)
        elif not connected and probe.sock is not None:
            self._selector.register(probe.sock, selectors.EVENT_READ)

    def _end(self, watched: _Watched, probe: Probe) -> None:
        if probe.sock is not None:
            with contextlib.suppress(KeyError):  # answered before it was ever waited for
                self._selector.unregister(probe.sock)
        probe.close()
        watched.probe = None
