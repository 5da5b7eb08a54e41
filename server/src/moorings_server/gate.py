"""How many `run()` calls happen at once, and who waits: at most `limit`, first come first served, never more.

The gates have one interface and are chosen at boot: `InlineGate` (limit 1: on the event loop itself) here, `ThreadGate`
(limit > 1), `AsyncGate` (`async def run`) and `BatchGate` in modules of their own. A place is free only when its
work has ended, whatever became of the client. A gate knows scoring and a `Client` that takes the answer; it knows
nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import Any, Callable, Deque, List, Optional, Tuple

from moorings_server.results import Answer, part_bytes, stream_head
from moorings_server.scoring import Scorer, ScoringTimeout
from moorings_server.sentinel import RunWatch

TURN_BUDGET_S = 0.001
SUSPECT_TURNS = 3
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
        "collect",
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
    collect: Optional[bytes]
    """Not there in the usual request."""
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

    def full_since(self) -> float:
        """Since when nothing else can begin, because the calls that run take every place: when the newest of them began
        (perf_counter seconds); 0.0 while a place is free. May be called from any thread."""
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
