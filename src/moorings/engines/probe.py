"""One health probe of a worker over its unix socket, in steps that never block. Decides nothing from the
answer."""

from __future__ import annotations

import socket

from moorings.contract import ROUTE_HEALTH

_REQUEST = f"GET {ROUTE_HEALTH} HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n".encode()
_LONGEST_STATUS_LINE = 1024


class Probe:
    """`GET /` on a new connection. Call `step` when `sock` is readable, or after a moment
    while it is None."""

    def __init__(self, path: str, *, deadline: float) -> None:
        """`deadline` is a monotonic time in seconds after which the answer is no."""
        self._path = path
        self._deadline = deadline
        self._received = b""
        self.sock: socket.socket | None = None

    def step(self, now: float) -> bool | None:
        """True: answered 200. False: refused, answered otherwise, or too late. None: not known yet."""
        try:
            if self.sock is None and not self._connect():
                return False if now >= self._deadline else None
            if self._receive():
                return self._received.split(b" ")[1:2] == [b"200"]
        except OSError:
            return False
        return False if now >= self._deadline else None

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def _connect(self) -> bool:
        """False while the worker's queue of new connections is full."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.connect(self._path)
            sock.send(_REQUEST)
        except BlockingIOError:
            sock.close()
            return False
        except OSError:
            sock.close()
            raise
        self.sock = sock
        return True

    def _receive(self) -> bool:
        """Whether the status line is there (an early end counts: then it is not a 200)."""
        assert self.sock is not None
        try:
            data = self.sock.recv(_LONGEST_STATUS_LINE)
        except BlockingIOError:
            return False
        self._received += data
        return not data or b"\n" in self._received or len(self._received) > _LONGEST_STATUS_LINE
