"""The gate of a `def run` that may run several times at once: on threads, as few of them as do the work.

While calls are quick, one thread takes what waits, one after the other: more of them would only contend for the
interpreter. As soon as calls turn out to take long, or one keeps others waiting, every call that is let in has a
thread. Calls that have been quick for long are made by the loop itself (`pace.py`). Knows what `gate.py` knows.
"""

from __future__ import annotations

import asyncio
import resource
import threading
from collections import deque
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from moorings_server.gate import NEVER, Request, close_stream, end_stream
from moorings_server.pace import QUICK_S, SLOW_S, Pace
from moorings_server.results import Answer, part_bytes, stream_head
from moorings_server.scheduling import interrupt_as_usual, interrupt_nobody
from moorings_server.scoring import Scorer, ScoringTimeout
from moorings_server.sentinel import RunWatch

PARTS_AHEAD = 16
HELD_UP_S = 0.2
"""A call on the loop that takes longer has not merely been kept from running."""
WARY_CALLS = 1_000
"""After a call on the loop that took long, so many are measured."""
PATIENCE_S = 0.001
"""How long calls that were let in may wait for a thread without any call having ended."""


class _Running:
    """A call on a thread: when it `began` and, if it streams, when the current part was `started`; `room` limits the
    parts on their way to the loop; `answer`, where the loop has made the call and only its stream is left to read."""

    __slots__ = ("answer", "began", "gone", "opened", "room", "started")

    def __init__(self) -> None:
        self.began = self.started = NEVER  # until a thread has taken it
        self.answer: Optional[Answer] = None
        self.room: Any = None
        self.opened = False
        self.gone = False


class ThreadGate:
    """Up to `limit` calls at once, on up to `limit` threads. A call that exceeds the timeout is answered
    then; its thread stays occupied until it returns, because a thread cannot be stopped."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scorer: Scorer,
        watch: RunWatch,
        limit: int,
        on_idle: Callable[[], None],
    ) -> None:
        self.limit = limit
        self._loop = loop
        self._scorer = scorer
        self._watch = watch
        self._on_idle = on_idle
        self._queue: Deque[Request] = deque()
        self._running: Dict[Request, _Running] = {}
        self._jobs: Deque[Tuple[Request, _Running]] = deque()
        self._wakes: "SimpleQueue[None]" = SimpleQueue()
        self._lock = threading.Lock()
        # Threads that take jobs; each looks at the jobs once more, under the lock, before it rests.
        self._awake = 0
        self._pace = Pace()
        self._polite = True  # as the whole process from its start: see `worker.main`
        self._here: Optional[Request] = None
        self._wary_calls = 0
        self._used_before: Optional[Tuple[float, int]] = None
        self._ends = 0
        self._relief: Optional[asyncio.TimerHandle] = None
        self._done: Deque[Tuple[Callable[..., None], Tuple[Any, ...]]] = deque()
        self._collecting = False
        self._scheduled = False
        self._timer: Optional[asyncio.TimerHandle] = None
        self._threads: List[threading.Thread] = []
        for number in range(limit):
            thread = threading.Thread(target=self._work, name="moorings-run-%d" % number, daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def busy(self) -> bool:
        return bool(self._queue) or bool(self._running) or self._here is not None

    def oldest(self) -> float:
        """When the oldest call that has not ended began (perf_counter seconds); 0.0 when there is none. May be
        called from any thread."""
        if self._here is not None:
            return self._watch.started
        try:
            oldest = min((call.started for call in self._running.values()), default=0.0)
        except RuntimeError:  # a call began or ended meanwhile
            return 0.0
        return 0.0 if oldest == NEVER else oldest

    def full_since(self) -> float:
        """See `InlineGate.full_since`. Who waits for a client that reads slowly counts as just begun."""
        if self._here is not None:
            return self._watch.started
        if len(self._running) < self.limit:
            return 0.0
        try:
            return max((call.started for call in self._running.values()), default=0.0)
        except RuntimeError:  # a call began or ended meanwhile
            return 0.0

    def running(self) -> List[Request]:
        return list(self._running) if self._here is None else [self._here]

    def left(self, request: Request) -> None:
        """The client of a request that is being scored has gone: its call goes on, a stream ends at its next part."""
        call = self._running.get(request)
        if call is not None:
            call.gone = True
            if call.room is not None:
                call.room.release()

    def submit(self, request: Request) -> None:
        """Score a request now or queue it; its client's `finish` or `drop` is called, on the loop."""
        if self._pace.on_loop and not self._running and not self._queue:
            self._score(request)
            return
        self._queue.append(request)
        if not self._scheduled:  # once a turn of the loop: a thread that wakes takes the interpreter from it
            self._scheduled = True
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._scheduled = False
        if self._polite != self._pace.quick:
            self._mind_manners()
        self._dispatch()

    def _mind_manners(self) -> None:
        """Where calls are quick, their answers leave together: the loop waits until it is let in. Where they take long
        each answer leaves at once, so that calls which happened to begin together do not for ever end together, each
        answer waiting for all of them."""
        self._polite = self._pace.quick
        if self._polite:
            interrupt_nobody()
        else:
            interrupt_as_usual()

    def _dispatch(self) -> None:
        queue, running = self._queue, self._running
        while queue and len(running) < self.limit:
            request = queue.popleft()
            if request.client.gone:
                request.client.drop(request)
                continue
            self._watch.arm()
            self._admit(request, _Running())
        if self._jobs:
            self._wake(1 if self._pace.quick else self.limit)
            if self._relief is None and self._awake < self.limit:
                self._relief = self._loop.call_later(PATIENCE_S, self._relieve, self._ends)

    def _admit(self, request: Request, call: _Running) -> None:
        self._running[request] = call
        if self._timer is None:
            self._timer = self._loop.call_later(self._scorer.timeout_s, self._expire)
        self._jobs.append((request, call))

    def _wake(self, most: int) -> None:
        """See to it that `most` threads take jobs, or as many as there are jobs."""
        with self._lock:
            more = min(most - self._awake, len(self._jobs))
            if more > 0:
                self._awake += more
        for _ in range(more):
            self._wakes.put(None)

    def _relieve(self, ends: int) -> None:
        """Calls have waited for a thread: where none has ended meanwhile, the threads at work are held up."""
        self._relief = None
        if self._jobs and self._ends == ends and not self._done:
            self._wake(self.limit)
        self._collect()

    def _work(self) -> None:
        """One thread: the calls and the streams, one after the other, while there are any."""
        jobs = self._jobs
        while True:
            self._wakes.get()
            while True:
                try:
                    request, call = jobs.popleft()
                except IndexError:
                    with self._lock:
                        if not jobs:
                            self._awake -= 1
                            break
                    continue
                if not self._run(request, call):
                    return

    def _run(self, request: Request, call: _Running) -> bool:
        """One call to its end; False when the process is ending."""
        if request.client.gone:  # it left between its admission and now
            return self._post(self._left_unread, request)
        failure: Optional[BaseException] = None
        call.started = began = perf_counter()
        try:
            if call.answer is None:
                call.began = began
                answer = self._scorer.execute(request.data, request.headers, began)
            else:
                answer = call.answer
            if answer.stream is not None:
                failure = self._read_stream(request, call, answer)
        except BaseException as trouble:  # a thread that ended would take its place with it
            answer = self._scorer.internal_error(trouble)
        now = perf_counter()
        self._pace.took(now - began)
        self._done.append((self._ended, (request, call, answer, failure, now)))
        if self._jobs and self._relief is not None and self._pace.quick:
            return True  # the next call's end tells the loop of this one too, or its clock does
        return self._tell()

    def _read_stream(self, request: Request, call: _Running, answer: Answer) -> Optional[BaseException]:
        """Send the parts of a stream to the loop, at most PARTS_AHEAD ahead of the client; what it raised."""
        call.room = threading.Semaphore(PARTS_AHEAD)
        failure: Optional[BaseException] = None
        first = True
        try:
            while not call.gone:
                call.started = perf_counter()
                part = next(answer.stream)
                data = part_bytes(part)
                self._post(self._part, request, call, answer, part if first else None, data)
                first = False
                call.started = NEVER  # waiting for a client that reads slowly is nobody's timeout
                call.room.acquire()
        except StopIteration:
            pass
        except BaseException as raised:
            failure = raised
        close_stream(answer.stream, self._scorer)
        return failure

    def _post(self, function: Callable[..., None], *arguments: Any) -> bool:
        """Have the loop call something, in the order of posting; False when the loop has been closed."""
        self._done.append((function, arguments))
        return self._tell()

    def _tell(self) -> bool:
        """Have the loop look at what was posted; False when it has been closed."""
        if not self._collecting:
            self._collecting = True
            try:
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:  # the process is ending
                return False
        return True

    # --- on the loop ------------------------------------------------------------------------------------------------

    def _score(self, request: Request) -> None:
        """Make a call here and now, and see whether that was a good idea."""
        if self._wary_calls:
            self._wary_calls -= 1
            self._used_before = _used() if self._wary_calls else None
        watch = self._watch
        self._here = request
        began = perf_counter()
        try:
            watch.begin_call(began)
            answer = self._scorer.execute(request.data, request.headers, began)
            watch.end()
        except ScoringTimeout:
            watch.end()
            answer = self._scorer.timed_out()
        self._here = None
        now = perf_counter()
        self._pace.took(now - began)
        if now - began > QUICK_S:
            self._look_into(now - began)
        if answer.stream is None:
            request.client.finish(request, answer, now)
            return
        self._pace.held_up()
        call = _Running()
        call.began, call.answer = began, answer
        self._admit(request, call)
        self._dispatch()

    def _look_into(self, took_s: float) -> None:
        """A call on the loop took long: has it waited or computed? Where this thread shares its CPU it may only have
        been kept from running, often for milliseconds: no reason to leave the loop. To tell costs more than a quick
        call, so it is measured only for some calls after such a one."""
        if took_s > HELD_UP_S or not self._pace.quick:
            self._pace.held_up()
        elif took_s < SLOW_S:
            return
        elif self._used_before is None:
            self._wary_calls = WARY_CALLS
        else:
            cpu_s, waits = _used()
            if waits != self._used_before[1] or cpu_s - self._used_before[0] > SLOW_S:
                self._pace.held_up()

    def _collect(self) -> None:
        self._collecting = False
        while self._done:
            function, arguments = self._done.popleft()
            function(*arguments)
        self._dispatch()
        if not self.busy:
            self._on_idle()

    def _part(self, request: Request, call: _Running, answer: Answer, first: Any, data: bytes) -> None:
        client = request.client
        if client.gone or request.answered:
            call.gone = True
            call.room.release()
            return
        if call.opened:
            client.send_part(request, data)
        else:
            call.opened = True
            answer.exec_ms = (perf_counter() - call.began) * 1000
            client.open_stream(request, answer, stream_head(answer, first), data)
        if client.full:
            client.when_room(call.room.release)
        else:
            call.room.release()

    def _left_unread(self, request: Request) -> None:
        del self._running[request]
        self._ends += 1
        if not request.answered:
            request.client.drop(request)

    def _ended(
        self, request: Request, call: _Running, answer: Answer, failure: Optional[BaseException], now: float
    ) -> None:
        del self._running[request]
        self._ends += 1
        self._pace.ended_on_thread()
        if request.answered:
            return
        if answer.stream is not None:
            end_stream(self._scorer, request, answer, call.opened, failure)
        else:
            request.client.finish(request, answer, now)

    def _expire(self) -> None:
        """Answer the calls that are too old, and look again when the next one is."""
        now = perf_counter()
        limit_s = self._scorer.timeout_s
        self._timer = None
        next_s = limit_s
        for request, call in list(self._running.items()):
            if request.answered:
                continue
            left_s = limit_s - (now - call.started)
            if left_s > 0:
                next_s = min(next_s, left_s)
            elif call.opened:
                self._scorer.timed_out()
                call.gone = True
                request.client.end_stream(request, None, False, now)
            else:
                request.client.finish(request, self._scorer.timed_out(), now)
        if any(not request.answered for request in self._running):
            self._timer = self._loop.call_later(next_s, self._expire)


def _used() -> Tuple[float, int]:
    """CPU seconds of this thread so far, and how often it has waited for something."""
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_utime + usage.ru_stime, usage.ru_nvcsw
