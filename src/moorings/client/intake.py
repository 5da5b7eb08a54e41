"""Send a request that makes the workspace take in content, and tell meanwhile how far it is. Knows no resource."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass

from moorings.client.transport import Answer, Transport
from moorings.errors.exceptions import MooringsError

FIRST_POLL_S = 0.5
"""Small content is in before anybody would look."""
POLL_S = 0.25


@dataclass(frozen=True)
class Intake:
    """How far the workspace is."""

    done_bytes: int
    total_bytes: int
    file: str


Watch = Callable[[Intake | None], None]
"""Told of every look, and with None when it is over."""


@dataclass(frozen=True)
class Watcher:
    """A second connection to ask on, and whom to tell."""

    transport: Transport
    watch: Watch

    def run(self, send: Callable[[], Answer], path: str) -> Answer:
        """`send()`, asking at `path` how far it is until it has its answer.

        Raises what `send` raises. It runs in a thread of its own, so that an interrupted wait ends at once.
        """
        answer: Future[Answer] = Future()

        def work() -> None:
            try:
                answer.set_result(send())
            except BaseException as problem:  # noqa: BLE001 - raised again by whoever waits
                answer.set_exception(problem)

        threading.Thread(target=work, name="intake", daemon=True).start()
        wait_s = FIRST_POLL_S
        try:
            while True:
                if wait({answer}, timeout=wait_s).done:
                    return answer.result()
                wait_s = POLL_S
                seen = self._look(path)
                if seen is not None:
                    self.watch(seen)
        finally:
            self.watch(None)

    def _look(self, path: str) -> Intake | None:
        try:
            answer = self.transport.send("GET", path, timeout_s=5.0)
            found = json.loads(answer.body)["properties"] if answer.status == 200 else None
        except (MooringsError, ValueError, KeyError, TypeError):
            return None  # whether the workspace is well is for the request itself to find out
        if not isinstance(found, dict):
            return None
        return Intake(
            int(found.get("doneBytes") or 0), int(found.get("totalBytes") or 0), str(found.get("file") or "")
        )
