"""A client that sends exactly the bytes it is told and reads whatever comes back. Standard library only."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Any

SETTLE_S = 0.15
BODILESS = frozenset((204, 304))


@dataclass(frozen=True)
class Answer:
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error of the one shape; empty when the body is none."""
        try:
            found = json.loads(self.body)["error"]
        except (ValueError, KeyError, TypeError):
            return {}
        return found if isinstance(found, dict) else {}


@dataclass
class Outcome:
    """All that came back on one connection."""

    answers: list[Answer] = field(default_factory=list)
    continued: int = 0
    """How many interim answers (1xx) there were."""
    closed: bool = False
    """The other side has closed the connection."""
    left: bytes = b""
    """Bytes that are no answer."""


def exchange(
    address: tuple[str, int],
    parts: list[bytes | float],
    *,
    wait_for: int = 1,
    head: bool = False,
    half_close: bool = False,
    limit_s: float = 20.0,
) -> Outcome:
    """Send `parts` (a number is a pause in seconds); read until `wait_for` answers, the end, or `limit_s`."""
    outcome = Outcome()
    deadline = time.monotonic() + limit_s
    with socket.create_connection(address, timeout=limit_s) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The other side may answer and close before it has read everything.
        with contextlib.suppress(ConnectionError):
            for part in parts:
                if isinstance(part, bytes):
                    connection.sendall(part)
                else:
                    time.sleep(part)
            if half_close:
                # To half-close is to leave, for a gateway: let it answer first.
                select.select([connection], [], [], SETTLE_S)
                connection.shutdown(socket.SHUT_WR)
        data = b""
        while len(outcome.answers) < wait_for:
            taken, data = _answers(data, head=head, ended=False)
            _add(outcome, taken)
            if len(outcome.answers) >= wait_for:
                break
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                piece = connection.recv(262_144)
            except TimeoutError:
                break
            except ConnectionError:
                piece = b""
            if not piece:
                outcome.closed = True
                taken, data = _answers(data, head=head, ended=True)
                _add(outcome, taken)
                break
            data += piece
        outcome.left = data
    return outcome


def _add(outcome: Outcome, answers: list[Answer]) -> None:
    for answer in answers:
        if 100 <= answer.status < 200:
            outcome.continued += 1
        else:
            outcome.answers.append(answer)


def _answers(data: bytes, *, head: bool, ended: bool) -> tuple[list[Answer], bytes]:
    """The complete answers at the start of `data`, and the rest."""
    found: list[Answer] = []
    while data.startswith(b"HTTP/1."):
        parsed = _one(data, head=head, ended=ended)
        if parsed is None:
            break
        answer, data = parsed
        found.append(answer)
    return found, data


def _one(data: bytes, *, head: bool, ended: bool) -> tuple[Answer, bytes] | None:
    top, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        return None
    lines = top.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if head or status in BODILESS or status < 200:
        return Answer(status, headers, b""), rest
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while True:
            size, separator, after = rest.partition(b"\r\n")
            if not separator:
                return None
            length = int(size.split(b";")[0], 16)
            if len(after) < length + 2:
                return None
            body, rest = body + after[:length], after[length + 2 :]
            if length == 0:
                return Answer(status, headers, body), rest
    if "content-length" in headers:
        length = int(headers["content-length"])
        return (Answer(status, headers, rest[:length]), rest[length:]) if len(rest) >= length else None
    return (Answer(status, headers, rest), b"") if ended else None
