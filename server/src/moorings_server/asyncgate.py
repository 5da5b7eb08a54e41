"""The gate of an `async def run`: up to `limit` calls at once, as tasks on the event loop.

Knows scoring and a `Client` that takes the answer; nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import Any, AsyncIterator, Callable, Deque, Dict, Iterator, List, Optional

from moorings_server.gate import NEVER, Request, end_stream
from moorings_server.results import Answer, part_bytes, stream_head
from moorings_server.scoring import Scorer, ScoringTimeout
from moorings_server.sentinel import RunWatch


class _Call:
    """A task; `started` is when it, or the current part of its stream, began."""

    __slots__ = ("expired", "opened", "started", "task")

    def __init__(self, started: float) -> None:
        self.started = started
        self.task: Any = None
        self.opened = False
        self.expired = False


class AsyncGate:
    """A call that exceeds the timeout is answered and cancelled; one whose client has gone is cancelled. Its place is
    free when it has ended."""

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
        self._calls: Dict[Request, _Call] = {}
        self._timer: Optional[asyncio.TimerHandle] = None

    @property
    def busy(self) -> bool:
        return bool(self._queue) or bool(self._calls)

    def oldest(self) -> float:
        """When the oldest call that has not ended began (perf_counter seconds); 0.0 when there is none. May be
        called from any thread."""
        try:
            return min((call.started for call in self._calls.values()), default=0.0)
        except RuntimeError:  # a call began or ended meanwhile
            return 0.0

    def full_since(self) -> float:
        """See `InlineGate.full_since`. Who waits for a client that reads slowly counts as just begun."""
        if len(self._calls) < self.limit:
            return 0.0
        try:
            return max((call.started for call in self._calls.values()), default=0.0)
        except RuntimeError:  # a call began or ended meanwhile
            return 0.0

    def running(self) -> List[Request]:
        return list(self._calls)

    def tasks(self) -> List[Any]:
        return [call.task for call in list(self._calls.values())]

    def left(self, request: Request) -> None:
        """The client of a request that is being scored has gone: nobody waits for the rest of its call."""
        call = self._calls.get(request)
        if call is not None:
            call.task.cancel()

    def submit(self, request: Request) -> None:
        """Queue a request; its client's `finish` or `drop` is called later, on the loop."""
        self._queue.append(request)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._queue and len(self._calls) < self.limit:
            request = self._queue.popleft()
            if request.client.gone:
                request.client.drop(request)
                continue
            call = self._calls[request] = _Call(perf_counter())
            self._watch.arm()
            if self._timer is None:
                self._timer = self._loop.call_later(self._scorer.timeout_s, self._expire)
            call.task = self._loop.create_task(self._run(request, call))
            call.task.add_done_callback(lambda task, request=request: self._ended(request, task))

    async def _run(self, request: Request, call: _Call) -> None:
        answer = await self._scorer.execute_async(request.data, request.headers, call.started)
        if request.answered:
            return
        if answer.stream is None:
            request.client.finish(request, answer, perf_counter())
            return
        failure = await self._read_stream(request, call, answer)
        if not request.answered:
            end_stream(self._scorer, request, answer, call.opened, failure)

    async def _read_stream(self, request: Request, call: _Call, answer: Answer) -> Optional[BaseException]:
        """Send the parts as they come; what the stream raised. Raises CancelledError."""
        client, stream, began = request.client, answer.stream, call.started
        parts = stream if hasattr(stream, "__anext__") else _paced(stream)
        try:
            async for part in parts:
                data = part_bytes(part)
                if client.gone or request.answered:
                    break
                if call.opened:
                    client.send_part(request, data)
                else:
                    call.opened = True
                    answer.exec_ms = (perf_counter() - began) * 1000
                    client.open_stream(request, answer, stream_head(answer, part), data)
                if client.full:
                    call.started = NEVER
                    room = self._loop.create_future()
                    client.when_room(lambda room=room: room.done() or room.set_result(None))
                    await room
                else:
                    await asyncio.sleep(0)  # a stream that never waits must not keep the loop to itself
                call.started = perf_counter()
        except asyncio.CancelledError:
            raise
        except BaseException as failure:  # user code may raise anything
            return failure
        finally:
            close = getattr(parts, "aclose", None)
            if close is not None:
                try:
                    await close()
                except Exception as trouble:  # user code runs in `finally` blocks too
                    self._scorer.broke_off(trouble)
        return None

    def _ended(self, request: Request, task: Any) -> None:
        """A task is done, in whatever way: its place is free."""
        call = self._calls.pop(request)
        failure = None if task.cancelled() else task.exception()
        if not request.answered:
            if call.opened:
                request.client.end_stream(request, None, False, perf_counter())
            elif request.client.gone:
                request.client.drop(request)
            else:  # the script cancelled its own task, or a failure of ours
                answer = self._scorer.raised(failure or asyncio.CancelledError("run() was cancelled"))
                request.client.finish(request, answer, perf_counter())
        elif failure is not None:
            self._scorer.broke_off(failure)
        self._dispatch()
        if not self.busy:
            self._on_idle()

    def _expire(self) -> None:
        """Answer and cancel the calls that are too old, and look again when the next one is."""
        now, limit_s = perf_counter(), self._scorer.timeout_s
        self._timer = None
        next_s, waiting = limit_s, False
        for request, call in list(self._calls.items()):
            left_s = limit_s - (now - call.started)
            if call.expired:
                continue
            if left_s > 0:
                waiting = True
                next_s = min(next_s, left_s)
                continue
            call.expired = True
            if call.opened:
                end_stream(self._scorer, request, None, True, ScoringTimeout())  # type: ignore[arg-type]
            elif not request.answered:
                request.client.finish(request, self._scorer.timed_out(), now)
            call.task.cancel()
        if waiting:
            self._timer = self._loop.call_later(next_s, self._expire)


async def _paced(stream: Iterator[Any]) -> AsyncIterator[Any]:
    """An ordinary generator as an async one."""
    try:
        for part in stream:
            yield part
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()
