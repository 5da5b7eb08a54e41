"""One stream of everything that has to do with a deployment, from its plan to its last request, or of one container of it.

Reads what the journal, the instances and the gateway have written; writes nothing. Whatever is asked for, only as many
lines are held as are answered, and no more than `MOST_BYTES` of text.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from moorings.lib.logfile import Line, LogSource, backwards, most_telling
from moorings.lib.redaction import Redactor
from moorings.observe import access
from moorings.observe.journal import CONTROL, Journal, Told, entries
from moorings.observe.phases import OF_CONTAINER, SERVE, Labels, began_serving
from moorings.observe.query import ALL, SERVER, LogQuery
from moorings.observe.requests import lines_of_requests

MOST_BYTES = 32 * 1024 * 1024
"""Of text in one answer: what is older is left out."""
PART_CHARS = 256 * 1024
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
        return _labelled(without_secrets(found, self.redactor(owner)), running)

    def redactor(self, owner: str) -> Redactor:
        """What takes out of lines what must not be shown to who reads them. On a thread."""
        return Redactor(value for known in self.secrets for value in known(owner))


def _most(query: LogQuery) -> int | None:
    """How many lines are enough; None where some of them may not be wanted."""
    return None if query.request_ids else query.lines


def _kept_sources(grave: Path) -> list[LogSource]:
    return [
        LogSource(path.parent.name, path.stem, last_at=path.stat().st_mtime) for path in grave.glob("*/*.log")
    ]


def fits(source: LogSource, query: LogQuery) -> bool:
    return query.container in (ALL, source.container) and query.wants_instance(source.instance)


def _chosen(sources: Sequence[LogSource], query: LogQuery) -> list[LogSource]:
    """All that fit; of one container, when nothing else says which, that of the most telling instance."""
    fitting = [source for source in sources if fits(source, query)]
    if query.container == ALL or query.instance or query.request_ids:
        return fitting
    best = most_telling(fitting, query.container)
    return [] if best is None else [best]


def _timed(lines: Iterable[Line], since: str) -> Iterator[Line]:
    """Newest first, back to `since`. A line without a time of its own gets that of the one after it."""
    last = ""
    for line in lines:
        last = line.at or last
        if last and last < since:
            return
        yield line if line.at else line._replace(at=last)


def _fits_text(line: Line, query: LogQuery) -> bool:
    return not query.request_ids or any(id_ in line.text for id_ in query.request_ids)


def fits_told(found: Told, query: LogQuery) -> bool:
    return not query.instance or (bool(found.instance) and query.wants_instance(found.instance))


def _control(path: Path, query: LogQuery) -> Iterator[LogEntry]:
    for line, found in entries(path):
        if line.at < query.since:
            return
        if fits_told(found, query) and _fits_text(line, query):
            yield of_control(line, found)


def of_control(line: Line, found: Told) -> LogEntry:
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


def without_secrets(entries: Sequence[LogEntry], hide: Redactor) -> list[LogEntry]:
    """The same lines without what `hide` knows. Many lines at once, for speed, but not all of them, for room."""
    safe: list[LogEntry] = []
    for part in _parts(entries):
        texts = hide.text("\n".join(entry.text for entry in part)).split("\n")
        safe += [
            entry if text == entry.text else replace(entry, text=text)
            for entry, text in zip(part, texts, strict=True)
        ]
    return safe


def _parts(entries: Sequence[LogEntry]) -> Iterator[Sequence[LogEntry]]:
    begin = chars = 0
    for index, entry in enumerate(entries):
        if chars > PART_CHARS:
            yield entries[begin:index]
            begin, chars = index, 0
        chars += len(entry.text)
    if begin < len(entries):
        yield entries[begin:]
