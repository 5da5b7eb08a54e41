"""The reading half of a connection: a parser's callbacks to requests, and what is refused while they arrive.

Knows HTTP's framing and limits; nothing of routes, answers and sockets.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import Any, Deque, Dict, List, Optional, Tuple

from moorings_server.gate import Request
from moorings_server.parser import UPGRADE_ERRORS, PurePythonParser
from moorings_server.service import FRAMING, Service
from moorings_server.wire import COLLECT, COMPARE

HEAD_LIMIT_BYTES = 64 * 1024
PIPELINE_LIMIT = 32
TOO_LARGE_HEAD = "The request's headers are larger than %d bytes" % HEAD_LIMIT_BYTES


class RefusedError(Exception):
    """Raised in a parser's callback to stop it; the connection has noted why."""


class RequestReader(asyncio.Protocol):
    """Bytes to `_waiting` requests. `_last`: nothing more is read here; `_refusal`: why, if there is a reason."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_boundary",
        "_counting",
        "_current",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_keeps_headers",
        "_last",
        "_parser",
        "_refusal",
        "_service",
        "_target",
        "_usual",
        "_waiting",
        "_watch",
        "_watched",
    )

    def __init__(self, service: Service) -> None:
        self._service = service
        self._watch = service.watched
        self._keeps_headers = service.keeps_headers
        self._parser: Any = None
        self._target = b""
        self._headers: List[Tuple[bytes, bytes]] = []
        self._watched: Dict[bytes, bytes] = {}
        self._body: List[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_head = True
        self._boundary = False
        self._counting = False
        self._usual = False
        self._current: Optional[Request] = None
        self._waiting: Deque[Request] = deque()
        self._refusal: Optional[Tuple[int, str]] = None
        self._last = False

    # --- what the answering half does -----------------------------------------------------------------------

    def _pause(self) -> None:
        """Read no more until there is room for more requests."""

    def _pump(self) -> None:
        """Take what waits, and end the connection when `_last` says so."""

    def _say_continue(self) -> None:
        """Tell the client to send its body."""

    # --- bytes ----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse, then have what is complete answered."""
        if self._last:
            return
        if self._in_head:
            if not self._head_bytes and b"pgrade" in data and not isinstance(self._parser, PurePythonParser):
                # httptools stops before the body of a request that offers an upgrade, as some clients do with each;
                # ours does what a server may do with such an offer: nothing.
                self._parser = PurePythonParser(self)
            # Headers are counted one by one only where they could be too many.
            self._counting = self._head_bytes + len(data) > HEAD_LIMIT_BYTES
        self._boundary = False
        try:
            self._parser.feed_data(data)
        except UPGRADE_ERRORS:
            self._last = True
        except Exception as failure:  # each parser has its own errors, and wraps those of callbacks
            self._unreadable(failure)
        else:
            if self._in_head and not self._boundary:
                self._count_partial(len(data))
        if self._waiting or self._last:
            self._pump()

    def _unreadable(self, failure: Exception) -> None:
        if not self._last:  # else they are bytes after a request that closes the connection
            self._last = True
            if self._refusal is None:
                self._refusal = (400, "The request is not valid HTTP: %s" % failure)

    def _count_partial(self, size: int) -> None:
        """A head of which only a part has arrived."""
        self._head_bytes += size
        if self._head_bytes > HEAD_LIMIT_BYTES:
            self._last = True
            self._refusal = (431, TOO_LARGE_HEAD)

    # --- parser ---------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._head_bytes = self._head_bytes or 1

    def on_url(self, url: bytes) -> None:
        self._target = self._target + url if self._target else url
        if self._counting:
            self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._counting:
            self._count_head(len(name) + len(value) + 4)
        if self._keeps_headers and self._in_head:
            self._headers.append((name, value.strip()))
        key = name.lower()
        if key in self._watch and self._in_head:  # a trailer changes nothing
            if key in self._watched and key in FRAMING:
                self._stop(400, "The request states the length of its body twice")
            self._watched[key] = value.strip()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_LIMIT_BYTES:
            self._stop(431, TOO_LARGE_HEAD)

    def _stop(self, status: int, message: str) -> None:
        self._refusal = (status, message)
        raise RefusedError(message)

    def on_headers_complete(self) -> None:
        self._in_head = False
        watched = self._watched
        if not watched:
            return
        length = watched.get(b"content-length")
        if length is not None and len(length) < 7:  # nothing is below seven digits that is not allowed
            self._usual = len(watched) == 1 or (len(watched) == 2 and b"x-request-id" in watched)
            if self._usual:
                return
        coding = watched.get(b"transfer-encoding")
        if coding is not None:
            if coding.lower() != b"chunked" or self._parser.get_http_version() != "1.1":
                self._stop(400, "The only transfer coding that is supported is chunked, with HTTP/1.1")
            if length is not None:
                self._stop(400, "The request has both Content-Length and Transfer-Encoding")
        elif length is not None and int(length) > self._service.body_limit_bytes:
            self._stop(413, "The request's body is larger than %d bytes" % self._service.body_limit_bytes)
        if b"upgrade" in watched and not isinstance(self._parser, PurePythonParser):
            self._stop(400, "The request offers an upgrade in a form that is not supported")
        expected = watched.get(b"expect")
        if expected is not None:
            self._expect(expected, length, coding)

    def _expect(self, expected: bytes, length: Optional[bytes], coding: Optional[bytes]) -> None:
        if expected.lower() != b"100-continue":
            self._stop(417, "The only expectation that is supported is 100-continue")
        has_body = coding is not None or (length is not None and int(length) > 0)
        if has_body and self._current is None and self._parser.get_http_version() == "1.1":
            self._say_continue()

    def on_body(self, part: bytes) -> None:
        self._body.append(part)
        self._body_bytes += len(part)
        if self._body_bytes > self._service.body_limit_bytes:
            self._stop(413, "The request's body is larger than %d bytes" % self._service.body_limit_bytes)

    def on_message_complete(self) -> None:
        parser = self._parser
        version = parser.get_http_version()
        request = Request()
        request.client = self
        request.method = parser.get_method()
        request.target = self._target
        body = self._body
        if body:
            request.body = body[0] if len(body) == 1 else b"".join(body)
            self._body = []
            self._body_bytes = 0
        else:
            request.body = b""
        request.keep_alive = keep_alive = parser.should_keep_alive()
        request.received = perf_counter()
        request.answered = False
        watched = self._watched
        if self._usual and version == "1.1":
            self._usual = False
            request.short_version = False
            request.request_id = watched.get(b"x-request-id", b"")
            request.client_id = request.trace_id = request.content_type = request.extra = b""
            request.plain = keep_alive
            self._watched = {}
        else:
            self._usual = False
            self._take_watched(request, watched, version)
        if self._keeps_headers:
            request.headers, self._headers = self._headers, []
        else:
            request.headers = None
        self._in_head = self._boundary = True
        self._head_bytes = 0
        self._target = b""
        if not keep_alive:
            self._last = True
        self._waiting.append(request)
        if len(self._waiting) >= PIPELINE_LIMIT:
            self._pause()

    def _take_watched(self, request: Request, watched: Dict[bytes, bytes], version: str) -> None:
        """What the headers that are looked at say about this request."""
        if version not in ("1.1", "1.0"):
            self._stop(400, "The version of HTTP is not supported")
        request.short_version = version == "1.0"
        request.request_id = watched.get(b"x-request-id", b"")
        request.client_id = watched.get(b"x-ms-client-request-id", b"")
        request.trace_id = watched.get(b"traceid", b"")
        request.content_type = watched.get(b"content-type", b"")
        request.extra = b""
        if b"x-ms-request-id" in watched:
            self._service.log.warning(
                "The request header x-ms-request-id is deprecated; use x-ms-client-request-id"
            )
            request.client_id = request.client_id or watched[b"x-ms-request-id"]
        if COMPARE in watched:
            self._service.keep_answers()
        request.collect = watched.get(COLLECT)
        cors = self._service.cors
        if cors is not None and b"origin" in watched:
            request.extra = cors.lines(
                watched[b"origin"],
                request.method,
                watched.get(b"access-control-request-method", b""),
                watched.get(b"access-control-request-headers", b""),
            )
        request.plain = (
            request.keep_alive
            and not request.short_version
            and not request.trace_id
            and not request.extra
            and request.method != b"HEAD"
        )
        if watched:
            self._watched = {}
