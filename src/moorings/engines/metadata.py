"""Tokens for the identity of one instance, as programs of the ecosystem ask for them (`IDENTITY_ENDPOINT`).

Served by the instance's own supervisor on loopback: in a container nobody else reaches that address, and on processes
nobody else knows the secret that has to be shown (`IDENTITY_HEADER`, in the environment of the workers alone). The
tokens themselves are made by the workspace's daemon, which is asked over a socket with the instance's credential. Each is
kept here for as long as it holds, so that an instance goes on while the daemon is away; what cannot be had is answered
503 with what to do. One thread, never blocks. Runs in containers: Python 3.8, standard library.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import selectors
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

PATH = "/msi/token"
LOOPBACK = "127.0.0.1"
LONGEST_REQUEST = 16 * 1024
LONGEST_ANSWER = 64 * 1024
MOST_CONNECTIONS = 32
MOST_KEPT = 64
"""Tokens that are kept: one for each resource that was asked for."""
PATIENCE_S = 5.0
"""How long a client or the daemon may take."""
SPARE_S = 60.0
"""A token that ends within this time is not handed out any more."""
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 503: "Service Unavailable"}
UNAVAILABLE = (
    "IdentityServiceUnavailable: the workspace's daemon, which makes the tokens, does not answer, and no token from "
    "before is still valid. Start it: moor workspace start"
)


def new_header() -> str:
    """A secret that an instance shows to get its tokens."""
    return secrets.token_urlsafe(32)


def variables(port: int, header: str) -> dict[str, str]:
    """What leads a program to its tokens; the last two are the older names."""
    url = f"http://{LOOPBACK}:{port}{PATH}"
    return {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": header, "MSI_ENDPOINT": url, "MSI_SECRET": header}


class Metadata:
    """The server of one instance. `step` is called for each of its sockets that is ready (`selector`'s data is a
    `Connection` or this object), and now and then."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        identity: Mapping[str, Any],
        *,
        header: str = "",
        port: int = 0,
    ) -> None:
        """`identity`: `engines.base.InstanceIdentity` as JSON; `header`, `port`: where the instance has been told them
        before. Raises OSError when the port is not free, or none is."""
        self._selector = selector
        self.identity = identity
        self.header = header or new_header()
        self.kept: dict[str, dict[str, Any]] = {}
        self.connections: set[Connection] = set()
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listener.setblocking(False)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # for when it is begun again
        self._listener.bind((LOOPBACK, port))
        self._listener.listen(MOST_CONNECTIONS)
        selector.register(self._listener, selectors.EVENT_READ, self)

    def variables(self) -> dict[str, str]:
        """What workers are told."""
        return variables(self._listener.getsockname()[1], self.header)

    def step(self) -> None:
        """Somebody wants to connect."""
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            if len(self.connections) >= MOST_CONNECTIONS:
                # Anybody on the machine may connect: whoever only holds connections keeps nobody out.
                min(self.connections, key=_claim).close()
            self.connections.add(Connection(self, self._selector, client))

    def expire(self, now: float) -> float | None:
        """End what has taken too long; when to look again (monotonic seconds)."""
        for connection in list(self.connections):
            connection.expire(now)
        return min((c.deadline for c in self.connections), default=None)

    def close(self) -> None:
        for connection in list(self.connections):
            connection.close()
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._listener)
        self._listener.close()

    # --- tokens ---

    def usable(self, resource: str, *, fresh: bool) -> dict[str, Any] | None:
        """The token that is kept for a resource; `fresh`: only while it is too early to ask for the next one."""
        found = self.kept.get(resource)
        if found is None:
            return None
        now = time.time()
        limit = float(found["refresh_on"]) if fresh else float(found["expires_on"]) - SPARE_S
        return found if now < limit else None

    def keep(self, resource: str, token: dict[str, Any]) -> None:
        if len(self.kept) >= MOST_KEPT:
            self.kept.pop(next(iter(self.kept)))
        self.kept[resource] = token


class Connection:
    """One request: read, perhaps asked of the daemon, answered."""

    def __init__(self, owner: Metadata, selector: selectors.BaseSelector, client: socket.socket) -> None:
        self._owner = owner
        self._selector = selector
        self._client = client
        self._daemon: socket.socket | None = None
        self._received = b""
        self._answered = b""
        self._resource = ""
        self.deadline = time.monotonic() + PATIENCE_S
        selector.register(client, selectors.EVENT_READ, self)

    def step(self) -> None:
        """A socket of ours is ready."""
        try:
            if self._daemon is not None:
                self._hear()
            else:
                self._read()
        except BlockingIOError:
            return
        except OSError:
            if self._daemon is not None:
                self._without_daemon()  # it has just gone
            else:
                self.close()

    def expire(self, now: float) -> None:
        if now < self.deadline:
            return
        if self._daemon is not None:
            self._without_daemon()
        else:
            self.close()

    def close(self) -> None:
        for sock in (self._client, self._daemon):
            if sock is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(sock)
                sock.close()
        self._owner.connections.discard(self)

    def _read(self) -> None:
        data = self._client.recv(LONGEST_REQUEST)
        self._received += data
        if b"\r\n\r\n" in self._received:
            self._asked(self._received.partition(b"\r\n\r\n")[0])
        elif not data or len(self._received) > LONGEST_REQUEST:
            self.close()

    def _asked(self, head: bytes) -> None:
        line, *rest = head.decode("latin-1").split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or words[0] != "GET":
            self._refuse(400, "a token is asked for with GET")
            return
        try:
            url = urlsplit(words[1])
        except ValueError as senseless:
            self._refuse(400, f"the address makes no sense: {senseless}")
            return
        if url.path.rstrip("/") != PATH:
            self._refuse(404, f"nothing is at {url.path}")
            return
        if not self._is_ours(rest):
            self._refuse(401, "the request does not show the secret of this instance (X-IDENTITY-HEADER)")
            return
        query = dict(parse_qsl(url.query))
        self._resource = query.get("resource", "")
        problem = self._problem(query)
        if problem is not None:
            self._refuse(400, problem)
            return
        kept = self._owner.usable(self._resource, fresh=True)
        if kept is not None:
            self._answer(200, kept)
            return
        self._ask_daemon()

    def _is_ours(self, lines: list[str]) -> bool:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip().lower() in ("x-identity-header", "secret"):
                return hmac.compare_digest(value.strip().encode(), self._owner.header.encode())
        return False

    def _problem(self, query: Mapping[str, str]) -> str | None:
        if not self._resource:
            return "`resource` is missing: what the token is for"
        identity = self._owner.identity
        for key, ours in (
            ("client_id", "client_id"),
            ("clientid", "client_id"),
            ("principal_id", "principal_id"),
        ):
            if key in query and query[key] != identity[ours]:
                return f"this instance has no identity with {key} {query[key]}; its own has {identity[ours]}"
        return None

    @property
    def is_known(self) -> bool:
        """It has shown the secret, and waits for the daemon."""
        return self._daemon is not None

    # --- the daemon ---

    def _ask_daemon(self) -> None:
        identity = self._owner.identity
        self._selector.unregister(self._client)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.setblocking(False)
        self._daemon = sock
        wish = {"credential": identity["credential"], "resource": self._resource}
        try:
            sock.connect(identity["socket"])
            sock.send(json.dumps(wish).encode() + b"\n")
        except OSError:
            self._without_daemon()
            return
        self._selector.register(sock, selectors.EVENT_READ, self)

    def _hear(self) -> None:
        assert self._daemon is not None
        data = self._daemon.recv(LONGEST_ANSWER)
        self._answered += data
        if data and len(self._answered) <= LONGEST_ANSWER and b"\n" not in self._answered:
            return
        try:
            found = json.loads(self._answered)
            token = found["token"]
        except (ValueError, KeyError, TypeError):
            self._refused_by_daemon()
            return
        self._owner.keep(self._resource, token)
        self._answer(200, token)

    def _refused_by_daemon(self) -> None:
        try:
            said = json.loads(self._answered)["error"]
        except (ValueError, KeyError, TypeError):
            self._without_daemon()
            return
        self._owner.kept.pop(self._resource, None)
        self._refuse(400, str(said))

    def _without_daemon(self) -> None:
        kept = self._owner.usable(self._resource, fresh=False)
        if kept is not None:
            self._answer(200, kept)
        else:
            self._refuse(503, UNAVAILABLE)

    # --- the answer ---

    def _refuse(self, status: int, message: str) -> None:
        code = {401: "unauthorized_client", 503: "temporarily_unavailable"}.get(status, "invalid_request")
        error = {"code": code, "message": message}
        # The last two are where the ecosystem's library looks for the reason.
        self._answer(status, {"error": error, "statusCode": status, "message": message})

    def _answer(self, status: int, body: Mapping[str, Any]) -> None:
        """Small enough for the buffer of the socket; a client that does not read gets nothing."""
        content = json.dumps(body).encode()
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            self._client.send(head.encode() + content)
            self._client.shutdown(socket.SHUT_WR)
        self.close()


def _claim(connection: Connection) -> tuple[bool, float]:
    """The least goes first: who has not shown the secret, then who has been there longest."""
    return connection.is_known, connection.deadline
