"""Generators: the first part leaves as soon as it is yielded, the place is held until the end, failures can be seen."""

from __future__ import annotations

import time
from typing import Any

import pytest

SCRIPT = """
    import time, json
    {asyncio}
    closed = []
    running = most = 0
    def init(): pass
    {define} run(data):
        global running, most
        order = json.loads(data)
        if order == "state":
            yield json.dumps({{"closed": closed, "most": most}})
            return
        running += 1
        most = max(most, running)
        try:
            for step in order:
                if isinstance(step, float): {sleep}(step)
                elif step == "raise": raise ValueError("broken on purpose")
                elif step == "bytes": yield b"\\x00\\xff"
                elif step == "big": yield b"x" * 1_000_000
                else: yield step
        finally:
            running -= 1
            closed.append(len(order))
"""
SYNC = SCRIPT.format(asyncio="", define="def", sleep="time.sleep")
ASYNC = SCRIPT.format(asyncio="import asyncio", define="async def", sleep="await asyncio.sleep")
KINDS = pytest.mark.parametrize(
    ("script", "limit"),
    [(SYNC, 1), (SYNC, 2), (ASYNC, 1), (ASYNC, 2)],
    ids=["inline", "threads", "async1", "async2"],
)


def order(*steps: object) -> bytes:
    import json

    return json.dumps(list(steps)).encode()


@KINDS
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_parts_arrive_when_they_are_yielded(
    start: Any, make_post: Any, script: str, limit: int, loop: str
) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT=str(limit), MOORINGS_SERVER_LOOP=loop).ready()
    wire = worker.connect().send(make_post(order("data: 1\n\n", 0.6, "data: 2\n\n")))
    began = time.monotonic()
    head = wire.read_head()
    assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream")
    assert "Content-Length" not in head
    assert "x-ms-run-fn-exec-ms" in head
    assert wire.read_chunk() == b"data: 1\n\n"
    early = time.monotonic() - began
    assert wire.read_chunk() == b"data: 2\n\n"
    assert time.monotonic() - began > early + 0.3  # the first came before the second existed
    assert wire.read_chunk() == b""
    assert wire.send(make_post(order("again"))).read().body == b"again"  # the connection is kept
    assert " N/A request_id=" in worker.wait_for_log(" N/A ")


@KINDS
@pytest.mark.parametrize(
    ("steps", "kind", "body"),
    [
        (["a", "", "\u00e9"], "text/plain; charset=utf-8", "a\u00e9".encode()),
        (["event: x\n\n"], "text/event-stream; charset=utf-8", b"event: x\n\n"),
        (["bytes", "bytes"], "application/octet-stream", b"\x00\xff\x00\xff"),
        ([{"a": 1}, [2]], "application/x-ndjson", b'{"a": 1}\n[2]\n'),
        ([], "text/plain; charset=utf-8", b""),
    ],
)
def test_the_first_part_decides_the_type(
    start: Any, script: str, limit: int, steps: list[object], kind: str, body: bytes
) -> None:
    answer = start(script, MOORINGS_MAX_CONCURRENT=str(limit)).ready().score(order(*steps))
    assert (answer.header("Content-Type"), answer.body) == (kind, body)
    assert answer.header("x-ms-run-function-failed") == "False"


@KINDS
def test_a_failure_before_the_first_part_is_an_ordinary_answer(start: Any, script: str, limit: int) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT=str(limit)).ready()
    answer = worker.score(order("raise"))
    assert (answer.status, answer.header("x-ms-run-function-failed")) == (500, "True")
    assert "broken on purpose" in worker.wait_for_log("ValueError")


@KINDS
def test_a_failure_in_the_middle_breaks_the_connection(
    start: Any, make_post: Any, script: str, limit: int
) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT=str(limit)).ready()
    wire = worker.connect().send(make_post(order("a", "raise")))
    wire.read_head()
    assert wire.read_chunk() == b"a"
    with pytest.raises(EOFError):
        wire.read_chunk()
    worker.wait_for_log("A stream broke off")
    assert "ValueError: broken on purpose" in worker.log
    assert worker.score(order("next")).body == b"next"


@KINDS
def test_a_client_that_leaves_closes_the_generator(
    start: Any, make_post: Any, script: str, limit: int
) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT=str(limit)).ready()
    wire = worker.connect().send(make_post(order(*["tick", 0.02] * 500)))
    wire.read_head()
    wire.read_chunk()
    wire.close()
    deadline = time.monotonic() + 5
    while worker.score(b'"state"').json["closed"] != [1000]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker.wait_for_log(" 499 ")


@KINDS
def test_a_stream_holds_its_place(start: Any, make_post: Any, script: str, limit: int) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT=str(limit)).ready()
    wires = [worker.connect().send(make_post(order("a", 0.1, "b"))) for _ in range(5)]
    assert [wire.read().body for wire in wires] == [b"ab"] * 5
    assert worker.score(b'"state"').json["most"] == limit


@KINDS
def test_a_slow_reader_holds_the_script_back_and_nobody_else(
    start: Any, make_post: Any, script: str, limit: int
) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT=str(limit), WORKER_TIMEOUT="1").ready()
    wire = worker.connect().send(make_post(order(*["big"] * 60)))
    time.sleep(1.5)  # longer than a run() may take: a client's slowness is not the script's
    assert worker.ask(make_post(method="GET", target="/")).body == b"Healthy"
    answer = wire.read()
    assert len(answer.body) == 60_000_000
    assert worker.process.poll() is None


@KINDS
def test_a_stream_that_waits_too_long_is_broken_off(
    start: Any, make_post: Any, script: str, limit: int
) -> None:
    worker = start(script, MOORINGS_MAX_CONCURRENT=str(limit), SCORING_TIMEOUT_MS="300").ready()
    wire = worker.connect().send(make_post(order("a", 0.1, "b", 0.1, "c", 0.1, "d", 0.1, "e", 1.0, "f")))
    wire.read_head()
    assert [wire.read_chunk() for _ in range(5)] == [b"a", b"b", b"c", b"d", b"e"]
    with pytest.raises(EOFError):
        wire.read_chunk()
    answer = worker.score(order(1.0, "late"))
    assert answer.json == {"message": "Scoring timeout after 300 ms"}


def test_old_and_curious_clients(start: Any, make_post: Any) -> None:
    worker = start(SYNC).ready()
    body = order("a", "b")
    wire = worker.connect().send(b"POST /score HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    head = wire.read_head()
    assert "Transfer-Encoding" not in head
    assert "Connection: close" in head
    left = wire._left
    while data := wire.sock.recv(100):
        left += data
    assert left == b"ab"


def test_a_response_object_around_a_generator(start: Any) -> None:
    script = """
        from azureml.contrib.services.aml_response import AMLResponse
        def init(): pass
        def run(data):
            def parts():
                yield "data: x\\n\\n"
            return AMLResponse(parts(), 206, {"Content-Type": "text/event-stream", "X-A": "b"})
    """
    answer = start(script).ready().score(b"")
    assert (answer.status, answer.header("X-A"), answer.body) == (206, "b", b"data: x\n\n")
    assert answer.header("Content-Type") == "text/event-stream"


def test_an_awaitable_from_an_ordinary_run_is_explained(start: Any) -> None:
    worker = start("import asyncio\ndef init(): pass\ndef run(d): return asyncio.sleep(0)\n").ready()
    assert worker.score(b"").status == 500
    worker.wait_for_log("declare it with `async def`")


def test_a_drain_lets_a_stream_end(start: Any, make_post: Any) -> None:
    worker = start(SYNC).ready()
    wire = worker.connect().send(make_post(order("a", 0.3, "b", 0.1, "c")))
    wire.read_head()
    assert wire.read_chunk() == b"a"
    worker.terminate()
    assert [wire.read_chunk() for _ in range(3)] == [b"b", b"c", b""]
    assert worker.process.wait(5) == 0
