"""A log as it is being written: the last lines, then new ones of everything that writes, in the order of their times, until
the deployment is gone. No line twice, none left out.

What is there to be followed is looked up each second; a log ends with its instance. Must not know how lines are stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from moorings.errors.exceptions import MooringsError
from moorings.lib.logfile import Follower, LogSource, stamp
from moorings.lib.redaction import Redactor
from moorings.observe.journal import CONTROL, told
from moorings.observe.phases import Labels
from moorings.observe.query import ALL, MAX_LINES, LogQuery
from moorings.observe.stream import (
    MOST_BYTES,
    LogEntry,
    LogStream,
    fits,
    fits_told,
    of_control,
    without_secrets,
)

logger = logging.getLogger(__name__)

OVERLAP_S = 3.0
"""A line may reach its file so long after it got its stamp: what is older than that was there to be read."""
PERIOD_S = 0.2
MERGE_S = 0.2
"""Lines of several logs are put in order when they come within so long."""
LOOK_PERIOD_S = 1.0
"""How often new instances are looked for."""
QUEUE_ENTRIES = 1000
END_S = 60.0
"""How long what is left to be read is waited for once the deployment is gone."""
QUIET_S = 0.8
"""When no line has come for so long, all that was left has been read."""
SAME_MOMENT_S = 0.001
REQUEST_PERIOD_S = 2.0
LONGEST_REQUEST_S = 240.0
"""A request that is told of now began no longer ago."""
LOOK_SHARE = 0.1
"""Of its time, a look for the lines of requests may take so much."""

Key = tuple[str, str]
"""Instance and container."""


async def follow(
    stream: LogStream, owner: str, query: LogQuery, exists: Callable[[], bool]
) -> AsyncIterator[LogEntry | None]:
    """The last lines, then new ones as they come, until the caller stops or `exists` (called on a thread) says that the
    deployment is gone. None: nothing has come for a while."""
    began = stream.clock()
    last = await stream.last(owner, query) or []
    for entry in last:
        yield entry
    if query.request_ids:
        more = _of_requests(stream, owner, query, exists, last)
    else:
        more = _Watch(stream, owner, query, exists, _Shown(last, query, began, stream.clock())).entries()
    async with contextlib.aclosing(more):
        async for found in more:
            yield found


async def _of_requests(
    stream: LogStream, owner: str, query: LogQuery, exists: Callable[[], bool], known: list[LogEntry]
) -> AsyncGenerator[LogEntry | None, None]:
    """Which lines belong to a request is told by what comes after them, so what is there is looked through each time."""
    seen = Counter(map(_identity, known))
    loop = asyncio.get_running_loop()
    # What was left out at first, for there was too much, does not come now.
    earliest = max(query.since, known[0].at) if known and len(known) >= query.lines else query.since
    there = True
    while there:
        there = await asyncio.to_thread(exists)
        began = loop.time()
        since = max(earliest, _text(stream.clock() - LONGEST_REQUEST_S))
        found = await stream.last(owner, replace(query, since=since, lines=MAX_LINES)) or []
        left = Counter(seen)
        for entry in found:
            if left[_identity(entry)] > 0:
                left[_identity(entry)] -= 1
            else:
                yield entry
        seen = Counter(map(_identity, found))
        yield None
        if there:
            await asyncio.sleep(max(REQUEST_PERIOD_S, (loop.time() - began) / LOOK_SHARE))


class _Shown:
    """What was shown at first, so that what is read of the same moments afterwards is not shown again."""

    def __init__(self, last: list[LogEntry], query: LogQuery, began: float, ended: float) -> None:
        """It was read between `began` and `ended`."""
        self.since_s = began - OVERLAP_S
        """What is older was all there to be read."""
        self._end = _text(ended)
        left_out = len(last) >= query.lines or sum(len(entry.text) for entry in last) > MOST_BYTES * 0.9
        self._left_out = (last[0].at if last else _text(began)) if left_out else ""
        self._since = query.since
        self._entries = Counter(_identity(entry) for entry in last if entry.at > _text(self.since_s))

    def holds(self, entry: LogEntry) -> bool:
        """Whether this one was shown, or left out for there was too much. To be asked once for each."""
        if entry.at > self._end:
            return False
        if entry.at <= self._left_out or entry.at < self._since:
            return True
        key = _identity(entry)
        if self._entries[key] <= 0:
            return False
        self._entries[key] -= 1
        return True


@dataclass
class _Watch:
    """Everything that may write something about one deployment."""

    stream: LogStream
    owner: str
    query: LogQuery
    exists: Callable[[], bool]
    shown: _Shown
    _queue: asyncio.Queue[LogEntry] = field(default_factory=lambda: asyncio.Queue(QUEUE_ENTRIES))
    _tasks: dict[Key, asyncio.Task[None]] = field(default_factory=dict)
    _reached: dict[Key, str] = field(default_factory=dict)
    """The stamp of the last line of each log that was given."""
    _written_at: dict[Key, float] = field(default_factory=dict)
    """When each log was written last, as far as it was known when somebody began to read it."""
    _gone: bool = False
    _listed: bool = False
    """Whether it was ever known which logs there are."""
    _hide: Redactor = field(default_factory=Redactor)

    async def entries(self) -> AsyncGenerator[LogEntry | None, None]:
        loop = asyncio.get_running_loop()
        looked_at: float | None = None
        try:
            if self.query.container == ALL:
                self._tasks["", CONTROL] = asyncio.create_task(self._control())
            while not self._gone:
                if looked_at is None or loop.time() - looked_at >= LOOK_PERIOD_S:
                    await self._look()
                    looked_at = loop.time()
                batch = await self._batch(LOOK_PERIOD_S)
                self._gone = not await asyncio.to_thread(self.exists)
                for entry in await self._of_this_one(batch) or (None,):
                    yield entry
            ended_at = heard_at = loop.time()
            while loop.time() < min(heard_at + QUIET_S, ended_at + END_S):
                for entry in await self._of_this_one(await self._batch(PERIOD_S)):
                    heard_at = loop.time()
                    yield entry
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _of_this_one(self, batch: list[LogEntry]) -> list[LogEntry]:
        """Without what is the next deployment's of this name already."""
        if not self._gone or not batch:
            return batch
        graves = await asyncio.to_thread(self.stream.journal.graves, self.owner)
        with contextlib.suppress(IndexError, OSError):
            ended = _text(graves[0].stat().st_mtime + SAME_MOMENT_S)
            return [entry for entry in batch if entry.at <= ended]
        return batch

    async def _batch(self, patience_s: float) -> list[LogEntry]:
        """What has come, in order; [] when nothing does for so long."""
        try:
            async with asyncio.timeout(patience_s):
                found = [await self._queue.get()]
        except TimeoutError:
            return []
        if (
            self._queue.qsize() < QUEUE_ENTRIES // 2
        ):  # else somebody writes faster than is read: there is no time for that
            await asyncio.sleep(MERGE_S)
        while not self._queue.empty():
            found.append(self._queue.get_nowait())
        found.sort(key=lambda entry: entry.at)
        return await asyncio.to_thread(without_secrets, found, self._hide)

    async def _look(self) -> None:
        """Begin to read whatever is not being read and may have something new."""
        self._hide = await asyncio.to_thread(self.stream.redactor, self.owner)
        try:
            sources = await self.stream.engine.log_sources(self.owner)
        except MooringsError as problem:  # the engine is away: it may come back
            logger.debug("the logs of %s cannot be listed: %s", self.owner, problem)
            return
        first, self._listed = not self._listed, True
        for source in sources:
            key = (source.instance, source.container)
            if not fits(source, self.query) or not _may_begin(self._tasks.get(key)):
                continue
            # What comes up while we watch is read from its beginning.
            reached = self._reached.setdefault(key, _text(self.shown.since_s) if first else "")
            written_at = self._written_at.setdefault(key, self.shown.since_s if first else 0.0)
            if not source.ended or source.last_at > written_at:
                self._written_at[key] = source.last_at
                self._tasks[key] = asyncio.create_task(self._source(source, reached))

    async def _source(self, source: LogSource, after: str) -> None:
        labels = Labels(source.container, serving=source.running)
        lines = self.stream.engine.follow_log(self.owner, source, after=_seconds(after))
        last_at = after
        async with contextlib.aclosing(lines):
            async for line in lines:
                if line.at and line.at <= after:
                    continue  # seconds are not as exact as stamps
                after, last_at = "", line.at or last_at
                phase = labels.of(line.text)
                entry = LogEntry(last_at, phase, source.container, source.instance, line.text)
                if not self.shown.holds(entry):
                    await self._queue.put(entry)
                self._reached[source.instance, source.container] = last_at

    async def _control(self) -> None:
        follower = Follower(self.stream.journal.folder(self.owner) / CONTROL, after=self.shown.since_s)
        try:
            while True:
                gone = self._gone  # before the look: after it all there is has been seen
                lines = await asyncio.to_thread(follower.poll)
                for line in lines:
                    found = told(line)
                    if found is None or not fits_told(found, self.query):
                        continue
                    entry = of_control(line, found)
                    if not self.shown.holds(entry):
                        await self._queue.put(entry)
                if not lines:
                    if gone:
                        return
                    await asyncio.sleep(PERIOD_S)
        finally:
            follower.close()


def _may_begin(task: asyncio.Task[None] | None) -> bool:
    """Whether nobody reads. A reader that broke is told of, and another one may do better."""
    if task is None:
        return True
    if task.done() and (problem := task.exception()) is not None:
        logger.warning("a log could not be followed: %s", problem)
    return task.done()


def _identity(entry: LogEntry) -> LogEntry:
    return replace(entry, phase="")


def _text(seconds: float) -> str:
    return stamp(seconds).decode().strip()


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
