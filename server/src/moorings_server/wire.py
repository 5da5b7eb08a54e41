"""What answers look like on the wire: status lines, media types, ids, routes and the fixed texts.

Pure bytes; knows nothing of connections and scripts.
"""

from __future__ import annotations

from random import Random, SystemRandom

from moorings_server import __version__, contract

ID_LIMIT_CHARS = 100

SCORE = contract.ROUTE_SCORE.encode("ascii")
HEALTH = contract.ROUTE_HEALTH.encode("ascii")
SWAGGER = contract.ROUTE_SWAGGER.encode("ascii")
METHODS_OF = {SCORE: b"GET, POST, OPTIONS", HEALTH: b"GET, HEAD, OPTIONS", SWAGGER: b"GET, HEAD, OPTIONS"}
NOT_FOUND = "The requested URL was not found on the server."
NOT_ALLOWED = "The method is not allowed for the requested URL."

REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Payload Too Large",
    417: b"Expectation Failed",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
}
JSON_TYPE = b"application/json"
TEXT_TYPE = b"text/html; charset=utf-8"


def version_line(enabled: bool) -> bytes:
    """The version header with its line end, or nothing."""
    return b"x-ms-server-version: moorings-server/%b\r\n" % __version__.encode("ascii") if enabled else b""


def status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"Unknown"))


def healthy_response(version: bytes) -> bytes:
    """The complete answer to `GET /` for a connection that is closed after it."""
    body = contract.HEALTHY_BODY
    return b"%bContent-Type: %b\r\n%bContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
        status_line(200),
        TEXT_TYPE,
        version,
        len(body),
        body,
    )


class RequestIds:
    """Random ids in the shape of a version 4 UUID. Own generator: a script may seed the global one."""

    def __init__(self) -> None:
        self._bits = Random(SystemRandom().getrandbits(128)).getrandbits  # noqa: S311 - an id is no secret

    def new(self) -> bytes:
        text = b"%032x" % self._bits(128)
        return b"%b-%b-4%b-a%b-%b" % (text[:8], text[8:12], text[13:16], text[17:20], text[20:])


def path_of_absolute(target: bytes) -> bytes:
    """The path of `http://host/path`; of anything else itself."""
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        return target
    return b"/" + rest.partition(b"/")[2]
