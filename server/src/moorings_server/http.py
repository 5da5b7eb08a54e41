"""One HTTP/1.1 connection: bytes to requests, routes, ids, answers in order, keep-alive.

Knows the parser's callbacks, the gate's `submit` and how an answer looks on the wire; nothing of scripts and
processes.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from time import perf_counter
from typing import Any, Callable, Deque, Dict, List, Optional, Set, Tuple

from moorings_server import contract
from moorings_server.gate import Request
from moorings_server.logs import Log
from moorings_server.parser import UPGRADE_ERRORS, PurePythonParser
from moorings_server.scoring import Answer, BadInputError, body_text, header_dict, message_body, query_text
from moorings_server.swagger import SwaggerDocuments
from moorings_server.wire import (
    HEALTH,
    ID_LIMIT_CHARS,
    JSON_TYPE,
    METHODS_OF,
    NOT_ALLOWED,
    NOT_FOUND,
    SCORE,
    TEXT_TYPE,
    RequestIds,
    path_of_absolute,
    status_line,
    version_line,
)

HEAD_LIMIT_BYTES = 64 * 1024
BODY_LIMIT_BYTES = 100 * 1024 * 1024
PIPELINE_LIMIT = 32
LINGER_S = 1.0
WATCHED = frozenset(
    (
        b"content-length",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"x-request-id",
        b"x-ms-client-request-id",
        b"x-ms-request-id",
        b"traceid",
    )
)
FRAMING = (b"content-length", b"transfer-encoding")
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class RefusedError(Exception):
    """Raised in a parser's callback to stop it; the connection has noted why."""


class Service:
    """What all connections of a worker share. `submit` is the gate's; `on_drained` is called once, when a
    drain has begun and no connection and no work is left."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        new_parser: Callable[[Any], Any],
        swagger: SwaggerDocuments,
        log: Log,
        *,
        wants_headers: bool,
        version_header: bool,
        body_limit_bytes: int = BODY_LIMIT_BYTES,
    ) -> None:
        self.loop = loop
        self.new_parser = new_parser
        self.swagger = swagger
        self.log = log
        self.wants_headers = wants_headers
        self.version = version_line(version_header)
        self.body_limit_bytes = body_limit_bytes
        self.new_id = RequestIds().new
        self.connections: Set["HttpConnection"] = set()
        self.closing = False
        self.draining = False
        self.arriving = 0
        self.gate: Any = None
        self.on_drained: Callable[[], None] = lambda: None
        # Everything of a scoring answer's head that does not depend on the request.
        self.score_heads = {
            (status, failed): b"%bContent-Type: %b\r\n%bx-ms-run-function-failed: %b\r\n"
            % (status_line(status), JSON_TYPE, self.version, str(failed).encode("ascii"))
            for status in (200, 400, 431, 500)
            for failed in (False, True)
        }

    def begin_drain(self) -> None:
        """No connection outlives its current requests from now on. (`closing` may be set before, so that the
        answer to a request that is being scored says so.)"""
        self.closing = self.draining = True
        for connection in list(self.connections):
            connection.close_if_idle()
        self.check_drained()

    def check_drained(self) -> None:
        if self.draining and not self.connections and not self.arriving and not self.gate.busy:
            done, self.on_drained = self.on_drained, lambda: None
            done()


class HttpConnection(asyncio.Protocol):
    """The protocol of one accepted connection. One request at a time is answered; those that were pipelined
    behind it wait here. `gone` is True once the client has closed (half-closing counts: who cannot be told
    apart from a client that left is treated as one)."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_boundary",
        "_current",
        "_fd",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_last",
        "_parser",
        "_paused",
        "_pumping",
        "_refusal",
        "_service",
        "_target",
        "_transport",
        "_waiting",
        "_watched",
        "gone",
    )

    def __init__(self, service: Service) -> None:
        self._service = service
        self._parser: Any = None
        self._transport: Any = None
        self._fd = -1
        self._target = b""
        self._headers: List[Tuple[bytes, bytes]] = []
        self._watched: Dict[bytes, bytes] = {}
        self._body: List[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_head = True
        self._boundary = False
        self._current: Optional[Request] = None
        self._waiting: Deque[Request] = deque()
        self._refusal: Optional[Tuple[int, str]] = None
        self._last = False
        self._paused = False
        self._pumping = False
        self.gone = False

    # --- transport ------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._fd = transport.get_extra_info("socket").fileno()
        # An answer must leave before the next run() may block the loop: no write is kept for the end of the
        # turn.
        transport.set_write_buffer_limits(high=0)
        self._parser = self._service.new_parser(self)
        self._service.connections.add(self)

    def connection_lost(self, exc: Optional[BaseException]) -> None:
        self.gone = True
        self._waiting.clear()
        self._parser = None
        self._service.connections.discard(self)
        self._service.check_drained()

    def eof_received(self) -> None:
        self.gone = True

    def pause_writing(self) -> None:
        self._pause()

    def resume_writing(self) -> None:
        if len(self._waiting) < PIPELINE_LIMIT:
            self._resume()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def is_gone_now(self) -> bool:
        """Ask the kernel whether the client has closed, without waiting for the loop to read it."""
        poller = select.poll()
        poller.register(self._fd, _GONE)
        return bool(poller.poll(0))

    def close_if_idle(self) -> None:
        if self._current is None and not self._waiting and self._in_head and not self._head_bytes:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._last:
            return
        seen = self._head_bytes
        if seen == 0 and b"pgrade" in data and not isinstance(self._parser, PurePythonParser):
            # httptools stops before the body of a request that offers an upgrade, as some clients do with each;
            # ours does what a server may do with such an offer: nothing.
            self._parser = PurePythonParser(self)
        self._boundary = False
        try:
            self._parser.feed_data(data)
        except UPGRADE_ERRORS:
            self._last = True
            self._finish_last()
            return
        except Exception as failure:  # each parser has its own errors, and wraps those of callbacks
            if self._last:
                return  # bytes after a request that closes the connection
            if self._refusal is None:
                self._refusal = (400, "The request is not valid HTTP: %s" % failure)
            self._refuse()
            return
        if self._in_head and self._head_bytes == seen and not self._boundary:
            self._head_bytes += len(data)  # a head of which the parser has not shown anything yet
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refusal = (431, "The request's headers are larger than %d bytes" % HEAD_LIMIT_BYTES)
                self._refuse()

    # --- parser ---------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._target = b""
        self._in_head = self._boundary = True
        self._head_bytes = 1

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > HEAD_LIMIT_BYTES:
            self._count_head(0)
        if not self._in_head:
            return  # a trailer changes nothing
        if self._service.wants_headers:
            self._headers.append((name, value.strip()))
        key = name.lower()
        if key in WATCHED:
            if key in self._watched and key in FRAMING:
                self._stop(400, "The request states the length of its body twice")
            self._watched[key] = value.strip()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_LIMIT_BYTES:
            self._stop(431, "The request's headers are larger than %d bytes" % HEAD_LIMIT_BYTES)

    def _stop(self, status: int, message: str) -> None:
        self._refusal = (status, message)
        raise RefusedError(message)

    def on_headers_complete(self) -> None:
        self._in_head = False
        watched = self._watched
        if not watched:
            return
        length = watched.get(b"content-length")
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
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        self._body.append(part)
        self._body_bytes += len(part)
        if self._body_bytes > self._service.body_limit_bytes:
            self._stop(413, "The request's body is larger than %d bytes" % self._service.body_limit_bytes)

    def on_message_complete(self) -> None:
        parser = self._parser
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._stop(400, "The version of HTTP is not supported")
        request = Request()
        request.client = self
        request.method = parser.get_method()
        request.target = self._target
        body = self._body
        request.body = b"" if not body else body[0] if len(body) == 1 else b"".join(body)
        request.keep_alive = parser.should_keep_alive()
        request.short_version = version == "1.0"
        request.received = perf_counter()
        request.answered = False
        request.headers = header_dict(self._headers) if self._headers else None
        watched = self._watched
        request.request_id = watched.get(b"x-request-id", b"")
        request.client_id = watched.get(b"x-ms-client-request-id", b"")
        request.trace_id = watched.get(b"traceid", b"")
        if b"x-ms-request-id" in watched:
            self._deprecated_id(request, watched[b"x-ms-request-id"])
        if body:
            self._body = []
            self._body_bytes = 0
        if watched:
            self._watched = {}
        if self._headers:
            self._headers = []
        self._in_head = self._boundary = True
        self._head_bytes = 0
        if not request.keep_alive:
            self._last = True
        if self._current is None and not self._waiting:
            self._start(request)
        else:
            self._waiting.append(request)
            if len(self._waiting) >= PIPELINE_LIMIT:
                self._pause()

    def _deprecated_id(self, request: Request, value: bytes) -> None:
        self._service.log.warning(
            "The request header x-ms-request-id is deprecated; use x-ms-client-request-id"
        )
        request.client_id = request.client_id or value

    # --- routes ---------------------------------------------------------------------------------------------

    def _start(self, request: Request) -> None:
        self._current = request
        path, query = request.target, b""
        if path != SCORE:
            if not path.startswith(b"/"):
                path = path_of_absolute(path)
            path, _, query = path.partition(b"#")[0].partition(b"?")
        method = request.method
        if path == SCORE and method in (b"POST", b"GET"):
            self._score(request, query)
        elif path not in METHODS_OF:
            self._plain(request, 404, JSON_TYPE, message_body(NOT_FOUND), ids=False)
        elif method == b"OPTIONS":
            self._plain(request, 200, TEXT_TYPE, b"", b"Allow: %b\r\n" % METHODS_OF[path])
        elif path == SCORE or method not in (b"GET", b"HEAD"):
            allow = b"Allow: %b\r\n" % METHODS_OF[path]
            self._plain(request, 405, JSON_TYPE, message_body(NOT_ALLOWED), allow, ids=False)
        elif path == HEALTH:
            self._plain(request, 200, TEXT_TYPE, contract.HEALTHY_BODY, quiet=True)
        else:
            document = self._service.swagger.for_query(query)
            if document is None:
                document = message_body(self._service.swagger.refusal(query))
                self._plain(request, 404, JSON_TYPE, document)
            else:
                self._plain(request, 200, JSON_TYPE, document)

    def _score(self, request: Request, query: bytes) -> None:
        for name, value in (
            ("x-request-id", request.request_id),
            ("x-ms-client-request-id", request.client_id),
        ):
            if len(value) > ID_LIMIT_CHARS:
                if name == "x-request-id":
                    request.request_id = b""
                else:
                    request.client_id = b""
                refused = message_body("%s must not exceed %d characters" % (name, ID_LIMIT_CHARS))
                self.finish(request, Answer(431, refused), perf_counter())
                return
        if self._service.wants_headers and request.headers is None:
            request.headers = {}
        try:
            request.text = body_text(request.body) if request.method == b"POST" else query_text(query)
        except BadInputError as failure:
            self.finish(request, Answer(400, message_body(str(failure))), perf_counter())
            return
        self._service.gate.submit(request)

    # --- answers --------------------------------------------------------------------------------------------

    def finish(self, request: Request, answer: Answer, now: float) -> None:
        """Send the answer to a scoring request and log it; a client that is gone gets only the log line."""
        service = self._service
        request.answered = True
        request_id = request.request_id or service.new_id()
        head = service.score_heads[answer.status, answer.failed]
        body = answer.body
        exec_ms = answer.exec_ms
        if not self.gone:
            self._transport.write(
                b"%b%bContent-Length: %d\r\nx-request-id: %b\r\nx-ms-request-id: %b\r\n%b%b"
                % (
                    head,
                    b"" if exec_ms is None else b"x-ms-run-fn-exec-ms: %.3f\r\n" % exec_ms,
                    len(body),
                    request_id,
                    request.client_id or request_id,
                    self._tail(request),
                    body,
                )
            )
        ms = (now - request.received) * 1000
        service.log.request(request.method, request.target, answer.status, ms, len(body), request_id)
        self._next(request)

    def drop(self, request: Request) -> None:
        """Forget a queued request whose client has left; it never ran. Logged as 499."""
        request.answered = True
        self.gone = True
        ms = (perf_counter() - request.received) * 1000
        self._service.log.request(request.method, request.target, 499, ms, 0, request.request_id)
        self._current = None
        self._transport.abort()

    def _tail(self, request: Request) -> bytes:
        """The last header lines: what is only there for some requests."""
        tail = b"\r\n"
        if request.short_version and request.keep_alive:
            tail = b"Connection: keep-alive\r\n\r\n"
        if self._closes_after(request):
            tail = b"Connection: close\r\n\r\n"
        if request.client_id:
            tail = b"x-ms-client-request-id: %b\r\n%b" % (request.client_id, tail)
        if request.trace_id:
            tail = b"TraceId: %b\r\n%b" % (request.trace_id, tail)
        return tail

    def _closes_after(self, request: Request) -> bool:
        if not request.keep_alive:
            return True
        last = self._service.closing or (self._last and self._refusal is None)
        return last and not self._waiting

    def _plain(
        self,
        request: Request,
        status: int,
        kind: bytes,
        body: bytes,
        extra: bytes = b"",
        *,
        ids: bool = True,
        quiet: bool = False,
    ) -> None:
        """Answer something that is not scoring; `quiet` answers are not logged."""
        service = self._service
        if ids:
            request_id = request.request_id[:ID_LIMIT_CHARS] or service.new_id()
            request.client_id = request.client_id[:ID_LIMIT_CHARS]
            extra += b"%bx-request-id: %b\r\nx-ms-request-id: %b\r\n" % (
                service.version,
                request_id,
                request.client_id or request_id,
            )
        else:
            request.client_id = request.trace_id = request_id = b""
        if not self.gone:
            self._transport.write(
                b"%bContent-Type: %b\r\nContent-Length: %d\r\n%b%b%b"
                % (
                    status_line(status),
                    kind,
                    len(body),
                    extra,
                    self._tail(request),
                    b"" if request.method == b"HEAD" else body,
                )
            )
        if not quiet:
            ms = (perf_counter() - request.received) * 1000
            service.log.request(request.method, request.target, status, ms, len(body), request_id)
        self._next(request)

    def _next(self, request: Request) -> None:
        """Go on after an answer: close, or take what was pipelined behind it."""
        self._current = None
        if self._closes_after(request):
            self._transport.close()
            return
        if self._pumping or not (self._waiting or self._last):
            return
        self._pumping = True  # answers that need no run() come back here: a loop, not a recursion
        while self._waiting and self._current is None:
            self._start(self._waiting.popleft())
        self._pumping = False
        if len(self._waiting) < PIPELINE_LIMIT // 2:
            self._resume()
        self._finish_last()

    def _refuse(self) -> None:
        self._last = True
        self._finish_last()

    def _finish_last(self) -> None:
        """When nothing more can be read here and all is answered: say why, if there is a reason, and
        close."""
        if not self._last or self._current is not None or self._waiting or self._transport.is_closing():
            return
        if self._refusal is None:
            self._transport.close()
            return
        (status, message), self._refusal = self._refusal, None
        body = message_body(message)
        head = b"%bContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        self._transport.write(head % (status_line(status), JSON_TYPE, len(body)) + body)
        self._service.log.warning("Refused a request with %d: %s" % (status, message))
        # Closing over bytes that are still arriving would reset the connection before the answer has been
        # read.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._service.loop.call_later(LINGER_S, self._transport.close)
