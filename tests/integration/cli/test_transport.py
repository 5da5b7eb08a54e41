"""HTTP over a real unix socket whose other side is late, breaks off, or is not there."""

from __future__ import annotations

import http.server
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from moorings.client.transport import SocketTransport
from moorings.errors.exceptions import MooringsError


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, _ = super().get_request()
        return connection, ("local", 0)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    breaks = 0

    def do_GET(self) -> None:
        if type(self).breaks > 0:
            type(self).breaks -= 1
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) or b'{"primaryKey": "s3cret"}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("X-Echo", self.headers.get("x-ms-client-request-id", ""))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(path: Path, *, breaks: int = 0) -> Iterator[None]:
    handler = type("OneHandler", (Handler,), {"breaks": breaks})
    with Server(str(path), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / "api.sock"


def test_a_request_goes_there_and_back(path: Path) -> None:
    trace: list[str] = []
    with serving(path), SocketTransport(path, trace=trace.append) as transport:
        answer = transport.send("PUT", "/x", body={"a": "ä"})
        assert (answer.status, answer.body) == (200, b'{"a": "\\u00e4"}')
        assert len(str(answer.header("x-echo"))) == 36
        transport.send("GET", "/x")
    assert any(line.startswith("> PUT /x") for line in trace)
    assert "s3cret" not in "".join(trace)


def test_nobody_there_is_a_coded_failure_in_bounded_time(path: Path) -> None:
    with SocketTransport(path, patience_s=0.1) as transport, pytest.raises(MooringsError) as caught:
        transport.send("GET", "/x")
    assert caught.value.failure.code == "WorkspaceUnreachable"
    assert str(path) in caught.value.failure.message


def test_a_socket_that_appears_while_waiting_is_used(path: Path) -> None:
    calls: list[None] = []
    with SocketTransport(path, patience_s=0.0) as transport:
        server = serving(path)

        def revive() -> None:
            calls.append(None)
            server.__enter__()

        transport.revive = revive
        try:
            assert transport.send("POST", "/x", body={}).status == 200
            assert transport.send("GET", "/x").status == 200
        finally:
            server.__exit__(None, None, None)
    assert len(calls) == 1


def test_a_connection_that_breaks_is_tried_again_where_that_is_harmless(path: Path) -> None:
    with serving(path, breaks=2), SocketTransport(path) as transport:
        assert transport.send("PUT", "/x", body={}).status == 200
    path.unlink()
    with serving(path, breaks=1), SocketTransport(path) as transport, pytest.raises(MooringsError) as caught:
        transport.send("POST", "/x", body={})
    assert caught.value.failure.code == "WorkspaceUnreachable"
