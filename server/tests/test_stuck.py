"""`WORKER_TIMEOUT`: a `run()` past it costs the worker, after its clients were told; and nothing ever runs beyond the
limit, whoever leaves."""

from __future__ import annotations

import random
import socket
import threading
import time
from typing import Any

import pytest

SPIN = """
    import ctypes, time
    def init(): pass
    def run(data):
        if data == "spin":
            the_line_that_hangs()
        if data == "hold":
            ctypes.PyDLL(None).sleep(60)  # C code that keeps the interpreter's lock
        return data
    def the_line_that_hangs():
        while True: time.sleep(0.01)
"""
ASYNC = """
    import asyncio, time
    def init(): pass
    async def run(data):
        if data == "spin": await the_line_that_hangs()
        if data == "block":
            while True: pass
        return data
    async def the_line_that_hangs():
        while True:
            try: await asyncio.sleep(60)
            except asyncio.CancelledError: pass
"""
KINDS = pytest.mark.parametrize(
    ("script", "limit", "body"),
    [(SPIN, 1, b"spin"), (SPIN, 3, b"spin"), (ASYNC, 1, b"spin"), (ASYNC, 2, b"block")],
    ids=["inline", "threads", "async", "async-blocked"],
)


@KINDS
def test_a_run_without_end_ends_the_worker(
    start: Any, make_post: Any, script: str, limit: int, body: bytes
) -> None:
    worker = start(script, WORKER_TIMEOUT="1", MOORINGS_MAX_CONCURRENT=str(limit)).ready()
    wire = worker.connect().send(make_post(body, "x-request-id: r1"))
    answer = wire.read()
    assert (answer.status, answer.json) == (500, {"message": "Worker timeout after 1 s"})
    assert (answer.header("x-request-id"), answer.header("Connection")) == ("r1", "close")
    assert answer.header("x-ms-run-function-failed") == "True"
    assert worker.process.wait(10) == 6
    assert not worker.socket_path.exists()
    assert "run() has taken longer than WORKER_TIMEOUT (1 s)" in worker.log
    assert ("the_line_that_hangs" in worker.log) == (body == b"spin")
    assert "score.py" in worker.log
    assert " 500 " in worker.log


def test_a_run_that_keeps_the_interpreter_to_itself_ends_the_worker_too(start: Any, make_post: Any) -> None:
    worker = start(SPIN, WORKER_TIMEOUT="1").ready()
    worker.connect().send(make_post(b"hold"))
    assert worker.process.wait(15) != 0
    assert "Timeout" in worker.log
    assert "score.py" in worker.log


@pytest.mark.parametrize("limit", [1, 3])
def test_work_within_the_limit_is_left_alone(start: Any, limit: int) -> None:
    script = "import time\ndef init(): pass\ndef run(d): time.sleep(float(d)); return d\n"
    worker = start(script, WORKER_TIMEOUT="1", MOORINGS_MAX_CONCURRENT=str(limit)).ready()
    assert [worker.score(b"0.4").status for _ in range(4)] == [200] * 4
    assert worker.process.poll() is None


def test_zero_means_no_limit(start: Any) -> None:
    script = "import time\ndef init(): pass\ndef run(d): time.sleep(1.5); return d\n"
    assert start(script, WORKER_TIMEOUT="0").ready().score(b"x").status == 200


COUNTING = """
    import threading, time, asyncio, os
    lock = threading.Lock()
    now = most = done = 0
    def init(): pass
    {define} run(data):
        global now, most, done
        if data == "stats": return [now, most, done]
        with lock:
            now += 1; most = max(most, now)
        try: {sleep}(float(data))
        finally:
            with lock: now -= 1; done += 1
        return data
"""


@pytest.mark.parametrize(
    ("define", "sleep", "limit"),
    [("def", "time.sleep", 1), ("def", "time.sleep", 4), ("async def", "await asyncio.sleep", 4)],
    ids=["inline", "threads", "async"],
)
def test_a_storm_in_which_half_the_clients_leave(
    start: Any, make_post: Any, define: str, sleep: str, limit: int
) -> None:
    worker = start(
        COUNTING.format(define=define, sleep=sleep),
        MOORINGS_MAX_CONCURRENT=str(limit),
        SCORING_TIMEOUT_MS="60",
    ).ready()
    wrong: list[object] = []

    def client(seed: int) -> None:
        rng = random.Random(seed)
        for number in range(20):
            try:
                wire = worker.connect()
                seconds = rng.choice(["0.001", "0.004", "0.08"])
                wire.send(make_post(seconds.encode(), f"x-request-id: {seed}.{number}"))
                if rng.random() < 0.5:
                    time.sleep(rng.random() * 0.01)
                    wire.close()
                    continue
                answer = wire.read()
                if answer.status not in (200, 500) or answer.header("x-request-id") != f"{seed}.{number}":
                    wrong.append(answer)
                wire.close()
            except Exception as failure:
                wrong.append(failure)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    deadline = time.monotonic() + 10
    while (stats := worker.score(b"stats").json)[0]:
        assert time.monotonic() < deadline
    assert stats[1] <= limit
    assert worker.process.poll() is None
    lines = worker.wait_for_log("POST /score")
    deadline = time.monotonic() + 5
    while (lines := worker.log).count(
        "request_id="
    ) < 320:  # every request has its line, also those that left
        assert time.monotonic() < deadline, lines.count("request_id=")
        time.sleep(0.05)


HANGING = """
    import asyncio, time
    def init(): pass
    def run(data):
        while data == "hang":
            try: time.sleep(0.01)
            except BaseException: pass
        return data
"""
HANGING_ASYNC = ASYNC.replace("spin", "hang")
PROBE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


HANGING_KINDS = (
    (HANGING, 1, b"hang"),
    (HANGING, 2, b"hang"),
    (HANGING_ASYNC, 2, b"hang"),
    (HANGING_ASYNC, 2, b"block"),
)


def test_a_worker_with_no_place_left_says_so_to_probes_and_ends(start: Any, make_post: Any) -> None:
    """On the loop, on threads, as tasks, and with the loop kept busy: all at once, since each takes some seconds."""
    workers = [
        start(script, SCORING_TIMEOUT_MS="500", MOORINGS_MAX_CONCURRENT=str(limit))
        for script, limit, _ in HANGING_KINDS
    ]
    for worker in workers:  # before the first one hangs: it has ended some seconds later
        worker.ready()
    wires = [
        worker.connect().send(make_post(body))
        for worker, (_, limit, body) in zip(workers, HANGING_KINDS, strict=True)
        for _ in range(limit)
    ]
    seen: list[set[bytes]] = [set() for _ in workers]

    def probe(said: set[bytes], worker: Any) -> None:
        while worker.process.poll() is None:
            said.add(_probed(worker.socket_path))
            time.sleep(0.02)

    probing = [threading.Thread(target=probe, args=each) for each in zip(seen, workers, strict=True)]
    for thread in probing:
        thread.start()
    for thread in probing:
        thread.join()
    for said, worker in zip(seen, workers, strict=True):
        assert b"HTTP/1.1 503 Service Unavailable: No place is free" in said
        assert worker.process.wait(10) == 6
        assert "longer than anybody waits for it, in every place there is (2.5 s)" in worker.log
    for wire in wires:
        wire.close()


def _probed(path: Any) -> bytes:
    """The status line of the answer to a probe, with the reason of a 503; empty when the worker has just ended, or when it
    had taken the connection before the call that hangs began."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.5)
        try:
            probe.connect(str(path))
            probe.sendall(PROBE.replace(b"Host: x", b"Connection: close"))
            answer = b"".join(iter(lambda: probe.recv(4096), b""))
        except OSError:
            return b""
    head, _, body = answer.partition(b"\r\n")
    return head + (b": No place is free" if b"No place is free" in body else b"")


def test_a_worker_with_a_place_left_goes_on(start: Any, make_post: Any) -> None:
    worker = start(HANGING, SCORING_TIMEOUT_MS="200", MOORINGS_MAX_CONCURRENT="3").ready()
    hanging = [worker.connect().send(make_post(b"hang")) for _ in range(2)]
    assert [wire.read().status for wire in hanging] == [500, 500]
    time.sleep(2.4)
    assert worker.ask(PROBE).status == 200
    assert worker.score(b"free").json == "free"
    assert worker.process.poll() is None


def test_who_sets_worker_timeout_decides_alone(start: Any, make_post: Any) -> None:
    worker = start(HANGING, SCORING_TIMEOUT_MS="100", WORKER_TIMEOUT="1.5").ready()
    worker.connect().send(make_post(b"hang"))
    time.sleep(0.8)
    assert worker.process.poll() is None
    assert worker.process.wait(10) == 6
    assert "longer than WORKER_TIMEOUT (1.5 s)" in worker.log
