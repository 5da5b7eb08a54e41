"""HTTP/1.1 request parsing: `httptools` when it is installed and strict, or else the parser in this module.

Both call back the same methods of a target: `on_message_begin`, `on_url(bytes)`, `on_header(name, value)`,
`on_headers_complete`, `on_body(bytes)`, `on_message_complete`, and answer `get_method`, `get_http_version`,
`should_keep_alive`. Knows bytes, and nothing about sockets, limits or what a request means.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Tuple, Type

try:
    import httptools
except ImportError:  # an optional dependency
    httptools = None  # type: ignore[assignment]


UPGRADE_ERRORS: Tuple[Type[BaseException], ...] = (
    (httptools.HttpParserUpgrade,) if httptools is not None else ()
)
"""Not a failure: the request is complete and asked for another protocol, so nothing after it can be read."""


class ParserError(Exception):
    """The bytes are no HTTP/1.x request, or one that two parsers could read differently. The client's
    fault."""


METHODS = frozenset(b"GET HEAD POST PUT DELETE OPTIONS PATCH TRACE CONNECT".split())
_REQUEST_LINE = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.([01])\Z")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t -~\x80-\xff]*)\Z")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?\Z")
_DIGITS = re.compile(rb"[0-9]{1,18}\Z")
LINE_LIMIT_BYTES = 16_384
TRAILER_LIMIT_LINES = 100

_HEAD, _LENGTH, _CHUNK_HEAD, _CHUNK_DATA, _CHUNK_END, _TRAILER, _CLOSED = range(7)


class PurePythonParser:
    """An incremental parser with the callback shape of `httptools.HttpRequestParser`. Strict: CRLF line ends
    only, no folded headers, no `Content-Length` beside `Transfer-Encoding`, no transfer coding but
    `chunked`."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._data = bytearray()
        self._searched = 0
        self._state = _HEAD
        self._left = 0
        self._trailers = 0
        self._method = b""
        self._minor = 1
        self._keep_alive = True
        self._steps: Dict[int, Callable[[], bool]] = {
            _HEAD: self._head,
            _LENGTH: self._length,
            _CHUNK_HEAD: self._chunk_head,
            _CHUNK_DATA: self._chunk_data,
            _CHUNK_END: self._chunk_end,
            _TRAILER: self._trailer,
        }

    def get_method(self) -> bytes:
        return self._method

    def get_http_version(self) -> str:
        return "1.%d" % self._minor

    def should_keep_alive(self) -> bool:
        return self._keep_alive

    def feed_data(self, data: bytes) -> None:
        """Take bytes, call back for all that is complete in them. Raises ParserError."""
        if self._state == _CLOSED:
            raise ParserError("data after a request that was to be the last")
        self._data += data
        while self._state != _CLOSED and self._steps[self._state]():
            pass

    def _head(self) -> bool:
        data = self._data
        if self._searched == 0:
            blank = 0
            while data[blank : blank + 2] == b"\r\n":  # lines left over from an earlier body
                blank += 2
            del data[:blank]
            if data == b"\r":
                return False  # half of one more
        end = data.find(b"\r\n\r\n", max(0, self._searched - 3))
        self._refuse_bare_line_ends(data if end < 0 else data[: end + 4])
        if end < 0:
            self._searched = len(data)
            if data and not _could_begin_request(bytes(data[:16])):
                raise ParserError("not an HTTP request")
            return False
        lines = bytes(data[:end]).split(b"\r\n")
        del data[: end + 4]
        self._searched = 0
        self._request(lines)
        return True

    @staticmethod
    def _refuse_bare_line_ends(head: bytearray) -> None:
        pairs = head.count(b"\r\n")
        lone_at_end = 1 if head.endswith(b"\r") else 0  # its LF may be in the bytes to come
        if head.count(b"\n") != pairs or head.count(b"\r") - lone_at_end != pairs:
            raise ParserError("a line ends in something else than CR LF")

    def _request(self, lines: List[bytes]) -> None:
        match = _REQUEST_LINE.match(lines[0])
        if match is None or match.group(1) not in METHODS:
            raise ParserError("bad request line")
        target = self._target
        self._method = match.group(1)
        self._minor = int(match.group(3))
        target.on_message_begin()
        target.on_url(match.group(2))
        framing: Dict[bytes, List[bytes]] = {
            b"content-length": [],
            b"transfer-encoding": [],
            b"connection": [],
        }
        for line in lines[1:]:
            name, value = self._header(line)
            target.on_header(name, value)
            kept = framing.get(name.lower())
            if kept is not None:
                kept.append(value)
        self._set_framing(framing)
        target.on_headers_complete()
        if self._state == _HEAD:
            self._complete()

    @staticmethod
    def _header(line: bytes) -> Tuple[bytes, bytes]:
        match = _HEADER.match(line)
        if match is None:
            raise ParserError("bad header line")
        return match.group(1), match.group(2).rstrip(b" \t")

    def _set_framing(self, framing: Dict[bytes, List[bytes]]) -> None:
        lengths, codings = framing[b"content-length"], framing[b"transfer-encoding"]
        if len(lengths) + len(codings) > 1:
            raise ParserError("more than one statement about the length of the body")
        if codings:
            if codings[0].lower() != b"chunked" or self._minor == 0:
                raise ParserError("transfer coding not supported")
            self._state = _CHUNK_HEAD
        elif lengths:
            if not _DIGITS.match(lengths[0]):
                raise ParserError("bad Content-Length")
            self._left = int(lengths[0])
            self._state = _LENGTH if self._left else _HEAD
        options = {option.strip().lower() for value in framing[b"connection"] for option in value.split(b",")}
        self._keep_alive = (b"keep-alive" in options) if self._minor == 0 else (b"close" not in options)

    def _complete(self) -> None:
        self._state = _HEAD if self._keep_alive else _CLOSED
        self._target.on_message_complete()

    def _length(self) -> bool:
        return self._pass_on(self._complete)

    def _chunk_data(self) -> bool:
        def to_end() -> None:
            self._state = _CHUNK_END

        return self._pass_on(to_end)

    def _pass_on(self, then: Callable[[], None]) -> bool:
        if not self._data:
            return False
        part = bytes(self._data[: self._left])
        del self._data[: len(part)]
        self._left -= len(part)
        self._target.on_body(part)
        if self._left == 0:
            then()
        return True

    def _line(self) -> Tuple[bool, bytes]:
        end = self._data.find(b"\n")
        if end < 0:
            if len(self._data) > LINE_LIMIT_BYTES:
                raise ParserError("line too long")
            return False, b""
        line = bytes(self._data[: end + 1])
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise ParserError("a line ends in something else than CR LF")
        del self._data[: end + 1]
        return True, line[:-2]

    def _chunk_head(self) -> bool:
        found, line = self._line()
        if found:
            match = _CHUNK_SIZE.match(line)
            if match is None:
                raise ParserError("bad chunk size")
            self._left = int(match.group(1), 16)
            self._trailers = 0
            self._state = _CHUNK_DATA if self._left else _TRAILER
        return found

    def _chunk_end(self) -> bool:
        if len(self._data) < 2:
            return False
        if self._data[:2] != b"\r\n":
            raise ParserError("a chunk is longer than its size")
        del self._data[:2]
        self._state = _CHUNK_HEAD
        return True

    def _trailer(self) -> bool:
        found, line = self._line()
        if found and line:
            self._trailers += 1
            if self._trailers > TRAILER_LIMIT_LINES:
                raise ParserError("too many trailers")
            self._header(line)  # checked and dropped: a trailer changes nothing
        elif found:
            self._complete()
        return found


def _could_begin_request(start: bytes) -> bool:
    word = start.split(b" ")[0]
    return any(method.startswith(word) for method in METHODS)


# Two readings of one byte stream are how requests are smuggled: a parser that lets any of these pass is not
# used.
SMUGGLING_SHAPES = (
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"POST / HTTP/1.1\r\nContent-Length: 5\n\r\nhello",
    b"POST / HTTP/1.1\nContent-Length: 5\n\nhello",
    b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\r\nX : a\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
)


class _Nobody:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values: None


def is_strict(factory: Callable[[Any], Any]) -> bool:
    """Whether parsers of this make refuse every shape in SMUGGLING_SHAPES."""
    refused = 0
    for shape in SMUGGLING_SHAPES:
        try:
            factory(_Nobody()).feed_data(shape)
        except Exception:  # each parser has its own error class
            refused += 1
    return refused == len(SMUGGLING_SHAPES)


def choose(wanted: str) -> Tuple[str, Callable[[Any], Any]]:
    """(name, factory) of the parser to use; `wanted` is "auto", "httptools" or "python". "httptools" where it
    is missing or not strict means the Python one too: users' environments hold any version of it."""
    if wanted != "python" and httptools is not None and is_strict(httptools.HttpRequestParser):
        return "httptools", httptools.HttpRequestParser
    return "python", PurePythonParser
