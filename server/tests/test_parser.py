"""Both parsers, one table: what they call back, what they refuse, and that it does not matter how bytes arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings_server.parser import SMUGGLING_SHAPES, PurePythonParser, choose, is_strict

Factory = Callable[[Any], Any]
PARSERS = pytest.mark.parametrize("factory", [httptools.HttpRequestParser, PurePythonParser])


class Recorder:
    """Notes requests as (method, version, keep alive, url, headers, body)."""

    def __init__(self, factory: Factory) -> None:
        self.requests: list[tuple[Any, ...]] = []
        self.parser = factory(self)
        self.in_head = True

    def on_message_begin(self) -> None:
        self.url, self.body, self.in_head = b"", b"", True
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:
            self.headers.append((name, value.strip()))

    def on_headers_complete(self) -> None:
        self.in_head = False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        parser = self.parser
        self.requests.append(
            (
                parser.get_method(),
                parser.get_http_version(),
                parser.should_keep_alive(),
                self.url,
                self.headers,
                self.body,
            )
        )


GOOD = [
    (b"GET / HTTP/1.1\r\n\r\n", [(b"GET", "1.1", True, b"/", [], b"")]),
    (b"GET / HTTP/1.0\r\n\r\n", [(b"GET", "1.0", False, b"/", [], b"")]),
    (
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        [(b"GET", "1.0", True, b"/", [(b"Connection", b"keep-alive")], b"")],
    ),
    (
        b"POST /score?x HTTP/1.1\r\ncontent-length: 5\r\nX-Empty:\r\nX:  a b \t\r\n\r\nhello",
        [
            (
                b"POST",
                "1.1",
                True,
                b"/score?x",
                [(b"content-length", b"5"), (b"X-Empty", b""), (b"X", b"a b")],
                b"hello",
            )
        ],
    ),
    (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n00C\r\nand the rest\r\n0\r\nT: v\r\n\r\n"
        b"GET /2 HTTP/1.1\r\nConnection: close\r\n\r\n",
        [
            (b"POST", "1.1", True, b"/", [(b"Transfer-Encoding", b"chunked")], b"helloand the rest"),
            (b"GET", "1.1", False, b"/2", [(b"Connection", b"close")], b""),
        ],
    ),
    (
        b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n\r\nHEAD / HTTP/1.1\r\n\r\n",
        [
            (b"POST", "1.1", True, b"/", [(b"Content-Length", b"0")], b""),
            (b"HEAD", "1.1", True, b"/", [], b""),
        ],
    ),
    (
        b"OPTIONS /score HTTP/1.1\r\nX: \xe9\r\n\r\n",
        [(b"OPTIONS", "1.1", True, b"/score", [(b"X", b"\xe9")], b"")],
    ),
]
BAD = [
    *SMUGGLING_SHAPES,
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\nhello",
    b"GET / HTTP/1.1\r\n X: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nXa\r\n\r\n",
    b"GET / HTTP/1.1\r\n: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nX(: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nContent-Length: \r\n\r\nhello",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
    b"GET / HTTP/1.2\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"NONSENSE / HTTP/1.1\r\n\r\n",
    b"get / HTTP/1.1\r\n\r\n",
    b"GET\t/ HTTP/1.1\r\n\r\n",
    b"GET /\x01 HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


@PARSERS
@pytest.mark.parametrize(("data", "requests"), GOOD)
def test_requests(factory: Factory, data: bytes, requests: list[tuple[Any, ...]]) -> None:
    recorder = Recorder(factory)
    recorder.parser.feed_data(data)
    assert recorder.requests == requests


@PARSERS
@pytest.mark.parametrize("data", BAD)
def test_what_is_refused(factory: Factory, data: bytes) -> None:
    recorder = Recorder(factory)
    with pytest.raises(Exception):  # noqa: B017 - each parser has its own error class
        recorder.parser.feed_data(data)
    assert recorder.requests == []


@PARSERS
@given(data=st.data())
def test_it_does_not_matter_how_the_bytes_are_cut(factory: Factory, data: st.DataObject) -> None:
    whole, requests = data.draw(st.sampled_from(GOOD))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=12)))
    recorder = Recorder(factory)
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        recorder.parser.feed_data(whole[begin:end])
    assert recorder.requests == requests


@PARSERS
@pytest.mark.parametrize("data", BAD)
def test_refused_however_it_is_cut(factory: Factory, data: bytes) -> None:
    recorder = Recorder(factory)
    with pytest.raises(Exception):  # noqa: B017 - each parser has its own error class
        for position in range(len(data)):
            recorder.parser.feed_data(data[position : position + 1])
    assert recorder.requests == []


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map(str.encode)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20).map(str.encode)
HEADERS = st.lists(st.tuples(TOKEN.map(lambda name: b"x-" + name), VALUE), max_size=5)


@given(
    st.sampled_from([b"GET", b"POST", b"PUT"]),
    HEADERS,
    st.lists(st.binary(min_size=1, max_size=40), max_size=4),
    st.booleans(),
)
def test_both_parsers_read_the_same(
    method: bytes, headers: list[tuple[bytes, bytes]], parts: list[bytes], chunked: bool
) -> None:
    head = method + b" /score HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in headers)
    body = b"".join(parts)
    if chunked:
        data = head + b"Transfer-Encoding: chunked\r\n\r\n"
        data += b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    seen = []
    for factory in (httptools.HttpRequestParser, PurePythonParser):
        recorder = Recorder(factory)
        recorder.parser.feed_data(data + data)
        seen.append(recorder.requests)
    assert seen[0] == seen[1]
    assert [request[5] for request in seen[0]] == [body, body]


def test_a_lenient_parser_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lenient(PurePythonParser):
        def feed_data(self, data: bytes) -> None:
            super().feed_data(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))

    assert not is_strict(Lenient)
    monkeypatch.setattr(httptools, "HttpRequestParser", Lenient)
    assert choose("auto") == ("python", PurePythonParser)


def test_httptools_is_chosen_when_it_is_there() -> None:
    assert choose("auto")[0] == "httptools"
    assert choose("python")[0] == "python"
