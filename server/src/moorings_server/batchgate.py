"""The gate of a batching script: one call of `run()` at a time, with all requests that wait, up to a limit.

Requests that arrive while a batch is computed make the next one. Callers that were answered together come back
together: before a batch that lacks some of them begins, the loop looks for them once more, for a small part of the time
that a batch takes. Only with a `max_wait` a batch is held back for longer, and only while measured arrivals say that it
will grow. Knows scoring and a `Client` that takes the answers; nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from queue import SimpleQueue
from time import perf_counter, sleep
from typing import Any, Callable, Deque, List, Optional

from moorings_server.batching import BatchOptions
from moorings_server.gate import Request
from moorings_server.results import Answer
from moorings_server.scoring import Scorer
from moorings_server.sentinel import RunWatch

NAP_S = 0.00005
"""How long the loop leaves the CPU to others before it looks for more requests: shorter than its timers can be."""
NAPS_OF_RUN = 0.25
"""The naps before a batch take at most this part of what a batch takes on average."""
SHORTEST_HOLD_S = 0.001
FORGET = 0.1


class Crowd:
    """How many requests come together lately: as many as came once, until fewer come again and again."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._peak = 1.0

    def saw(self, count: int) -> None:
        """Note how many requests were there when a batch began."""
        self._peak = max(float(count), self._peak - FORGET * (self._peak - count))

    def missing(self, waiting: int) -> int:
        """How many more than those that are waiting a batch may expect; 0 or less: none."""
        return min(self._max_size, round(self._peak)) - waiting


class Pacer(Crowd):
    """Decides how long a batch is held back. Learns the mean gap between arrivals and how many requests are under way
    at most; a pure decider (all times are given, in seconds)."""

    def __init__(self, max_size: int, max_wait_s: float) -> None:
        super().__init__(max_size)
        self._max_wait_s = max_wait_s
        self._gap_s = 0.0
        self._last: Optional[float] = None

    def arrived(self, now: float) -> None:
        if self._last is not None:
            gap_s = min(now - self._last, 1.0)
            self._gap_s += FORGET * (gap_s - self._gap_s)
        self._last = now

    def hold_s(self, waiting: int, waited_s: float) -> float:
        """How long to wait for more, with `waiting` requests of which the oldest has waited `waited_s`; 0.0: go."""
        missing = self.missing(waiting)
        left_s = self._max_wait_s - waited_s
        if missing <= 0 or left_s <= 0:
            return 0.0
        expected_s = missing * self._gap_s
        return 0.0 if expected_s > left_s else min(left_s, max(SHORTEST_HOLD_S, 2 * expected_s))


class Regroup(Crowd):
    """Decides whether a batch is worth another look at the sockets before it begins: when it lacks some of those that
    were in the last ones, and each look so far has found one. Learns how large batches are and what they take; a pure
    decider (all times are given, in seconds)."""

    def __init__(self, max_size: int) -> None:
        super().__init__(max_size)
        self._run_s = 0.0
        self._found = 0
        self._since = 0.0

    def ran(self, run_s: float) -> None:
        """Note what a batch took."""
        self._run_s += FORGET * (run_s - self._run_s)

    def look_again(self, waiting: int, now: float) -> bool:
        """Whether to nap for NAP_S, read, and ask again; `waiting` requests are there. False: the batch begins."""
        if not self._found:
            self._since = now
        more = self.missing(waiting) > 0 and waiting > self._found
        if more and now - self._since + NAP_S <= NAPS_OF_RUN * self._run_s:
            self._found = waiting
            return True
        self._found = 0
        self.saw(waiting)
        return False


class BatchGate:
    """At most `limit` requests are in the batch that runs: on one thread, or awaited on the loop (`async def run`).
    Meanwhile the loop reads what arrives. It does so little that the system lets it send all answers of a batch before
    it wakes those who wait for them, where they share its CPU.

    A batch that exceeds the timeout is answered then; its place is taken until it returns, because a thread cannot be
    stopped.
    """

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
        self._regroup = Regroup(self._max_size)
        self._on_idle = on_idle
        self._wants_headers = wants_headers
        self._queue: Deque[Request] = deque()
        self._batch: List[Request] = []
        self._scheduled = False
        self._held: Any = None
        self._began = 0.0
        self._task: Any = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._jobs: Optional["SimpleQueue[List[Request]]"] = None
        if not is_async:
            self._jobs = SimpleQueue()
            threading.Thread(target=self._work, name="moorings-run-0", daemon=True).start()

    @property
    def busy(self) -> bool:
        return bool(self._queue) or bool(self._batch) or self._scheduled

    def oldest(self) -> float:
        """When the call that has not ended began (perf_counter seconds); 0.0 when there is none."""
        return self._began

    def full_since(self) -> float:
        """See `InlineGate.full_since`: a batch keeps the next one from beginning."""
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
        elif self._queue and self._regroup.look_again(len(self._queue), perf_counter()):
            sleep(NAP_S)
            self._loop.call_soon(self._turn)
            return
        self._go()

    def _drop_the_gone(self) -> None:
        kept: Deque[Request] = deque()
        for request in self._queue:
            if request.client.gone:
                request.client.drop(request)
            else:
                kept.append(request)
        self._queue = kept

    def _go(self) -> None:
        self._held = None
        if self._pacer is not None and self._queue:
            self._pacer.saw(len(self._queue))
        self._batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._max_size))]
        if not self._batch:
            self._ended()
            return
        self._began = perf_counter()
        self._watch.arm()
        if self._jobs is None:
            self._task = self._loop.create_task(self._run_async(self._batch))
        else:
            self._timer = self._loop.call_later(self._scorer.timeout_s, self._expire)
            self._jobs.put(self._batch)

    def _headers(self, batch: List[Request]) -> Optional[List[Any]]:
        return [request.headers for request in batch] if self._wants_headers else None

    def _work(self) -> None:
        """The thread: one batch after the other."""
        assert self._jobs is not None
        while True:
            batch = self._jobs.get()
            data = [request.data for request in batch]
            try:
                answers = self._scorer.execute_batch(data, self._headers(batch), self._began)
            except BaseException as trouble:  # the thread must not end: nobody else takes batches
                answers = [self._scorer.internal_error(trouble)] * len(batch)
            try:
                self._loop.call_soon_threadsafe(self._back, answers)
            except RuntimeError:  # the process is ending
                return

    def _back(self, answers: List[Answer]) -> None:
        """The thread has computed a batch."""
        if self._timer is not None:
            self._timer.cancel()
        self._regroup.ran(perf_counter() - self._began)
        try:
            self._finish(answers)
        finally:  # a failure of ours must cost one batch, not every later one
            self._ended()

    async def _run_async(self, batch: List[Request]) -> None:
        data = [request.data for request in batch]
        call = self._scorer.execute_batch_async(data, self._headers(batch), self._began)
        try:
            answers = await asyncio.wait_for(call, self._scorer.timeout_s)
            self._regroup.ran(perf_counter() - self._began)
        except asyncio.TimeoutError:
            answers = [self._scorer.timed_out()] * len(batch)
        except asyncio.CancelledError as failure:
            answers = [self._scorer.raised(failure)] * len(batch)
        try:
            self._finish(answers)
        finally:
            self._task = None
            self._ended()

    def _expire(self) -> None:
        """The batch on the thread has taken too long."""
        self._finish([self._scorer.timed_out()] * len(self._batch))

    def _finish(self, answers: List[Answer]) -> None:
        """Answer each request of the batch that has no answer yet, in order."""
        now = perf_counter()
        for request, answer in zip(self._batch, answers):  # noqa: B905 - Python 3.8; they are as many
            if not request.answered:
                request.client.finish(request, answer, now)

    def _ended(self) -> None:
        self._batch, self._began = [], 0.0
        if self._queue:
            self._scheduled = True
            self._loop.call_soon(self._turn)
        else:
            self._scheduled = False
            self._on_idle()
