"""What is asked for, what is kept, and which phase a line belongs to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.engines.fake import FakeEngine
from moorings.errors.exceptions import MooringsError
from moorings.lib.logfile import Line, stamp
from moorings.lib.timing import ManualClock
from moorings.observe import retention
from moorings.observe.journal import Journal, Told, entries
from moorings.observe.phases import Labels, began_serving
from moorings.observe.query import MAX_LINES, LogQuery, parse, since_stamp
from moorings.observe.requests import lines_of_requests
from moorings.observe.retention import Ended, expired
from moorings.observe.stream import LogStream

OWNER = "shop/blue"
NOW = 1_764_089_212.0
READY = "2026-11-25 16:46:52,123 I [7] azmlinfsrv - Worker with pid 7 ready for serving traffic"
REQUEST = "2026-11-25 16:46:52,123 I [7] azmlinfsrv - POST /score 200 0.1ms 2"
ENDED = "moorings: worker 0 ended (exit code 1); it starts again in 1 s"


# --- queries ---


@pytest.mark.parametrize(
    ("text", "seconds_ago"),
    [("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86400), ("500ms", 0.5), ("1.5H", 5400)],
)
def test_since_so_long_ago(text, seconds_ago):
    assert since_stamp(text, NOW) == stamp(NOW - seconds_ago).decode().strip()


def test_since_a_time_in_any_zone():
    assert since_stamp("2026-11-25T16:46:52Z", NOW) == "2026-11-25T16:46:52.000000Z"
    assert since_stamp("2026-11-25T17:46:52+01:00", NOW) == "2026-11-25T16:46:52.000000Z"
    assert since_stamp("2026-11-25", NOW) == "2026-11-25T00:00:00.000000Z"


@given(
    st.dictionaries(
        st.sampled_from(["tail", "containerType", "since", "requestId", "instance"]),
        st.text() | st.integers(),
    )
)
def test_any_body_is_a_query_or_one_error(body):
    try:
        found = parse(body, NOW)
    except MooringsError as problem:
        assert problem.failure.code == "RequestInvalid"
        assert "get-logs -h" in problem.failure.fix
    else:
        assert 0 <= found.lines <= MAX_LINES


# --- phases ---


def test_a_container_serves_from_its_word_until_its_end():
    labels = Labels("inference-server", serving=False)
    said = [
        "Found user script",
        READY,
        REQUEST,
        "print",
        "moorings: worker 0 failed its liveness probe 3 times",
        ENDED,
        "x",
    ]
    assert [labels.of(text) for text in said] == ["boot", "boot", "serve", "serve", "probe", "serve", "boot"]
    assert Labels("storage-initializer", serving=True).of(READY) == "initialise"


def test_an_instance_that_fails_while_it_boots_has_never_served():
    texts = [
        "2026-11-25 16:46:52,123 I [7] azmlinfsrv - moorings-server 0.1.0 on Python 3.11.7, uvloop",
        "2026-11-25 16:46:52,124 E [7] azmlinfsrv - User's init function failed",
        "moorings: worker 0 ended (exit code 3); the instance has failed",
    ]
    assert not began_serving(texts, running=False)
    labels = Labels("inference-server", serving=True)
    assert [labels.of(text) for text in texts] == ["boot"] * 3


def test_what_came_before_the_lines_that_are_seen():
    assert not began_serving(["x", READY, REQUEST], running=True)
    assert began_serving(["x", ENDED, READY], running=False)
    assert began_serving(["x", REQUEST], running=False)
    assert began_serving(["x"], running=True) and not began_serving(["x"], running=False)


# --- one request ---


def server(text: str, ms: int, *, pid: int = 7) -> Line:
    return Line(
        f"2026-11-25T16:46:52.{ms:03}900Z", f"2026-11-25 16:46:52,{ms:03} I [{pid}] azmlinfsrv - {text}"
    )


def raw(text: str, ms: int) -> Line:
    return Line(f"2026-11-25T16:46:52.{ms:03}900Z", text)


def test_what_a_worker_wrote_while_it_had_the_request_is_the_request_s():
    written = [
        server("POST /score 200 5.000ms 2 request_id=before", 90),
        server("print of it", 110),
        server("print of a neighbour", 115, pid=8),
        raw("neighbour's second line", 115),
        server("Encountered Exception Traceback (most recent call last):", 120),
        raw("  File score.py, line 3", 120),
        raw("ValueError: no", 120),
        server("POST /score 500 30.000ms 92 request_id=wanted", 130),
        raw("a warning without a stamp", 125),
        server("POST /score 200 5.000ms 2 request_id=after", 150),
        server("print of the next", 160),
        raw("names wanted itself", 500),
    ]
    found = [
        line.text.partition(" - ")[2] or line.text for line in lines_of_requests(written[::-1], ["wanted"])
    ][::-1]
    assert found == [
        "print of it",
        "Encountered Exception Traceback (most recent call last):",
        "  File score.py, line 3",
        "ValueError: no",
        "POST /score 500 30.000ms 92 request_id=wanted",
        "a warning without a stamp",
        "names wanted itself",
    ]


# --- retention ---


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 1000)), max_size=30),
    st.floats(0, 1e6),
    st.integers(0, 5000),
)
def test_what_is_kept_is_young_and_little_and_the_oldest_go_first(ages, kept_s, kept_bytes):
    all_ = [Ended(Path(str(n)), NOW - age, size) for n, (age, size) in enumerate(ages)]
    gone = expired(all_, NOW, kept_s=kept_s, kept_bytes=kept_bytes)
    kept = [each for each in all_ if each not in gone]
    young = [each for each in kept if NOW - each.at < retention.YOUNGEST_S]
    assert not [each for each in gone if NOW - each.at < retention.YOUNGEST_S]
    assert all(NOW - each.at <= max(kept_s, retention.YOUNGEST_S) for each in kept)
    assert sum(e.size_bytes for e in kept) <= kept_bytes or sum(e.size_bytes for e in kept) == sum(
        e.size_bytes for e in young
    )


def test_sweeping_lets_go_of_what_has_ended_and_of_nothing_that_lives(tmp_path):
    old = NOW - 10 * 86400
    for name in ("shop.blue/shop-blue-a-0", "shop.blue/shop-blue-b-0", "shop.green~uid/shop-green-a-0"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "inference-server.log").write_bytes(b"x" * 100)
        os.utime(folder / "inference-server.log", (old, old))
    (tmp_path / "shop.blue" / "control.log").write_text("x")
    assert retention.sweep(tmp_path, {"shop-blue-b-0"}, NOW, kept_s=11 * 86400, kept_bytes=10**6) == 0
    assert retention.sweep(tmp_path, {"shop-blue-b-0"}, NOW, kept_s=9 * 86400, kept_bytes=10**6) == 2
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"shop.blue/control.log", "shop.blue/shop-blue-b-0/inference-server.log"}
    assert retention.sweep(tmp_path / "none", set(), NOW, kept_s=0, kept_bytes=0) == 0


# --- the journal ---


def test_a_journal_outlives_its_deployment_and_the_next_one_begins_anew(tmp_path):
    journal = Journal(tmp_path)
    journal.note(
        OWNER, [Told("plan", "one\ntwo"), Told("probe", "DB_PASSWORD=hunter2hunter2", "shop-blue-a-0")], NOW
    )
    found = [told for _, told in entries(journal.folder(OWNER) / "control.log")]
    assert found == [
        Told("probe", "DB_PASSWORD=***", "shop-blue-a-0"),
        Told("plan", "two"),
        Told("plan", "one"),
    ]
    journal.end(OWNER, "first", NOW)
    journal.note(OWNER, [Told("plan", "deleted")], NOW)  # killed before the row went, we come here again
    journal.end(OWNER, "first", NOW)
    assert not journal.folder(OWNER).exists()
    journal.note(OWNER, [Told("plan", "new")], NOW)
    journal.end(OWNER, "second", NOW + 1)
    assert [grave.name for grave in journal.graves(OWNER)] == ["shop.blue~second", "shop.blue~first"]
    assert len(list(entries(journal.graves(OWNER)[1] / "control.log"))) == 3
    assert journal.graves("shop/blu") == []


def test_what_nobody_owns_is_put_aside(tmp_path):
    journal = Journal(tmp_path)
    for owner in (OWNER, "shop/green"):
        journal.note(owner, [Told("plan", "x")], NOW)
    journal.end_others({OWNER}, journal.folder(OWNER).stat().st_mtime + 100)
    assert journal.folder(OWNER).exists()
    assert len(journal.graves("shop/green")) == 1


def test_a_full_disk_loses_lines_and_nothing_else(tmp_path):
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file")
    journal.note(OWNER, [Told("plan", "x")], NOW)
    journal.end(OWNER, "uid", NOW)


# --- the stream ---


@pytest.fixture
def stream(tmp_path):
    clock = ManualClock()
    return LogStream(FakeEngine(clock), Journal(tmp_path / "logs"), tmp_path / "access.log", (), clock.now)


def leave(stream, texts, *, at=NOW, instance="shop-blue-a-0", container="inference-server"):
    lines = [Line(stamp(at + n).decode().strip(), text) for n, text in enumerate(texts)]
    stream.engine.leave_log(OWNER, container, instance, lines)


async def test_a_large_log_is_answered_within_bounds(stream):
    leave(stream, ["y" * 10_000] * 5000)
    found = await stream.last(OWNER, LogQuery(lines=100_000))
    assert sum(len(entry.text) for entry in found) <= 32 * 1024 * 1024
