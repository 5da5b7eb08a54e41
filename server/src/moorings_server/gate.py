"""How many `run()` calls happen at once, and who waits: at most `limit`, first come first served, never more.

The gates have one interface and are chosen at boot: `InlineGate` (limit 1: on the event loop itself) and `ThreadGate`
(limit > 1) here, `AsyncGate` (`async def run`) and `BatchGate` in modules of their own. A place is free only when its
work has ended, whatever became of the client. A gate knows scoring and a `Client` that takes the answer; it knows
nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from moorings_server.results import Answer, part_bytes, stream_head
from moorings_server.scoring import Scorer, ScoringTimeout
from moorings_server.sentinel import RunWatch

TURN_BUDGET_S = 0.001
SUSPECT_TURNS = 3
PARTS_AHEAD = 16
NEVER = float("inf")


class Request:
    """One parsed request. `client` is its connection; `received` (perf_counter seconds) when its last byte
    was read; `data` what `run()` gets; `headers` its header lines, later what `request_headers` shows;
    `plain`: nothing in it asks for an unusual answer."""

    __slots__ = (
        "answered",
        "body",
        "client",
        "client_id",
        "content_type",
        "data",
        "extra",
        "headers",
        "keep_alive",
        "method",
        "plain",
        "received",
        "request_id",
        "short_version",
        "target",
        "trace_id",
    )

    client: Any
    method: bytes
    target: bytes
    body: bytes
    content_type: bytes
    extra: bytes
    headers: Any
    keep_alive: bool
    plain: bool
    short_version: bool
    received: float
    answered: bool
    data: Any
    request_id: bytes
    client_id: bytes
    trace_id: bytes


def close_stream(stream: Any, scorer: Scorer) -> None:
    """End a generator that is not to be read to its end; what it raises then is logged."""
    close = getattr(stream, "close", None)
    if close is None:
        return
    try:
        close()
    except BaseException as failure:  # user code runs in `finally` blocks too
        scorer.broke_off(failure)


class InlineGate:
    """One `run()` at a time, on the event loop.

    While runs are quick a request is scored where it was read. After a slow one requests are queued and taken for at
    most TURN_BUDGET_S in one turn of the loop, so between two runs that take longer than that the loop has looked at
    every connection; and the sockets of those who waited are asked directly, because the loop has not yet read that
    their clients are gone.
    """

    limit = 1

    def __init__(
        self, loop: asyncio.AbstractEventLoop, scorer: Scorer, watch: RunWatch, on_idle: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._scorer = scorer
        self._execute = scorer.execute
        self._watch = watch
        self._on_idle = on_idle
        self._queue: Deque[Request] = deque()
        self._scheduled = False
        self._suspect_turns = 0
        self._running: Optional[Request] = None
        self._stream: Optional[Answer] = None
        self._stream_open = False
        self._stream_began = 0.0

    @property
    def busy(self) -> bool:
        return bool(self._queue) or self._scheduled or self._stream is not None

    def oldest(self) -> float:
        """When the oldest call that has not ended began (perf_counter seconds); 0.0 when there is none."""
        return self._watch.started

    def running(self) -> List[Request]:
        request = self._running
        return [] if request is None else [request]

    def left(self, request: Request) -> None:
        """The client of a request that is being scored has gone: its call goes on, a stream ends at its next part."""

    def submit(self, request: Request) -> None:
        """Score a request now or queue it; its client's `finish` or `drop` is called, on the loop."""
        if self._suspect_turns or self._scheduled or self._stream is not None:
            self._queue.append(request)
            self._schedule()
        else:
            self._score(request)

    def _schedule(self) -> None:
        if not self._scheduled and self._stream is None:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _score(self, request: Request) -> Tuple[float, float]:
        """Run one request to its answer; when it began and ended."""
        watch = self._watch
        self._running = request
        started = perf_counter()
        try:
            watch.begin(started)
            answer = self._execute(request.data, request.headers, started)
            watch.started = 0.0
        except ScoringTimeout:
            watch.started = 0.0
            answer = self._scorer.timed_out()
        now = perf_counter()
        if answer.stream is not None:
            self._open(answer, started)
        else:
            self._running = None
            request.client.finish(request, answer, now)
        if now - started > TURN_BUDGET_S:
            self._suspect_turns = SUSPECT_TURNS
        return started, now

    def _turn(self) -> None:
        try:
            self._take()
        finally:  # a failure of ours must cost one request, not every later one
            if self._queue and self._stream is None:
                self._loop.call_soon(self._turn)
            else:
                self._scheduled = False
                if not self._queue:
                    self._on_idle()

    def _take(self) -> None:
        queue = self._queue
        suspect = self._suspect_turns > 0
        self._suspect_turns -= suspect
        until = 0.0
        while queue and self._stream is None:
            request = queue.popleft()
            client = request.client
            if client.gone or (suspect and client.is_gone_now()):
                client.drop(request)
                continue
            started, now = self._score(request)
            if now - started > TURN_BUDGET_S:
                return
            if not until:
                until = started + TURN_BUDGET_S
            elif now > until:
                return

    # --- a stream: one part per turn of the loop --------------------------------------------------------------------

    def _open(self, answer: Answer, began: float) -> None:
        self._stream, self._stream_open, self._stream_began = answer, False, began
        self._step()

    def _step(self) -> None:
        answer, request, watch = self._stream, self._running, self._watch
        assert answer is not None
        assert request is not None
        client = request.client
        if client.gone:
            self._end(None)
            return
        if client.full:
            client.when_room(self._step)
            return
        try:
            watch.begin(perf_counter())
            part = next(answer.stream)
            data = part_bytes(part)
            watch.started = 0.0
        except StopIteration:
            watch.started = 0.0
            self._end(None)
            return
        except BaseException as failure:  # also ScoringTimeout: the time to one part is limited like a run
            watch.started = 0.0
            self._end(failure)
            return
        if self._stream_open:
            client.send_part(request, data)
        else:
            self._stream_open = True
            answer.exec_ms = (perf_counter() - self._stream_began) * 1000
            client.open_stream(request, answer, stream_head(answer, part), data)
        self._loop.call_soon(self._step)

    def _end(self, failure: Optional[BaseException]) -> None:
        answer, request = self._stream, self._running
        assert answer is not None
        assert request is not None
        self._watch.begin(perf_counter())
        try:
            close_stream(answer.stream, self._scorer)
        finally:
            self._watch.started = 0.0
        self._stream = self._running = None
        end_stream(self._scorer, request, answer, self._stream_open, failure)
        if self._queue:
            self._schedule()
        else:
            self._on_idle()


def end_stream(
    scorer: Scorer, request: Request, answer: Answer, opened: bool, failure: Optional[BaseException]
) -> None:
    """Tell the client that its stream has ended; if nothing was sent yet, a failure is an ordinary answer."""
    client, now = request.client, perf_counter()
    if opened:
        if failure is not None:
            scorer.broke_off(failure)
        client.end_stream(request, answer, failure is None, now)
    elif failure is not None:
        timed_out = isinstance(failure, ScoringTimeout)
        client.finish(request, scorer.timed_out() if timed_out else scorer.raised(failure), now)
    elif client.gone:
        client.drop(request)
    else:
        client.open_stream(request, answer, stream_head(answer, None), b"")
        client.end_stream(request, answer, True, now)


class _Running:
    """A call on a thread: when it `began` and, if it streams, when the current part was `started`; `room` limits the
    parts on their way to the loop."""

    __slots__ = ("began", "gone", "opened", "room", "started")

    def __init__(self, started: float) -> None:
        self.began = self.started = started
        self.room: Any = None
        self.opened = False
        self.gone = False


class ThreadGate:
    """Up to `limit` calls at once, on exactly `limit` threads. A call that exceeds the timeout is answered
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
        self._jobs: "SimpleQueue[Tuple[Request, _Running]]" = SimpleQueue()
        self._done: Deque[Tuple[Callable[..., None], Tuple[Any, ...]]] = deque()
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

    def oldest(self) -> float:
        """When the oldest call that has not ended began (perf_counter seconds); 0.0 when there is none. May be
        called from any thread."""
        try:
            return min((call.started for call in self._running.values()), default=0.0)
        except RuntimeError:  # a call began or ended meanwhile
            return 0.0

    def running(self) -> List[Request]:
        return list(self._running)

    def left(self, request: Request) -> None:
        """The client of a request that is being scored has gone: its call goes on, a stream ends at its next part."""
        call = self._running.get(request)
        if call is not None:
            call.gone = True
            if call.room is not None:
                call.room.release()

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
            call = running[request] = _Running(perf_counter())
            self._watch.arm()
            if self._timer is None:
                self._timer = self._loop.call_later(self._scorer.timeout_s, self._expire)
            self._jobs.put((request, call))

    def _work(self) -> None:
        """One thread: the calls and the streams, one after the other."""
        while True:
            request, call = self._jobs.get()
            failure: Optional[BaseException] = None
            try:
                answer = self._scorer.execute(request.data, request.headers, call.started)
                if answer.stream is not None:
                    failure = self._read_stream(request, call, answer)
            except BaseException as trouble:  # a thread that ended would take its place with it
                answer = self._scorer.internal_error(trouble)
            if not self._post(self._ended, request, call, answer, failure, perf_counter()):
                return

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
        if not self._collecting:
            self._collecting = True
            try:
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:  # the process is ending
                return False
        return True

    # --- on the loop ------------------------------------------------------------------------------------------------

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

    def _ended(
        self, request: Request, call: _Running, answer: Answer, failure: Optional[BaseException], now: float
    ) -> None:
        del self._running[request]
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
