"""The gate of a batching script: one call of `run()` at a time, with all requests that wait, up to a limit.

Requests that arrive while a batch is computed are read when it has ended and make the next one; nobody waits for a
clock. Only with a `max_wait` a batch is held back, and only while measured arrivals say that it will grow. Knows
scoring and a `Client` that takes the answers; nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import Any, Callable, Deque, List, Optional

from moorings_server.batching import BatchOptions
from moorings_server.gate import SUSPECT_TURNS, TURN_BUDGET_S, Request
from moorings_server.results import Answer
from moorings_server.scoring import Scorer, ScoringTimeout
from moorings_server.sentinel import RunWatch

SHORTEST_HOLD_S = 0.001
FORGET = 0.1


class Pacer:
    """Decides how long a batch is held back. Learns the mean gap between arrivals and how many requests are under way
    at most; a pure decider (all times are given, in seconds)."""

    def __init__(self, max_size: int, max_wait_s: float) -> None:
        self._max_size = max_size
        self._max_wait_s = max_wait_s
        self._gap_s = 0.0
        self._last: Optional[float] = None
        self._peak = 1.0

    def arrived(self, now: float) -> None:
        if self._last is not None:
            gap_s = min(now - self._last, 1.0)
            self._gap_s += FORGET * (gap_s - self._gap_s)
        self._last = now

    def saw(self, under_way: int) -> None:
        """Note how many requests were running or waiting when a batch began."""
        self._peak = max(float(under_way), self._peak - FORGET * (self._peak - under_way))

    def hold_s(self, waiting: int, waited_s: float) -> float:
        """How long to wait for more, with `waiting` requests of which the oldest has waited `waited_s`; 0.0: go."""
        missing = min(self._max_size, round(self._peak)) - waiting
        left_s = self._max_wait_s - waited_s
        if missing <= 0 or left_s <= 0:
            return 0.0
        expected_s = missing * self._gap_s
        return 0.0 if expected_s > left_s else min(left_s, max(SHORTEST_HOLD_S, 2 * expected_s))


class BatchGate:
    """At most `limit` requests are in the batch that runs. On the event loop, as for one request at a time; an
    `async def run` is awaited there."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scorer: Scorer,
        watch: RunWatch,
        options: BatchOptions,
        limit: int,
        on_idle: Callable[[], None],
        *,
        is_async: bool,
        wants_headers: bool,
    ) -> None:
        self.limit = limit
        self._loop = loop
        self._scorer = scorer
        self._watch = watch
        self._max_size = min(options.max_size, limit)
        self._pacer = Pacer(self._max_size, options.max_wait_s) if options.max_wait_s else None
        self._on_idle = on_idle
        self._is_async = is_async
        self._wants_headers = wants_headers
        self._queue: Deque[Request] = deque()
        self._batch: List[Request] = []
        self._scheduled = False
        self._held: Any = None
        self._began = 0.0
        self._suspect_turns = 0
        self._task: Any = None

    @property
    def busy(self) -> bool:
        return bool(self._queue) or bool(self._batch) or self._scheduled

    def oldest(self) -> float:
        """When the call that has not ended began (perf_counter seconds); 0.0 when there is none."""
        return self._began

    def running(self) -> List[Request]:
        return list(self._batch)

    def tasks(self) -> List[Any]:
        return [self._task] if self._task is not None else []

    def left(self, request: Request) -> None:
        """The client of a request in the batch has gone: the others still want theirs."""

    def submit(self, request: Request) -> None:
        """Queue a request; its client's `finish` or `drop` is called later, on the loop."""
        self._queue.append(request)
        if self._pacer is not None:
            self._pacer.arrived(request.received)
            if self._held is not None and len(self._queue) >= self._max_size:
                self._held.cancel()
                self._held = None
                self._scheduled = False
        if not self._scheduled and not self._batch:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._held = None
        self._drop_the_gone()
        if self._queue and self._pacer is not None:
            hold_s = self._pacer.hold_s(len(self._queue), perf_counter() - self._queue[0].received)
            if hold_s:
                self._held = self._loop.call_later(hold_s, self._go)
                return
        self._go()

    def _go(self) -> None:
        self._held = None
        if self._pacer is not None and self._queue:
            self._pacer.saw(len(self._queue))
        self._batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._max_size))]
        if not self._batch:
            self._ended()
        elif self._is_async:
            self._watch.arm()
            self._task = self._loop.create_task(self._run_async())
        else:
            try:
                self._run()
            finally:  # a failure of ours must cost one batch, not every later one
                self._ended()

    def _drop_the_gone(self) -> None:
        suspect = self._suspect_turns > 0
        self._suspect_turns -= suspect
        kept: Deque[Request] = deque()
        for position, request in enumerate(self._queue):
            asked = suspect and position < self._max_size
            if request.client.gone or (asked and request.client.is_gone_now()):
                request.client.drop(request)
            else:
                kept.append(request)
        self._queue = kept

    def _headers(self) -> Optional[List[Any]]:
        return [request.headers for request in self._batch] if self._wants_headers else None

    def _run(self) -> None:
        watch, batch = self._watch, self._batch
        data = [request.data for request in batch]
        started = self._began = perf_counter()
        try:
            watch.begin(started)
            answers = self._scorer.execute_batch(data, self._headers(), started)
            watch.started = 0.0
        except ScoringTimeout:
            watch.started = 0.0
            answers = [self._scorer.timed_out()] * len(batch)
        self._finish(answers)
        if perf_counter() - started > TURN_BUDGET_S:
            self._suspect_turns = SUSPECT_TURNS

    async def _run_async(self) -> None:
        batch = self._batch
        data = [request.data for request in batch]
        started = self._began = perf_counter()
        call = self._scorer.execute_batch_async(data, self._headers(), started)
        try:
            answers = await asyncio.wait_for(call, self._scorer.timeout_s)
        except asyncio.TimeoutError:
            answers = [self._scorer.timed_out()] * len(batch)
        except asyncio.CancelledError as failure:
            answers = [self._scorer.raised(failure)] * len(batch)
        try:
            self._finish(answers)
        finally:
            self._task = None
            self._ended()

    def _finish(self, answers: List[Answer]) -> None:
        """Answer each request of the batch, in order."""
        now = perf_counter()
        batch, self._batch, self._began = self._batch, [], 0.0
        for request, answer in zip(batch, answers):  # noqa: B905 - Python 3.8; they are as many
            request.client.finish(request, answer, now)

    def _ended(self) -> None:
        self._batch, self._began = [], 0.0
        if self._queue:
            self._scheduled = True
            self._loop.call_soon(self._turn)
        else:
            self._scheduled = False
            self._on_idle()
