"""What answers look like on the wire: status lines, media types, ids, routes and the fixed texts.

Pure bytes; knows nothing of connections and scripts.
"""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import List

from moorings_server import __version__, contract

ID_LIMIT_CHARS = 100

SCORE = contract.ROUTE_SCORE.encode("ascii")
HEALTH = contract.ROUTE_HEALTH.encode("ascii")
SWAGGER = contract.ROUTE_SWAGGER.encode("ascii")
KEPT = contract.ROUTE_KEPT.encode("ascii")
COMPARE = contract.HEADER_COMPARE.encode("ascii")
COLLECT = contract.HEADER_COLLECT.encode("ascii")
METHODS_OF = {SCORE: b"GET, POST, OPTIONS", HEALTH: b"GET, HEAD, OPTIONS", SWAGGER: b"GET, HEAD, OPTIONS"}
NOT_FOUND = "The requested URL was not found on the server."
NOT_ALLOWED = "The method is not allowed for the requested URL."

REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
REASONS[413] = b"Payload Too Large"  # which has another name in some versions of Python
JSON_TYPE = b"application/json"
TEXT_TYPE = b"text/html; charset=utf-8"
PLAIN_TYPE = b"text/plain; charset=utf-8"
BYTES_TYPE = b"application/octet-stream"
EVENTS_TYPE = b"text/event-stream; charset=utf-8"
LINES_TYPE = b"application/x-ndjson"
LAST_CHUNK = b"0\r\n\r\n"
IDS_PER_BLOCK = 256


def version_line(enabled: bool) -> bytes:
    """The version header with its line end, or nothing."""
    return b"x-ms-server-version: moorings-server/%b\r\n" % __version__.encode("ascii") if enabled else b""


def status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"Unknown"))


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; empty data, which would end the body, is nothing."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def probe_response(version: bytes, status: int, body: bytes) -> bytes:
    """The complete answer to `GET /` for a connection that is closed after it."""
    return b"%bContent-Type: %b\r\n%bContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
        status_line(status),
        TEXT_TYPE,
        version,
        len(body),
        body,
    )


class RequestIds:
    """Random ids in the shape of a version 4 UUID, made from one block of the kernel's randomness at a time: those of
    a block share 74 random bits and have 48 of their own."""

    def __init__(self) -> None:
        self._made: List[bytes] = []

    def new(self) -> bytes:
        made = self._made
        if not made:
            self._fill()
        return made.pop()

    def _fill(self) -> None:
        text = os.urandom(10 + 6 * IDS_PER_BLOCK).hex().encode("ascii")
        start = b"%b-%b-4%b-a%b-" % (text[:8], text[8:12], text[12:15], text[15:18])
        self._made += [start + text[at : at + 12] for at in range(20, len(text), 12)]


def path_of_absolute(target: bytes) -> bytes:
    """The path of `http://host/path`; of anything else itself."""
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        return target
    return b"/" + rest.partition(b"/")[2]
