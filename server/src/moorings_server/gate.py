"""How many `run()` calls happen at once, and who waits: at most `limit`, first come first served, never more.

Three gates with one interface, chosen at boot: `InlineGate` (limit 1: on the event loop itself), `ThreadGate`
(limit > 1) and `AsyncGate` (`async def run`). A place is free only when its work has ended, whatever became
of the client. A gate knows scoring and a `Client` that takes the answer; it knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from moorings_server.scoring import Answer, Scorer, ScoringTimeout
from moorings_server.sentinel import RunWatch

TURN_BUDGET_S = 0.001
SUSPECT_TURNS = 3


class Request:
    """One parsed request. `client` is its connection; `received` (perf_counter seconds) when its last byte
    was read."""

    __slots__ = (
        "answered",
        "body",
        "client",
        "client_id",
        "headers",
        "keep_alive",
        "method",
        "received",
        "request_id",
        "short_version",
        "target",
        "text",
        "trace_id",
    )

    client: Any
    method: bytes
    target: bytes
    body: bytes
    headers: Any
    keep_alive: bool
    short_version: bool
    received: float
    answered: bool
    text: str
    request_id: bytes
    client_id: bytes
    trace_id: bytes


class InlineGate:
    """One `run()` at a time, on the event loop.

    Requests are taken for at most TURN_BUDGET_S in one turn of the loop, so between two runs that take longer
    than that the loop has looked at every connection. After a slow run the sockets of those who waited are
    asked directly, because the loop has not yet read that their clients are gone.
    """

    limit = 1

    def __init__(
        self, loop: asyncio.AbstractEventLoop, scorer: Scorer, watch: RunWatch, on_idle: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._scorer = scorer
        self._watch = watch
        self._on_idle = on_idle
        self._queue: Deque[Request] = deque()
        self._scheduled = False
        self._suspect_turns = 0

    @property
    def busy(self) -> bool:
        return bool(self._queue) or self._scheduled

    def submit(self, request: Request) -> None:
        """Queue a request; its client's `finish` or `drop` is called later, on the loop."""
        self._queue.append(request)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        try:
            self._take()
        finally:  # a failure of ours must cost one request, not every later one
            if self._queue:
                self._loop.call_soon(self._turn)
            else:
                self._scheduled = False
                self._on_idle()

    def _take(self) -> None:
        queue, watch, execute = self._queue, self._watch, self._scorer.execute
        suspect = self._suspect_turns > 0
        self._suspect_turns -= suspect
        until = 0.0
        while queue:
            request = queue.popleft()
            client = request.client
            if client.gone or (suspect and client.is_gone_now()):
                client.drop(request)
                continue
            started = perf_counter()
            try:
                watch.begin(started)
                answer = execute(request.text, request.headers, started)
                watch.started = 0.0
            except ScoringTimeout:
                watch.started = 0.0
                answer = self._scorer.timed_out()
            now = perf_counter()
            client.finish(request, answer, now)
            if now - started > TURN_BUDGET_S:
                self._suspect_turns = SUSPECT_TURNS
                return
            if not until:
                until = started + TURN_BUDGET_S
            elif now > until:
                return


class ThreadGate:
    """Up to `limit` calls at once, on exactly `limit` threads. A call that exceeds the timeout is answered
    then; its thread stays occupied until it returns, because a thread cannot be stopped."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, scorer: Scorer, limit: int, on_idle: Callable[[], None]
    ) -> None:
        self.limit = limit
        self._loop = loop
        self._scorer = scorer
        self._on_idle = on_idle
        self._queue: Deque[Request] = deque()
        self._running: Dict[Request, float] = {}
        self._jobs: "SimpleQueue[Request]" = SimpleQueue()
        self._done: Deque[Tuple[Request, Answer, float]] = deque()
        self._collecting = False
        self._timer: Optional[asyncio.TimerHandle] = None
        self._threads: List[threading.Thread] = []
        for number in range(limit):
            thread = threading.Thread(target=self._work, name="moorings-run-%d" % number, daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def busy(self) -> bool:
        return bool(self._queue) or bool(self._running)

    def submit(self, request: Request) -> None:
        """Queue a request; its client's `finish` or `drop` is called later, on the loop."""
        self._queue.append(request)
        self._dispatch()

    def _dispatch(self) -> None:
        queue, running = self._queue, self._running
        while queue and len(running) < self.limit:
            request = queue.popleft()
            if request.client.gone:
                request.client.drop(request)
                continue
            running[request] = perf_counter()
            if self._timer is None:
                self._timer = self._loop.call_later(self._scorer.timeout_s, self._expire)
            self._jobs.put(request)

    def _work(self) -> None:
        while True:
            request = self._jobs.get()
            try:
                answer = self._scorer.execute(request.text, request.headers, perf_counter())
            except BaseException as failure:  # a thread that ended would take its place with it
                answer = self._scorer.internal_error(failure)
            self._done.append((request, answer, perf_counter()))
            if not self._collecting:
                self._collecting = True
                try:
                    self._loop.call_soon_threadsafe(self._collect)
                except RuntimeError:  # the loop has been closed: the process is ending
                    return

    def _collect(self) -> None:
        self._collecting = False
        while self._done:
            request, answer, now = self._done.popleft()
            del self._running[request]
            if not request.answered:
                request.client.finish(request, answer, now)
        self._dispatch()
        if not self.busy:
            self._on_idle()

    def _expire(self) -> None:
        now = perf_counter()
        limit_s = self._scorer.timeout_s
        self._timer = None
        for request, started in list(self._running.items()):
            if now - started < limit_s:
                self._timer = self._loop.call_later(limit_s - (now - started), self._expire)
                break
            if not request.answered:
                request.client.finish(request, self._scorer.timed_out(), now)


class AsyncGate:
    """Up to `limit` calls of an `async def run` at once, as tasks on the loop. One that exceeds the timeout
    is answered and cancelled; its place is free when it has ended."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, scorer: Scorer, limit: int, on_idle: Callable[[], None]
    ) -> None:
        self.limit = limit
        self._loop = loop
        self._scorer = scorer
        self._on_idle = on_idle
        self._queue: Deque[Request] = deque()
        self._tasks: Dict[Request, Any] = {}

    @property
    def busy(self) -> bool:
        return bool(self._queue) or bool(self._tasks)

    def submit(self, request: Request) -> None:
        """Queue a request; its client's `finish` or `drop` is called later, on the loop."""
        self._queue.append(request)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._queue and len(self._tasks) < self.limit:
            request = self._queue.popleft()
            if request.client.gone:
                request.client.drop(request)
                continue
            self._tasks[request] = self._loop.create_task(self._run(request))

    async def _run(self, request: Request) -> None:
        timer = self._loop.call_later(self._scorer.timeout_s, self._expire, request)
        try:
            answer = await self._scorer.execute_async(request.text, request.headers, perf_counter())
        finally:
            timer.cancel()
            del self._tasks[request]
        if not request.answered:
            request.client.finish(request, answer, perf_counter())
        self._dispatch()
        if not self.busy:
            self._on_idle()

    def _expire(self, request: Request) -> None:
        request.client.finish(request, self._scorer.timed_out(), perf_counter())
        self._tasks[request].cancel()
