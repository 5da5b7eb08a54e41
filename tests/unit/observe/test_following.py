"""Following real log files while they are written, rotated and left behind: no line twice, none left out."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

import pytest

from moorings.engines.logfolder import LogFolder
from moorings.errors.exceptions import error
from moorings.lib.logfile import Line, LogSource, RotatingWriter, stamp
from moorings.observe import following
from moorings.observe.following import follow
from moorings.observe.journal import Journal, Told
from moorings.observe.query import LogQuery
from moorings.observe.stream import LogStream

OWNER = "shop/blue"


class Files:
    """The part of an engine that has to do with logs, over files; `living` are the instances that are there."""

    def __init__(self, root: Path) -> None:
        self.folder = LogFolder(root)
        self.living: set[str] = set()

    async def log_sources(self, owner: str) -> Sequence[LogSource]:
        return [s._replace(ended=s.instance not in self.living) for s in self.folder.sources(owner)]

    async def log_lines(self, owner: str, source: LogSource, *, most: int | None) -> Iterator[Line]:
        return itertools.islice(self.folder.lines(owner, source), most)

    def follow_log(self, owner: str, source: LogSource, *, after: float) -> AsyncGenerator[Line, None]:
        return self.folder.follow(owner, source, after=after, there=lambda: source.instance in self.living)

    def writer(self, instance: str, *, file_bytes: int = 1 << 20, files: int = 4) -> RotatingWriter:
        self.living.add(instance)
        path = self.folder.instance(OWNER, instance)
        path.mkdir(parents=True, exist_ok=True)
        return RotatingWriter(path / "inference-server.log", file_bytes=file_bytes, files=files)


def say(writer: RotatingWriter, *texts: str, at: float | None = None) -> None:
    mark = stamp(time.time() if at is None else at)
    writer.write(b"".join(mark + text.encode() + b"\n" for text in texts))


class Reader:
    """Somebody who follows, in this loop."""

    def __init__(self, stream: LogStream, query: LogQuery) -> None:
        self.stream, self.query, self.there = stream, query, True
        self.seen: list[str] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for entry in follow(self.stream, OWNER, self.query, lambda: self.there):
            if entry is not None:
                self.seen.append(entry.text)

    async def until(self, *texts: str) -> None:
        async with asyncio.timeout(30):
            while not set(texts) <= set(self.seen):
                assert not self.task.done()
                await asyncio.sleep(0.005)

    async def end(self) -> list[str]:
        self.stream.engine.living.clear()
        self.there = False
        async with asyncio.timeout(30):
            await self.task
        return self.seen


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogStream:
    for name, seconds in {
        "LOOK_PERIOD_S": 0.05,
        "MERGE_S": 0.02,
        "PERIOD_S": 0.02,
        "REQUEST_PERIOD_S": 0.02,
    }.items():
        monkeypatch.setattr(following, name, seconds)
    monkeypatch.setattr("moorings.engines.logfolder.FOLLOW_PERIOD_S", 0.01)
    root = tmp_path / "logs"
    return LogStream(Files(root), Journal(root), tmp_path / "access.log", (), time.time)


async def test_the_last_lines_then_new_ones_of_everything_and_an_end(stream: LogStream) -> None:
    a = stream.engine.writer("shop-blue-a-0")
    stream.journal.note(OWNER, [Told("plan", "accepted")], time.time() - 20)
    say(a, "old", at=time.time() - 10)
    reader = Reader(stream, LogQuery(container="all"))
    await reader.until("accepted", "old")
    say(a, "new")
    await reader.until("new")
    stream.journal.note(OWNER, [Told("probe", "ready")], time.time())
    await reader.until("ready")
    say(stream.engine.writer("shop-blue-b-0"), "another instance")
    await reader.until("another instance")
    assert await reader.end() == ["accepted", "old", "new", "ready", "another instance"]


async def test_every_line_once_and_in_order_whenever_somebody_begins(stream: LogStream) -> None:
    """One writes all the time, over rotations; readers come at any moment."""
    written = itertools.count()
    say(stream.engine.writer("shop-blue-old-0"), *(f"old {n}" for n in range(100)), at=time.time() - 1000)
    writer = stream.engine.writer("shop-blue-a-0", file_bytes=4000, files=1000)
    say(writer, *(f"line {next(written)}" for _ in range(100)))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            say(writer, *(f"line {next(written)}" for _ in range(3)))
            time.sleep(0.0005)

    thread = threading.Thread(target=write)
    thread.start()
    readers = []
    for _ in range(8):
        readers.append(Reader(stream, LogQuery(container="all", lines=50)))
        await asyncio.sleep(0.03)
    stop.set()
    await asyncio.to_thread(thread.join)
    total = next(written)
    for reader in readers:
        seen = await reader.end()
        first = int(seen[0].split()[1])
        assert seen == [f"line {n}" for n in range(first, total)]


async def test_the_last_words_before_the_end_are_heard(stream: LogStream) -> None:
    a = stream.engine.writer("shop-blue-a-0")
    say(a, "begun")
    reader = Reader(stream, LogQuery(container="all"))
    await reader.until("begun")
    say(a, *(f"word {n}" for n in range(5000)), "the last word")
    stream.journal.note(OWNER, [Told("plan", "deleted")], time.time() + 1)
    stream.engine.living.clear()
    seen = await reader.end()
    assert "deleted" in seen, "from another log, so in an order that depends on who was read first"
    assert [text for text in seen if text != "deleted"] == [
        "begun",
        *(f"word {n}" for n in range(5000)),
        "the last word",
    ]


async def test_lines_of_the_next_deployment_of_this_name_are_not_its_lines(stream: LogStream) -> None:
    a = stream.engine.writer("shop-blue-a-0")
    say(a, "begun")
    stream.journal.note(OWNER, [Told("plan", "accepted")], time.time())
    reader = Reader(stream, LogQuery(container="all"))
    await reader.until("begun", "accepted")
    say(a, "heard")
    await reader.until("heard")
    say(a, "the last word")
    now = time.time()
    stream.journal.note(OWNER, [Told("plan", "deleted")], now)
    stream.journal.end(OWNER, "uid", now)
    reader.there = False
    again = stream.engine.writer("shop-blue-a-0")
    stream.journal.note(OWNER, [Told("plan", "accepted again")], time.time() + 0.1)
    for n in range(200):
        say(again, f"next {n}", at=time.time() + 0.1)
        await asyncio.sleep(0.001)
    seen = await reader.end()
    assert sorted(seen) == ["accepted", "begun", "deleted", "heard", "the last word"]


async def test_an_instance_that_comes_and_goes_between_two_looks_is_heard(stream: LogStream) -> None:
    say(stream.engine.writer("shop-blue-a-0"), "begun")
    reader = Reader(stream, LogQuery(container="all"))
    await reader.until("begun")
    say(stream.engine.writer("shop-blue-b-0"), "came", "and went")
    stream.engine.living.discard("shop-blue-b-0")
    await reader.until("came", "and went")
    say(stream.engine.writer("shop-blue-b-0"), "came back")
    await reader.until("came back")
    assert await reader.end() == ["begun", "came", "and went", "came back"]


async def test_what_ended_long_ago_is_not_followed(
    stream: LogStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = time.time() - 1000
    for n in range(20):
        say(stream.engine.writer(f"shop-blue-old-{n}"), f"old {n}", at=past)
    for path in stream.journal.root.rglob("*.log"):
        os.utime(path, (past, past))
    stream.engine.living.clear()
    say(stream.engine.writer("shop-blue-a-0"), "new")
    asked: list[str] = []
    original = stream.engine.follow_log

    def follow_log(owner: str, source: LogSource, *, after: float) -> AsyncGenerator[Line, None]:
        asked.append(source.instance)
        return original(owner, source, after=after)

    monkeypatch.setattr(stream.engine, "follow_log", follow_log)
    reader = Reader(stream, LogQuery(container="all"))
    await reader.until("old 19", "new")
    await asyncio.sleep(0.2)
    await reader.end()
    assert asked == ["shop-blue-a-0"]


async def test_an_engine_that_is_away_for_a_while_hides_nothing_and_repeats_nothing(
    stream: LogStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = stream.engine.writer("shop-blue-a-0")
    say(a, "old")
    sources, away = stream.engine.log_sources, [False]

    async def log_sources(owner: str) -> Sequence[LogSource]:
        if away[0]:
            raise error("DockerEngineNotAvailable", "the engine is away")
        return await sources(owner)

    monkeypatch.setattr(stream.engine, "log_sources", log_sources)
    reader = Reader(stream, LogQuery(container="all"))
    await reader.until("old")
    away[0] = True
    await asyncio.sleep(0.1)
    say(a, "meanwhile")
    await asyncio.sleep(0.1)
    away[0] = False
    await reader.until("meanwhile")
    assert await reader.end() == ["old", "meanwhile"]


async def test_lines_of_several_instances_are_in_the_order_of_their_times(
    stream: LogStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MERGE_S", 1.0)
    writers = [stream.engine.writer(f"shop-blue-a-{n}") for n in range(4)]
    for writer in writers:
        say(writer, "begun")
    reader = Reader(stream, LogQuery(container="all"))
    await reader.until("begun")
    await asyncio.sleep(0.1)
    for n in range(40):
        say(writers[n % 4], f"{n:02}")
    await reader.until("39")
    assert (await reader.end())[4:] == [f"{n:02}" for n in range(40)]


async def test_a_request_is_followed_with_all_its_lines(stream: LogStream) -> None:
    a = stream.engine.writer("shop-blue-a-0")
    say(a, "not about it")
    reader = Reader(stream, LogQuery(container="all", request_ids=("order-1",)))
    await asyncio.sleep(0.1)
    now = time.time()
    wall = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now)) + f",{int(now % 1 * 1000):03}"
    say(
        a,
        f"{wall} I [7] azmlinfsrv.print - a word of it",
        f"{wall} I [7] azmlinfsrv - POST /score 200 5.000ms 2 request_id=r-1",
    )
    entry = {
        "time": stamp(now).decode().strip(),
        "endpoint": "shop",
        "deployment": "blue",
        "code": 200,
        "path": "/score",
    }
    entry |= {"method": "POST", "request_id": "r-1", "client_request_id": "order-1", "total_ms": 6}
    stream.access_log.write_text(json.dumps(entry) + "\n")
    async with asyncio.timeout(20):
        while len(reader.seen) < 3:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    seen = await reader.end()
    assert len(seen) == 3 and any("a word of it" in text for text in seen)
