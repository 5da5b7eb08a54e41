"""One stream of everything that has to do with a deployment, from its plan to its last request, or of one container of it.

Reads what the journal, the instances and the gateway have written; writes nothing. Whatever is asked for, only as many
lines are held as are answered, and no more than `MOST_BYTES` of text.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from moorings.lib.logfile import Follower, Line, LogSource, backwards, most_telling
from moorings.lib.redaction import Redactor
from moorings.observe import access
from moorings.observe.journal import CONTROL, Journal, Told, entries, told
from moorings.observe.phases import OF_CONTAINER, SERVE, Labels, began_serving
from moorings.observe.query import ALL, SERVER, LogQuery
from moorings.observe.requests import lines_of_requests

MOST_BYTES = 32 * 1024 * 1024
"""Of text in one answer: what is older is left out."""
SETTLE_S = 0.15
"""A line may reach its file this long after it got its stamp."""
FOLLOW_PERIOD_S = 0.2
LOOK_PERIOD_S = 1.0
"""How often new instances are looked for."""
QUEUE_ENTRIES = 1000
CONTROL_PLANE, GATEWAY = "control-plane", "gateway"


@dataclass(frozen=True)
class LogEntry:
    """One line, and where it comes from."""

    at: str
    """UTC, `2026-11-25T16:46:52.123456Z`; "" when it is not known."""
    phase: str
    """One of `phases.PHASES`."""
    container: str
    """`inference-server`, `storage-initializer`, `image-puller`, `control-plane` or `gateway`."""
    instance: str
    """Its id; "" for what is about no instance in particular."""
    text: str

    def to_json(self) -> dict[str, str]:
        return {
            "time": self.at,
            "phase": self.phase,
            "container": self.container,
            "instance": self.instance,
            "text": self.text,
        }


class Logs(Protocol):
    """The part of an engine (`engines/base.py`) that has to do with logs."""

    async def log_sources(self, owner: str) -> Sequence[LogSource]: ...

    async def log_lines(self, owner: str, source: LogSource, *, most: int | None) -> Iterator[Line]: ...

    def follow_log(self, owner: str, source: LogSource, *, after: float) -> AsyncGenerator[Line, None]: ...


class SecretValues(Protocol):
    """Whoever knows secrets tells here which may not be shown."""

    def __call__(self, owner: str) -> Iterable[str]:
        """Values that must not be shown to who reads logs of `<endpoint>/<deployment>`. On a thread."""


@dataclass(frozen=True)
class LogStream:
    engine: Logs
    journal: Journal
    access_log: Path
    secrets: Sequence[SecretValues]
    clock: Callable[[], float]
    """Unix seconds."""

    async def last(self, owner: str, query: LogQuery) -> list[LogEntry] | None:
        """The last lines that fit, oldest first; None when what is asked for has never been up (or, for a deleted
        deployment, when nothing of it is kept)."""
        graves = await asyncio.to_thread(self.journal.graves, owner) if query.deleted else []
        if query.deleted and not graves:
            return None
        sources = _kept_sources(graves[0]) if query.deleted else await self.engine.log_sources(owner)
        passed: list[LogEntry] = []
        if query.request_ids:
            passed, query = await asyncio.to_thread(self._requests, owner, query)
        chosen = _chosen(sources, query)
        if query.container != ALL and not chosen:
            return None
        parts = []
        for source in chosen:
            if query.deleted:
                lines = backwards(graves[0] / source.instance / f"{source.container}.log")
            else:
                lines = await self.engine.log_lines(owner, source, most=_most(query))
            parts.append(self._container(source, lines, query))
        if query.container == ALL:
            folder = graves[0] if query.deleted else self.journal.folder(owner)
            parts.append(_control(folder / CONTROL, query))
            parts.append(iter(passed))
        running = {source.instance for source in chosen if source.running}
        return await asyncio.to_thread(self._collect, owner, parts, query, running)

    async def follow(
        self, owner: str, query: LogQuery, exists: Callable[[], bool]
    ) -> AsyncIterator[LogEntry | None]:
        """The last lines, then new ones as they come, until the caller stops or the deployment is gone. None: nothing
        has come for a while."""
        began = self.clock()
        await asyncio.sleep(SETTLE_S)
        limit = began
        for entry in await self.last(owner, query) or ():
            yield entry
        hide = await asyncio.to_thread(self._redactor, owner)
        queue: asyncio.Queue[LogEntry] = asyncio.Queue(QUEUE_ENTRIES)
        watched: dict[tuple[str, str], asyncio.Task[None]] = {}
        tasks = watched.values()
        try:
            if query.container == ALL:
                watched["", CONTROL] = asyncio.create_task(self._follow_control(owner, query, limit, queue))
            looked_at, new_from = 0.0, limit
            while True:
                now = self.clock()
                if abs(now - looked_at) >= LOOK_PERIOD_S:
                    looked_at = now
                    if not await asyncio.to_thread(exists):
                        while not queue.empty():
                            yield _hidden(queue.get_nowait(), hide)
                        return
                    for source in await self.engine.log_sources(owner):
                        key = (source.instance, source.container)
                        if key not in watched and _fits(source, query):
                            # What came up while we watch is read from its beginning.
                            after = limit if new_from == limit else 0.0
                            watched[key] = asyncio.create_task(
                                self._follow_source(owner, source, query, after, queue)
                            )
                    new_from = now
                try:
                    yield _hidden(await asyncio.wait_for(queue.get(), LOOK_PERIOD_S), hide)
                except TimeoutError:
                    yield None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- parts, each the newest line first ---

    def _requests(self, owner: str, query: LogQuery) -> tuple[list[LogEntry], LogQuery]:
        """What the gateway says of the requests, and the query with all ids they have: callers may have their own."""
        found, ids = [], set(query.request_ids)
        for entry in access.requests_of(self.access_log, owner, query.request_ids[0]):
            ids.add(str(entry.get("request_id")))
            at = str(entry.get("time") or "")
            if at >= query.since:
                found.append(LogEntry(at, SERVE, GATEWAY, "", access.described(entry)))
        return found, replace(query, request_ids=tuple(sorted(ids)))

    def _container(self, source: LogSource, lines: Iterator[Line], query: LogQuery) -> Iterator[LogEntry]:
        fixed = OF_CONTAINER.get(source.container, SERVE)
        timed = _timed(lines, query.since)
        for line in lines_of_requests(timed, query.request_ids) if query.request_ids else timed:
            yield LogEntry(line.at, fixed, source.container, source.instance, line.text)

    def _collect(
        self, owner: str, parts: Sequence[Iterator[LogEntry]], query: LogQuery, running: Collection[str]
    ) -> list[LogEntry]:
        found: list[LogEntry] = []
        left = MOST_BYTES
        for entry in heapq.merge(*parts, key=lambda entry: entry.at, reverse=True):
            left -= len(entry.text)
            if len(found) >= query.lines or left < 0:
                break
            found.append(entry)
        found.reverse()
        texts = self._redactor(owner).text("\n".join(entry.text for entry in found)).split("\n")
        return _labelled([_saying(e, text) for e, text in zip(found, texts, strict=False)], running)

    # --- following ---

    async def _follow_control(
        self, owner: str, query: LogQuery, after: float, queue: asyncio.Queue[LogEntry]
    ) -> None:
        follower = Follower(self.journal.folder(owner) / CONTROL, after=after)
        try:
            while True:
                lines = await asyncio.to_thread(follower.poll)
                for line in lines:
                    found = told(line)
                    if found is not None and _fits_told(found, query) and _fits_text(line, query):
                        await queue.put(_of_control(line, found))
                if not lines:
                    await asyncio.sleep(FOLLOW_PERIOD_S)
        finally:
            follower.close()

    async def _follow_source(
        self, owner: str, source: LogSource, query: LogQuery, after: float, queue: asyncio.Queue[LogEntry]
    ) -> None:
        labels = Labels(source.container, serving=source.running)
        async with contextlib.aclosing(self.engine.follow_log(owner, source, after=after)) as lines:
            async for line in lines:
                phase = labels.of(line.text)
                if _fits_text(line, query):
                    await queue.put(LogEntry(line.at, phase, source.container, source.instance, line.text))

    def _redactor(self, owner: str) -> Redactor:
        return Redactor(value for known in self.secrets for value in known(owner))


def _most(query: LogQuery) -> int | None:
    """How many lines are enough; None where some of them may not be wanted."""
    return None if query.request_ids else query.lines


def _kept_sources(grave: Path) -> list[LogSource]:
    return [
        LogSource(path.parent.name, path.stem, last_at=path.stat().st_mtime) for path in grave.glob("*/*.log")
    ]


def _fits(source: LogSource, query: LogQuery) -> bool:
    return query.container in (ALL, source.container) and query.wants_instance(source.instance)


def _chosen(sources: Sequence[LogSource], query: LogQuery) -> list[LogSource]:
    """All that fit; of one container, when nothing else says which, that of the most telling instance."""
    fitting = [source for source in sources if _fits(source, query)]
    if query.container == ALL or query.instance or query.request_ids:
        return fitting
    best = most_telling(fitting, query.container)
    return [] if best is None else [best]


def _timed(lines: Iterable[Line], since: str) -> Iterator[Line]:
    """Newest first, back to `since`. A line without a time of its own gets that of the one after it."""
    last = ""
    for line in lines:
        last = line.at or last
        if since and last and last < since:
            return
        yield line if line.at else line._replace(at=last)


def _fits_text(line: Line, query: LogQuery) -> bool:
    return not query.request_ids or any(id_ in line.text for id_ in query.request_ids)


def _fits_told(found: Told, query: LogQuery) -> bool:
    return not query.instance or (bool(found.instance) and query.wants_instance(found.instance))


def _control(path: Path, query: LogQuery) -> Iterator[LogEntry]:
    for line, found in entries(path):
        if query.since and line.at < query.since:
            return
        if _fits_told(found, query) and _fits_text(line, query):
            yield _of_control(line, found)


def _of_control(line: Line, found: Told) -> LogEntry:
    return LogEntry(line.at, found.phase, CONTROL_PLANE, found.instance, found.text)


def _labelled(found: Sequence[LogEntry], running: Collection[str]) -> list[LogEntry]:
    """The same with the phases that lines of servers belong to. Oldest first."""
    of: dict[str, list[str]] = {}
    for entry in found:
        if entry.container == SERVER:
            of.setdefault(entry.instance, []).append(entry.text)
    labels = {
        instance: Labels(SERVER, serving=began_serving(texts, running=instance in running))
        for instance, texts in of.items()
    }
    return [replace(e, phase=labels[e.instance].of(e.text)) if e.container == SERVER else e for e in found]


def _saying(entry: LogEntry, text: str) -> LogEntry:
    return entry if text == entry.text else replace(entry, text=text)


def _hidden(entry: LogEntry, hide: Redactor) -> LogEntry:
    return _saying(entry, hide.text(entry.text))
