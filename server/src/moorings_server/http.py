"""One HTTP/1.1 connection: routes, ids, answers in order, streams, keep-alive.

Knows requests, the gate's `submit` and how an answer looks on the wire; nothing of scripts and processes.
"""

from __future__ import annotations

import select
import socket
from time import perf_counter
from typing import Any, Callable, Optional

from moorings_server import contract
from moorings_server.gate import Request
from moorings_server.inputs import BadInputError
from moorings_server.kept import KeptAnswers
from moorings_server.rawrequest import header_dict
from moorings_server.reading import PIPELINE_LIMIT, RequestReader
from moorings_server.results import BODILESS, Answer, plain_head
from moorings_server.routing import is_routed
from moorings_server.scoring import message_body
from moorings_server.service import Service
from moorings_server.wire import (
    HEALTH,
    ID_LIMIT_CHARS,
    JSON_TYPE,
    KEPT,
    LAST_CHUNK,
    METHODS_OF,
    NOT_ALLOWED,
    NOT_FOUND,
    SCORE,
    TEXT_TYPE,
    chunk,
    path_of_absolute,
    status_line,
)

LINGER_S = 1.0
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
_SCORED = frozenset((b"POST", b"GET"))
_SCORED_RAW = frozenset((b"POST", b"GET", b"OPTIONS", b"HEAD"))


class HttpConnection(RequestReader):
    """The protocol of one accepted connection. One request at a time is answered; those that were pipelined
    behind it wait here. `gone` is True once the client has closed (half-closing counts: who cannot be told
    apart from a client that left is treated as one)."""

    __slots__ = (
        "_chunked",
        "_fd",
        "_on_room",
        "_paused",
        "_pumping",
        "_sent",
        "_transport",
        "_write",
        "full",
        "gone",
    )

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._transport: Any = None
        self._write: Any = None
        self._fd = -1
        self._paused = False
        self._pumping = False
        self._chunked = False
        self._sent = False
        self._on_room: Optional[Callable[[], Any]] = None
        self.full = False
        self.gone = False

    # --- transport ------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._write = transport.write
        self._fd = transport.get_extra_info("socket").fileno()
        # An answer must leave before the next run() may block the loop: no write is kept for the end of the
        # turn.
        transport.set_write_buffer_limits(high=0)
        self._parser = self._service.new_parser(self)
        self._service.connections.add(self)

    def connection_lost(self, exc: Optional[BaseException]) -> None:
        self._leave()
        self._waiting.clear()
        self._parser = None
        self._write = None
        self._service.connections.discard(self)
        self._service.check_drained()

    def eof_received(self) -> None:
        self._leave()

    def _leave(self) -> None:
        """The client is gone: whoever works for it is told once."""
        if self.gone:
            return
        self.gone = True
        if self._current is not None and not self._current.answered:
            self._service.gate.left(self._current)
        self._tell_room()

    def pause_writing(self) -> None:
        self.full = True
        self._pause()

    def resume_writing(self) -> None:
        self.full = False
        self._tell_room()
        if len(self._waiting) < PIPELINE_LIMIT:
            self._resume()

    def when_room(self, then: Callable[[], Any]) -> None:
        """Call `then` once what was written has left, or the client has."""
        self._on_room = then
        if self.gone or not self.full:
            self._tell_room()

    def _tell_room(self) -> None:
        then, self._on_room = self._on_room, None
        if then is not None:
            then()

    def peer_address(self) -> Optional[str]:
        """The client's address, if it came over TCP."""
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else None

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
        return self._polled(_GONE)

    def _polled(self, events: int) -> bool:
        poller = select.poll()
        poller.register(self._fd, events)
        return bool(poller.poll(0))

    def close_if_idle(self) -> None:
        """Close unless a request is here, is arriving, or waits in the kernel: closing over unread bytes would reset the
        connection."""
        idle = self._current is None and not self._waiting and self._in_head and not self._head_bytes
        if idle and not self._polled(select.POLLIN):
            self._transport.close()

    def _say_continue(self) -> None:
        self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # --- routes ---------------------------------------------------------------------------------------------

    def _route(self, request: Request) -> None:
        """Any request but the usual one."""
        path, query = request.target, b""
        if path != SCORE:
            if not path.startswith(b"/"):
                path = path_of_absolute(path)
            path, _, query = path.partition(b"#")[0].partition(b"?")
        method = request.method
        if path == SCORE and method in (_SCORED_RAW if self._service.raw else _SCORED):
            self._score(request, query)
        elif path not in METHODS_OF:
            if self._service.routes and is_routed(path, self._service.routes):
                self._score(request, query)
                return
            wanted = getattr(request, "collect", None)
            if path == KEPT and method == b"GET" and wanted is not None:
                kept = self._service.kept or KeptAnswers()
                self._plain(request, 200, JSON_TYPE, kept.take(wanted), ids=False, quiet=True)
                return
            self._plain(request, 404, JSON_TYPE, message_body(NOT_FOUND), ids=False)
        elif method == b"OPTIONS":
            self._plain(request, 200, TEXT_TYPE, b"", b"Allow: %b\r\n" % METHODS_OF[path])
        elif path == SCORE or method not in (b"GET", b"HEAD"):
            allow = b"Allow: %b\r\n" % METHODS_OF[path]
            self._plain(request, 405, JSON_TYPE, message_body(NOT_ALLOWED), allow, ids=False)
        elif path == HEALTH:
            if self._service.is_hung():
                self._plain(request, 503, TEXT_TYPE, contract.HUNG_BODY, quiet=True)
            else:
                self._plain(request, 200, TEXT_TYPE, contract.HEALTHY_BODY, quiet=True)
        else:
            document = self._service.swagger.for_query(query)
            if document is None:
                document = message_body(self._service.swagger.refusal(query))
                self._plain(request, 404, JSON_TYPE, document)
            else:
                self._plain(request, 200, JSON_TYPE, document)

    def _score(self, request: Request, query: bytes) -> None:
        service = self._service
        if len(request.request_id) > ID_LIMIT_CHARS or len(request.client_id) > ID_LIMIT_CHARS:
            self._refuse_id(request)
            return
        try:
            request.data = service.prepare(request, query)
        except BadInputError as failure:
            self.finish(request, Answer(failure.status, message_body(str(failure))), perf_counter())
            return
        if service.wants_headers:
            request.headers = header_dict(request.headers)
        service.gate.submit(request)

    def _refuse_id(self, request: Request) -> None:
        name = "x-request-id" if len(request.request_id) > ID_LIMIT_CHARS else "x-ms-client-request-id"
        if name == "x-request-id":
            request.request_id = b""
        else:
            request.client_id = b""
        refused = message_body("%s must not exceed %d characters" % (name, ID_LIMIT_CHARS))
        self.finish(request, Answer(431, refused), perf_counter())

    # --- answers --------------------------------------------------------------------------------------------

    def finish(self, request: Request, answer: Answer, now: float) -> None:
        """Send the answer to a scoring request and log it; a client that is gone gets only the log line."""
        service = self._service
        request.answered = True
        request_id = request.request_id or service.new_id()
        body = answer.body
        length = len(body)
        exec_ms = answer.exec_ms
        usual = request.plain and answer.head is None and not self._last
        if self.gone:
            pass
        elif usual and exec_ms is not None and answer.status == 200 and not service.closing:
            client_id = request.client_id
            self._write(
                b"%bx-ms-run-fn-exec-ms: %.3f\r\nContent-Length: %d\r\nx-request-id: %b\r\nx-ms-request-id: %b\r\n%b\r\n%b"
                % (
                    service.good_head,
                    exec_ms,
                    length,
                    request_id,
                    client_id or request_id,
                    b"x-ms-client-request-id: %b\r\n" % client_id if client_id else b"",
                    body,
                )
            )
        else:
            usual = False
            self._write(self._rendered(request, answer, request_id))
        ms = (now - request.received) * 1000
        service.log.request((now, request.method, request.target, answer.status, ms, length, request_id))
        if service.kept is not None:
            service.kept.note(request_id, answer.status, ms, body)
        if usual and not self._waiting:
            self._current = None
        else:
            self._next(request)

    def _rendered(self, request: Request, answer: Answer, request_id: bytes) -> bytes:
        """A whole answer as it is sent."""
        status, body, exec_ms = answer.status, answer.body, answer.exec_ms
        head = answer.head
        if head is None:
            head = plain_head(status, JSON_TYPE, answer.failed)
        if status in BODILESS:
            body, length = b"", b""
        else:
            length = b"Content-Length: %d\r\n" % len(body)
        return b"%b%b%b%b" % (
            head,
            length,
            self._ids(request, request_id, exec_ms),
            b"" if request.method == b"HEAD" else body,
        )

    def _ids(self, request: Request, request_id: bytes, exec_ms: Optional[float]) -> bytes:
        """The lines from the version to the end of the head."""
        return b"%b%bx-request-id: %b\r\nx-ms-request-id: %b\r\n%b" % (
            self._service.version,
            b"" if exec_ms is None else b"x-ms-run-fn-exec-ms: %.3f\r\n" % exec_ms,
            request_id,
            request.client_id or request_id,
            self._tail(request),
        )

    # --- streams --------------------------------------------------------------------------------------------

    def open_stream(self, request: Request, answer: Answer, head: bytes, first: bytes) -> None:
        """Send the head of a streamed answer and its first part."""
        self._chunked = not request.short_version
        self._sent = True
        if self._chunked:
            head += b"Transfer-Encoding: chunked\r\n"
        else:
            request.keep_alive = False  # the end of the body is the end of the connection
        request.request_id = request.request_id or self._service.new_id()
        if self.gone:
            return
        data = head + self._ids(request, request.request_id, answer.exec_ms)
        if request.method != b"HEAD":
            data += chunk(first) if self._chunked else first
        self._write(data)

    def send_part(self, request: Request, part: bytes) -> None:
        """Send one more part of a stream."""
        if part and not self.gone and request.method != b"HEAD":
            self._write(chunk(part) if self._chunked else part)

    def end_stream(self, request: Request, answer: Optional[Answer], whole: bool, now: float) -> None:
        """End a stream; one that is not whole ends so that the client can tell: the connection is closed over it."""
        request.answered = True
        self._sent = False
        if whole and self._chunked and not self.gone and request.method != b"HEAD":
            self._write(LAST_CHUNK)
        if not whole:
            request.keep_alive = False
        status = 499 if self.gone else 200 if answer is None else answer.status
        ms = (now - request.received) * 1000
        self._service.log.request((now, request.method, request.target, status, ms, None, request.request_id))
        if self._service.kept is not None:
            self._service.kept.note(request.request_id, status, ms, None)
        if self.gone:
            self._current = None
            self._transport.abort()
        else:
            self._next(request)

    def last_words(self, request: Request, answer: Answer) -> None:
        """Send an answer past the event loop, which is stuck, right before the process ends."""
        if request.answered or self._sent or self.gone or self.full:
            return
        request.keep_alive = False
        request_id = request.request_id or self._service.new_id()
        try:
            with socket.socket(fileno=socket.dup(self._fd)) as direct:
                direct.setblocking(False)
                direct.send(self._rendered(request, answer, request_id))
        except OSError:
            return
        now = perf_counter()
        ms = (now - request.received) * 1000
        self._service.log.request(
            (now, request.method, request.target, answer.status, ms, len(answer.body), request_id)
        )

    def drop(self, request: Request) -> None:
        """Forget a request whose client has left before its answer. Logged as 499."""
        request.answered = True
        self.gone = True
        now = perf_counter()
        ms = (now - request.received) * 1000
        self._service.log.request((now, request.method, request.target, 499, ms, 0, request.request_id))
        self._current = None
        self._transport.abort()

    def _tail(self, request: Request) -> bytes:
        """The last header lines: what is only there for some requests."""
        tail = b"\r\n"
        if self._closes_after(request):
            tail = b"Connection: close\r\n\r\n"
        elif request.short_version:
            tail = b"Connection: keep-alive\r\n\r\n"
        if request.client_id:
            tail = b"x-ms-client-request-id: %b\r\n%b" % (request.client_id, tail)
        if request.trace_id:
            tail = b"TraceId: %b\r\n%b" % (request.trace_id, tail)
        return request.extra + tail if request.extra else tail

    def _closes_after(self, request: Request) -> bool:
        if not request.keep_alive:
            return True
        if not (self._service.closing or self._last):
            return False
        return (self._service.closing or self._refusal is None) and not self._waiting

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
            self._write(
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
        request.answered = True
        if not quiet:
            now = perf_counter()
            ms = (now - request.received) * 1000
            service.log.request((now, request.method, request.target, status, ms, len(body), request_id))
        self._next(request)

    def _next(self, request: Request) -> None:
        """Go on after an answer: close, or take what was pipelined behind it."""
        self._current = None
        if self._closes_after(request):
            self._transport.close()
            return
        if self._waiting or self._last:
            self._pump()

    def _pump(self) -> None:
        """Take what waits, one after the other."""
        if self._pumping:
            return
        self._pumping = True  # answers that need no run() come back here: a loop, not a recursion
        waiting = self._waiting
        try:
            while waiting and self._current is None:
                request = self._current = waiting.popleft()
                if request.target == SCORE and request.method == b"POST":
                    self._score(request, b"")
                else:
                    self._route(request)
        finally:
            self._pumping = False
        if self._paused and not self.full and len(waiting) < PIPELINE_LIMIT // 2:
            self._resume()
        if self._last:
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
