"""The gate: never more than its limit at once, first come first served, nobody runs for a client that has left."""

from __future__ import annotations

import time
from typing import Any

import pytest

# run() keeps count of itself in a file, because nothing else can be asked while it is running.
COUNTING = """
    import json, threading, time
    lock = threading.Lock()
    now = most = 0
    ran = []
    def init(): pass
    def run(data):
        global now, most
        if data == "stats":
            return {"most": most, "ran": ran}
        with lock:
            now += 1
            most = max(most, now)
            ran.append(data)
        time.sleep(float(data.split()[0]))
        with lock:
            now -= 1
        return data
"""
ASYNC = """
    import asyncio
    now = most = 0
    ran = []
    def init(): pass
    async def run(data):
        global now, most
        if data == "stats":
            return {"most": most, "ran": ran}
        now += 1
        most = max(most, now)
        ran.append(data)
        try:
            await asyncio.sleep(float(data.split()[0]))
        finally:
            now -= 1
        return data
"""
KINDS = pytest.mark.parametrize(
    ("script", "limit"),
    [(COUNTING, 1), (COUNTING, 3), (ASYNC, 1), (ASYNC, 3)],
    ids=["inline", "threads", "async1", "async3"],
)
LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])


@KINDS
@LOOPS
def test_exactly_the_limit_runs_at_once_and_in_order(
    start: Any, make_post: Any, script: str, limit: int, loop: str
) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT=str(limit), MOORINGS_SERVER_LOOP=loop).ready()
    names = [f"0.05 {number}" for number in range(12)]
    wires = []
    for name in names:
        wires.append(worker.connect().send(make_post(name.encode())))
        time.sleep(0.002)
    assert [wire.read().json for wire in wires] == names
    stats = worker.score(b"stats").json
    assert stats["most"] == limit
    if limit == 1:
        assert stats["ran"] == names
    assert sorted(stats["ran"]) == sorted(names)


@KINDS
@LOOPS
@pytest.mark.parametrize("read_before", [True, False], ids=["request-was-read", "request-was-not-read"])
def test_a_queued_request_whose_client_has_left_does_not_run(
    start: Any, make_post: Any, script: str, limit: int, loop: str, read_before: bool
) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT=str(limit), MOORINGS_SERVER_LOOP=loop).ready()
    queued = [] if not read_before else [worker.connect() for _ in range(6)]
    for wire in queued:  # the loop knows these connections already
        wire.send(make_post(b"0 warm")).read()
    running = [worker.connect().send(make_post(b"0.4 first")) for _ in range(limit)]
    time.sleep(0.1)
    queued = queued or [worker.connect() for _ in range(6)]
    for number, wire in enumerate(queued):
        wire.send(make_post(b"0 %d" % number))
        if not read_before:
            time.sleep(0.002)
    time.sleep(0.1)
    for wire in queued[:5]:
        wire.close()
    assert [wire.read().json for wire in running] == ["0.4 first"] * limit
    assert queued[5].read().json == "0 5"
    ran = worker.score(b"stats").json["ran"]
    assert [name for name in ran if name[0:2] == "0 " and name != "0 warm"] == ["0 5"]
    assert worker.wait_for_log(" 499 ").count(" 499 ") == 5


def test_work_of_a_client_that_left_keeps_its_place(start: Any, make_post: Any) -> None:
    worker = start(COUNTING, MOORINGS_MAX_CONCURRENT="2").ready()
    for _ in range(2):
        wire = worker.connect().send(make_post(b"0.5 left"))
        time.sleep(0.05)
        wire.close()
    assert worker.score(b"0 later").json == "0 later"
    stats = worker.score(b"stats").json
    assert (stats["most"], stats["ran"]) == (2, ["0.5 left", "0.5 left", "0 later"])


def test_an_async_run_whose_client_left_is_cancelled_and_keeps_its_place_until_it_has_ended(
    start: Any, make_post: Any
) -> None:
    script = """
        import asyncio
        running = most = 0
        seen = []
        def init(): pass
        async def run(data):
            global running, most
            if data == "stats":
                return {"most": most, "seen": seen}
            running += 1
            most = max(most, running)
            try:
                await asyncio.sleep(20 if data == "left" else 0)
            except asyncio.CancelledError:
                await asyncio.sleep(0.3)
                seen.append("cancelled")
                raise
            finally:
                running -= 1
            seen.append(data)
    """
    worker = start(script, MOORINGS_MAX_CONCURRENT="1").ready()
    wire = worker.connect().send(make_post(b"left"))
    time.sleep(0.1)
    wire.close()
    assert worker.score(b"later").status == 200
    assert worker.score(b"stats").json == {"most": 1, "seen": ["cancelled", "later"]}
    assert worker.wait_for_log(" 499 ").count("Exception") == 0


@pytest.mark.parametrize(
    ("script", "limit"), [(COUNTING, 1), (COUNTING, 2), (ASYNC, 1)], ids=["inline", "threads", "async"]
)
def test_a_run_that_takes_too_long_is_answered(start: Any, make_post: Any, script: str, limit: int) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT=str(limit), SCORING_TIMEOUT_MS="200").ready()
    answer = worker.score(b"1.0 slow")
    assert (answer.status, answer.json) == (500, {"message": "Scoring timeout after 200 ms"})
    assert answer.header("x-ms-run-function-failed") == "True"
    assert answer.header("x-ms-run-fn-exec-ms") is None
    assert worker.score(b"0 quick").json == "0 quick"
    worker.wait_for_log("Scoring timeout after 200 ms")
    assert worker.process.poll() is None


def test_a_timeout_hits_only_the_run_that_was_too_long(start: Any, make_post: Any) -> None:
    worker = start(COUNTING, SCORING_TIMEOUT_MS="100").ready()
    wire = worker.connect()
    seen = [wire.send(make_post(b"%.3f x" % (0.09 + 0.002 * number))).read().status for number in range(10)]
    assert set(seen) <= {200, 500}
    assert all(wire.send(make_post(b"0 quick")).read().status == 200 for _ in range(50))
    assert wire.send(make_post(b"0.3 slow")).read().status == 500


def test_a_thread_that_timed_out_stays_occupied(start: Any, make_post: Any) -> None:
    worker = start(COUNTING, MOORINGS_MAX_CONCURRENT="2", SCORING_TIMEOUT_MS="100").ready()
    slow = [worker.connect().send(make_post(b"0.6 slow")) for _ in range(2)]
    assert [wire.read().status for wire in slow] == [500, 500]
    assert worker.score(b"0 later").json == "0 later"
    assert worker.score(b"stats").json["most"] == 2


@pytest.mark.parametrize(
    "error", ["SystemExit(1)", "KeyboardInterrupt", "GeneratorExit", "MemoryError", "RecursionError"]
)
@pytest.mark.parametrize(("define", "limit"), [("def", "1"), ("def", "2"), ("async def", "1")])
def test_no_exception_ends_the_worker(start: Any, error: str, define: str, limit: str) -> None:
    script = f"def init(): pass\n{define} run(data):\n    if data: raise {error}\n    return 1\n"
    worker = start(script, MOORINGS_MAX_CONCURRENT=limit).ready()
    for _ in range(3):
        answer = worker.score(b"x")
        assert (answer.status, answer.header("x-ms-run-function-failed")) == (500, "True")
    assert worker.score(b"").json == 1


OWN_LOOP = """
    import asyncio
    def init():
        asyncio.run(asyncio.sleep(0))
    def run(data):
        return asyncio.run(double(data))
    async def double(data):
        await asyncio.sleep(0.001)
        return data * 2
"""
OWN_LOOP_BATCHED = """
    import asyncio
    from moorings_server import batch
    def init(): pass
    @batch(max_size=4)
    def run(batch):
        return asyncio.run(double(batch))
    async def double(batch):
        await asyncio.sleep(0.001)
        return [each * 2 for each in batch]
"""
OWN_LOOP_STREAMED = """
    import asyncio
    def init(): pass
    def run(data):
        for part in data:
            yield asyncio.run(double(part))
    async def double(data):
        await asyncio.sleep(0.001)
        return data * 2
"""


@LOOPS
@pytest.mark.parametrize("limit", [1, 4])
@pytest.mark.parametrize(
    ("script", "expected"),
    [(OWN_LOOP, b'"abab"'), (OWN_LOOP_BATCHED, b'"abab"'), (OWN_LOOP_STREAMED, b"aabb")],
    ids=["plain", "batched", "streamed"],
)
def test_a_script_may_run_an_event_loop_of_its_own(
    start: Any, script: str, limit: int, loop: str, expected: bytes
) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT=str(limit), MOORINGS_SERVER_LOOP=loop).ready()
    for _ in range(3):
        answer = worker.score(b"ab")
        assert (answer.status, answer.body) == (200, expected)
