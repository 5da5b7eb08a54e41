"""Carry one request to the control API and its answer back, over the workspace's unix socket. Knows no
resources."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from moorings.errors.exceptions import error
from moorings.lib.timing import Backoff

if TYPE_CHECKING:
    from http.client import HTTPConnection

    import httpx

Trace = Callable[[str], None]
"""Takes one line of an HTTP trace; secrets are redacted before."""

Write = Callable[[bytes | memoryview], object]
"""Takes a piece of content; its memory may be used again afterwards."""

REQUEST_ID_HEADER = "x-ms-client-request-id"
_SECRET_KEYS = frozenset(
    {
        *("primaryKey", "secondaryKey", "accessToken", "keyValue", "identityHeader", "sasToken", "sasUri"),
        *("credentials", "clientSecret", "client_secret", "access_token", "password"),
    }
)
_REPEATABLE = frozenset({"GET", "PUT", "DELETE"})
_TRACED_BODY_CHARS = 20_000
STREAM_SILENCE_S = 60.0
"""A stream sends something every ten seconds or so: one that is silent for this long is broken."""
_FETCH_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reason: str = ""

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())


class Transport(Protocol):
    """What the client needs of a connection."""

    def send(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, timeout_s: float | None = 60.0
    ) -> Answer:
        """One request; any status is an answer. Raises `WorkspaceUnreachable` when there was none."""

    def fetch(self, path: str, write: Write) -> Answer:
        """GET something large: its content goes to `write`, and the answer is without it. An error is
        answered whole. Raises `WorkspaceUnreachable` when the content ended before its length."""

    def stream(self, path: str, body: Mapping[str, Any], heard: Callable[[bytes], None]) -> Answer:
        """POST something whose answer goes on for a while: each of its lines goes to `heard`, and the answer is without
        them. An error is answered whole. Raises `WorkspaceUnreachable` when the connection broke."""


@dataclass
class SocketTransport:
    """HTTP over a unix socket.

    A connection that is refused is tried again for `patience_s` seconds (the other side may be starting);
    with `revive` given that is called first, once a request. A connection lost in mid-request is tried
    again for methods that may be repeated without harm.
    """

    socket: Path
    patience_s: float = 3.0
    revive: Callable[[], None] | None = None
    trace: Trace | None = None
    language: str = "en"
    """Of titles, causes and fixes in errors."""
    longest_s: float | None = None
    """No request of `send` waits longer for its answer, whatever it asks for."""
    _client: httpx.Client | None = field(default=None, init=False, repr=False)

    def send(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, timeout_s: float | None = 60.0
    ) -> Answer:
        import httpx

        if self.longest_s is not None:
            timeout_s = self.longest_s if timeout_s is None else min(timeout_s, self.longest_s)
        request_id = str(uuid.uuid4())
        headers = {
            REQUEST_ID_HEADER: request_id,
            "accept": "application/json",
            "accept-language": self.language,
        }
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["content-type"] = "application/json"
        deadline = time.monotonic() + self.patience_s
        backoff = Backoff(first_s=0.03, cap_s=0.3)
        failures, revived = 0, False
        while True:
            try:
                return self._once(method, path, content, headers, timeout_s)
            except httpx.TimeoutException as problem:
                raise self._unreachable(
                    f"no answer to {method} {path} within {timeout_s} s", problem
                ) from None
            except httpx.TransportError as problem:
                self.close()
                refused = isinstance(problem, httpx.ConnectError)
                if not refused and not _repeatable(method, path):
                    raise self._unreachable(f"the connection broke during {method} {path}", problem) from None
                if self.revive is not None and not revived:
                    self.revive()
                    revived = True
                    deadline = time.monotonic() + self.patience_s
                elif time.monotonic() >= deadline:
                    raise self._unreachable(f"nothing answers on {self.socket}", problem) from None
                failures += 1
                time.sleep(backoff.delay_s(failures))

    def fetch(self, path: str, write: Write) -> Answer:
        from http.client import HTTPException

        self._note(f"> GET {path}", None, {})
        connection = _unix_connection(self.socket, timeout_s=60.0)
        try:
            connection.request("GET", path, headers={"accept": "*/*"})
            with connection.getresponse() as response:
                headers = {k.lower(): v for k, v in response.headers.items()}
                if response.status >= 400:
                    return Answer(response.status, headers, response.read(), response.reason)
                buffer = memoryview(bytearray(_FETCH_CHUNK_BYTES))
                left = response.length or 0
                while count := response.readinto(buffer):
                    write(buffer[:count])
                    left -= count
        except (OSError, HTTPException) as problem:
            raise self._unreachable(f"the connection broke during GET {path}", problem) from None
        finally:
            connection.close()
        if left:
            broke = EOFError(f"{left} bytes are missing")
            raise self._unreachable(f"the connection broke during GET {path}", broke)
        return Answer(response.status, headers, b"", response.reason)

    def stream(self, path: str, body: Mapping[str, Any], heard: Callable[[bytes], None]) -> Answer:
        from http.client import HTTPException

        content = json.dumps(body).encode()
        self._note(f"> POST {path}", content, {})
        if self.revive is not None:
            try:
                self._knock()
            except Exception:  # noqa: BLE001 - whatever keeps it from answering, it is started
                self.revive()
        connection = _unix_connection(self.socket, timeout_s=STREAM_SILENCE_S)
        try:
            connection.request("POST", path, content, headers={"content-type": "application/json"})
            with connection.getresponse() as response:
                headers = {k.lower(): v for k, v in response.headers.items()}
                if response.status >= 400:
                    return Answer(response.status, headers, response.read(), response.reason)
                while line := response.readline():
                    heard(line)
        except (OSError, HTTPException) as problem:
            raise self._unreachable(f"the connection broke during POST {path}", problem) from None
        finally:
            connection.close()
        return Answer(response.status, headers, b"", response.reason)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> SocketTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _once(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float | None,
    ) -> Answer:
        client = self._connected()
        self._note(f"> {method} {path}", content, headers)
        response = client.request(method, path, content=content, headers=dict(headers), timeout=timeout_s)
        answer = Answer(
            status=response.status_code,
            headers={k.lower(): v for k, v in response.headers.items()},
            body=response.content,
            reason=response.reason_phrase,
        )
        self._note(f"< {answer.status} {answer.reason}", answer.body, answer.headers)
        return answer

    def _connected(self) -> httpx.Client:
        import httpx

        if self._client is None:
            self._knock()
            self._client = httpx.Client(
                transport=httpx.HTTPTransport(uds=str(self.socket)),
                base_url="http://moorings",
                trust_env=False,
            )
        return self._client

    def _knock(self) -> None:
        """Find out that nobody listens before the library does: it leaves the refused socket open."""
        import httpx

        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError as problem:
                raise httpx.ConnectError(problem.strerror or str(problem)) from None

    def _note(self, first: str, body: bytes | None, headers: Mapping[str, str]) -> None:
        if self.trace is None:
            return
        self.trace(first)
        for line in traced(headers, body):
            self.trace(line)

    def _unreachable(self, message: str, problem: Exception) -> Exception:
        evidence = (f"{type(problem).__name__}: {problem}",)
        return error("WorkspaceUnreachable", message, target=str(self.socket), evidence=evidence)


def _unix_connection(path: Path, *, timeout_s: float) -> HTTPConnection:
    """A connection for large content: the standard library reads it into one buffer, without taking it apart."""
    from http.client import HTTPConnection

    class UnixConnection(HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(timeout_s)
            self.sock.connect(str(path))

    return UnixConnection("moorings", timeout=timeout_s)


def _repeatable(method: str, path: str) -> bool:
    """Whether the same request may be sent twice without harm. Registering under the next number may: the same
    content gets the number it has."""
    return method in _REPEATABLE or (method == "POST" and path.partition("?")[0].endswith("/versions"))


def traced(headers: Mapping[str, str], body: bytes | None) -> list[str]:
    """Headers and body as lines of a trace, with credentials replaced by `***`."""
    lines = [f"    {k}: {'***' if k.lower() == 'authorization' else v}" for k, v in headers.items()]
    if body:
        try:
            text = json.dumps(_redacted(json.loads(body)))
        except ValueError:
            text = body.decode(errors="replace")
        lines.append(f"    {text[:_TRACED_BODY_CHARS]}")
    return lines


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        # `value` is a secret's where it is text; lists have one too.
        return {
            k: "***" if k in _SECRET_KEYS or (k == "value" and isinstance(v, str)) else _redacted(v)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [_redacted(v) for v in value]
    return value
