"""Bytes that no well-behaved client sends: an answer that says so or a closed connection; never a crash, never a place
that stays taken. Each case runs against a worker that must score right afterwards."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SCRIPT = """
    import json
    def init(): pass
    def run(data): return json.loads(data)
"""
PAIRS = [("httptools", "uvloop"), ("python", "asyncio")]
POST = b"POST /score HTTP/1.1\r\nHost: h\r\n"


@pytest.fixture(scope="module", params=PAIRS, ids=[pair[0] for pair in PAIRS])
def worker(request: pytest.FixtureRequest, start_module: Any) -> Iterator[Any]:
    parser, loop = request.param
    running = start_module(SCRIPT, MOORINGS_SERVER_PARSER=parser, MOORINGS_SERVER_LOOP=loop).ready()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def still_scores(worker: Any) -> Iterator[None]:
    yield
    assert worker.score(b"[1]").json == [1]
    assert worker.process.poll() is None


CASES = {
    "both-lengths": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both-lengths-smuggling": POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "two-lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n1",
    "two-lengths-in-one": POST + b"Content-Length: 1, 1\r\n\r\n1",
    "negative-length": POST + b"Content-Length: -1\r\n\r\n",
    "signed-length": POST + b"Content-Length: +1\r\n\r\n1",
    "hex-length": POST + b"Content-Length: 0x1\r\n\r\n1",
    "huge-length": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "length-of-letters": POST + b"Content-Length: abc\r\n\r\n",
    "chunked-twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked-in-disguise": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked-identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunk-size-letters": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunk-size-huge": POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "chunk-size-negative": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "chunk-longer-than-said": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "chunk-bare-lf": POST + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    "bare-lf": b"POST /score HTTP/1.1\nHost: h\nContent-Length: 1\n\n1",
    "bare-cr": b"GET / HTTP/1.1\rHost: h\r\r",
    "folded-header": POST + b"X: a\r\n b\r\n\r\n",
    "space-before-colon": POST + b"X : a\r\n\r\n",
    "no-colon": POST + b"nonsense\r\n\r\n",
    "empty-name": POST + b": a\r\n\r\n",
    "nul-in-header": POST + b"X: a\x00b\r\n\r\n",
    "control-in-name": POST + b"X\x01: a\r\n\r\n",
    "no-version": b"GET /\r\n\r\n",
    "http-0.9": b"GET / HTTP/0.9\r\n\r\n",
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http-3": b"GET / HTTP/3.0\r\n\r\n",
    "lower-case-method": b"get / HTTP/1.1\r\n\r\n",
    "unknown-method": b"BREW / HTTP/1.1\r\n\r\n",
    "space-in-target": b"GET /a b HTTP/1.1\r\n\r\n",
    "tls-hello": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(160),
    "binary": bytes(range(1, 255)),
    "expect-the-impossible": POST + b"Expect: the-impossible\r\nContent-Length: 1\r\n\r\n1",
    "a-megabyte-of-headers": POST + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n",
    "a-megabyte-of-small-headers": POST + b"X: y\r\n" * 170_000 + b"\r\n",
    "a-megabyte-of-target": b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    "body-too-large": POST + b"Content-Length: 200000000\r\n\r\n",
}


@pytest.mark.parametrize("data", CASES.values(), ids=CASES.keys())
def test_what_is_not_http_is_refused_and_the_connection_closed(worker: Any, data: bytes) -> None:
    wire = worker.connect()
    received = b""
    with contextlib.suppress(OSError):  # it may be refused before all of it is sent
        wire.send(data)
    try:
        while part := wire.sock.recv(65536):
            received += part
    except OSError:
        pass
    if received:
        assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ", b"HTTP/1.1 417 ", b"HTTP/1.1 431 "))
        assert b"\r\nConnection: close\r\n" in received
        assert b'{"message": ' in received
        assert received.count(b"HTTP/1.1 ") == 1


@given(st.binary(max_size=400), st.integers(1, 5))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_at_all(worker: Any, data: bytes, pieces: int) -> None:
    wire = worker.connect()
    step = len(data) // pieces + 1
    try:
        for position in range(0, len(data), step):
            wire.send(data[position : position + step])
    except OSError:
        pass
    wire.close()


def test_http_1_0_and_pipelining_behind_it(worker: Any) -> None:
    wire = worker.connect().send(
        b"POST /score HTTP/1.0\r\nContent-Length: 3\r\n\r\n[2]GET / HTTP/1.1\r\n\r\n"
    )
    assert wire.read().json == [2]
    assert wire.at_end()


def test_a_hundred_slow_bodies_disturb_nobody(worker: Any, make_post: Any) -> None:
    slow = [worker.connect().send(POST + b"Content-Length: 5\r\n\r\n[") for _ in range(100)]
    assert worker.score(b"[3]").json == [3]
    for wire in slow[:50]:
        wire.send(b"1,2]")
    assert [wire.read().json for wire in slow[:50]] == [[1, 2]] * 50
    for wire in slow:
        wire.close()


@pytest.mark.parametrize("sent", [b"", b"PO", POST, POST + b"Content-Length: 9\r\n\r\n[1"])
def test_a_socket_that_is_half_closed_too_early(worker: Any, sent: bytes) -> None:
    wire = worker.connect().send(sent)
    wire.sock.shutdown(socket.SHUT_WR)
    assert wire.at_end()


def test_a_body_that_is_never_sent_after_continue(worker: Any) -> None:
    wire = worker.connect().send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert wire.read().status == 100
    wire.close()


def test_continue_and_then_the_body(worker: Any) -> None:
    wire = worker.connect().send(POST + b"Transfer-Encoding: chunked\r\nExpect: 100-Continue\r\n\r\n")
    assert wire.read().status == 100
    assert wire.send(b"3\r\n[4]\r\n0\r\n\r\n").read().json == [4]


@pytest.mark.parametrize(
    ("body", "status", "result"),
    [
        (b"\xff\xfe", 400, None),
        (b"\xed\xa0\x80", 400, None),
        (b'"\\ud800"', 200, b'"\\ud800"'),
        (b"NaN", 200, b"NaN"),
        (b"[1e999]", 200, b"[Infinity]"),
        (b"-0", 200, b"0"),
        (b"1" * 400, 200, b"1" * 400),
        (b"1" * 10_000, 500, None),
        (b"[" * 100_000, 500, None),
        (b"{" * 3, 500, None),
        (b"", 500, None),
        (b"null", 200, b"{}"),
        (b"\xef\xbb\xbf[1]", 500, None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_bodies_that_are_strange_json(worker: Any, body: bytes, status: int, result: bytes | None) -> None:
    answer = worker.score(body)
    assert answer.status == status
    if result is not None:
        assert answer.body == result
    else:
        assert list(answer.json) == ["message"]


def test_deep_results_are_an_error_and_not_a_crash(start: Any) -> None:
    script = (
        "def init(): pass\ndef run(data):\n    x = []\n    for _ in range(200_000): x = [x]\n    return x\n"
    )
    running = start(script).ready()
    assert running.score(b"").status == 500
    assert running.process.poll() is None


def test_hundreds_of_connections_that_say_nothing(worker: Any) -> None:
    silent = [worker.connect() for _ in range(400)]
    began = time.monotonic()
    assert worker.score(b"[5]").json == [5]
    assert time.monotonic() - began < 10
    for wire in silent:
        wire.close()
