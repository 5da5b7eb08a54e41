"""The wire of a running worker, with each parser: routes, ids, connections, and everything malformed."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from moorings_server import __version__

ECHO = """
    def init():
        pass

    def run(data):
        if data == "raise":
            raise ValueError("secret detail")
        if data == "exit":
            raise SystemExit(0)
        if data == "bytes":
            return {1}
        return data
"""
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
PAIRS = [("httptools", "uvloop"), ("python", "asyncio")]


@pytest.fixture(scope="module", params=PAIRS, ids=[pair[0] for pair in PAIRS])
def worker(request: pytest.FixtureRequest, start_module: Callable[..., Any]) -> Iterator[Any]:
    parser, loop = request.param
    running = start_module(ECHO, MOORINGS_SERVER_PARSER=parser, MOORINGS_SERVER_LOOP=loop).ready()
    assert f"{loop}, {parser}" in running.log
    yield running
    running.close()


def test_a_score(worker: Any) -> None:
    answer = worker.score(b'{"a": "\xc3\xa9"}')
    assert (answer.status, answer.body) == (200, b'"{\\"a\\": \\"\\u00e9\\"}"')
    assert answer.header("Content-Type") == "application/json"
    assert answer.header("x-ms-run-function-failed") == "False"
    assert re.fullmatch(r"\d+\.\d{3}", answer.header("x-ms-run-fn-exec-ms"))
    assert answer.header("x-ms-server-version") == f"moorings-server/{__version__}"
    assert answer.header("Connection") is None
    assert answer.header("x-ms-client-request-id") is None


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png", ""]
)
def test_the_body_reaches_run_whatever_its_type(worker: Any, kind: str) -> None:
    assert worker.score(b"a=1&b=2", f"Content-Type: {kind}").json == "a=1&b=2"


def test_an_empty_body_is_an_empty_text(worker: Any) -> None:
    assert worker.score(b"").json == ""


def test_a_get_gives_its_query(worker: Any, make_post: Any) -> None:
    answer = worker.ask(make_post(method="GET", target="/score?a=1&b=[1,2]&c=x&c=y&d=null"))
    assert answer.json == '{"a": 1, "b": [1, 2], "c": ["x", "y"], "d": null}'


def test_a_post_ignores_its_query(worker: Any, make_post: Any) -> None:
    assert worker.ask(make_post(b"body", target="/score?a=1")).json == "body"


@pytest.mark.parametrize(
    ("body", "status", "failed", "message"),
    [
        (b"\xff", 400, "False", "Input cannot be decoded as UTF-8: "),
        (
            b"raise",
            500,
            "True",
            "An unexpected error occurred in scoring script. Check the logs for more info.",
        ),
        (
            b"exit",
            500,
            "True",
            "An unexpected error occurred in scoring script. Check the logs for more info.",
        ),
        (b"bytes", 500, "False", "An unexpected internal error occurred. Check the logs for more info."),
    ],
)
def test_failures_of_a_score(worker: Any, body: bytes, status: int, failed: str, message: str) -> None:
    answer = worker.score(body, "x-request-id: mine")
    assert (answer.status, answer.header("x-ms-run-function-failed")) == (status, failed)
    assert answer.json["message"].startswith(message)
    assert answer.header("x-request-id") == "mine"
    assert (answer.header("x-ms-run-fn-exec-ms") is not None) == (body == b"bytes")
    assert worker.score(b"still there").json == "still there"


def test_a_traceback_is_in_the_log_only(worker: Any) -> None:
    assert b"secret" not in worker.score(b"raise").body
    log = worker.wait_for_log("ValueError: secret detail")
    assert 'raise ValueError("secret detail")' in log
    assert "moorings_server/" not in log


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        ({}, {"x-request-id": GUID, "x-ms-request-id": GUID}),
        ({"x-request-id": "r"}, {"x-request-id": "r", "x-ms-request-id": "r"}),
        (
            {"x-request-id": "r", "x-ms-client-request-id": "c"},
            {"x-request-id": "r", "x-ms-client-request-id": "c", "x-ms-request-id": "c"},
        ),
        (
            {"x-ms-request-id": "m"},
            {"x-ms-client-request-id": "m", "x-ms-request-id": "m", "x-request-id": GUID},
        ),
        ({"X-MS-Client-Request-Id": "c"}, {"x-ms-client-request-id": "c", "x-ms-request-id": "c"}),
        ({"traceid": "t"}, {"TraceId": "t"}),
        ({"x-request-id": "r" * 100}, {"x-request-id": "r" * 100}),
    ],
)
def test_ids(worker: Any, sent: dict[str, str], got: dict[str, Any]) -> None:
    answer = worker.score(b"1", *[f"{name}: {value}" for name, value in sent.items()])
    for name, expected in got.items():
        value = answer.header(name)
        assert value == expected if isinstance(expected, str) else expected.match(value), (name, value)
    if "x-request-id" not in sent and "x-ms-client-request-id" not in got:
        assert answer.header("x-ms-request-id") == answer.header("x-request-id")


def test_ids_differ_between_requests(worker: Any) -> None:
    assert len({worker.score(b"1").header("x-request-id") for _ in range(20)}) == 20


@pytest.mark.parametrize("name", ["x-request-id", "x-ms-client-request-id"])
def test_an_id_that_is_too_long(worker: Any, name: str) -> None:
    answer = worker.score(b"raise", f"{name}: {'x' * 101}")
    assert answer.status == 431
    assert answer.json == {"message": f"{name} must not exceed 100 characters"}
    assert "x" * 101 not in str(answer.headers)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/?probe=1", 200),
        ("OPTIONS", "/score", 200),
        ("HEAD", "/score", 405),
        ("PUT", "/score", 405),
        ("DELETE", "/score", 405),
        ("POST", "/", 405),
        ("POST", "/swagger.json", 405),
        ("GET", "/score/", 404),
        ("POST", "/score/", 404),
        ("GET", "/nothing", 404),
        ("GET", "//", 404),
        ("OPTIONS", "*", 404),
        ("GET", "http://host/", 200),
        ("GET", "http://host", 200),
    ],
)
def test_routes(worker: Any, make_post: Any, method: str, target: str, status: int) -> None:
    answer = worker.ask(make_post(method=method, target=target))
    assert answer.status == status
    if method in ("HEAD", "OPTIONS") and status == 200:
        assert answer.body == b""
    elif status == 200:
        assert answer.body == b"Healthy"
        assert answer.header("Content-Type").startswith("text/html")
    elif method != "HEAD":
        assert list(answer.json) == ["message"]
        assert answer.header("Content-Type") == "application/json"
    if status == 405:
        assert method not in answer.header("Allow").split(", ")


@pytest.mark.parametrize(
    ("version", "key", "value"),
    [
        ("", "swagger", "2.0"),
        ("?version=2", "swagger", "2.0"),
        ("?version=2.0", "swagger", "2.0"),
        ("?version=3", "openapi", "3.0.3"),
        ("?version=3.0", "openapi", "3.0.3"),
        ("?version=3.1", "openapi", "3.1.0"),
    ],
)
def test_swagger(worker: Any, make_post: Any, version: str, key: str, value: str) -> None:
    answer = worker.ask(make_post(method="GET", target="/swagger.json" + version))
    assert answer.status == 200
    assert answer.json[key] == value
    assert {"/", "/score"} == set(answer.json["paths"])


def test_an_unknown_swagger_version(worker: Any, make_post: Any) -> None:
    answer = worker.ask(make_post(method="GET", target="/swagger.json?version=9"))
    assert answer.status == 404
    assert answer.json == {"message": "Swagger version [9] is not valid. Supported versions: [2, 3, 3.1]."}


def test_a_connection_is_kept(worker: Any, make_post: Any) -> None:
    wire = worker.connect()
    for number in range(5):
        assert wire.send(make_post(b"%d" % number)).read().json == str(number)


def test_pipelined_requests_are_answered_in_order(worker: Any, make_post: Any) -> None:
    health = make_post(method="GET", target="/")
    wire = worker.connect()
    wire.send(b"".join(make_post(b"%d" % number) + health for number in range(200)))
    for number in range(200):
        assert wire.read().json == str(number)
        assert wire.read().body == b"Healthy"


def test_thousands_of_pipelined_probes(worker: Any, make_post: Any) -> None:
    wire = worker.connect().send(make_post(method="GET", target="/") * 3000)
    assert all(wire.read().body == b"Healthy" for _ in range(3000))


def test_chunked_bodies_byte_by_byte(worker: Any) -> None:
    wire = worker.connect()
    data = b"POST /score HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n\xe2\x82\xac\r\n2\r\nab\r\n0\r\nT: v\r\n\r\n"
    for position in range(len(data)):
        wire.send(data[position : position + 1])
    assert wire.read().json == "\u20acab"
    assert wire.send(data).read().json == "\u20acab"


def test_a_large_body_and_answer(worker: Any, make_post: Any) -> None:
    body = b"x" * 8_000_000
    wire = worker.connect()
    for _ in range(2):
        assert wire.send(make_post(body)).read().json == body.decode()


def test_a_client_that_reads_late_gets_everything(worker: Any, make_post: Any) -> None:
    wire = worker.connect()
    wire.send(make_post(b"y" * 3_000_000) + make_post(b"small"))
    assert worker.score(b"others go on").json == "others go on"
    assert [len(wire.read().json) for _ in range(2)] == [3_000_000, 5]


def test_expect_continue(worker: Any) -> None:
    wire = worker.connect()
    wire.send(b"POST /score HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert wire.read().status == 100
    assert wire.send(b"ok").read().json == "ok"


@pytest.mark.parametrize(
    ("lines", "connection"),
    [(b"", "close"), (b"Connection: keep-alive\r\n", "keep-alive"), (b"Connection: close\r\n", "close")],
)
def test_http_1_0(worker: Any, lines: bytes, connection: str) -> None:
    wire = worker.connect()
    answer = wire.send(b"POST /score HTTP/1.0\r\nContent-Length: 1\r\n" + lines + b"\r\n1").read()
    assert (answer.json, answer.header("Connection")) == ("1", connection)
    if connection == "close":
        assert wire.at_end()
    else:
        wire.send(b"GET / HTTP/1.0\r\n\r\n")
        assert wire.read().body == b"Healthy"


def test_connection_close_is_honoured(worker: Any, make_post: Any) -> None:
    wire = worker.connect().send(make_post(b"1", "Connection: close") + make_post(b"2"))
    answer = wire.read()
    assert (answer.json, answer.header("Connection")) == ("1", "close")
    assert wire.at_end()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /score HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /score HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
        (b"POST /score HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n1", 400),
        (b"POST /score HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /score HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /score HTTP/1.1\nContent-Length: 1\n\n1", 400),
        (b"GET / HTTP/1.1\r\nX: a\r\n folded\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 12_000 + b"\r\n", 431),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"POST /score HTTP/1.1\r\nContent-Length: 104857601\r\n\r\n", 413),
        (b"POST /score HTTP/1.1\r\nContent-Length: 104857601\r\nExpect: 100-continue\r\n\r\n", 413),
        (b"POST /score HTTP/1.1\r\nContent-Length: 1\r\nExpect: miracles\r\n\r\n1", 417),
    ],
)
def test_what_is_refused(worker: Any, data: bytes, status: int) -> None:
    wire = worker.connect().send(data)
    answer = wire.read()
    assert answer.status == status
    assert answer.header("Connection") == "close"
    assert list(answer.json) == ["message"]
    assert wire.at_end()


def test_a_head_that_never_ends(worker: Any) -> None:
    wire = worker.connect()
    with pytest.raises(OSError):
        for _ in range(40):
            wire.send(b"x" * 4096 if _ else b"GET / HTTP/1.1\r\nX: ")
            time.sleep(0.005)
        while True:
            wire.send(b"x" * 65536)
            time.sleep(0.1)
    assert worker.score(b"1").json == "1"


def test_good_requests_before_a_bad_one_are_answered(worker: Any, make_post: Any) -> None:
    wire = worker.connect().send(make_post(b"1") + make_post(b"2") + b"nonsense\r\n\r\n")
    assert [wire.read().json, wire.read().json, wire.read().status] == ["1", "2", 400]
    assert wire.at_end()


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(worker: Any) -> None:
    for part in (b"", b"POST", b"POST /score HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"):
        worker.connect().send(part).close()
    half = worker.connect().send(b"GET / HTTP/1.1\r\n")
    half.sock.shutdown(socket.SHUT_WR)
    assert half.at_end()
    assert worker.score(b"1").json == "1"


def test_an_upgrade_is_answered_as_a_request(worker: Any, make_post: Any) -> None:
    request = make_post(b"1", "Connection: Upgrade", "Upgrade: websocket")
    assert worker.ask(request).json == "1"


def test_request_headers_reach_run(start: Any) -> None:
    script = """
        def init(): pass
        def run(data, request_headers):
            return [data, request_headers]
    """
    worker = start(script).ready()
    answer = worker.score(b"d", "authorization: Bearer x", "x-A: 1", "X-a: 2")
    assert answer.json == [
        "d",
        {"Host": "test", "Authorization": "Bearer x", "X-A": "1,2", "Content-Length": "1"},
    ]
    wire = worker.connect().send(b"POST /score HTTP/1.1\r\n\r\n")
    assert wire.read().json == ["", {}]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("*, body", "x"),
        ("request_headers, body", "x"),
        ("*, request_headers, body", "x"),
        ("body, other=1", "x"),
    ],
)
def test_every_shape_of_run_gets_its_text(start: Any, parameters: str, expected: str) -> None:
    worker = start(f"def init(): pass\ndef run({parameters}): return body\n").ready()
    assert worker.score(b"x").json == expected


def test_a_driver_module_gives_run(start: Any) -> None:
    worker = start(
        "import driver as driver_module\nstate = []\ndef init(): driver_module.said = 'outer init'\n",
        files={
            "driver.py": "said = None\ndef init(): raise ValueError\ndef run(data): return [said, data]\n"
        },
    ).ready()
    assert worker.score(b"x").json == ["outer init", "x"]


def test_a_users_swagger_file_is_served_as_it_is(start: Any, make_post: Any) -> None:
    worker = start(
        ECHO,
        files={"swagger3.json": "not even json", "swagger2.json": "{}"},
        SERVICE_NAME="",
        SERVER_VERSION_LOG_RESPONSE_ENABLED="false",
    ).ready()
    assert worker.ask(make_post(method="GET", target="/swagger.json?version=3")).body == b"not even json"
    answer = worker.ask(make_post(method="GET", target="/swagger.json"))
    assert answer.body == b"{}"
    assert answer.header("x-ms-server-version") is None
    assert worker.score(b"1").header("x-ms-server-version") is None


def test_an_upgrade_offer_that_arrives_in_pieces_loses_no_body(worker: Any, make_post: Any) -> None:
    wire = worker.connect()
    for byte in make_post(b"1", "Connection: Upgrade", "Upgrade: h2c"):
        wire.send(bytes([byte]))
        time.sleep(0.001)
    answer = wire.read()
    assert answer.status == 400 or answer.json == "1"
