"""Batching: what waits goes into one call, order and errors stay per request, the limits are exact, nobody waits alone."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings_server.batchgate import NAP_S, NAPS_OF_RUN, Pacer, Regroup
from moorings_server.batching import batch
from moorings_server.scoring import BatchResultError, batch_results

SCRIPT = """
    import asyncio, time
    from moorings_server import batch
    sizes = []
    def init(): pass

    @batch(max_size=4)
    {define} run(texts):
        sizes.append(len(texts))
        {sleep}(0.05)
        if "stats" in texts: return [sizes] * len(texts)
        if "short" in texts: return texts[:-1]
        if "text" in texts: return "x" * len(texts)
        if "raise" in texts: raise ValueError("the whole batch")
        if "slow" in texts: {sleep}(1.0)
        return [ValueError("mine alone") if t == "bad" else t for t in texts]
"""
SYNC = SCRIPT.format(define="def", sleep="time.sleep")
ASYNC = SCRIPT.format(define="async def", sleep="await asyncio.sleep")
BOTH = pytest.mark.parametrize("script", [SYNC, ASYNC], ids=["sync", "async"])


def together(worker: Any, make_post: Any, bodies: list[bytes]) -> list[Any]:
    """Answers to requests that all arrive while a first one is computed."""
    first = worker.connect().send(make_post(b"first"))
    time.sleep(0.02)
    wires = [worker.connect().send(make_post(body)) for body in bodies]
    first.read()
    return [wire.read() for wire in wires]


@BOTH
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_what_waits_is_one_batch_in_order(start: Any, make_post: Any, script: str, loop: str) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT="8", MOORINGS_SERVER_LOOP=loop).ready()
    bodies = [b"%d" % number for number in range(10)]
    answers = together(worker, make_post, bodies)
    assert [answer.json for answer in answers] == [body.decode() for body in bodies]
    sizes = worker.score(b"stats").json
    assert max(sizes) == 4  # max_size, although eight may run
    assert len(sizes) <= 6
    assert sum(sizes) == 12


@pytest.mark.parametrize("limit", [1, 3])
def test_a_batch_is_never_larger_than_the_limit(start: Any, make_post: Any, limit: int) -> None:
    worker = start(SYNC, MOORINGS_MAX_CONCURRENT=str(limit)).ready()
    together(worker, make_post, [b"x"] * 8)
    assert max(worker.score(b"stats").json) == limit
    assert f"only {limit} at once" in worker.log


@BOTH
def test_an_exception_in_the_list_is_one_requests(start: Any, make_post: Any, script: str) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT="8").ready()
    answers = together(worker, make_post, [b"a", b"bad", b"b"])
    assert [answer.status for answer in answers] == [200, 500, 200]
    assert answers[1].header("x-ms-run-function-failed") == "True"
    worker.wait_for_log("ValueError: mine alone")


@BOTH
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"raise", "ValueError: the whole batch"),
        (b"short", "was given a batch of 3 inputs and returned 2 results"),
        (b"text", "returned str"),
    ],
)
def test_a_failure_of_the_call_is_everybodys(
    start: Any, make_post: Any, script: str, body: bytes, said: str
) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT="8").ready()
    answers = together(worker, make_post, [b"a", body, b"b"])
    assert {(answer.status, answer.header("x-ms-run-function-failed")) for answer in answers} == {
        (500, "True")
    }
    worker.wait_for_log(said)
    assert worker.score(b"after").json == "after"


@BOTH
def test_a_batch_that_takes_too_long(start: Any, make_post: Any, script: str) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT="8", SCORING_TIMEOUT_MS="300").ready()
    answers = together(worker, make_post, [b"a", b"slow"])
    assert [answer.json for answer in answers] == [{"message": "Scoring timeout after 300 ms"}] * 2
    assert worker.score(b"after").json == "after"


def test_bad_input_is_refused_before_the_batch(start: Any, make_post: Any) -> None:
    worker = start(SYNC, MOORINGS_MAX_CONCURRENT="8").ready()
    answers = together(worker, make_post, [b"a", b"\xff", b"b"])
    assert [answer.status for answer in answers] == [200, 400, 200]


@BOTH
def test_requests_of_clients_that_left_are_not_in_the_batch(start: Any, make_post: Any, script: str) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT="8").ready()
    worker.score(b"slow start")
    first = worker.connect().send(make_post(b"first"))
    time.sleep(0.02)
    wires = [worker.connect().send(make_post(b"x")) for _ in range(4)]
    for wire in wires[:3]:
        wire.close()
    first.read()
    assert wires[3].read().json == "x"
    assert sum(worker.score(b"stats").json) == 4
    worker.wait_for_log(" 499 ")


def test_settings_of_the_deployment(start: Any, make_post: Any) -> None:
    script = (
        "import time\nsizes = []\ndef init(): pass\ndef run(d):\n    sizes.append(len(d)); time.sleep(0.05)\n"
    )
    script += "    return [sizes for _ in d]\n"
    worker = start(script, MOORINGS_BATCH_MAX_SIZE="2", MOORINGS_MAX_CONCURRENT="8").ready()
    together(worker, make_post, [b"x"] * 6)
    assert max(worker.score(b"").json) == 2
    over = start(SYNC, MOORINGS_BATCH_MAX_SIZE="3", MOORINGS_MAX_CONCURRENT="8").ready()
    together(over, make_post, [b"x"] * 6)
    assert max(over.score(b"stats").json) == 3


def test_results_may_be_rows_of_an_array(start: Any) -> None:
    script = """
        import numpy as np
        from moorings_server import batch
        def init(): pass
        @batch
        def run(texts, request_headers): return np.array([[float(t), len(request_headers)] for t in texts])
    """
    assert start(script, MOORINGS_MAX_CONCURRENT="4").ready().score(b"3", "X: y").json == [3.0, 1.0]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("@rawhttp\ndef run(d): return d\n", "@rawhttp"),
        ("def run(d): yield d\n", "yields"),
        ("async def run(d): yield d\n", "yields"),
    ],
)
def test_what_cannot_be_batched(start: Any, body: str, why: str) -> None:
    head = "from azureml.contrib.services.aml_request import rawhttp\ndef init(): pass\n"
    report = start(head + body, MOORINGS_BATCH_MAX_SIZE="2").failed()
    assert report["kind"] == "bad_signature"
    assert why in report["message"]


@pytest.mark.parametrize(
    "options", [{"max_size": 0}, {"max_size": 1.5}, {"max_wait_ms": -1}, {"max_size": True}]
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="max_"):
        batch(**options)


@pytest.mark.parametrize("results", ["ab", b"ab", {"a": 1, "b": 2}, 2, None, [1], [1, 2, 3], iter([1, 2])])
def test_results_that_cannot_be_told_apart(results: object) -> None:
    with pytest.raises(BatchResultError):
        batch_results(results, 2)


# --- the pacer: seconds are given, nothing is measured here -----------------------------------------------------------


def learned(gaps_s: list[float], under_way: int, max_size: int = 32, max_wait_s: float = 0.005) -> Pacer:
    pacer, now = Pacer(max_size, max_wait_s), 0.0
    for gap_s in gaps_s:
        now += gap_s
        pacer.arrived(now)
    for _ in range(50):
        pacer.saw(under_way)
    return pacer


def test_one_client_alone_never_waits() -> None:
    assert learned([0.002] * 100, 1).hold_s(1, 0.0) == 0.0


def test_a_batch_that_others_are_about_to_fill_is_held() -> None:
    assert 0 < learned([0.0001] * 100, 16).hold_s(8, 0.0) <= 0.005


def test_a_batch_that_would_not_fill_in_time_goes() -> None:
    assert learned([0.05] * 100, 16).hold_s(8, 0.0) == 0.0


@given(
    st.lists(st.floats(0, 10), max_size=30),
    st.integers(1, 200),
    st.integers(1, 200),
    st.floats(0, 1),
    st.floats(0, 0.1),
)
def test_nobody_is_held_longer_than_allowed(
    gaps_s: list[float], under_way: int, waiting: int, waited_s: float, max_wait_s: float
) -> None:
    hold_s = learned(gaps_s, under_way, max_wait_s=max_wait_s).hold_s(waiting, waited_s)
    assert hold_s >= 0
    assert hold_s == 0 or waited_s + hold_s <= max_wait_s + 1e-9
    if waiting >= 32:
        assert hold_s == 0


# --- those who were answered together come back together --------------------------------------------------------------


def looks(regroup: Regroup, waiting: list[int], now: float = 0.0) -> int:
    """How often a batch looks again while `waiting` requests are found, one number per look."""
    for number, found in enumerate(waiting):
        if not regroup.look_again(found, now + number * NAP_S):
            return number
    return len(waiting)


def regrouped(size: int, run_s: float, max_size: int = 32) -> Regroup:
    """One that has seen batches of `size` which took `run_s`."""
    regroup = Regroup(max_size)
    for _ in range(100):
        looks(regroup, [size, size])
        regroup.ran(run_s)
    return regroup


def test_a_batch_looks_for_those_of_the_last_one() -> None:
    assert looks(regrouped(16, 0.004), [3, 9, 15, 16]) == 3


def test_a_look_that_finds_nobody_is_the_last() -> None:
    assert looks(regrouped(16, 0.004), [3, 9, 9]) == 2


def test_one_alone_is_never_kept_for_others() -> None:
    assert looks(regrouped(1, 0.004), [1]) == 0


def test_a_full_batch_goes() -> None:
    assert looks(regrouped(8, 0.004, max_size=8), [8]) == 0


def test_who_stays_away_is_soon_forgotten() -> None:
    regroup = regrouped(16, 0.004)
    assert sum(looks(regroup, [1, 1]) for _ in range(100)) < 40


@given(st.integers(1, 64), st.floats(0, 1), st.lists(st.integers(1, 64), min_size=1, max_size=200))
def test_looking_takes_a_small_part_of_a_batch(size: int, run_s: float, waiting: list[int]) -> None:
    assert looks(regrouped(size, run_s, max_size=64), waiting) * NAP_S <= run_s * NAPS_OF_RUN + 1e-9


def test_a_held_batch_fills(start: Any, make_post: Any) -> None:
    script = SYNC.replace("max_size=4", "max_size=6, max_wait_ms=300").replace("0.05", "0.01")
    worker = start(script, MOORINGS_MAX_CONCURRENT="8").ready()
    wires = [worker.connect() for _ in range(6)]
    for _ in range(15):
        for wire in wires:
            wire.send(make_post(b"x"))
        for wire in wires:
            assert wire.read().status == 200
    sizes = worker.score(b"stats").json
    assert sizes[-2] == 6, sizes
