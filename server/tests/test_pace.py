"""Who makes a call where several may run at once: a thread, or the loop once calls have been quick for long; and what
it costs when the loop was wrong."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings_server.pace import FIRST_CALLS, MOST_CALLS, Pace

# Tells the kind of thread that made the call; "wait" and "spin" are anything but quick.
SCRIPT = """
    import threading, time
    def init(): pass
    def run(data):
        if data.startswith("wait"):
            time.sleep(float(data.split()[1]))
        if data == "spin":
            while True: time.sleep(0.01)
        if data == "stream":
            return parts()
        return "loop" if threading.current_thread() is threading.main_thread() else "thread"
    def parts():
        for number in range(3):
            time.sleep(0.05)
            yield ("loop " if threading.current_thread() is threading.main_thread() else "thread ").encode()
"""
ENOUGH = FIRST_CALLS + 500


def until_on_loop(pace: Pace, most: int) -> int:
    """Quick calls that threads make before the loop gets its try."""
    for number in range(most):
        if pace.on_loop:
            return number
        pace.took(1e-5)
        pace.ended_on_thread()
    return most


def test_the_loop_gets_a_try_after_many_quick_calls_and_each_time_later() -> None:
    pace = Pace()
    tries = []
    for _ in range(4):
        tries.append(until_on_loop(pace, MOST_CALLS))
        pace.held_up()
        assert not pace.on_loop
    assert tries[0] == FIRST_CALLS
    assert all(later == 4 * earlier for earlier, later in pairwise(tries))


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=50))
def test_slow_calls_are_never_made_by_the_loop(durations: list[float]) -> None:
    pace = Pace()
    for _ in range(FIRST_CALLS):
        for seconds in durations:
            pace.took(seconds)
            pace.ended_on_thread()
    assert not pace.on_loop


def warm(worker: Any, make_post: Any, count: int = ENOUGH) -> list[str]:
    """Send that many quick calls one after the other on one connection; who made each."""
    wire = worker.connect()
    made = []
    for _ in range(count):
        made.append(wire.send(make_post(b"quick")).read().json)
    wire.close()
    return made


@pytest.fixture(params=["uvloop", "asyncio"])
def worker(request: Any, start: Any, make_post: Any) -> Any:
    """A worker whose calls the loop makes by now."""
    found = start(
        SCRIPT,
        MOORINGS_MAX_CONCURRENT="4",
        MOORINGS_SERVER_LOOP=request.param,
        SCORING_TIMEOUT_MS="1000",
        WORKER_TIMEOUT="4",
    ).ready()
    made = warm(found, make_post)
    assert made[0] == "thread"
    assert made[-1] == "loop"
    return found


def test_a_call_that_waits_on_the_loop_is_the_only_one_that_somebody_waits_for(
    worker: Any, make_post: Any
) -> None:
    assert worker.score(b"wait 0.3").json == "loop"
    assert worker.score(b"quick").json == "thread"
    began = time.monotonic()
    wires = [worker.connect().send(make_post(b"wait 0.3")) for _ in range(4)]
    assert [wire.read().json for wire in wires] == ["thread"] * 4
    assert time.monotonic() - began < 0.9  # one after the other they take 1.2 s
    assert set(warm(worker, make_post)) == {"thread"}


def test_a_call_on_the_loop_keeps_its_time_limit(worker: Any) -> None:
    began = time.monotonic()
    answer = worker.score(b"wait 3")
    assert (answer.status, answer.json) == (500, {"message": "Scoring timeout after 1000 ms"})
    assert time.monotonic() - began < 2.5
    assert worker.score(b"quick").status == 200


def test_liveness_is_answered_while_the_loop_makes_a_call(worker: Any, make_post: Any) -> None:
    wire = worker.connect().send(make_post(b"wait 0.8"))
    time.sleep(0.1)
    began = time.monotonic()
    assert worker.ask(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").status == 200
    assert time.monotonic() - began < 0.5
    assert wire.read().json == "loop"


def test_the_rest_of_a_stream_is_read_by_a_thread(worker: Any, make_post: Any) -> None:
    streams = [worker.connect().send(make_post(b"stream")) for _ in range(3)]
    assert [wire.read().body for wire in streams] == [b"thread " * 3] * 3


def test_requests_that_wait_behind_a_call_on_the_loop_are_answered(worker: Any, make_post: Any) -> None:
    first = worker.connect().send(make_post(b"wait 0.3"))
    time.sleep(0.05)
    rest = [worker.connect().send(make_post(b"quick")) for _ in range(20)]
    assert first.read().json == "loop"
    assert {wire.read().status for wire in rest} == {200}


def test_a_worker_drains_after_calls_on_the_loop(worker: Any, make_post: Any) -> None:
    wire = worker.connect().send(make_post(b"wait 0.5"))
    time.sleep(0.1)
    worker.terminate()
    assert wire.read().json == "loop"
    assert worker.process.wait(5) == 0


def test_a_call_without_end_on_the_loop_ends_the_worker(start: Any, make_post: Any) -> None:
    found = start(SCRIPT, MOORINGS_MAX_CONCURRENT="4", WORKER_TIMEOUT="1").ready()
    assert warm(found, make_post)[-1] == "loop"
    answer = found.score(b"spin")
    assert (answer.status, answer.json) == (500, {"message": "Worker timeout after 1 s"})
    assert found.process.wait(10) == 6
