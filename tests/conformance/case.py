"""What a row of the conformance table is: a request, or raw bytes, and what must come back. Standard library only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

CRLF = "\r\n"
LIMIT = 1_572_864
"""Bytes of a request body and of an answer, unless the endpoint says otherwise."""
SMALL = 1000
"""`max_request_bytes` of the endpoint `strict`."""
TIMEOUT_MS = 400
"""`request_timeout_ms` of the deployment `short`."""

CLOSED = 0
"""As an expected status: the connection is closed without an answer."""
REFUSED = (CLOSED, 400, 401, 404, 405, 408, 411, 413, 414, 426, 431, 501, 505)
"""How bytes that break HTTP may be answered: never with a success, never with a server's fault."""


@dataclass(frozen=True)
class Target:
    """Where the table runs: the host header, the path of the endpoints, and the credentials."""

    host: str
    prefix: str
    """`/api/v1/endpoint`"""
    key: str
    """Key of `conf`, which has the deployments `echo` (all traffic) and `short`."""
    token: str
    """Token of `strict`, which takes tokens only and has one deployment `echo`."""
    idle_key: str
    """Key of `idle`, which has no deployment."""
    home_key: str
    """Key of `home`, which was made with `--local` and has one deployment `echo` with all traffic."""


@dataclass(frozen=True)
class Case:
    """One row. `raw` replaces the request as a whole; `{path}`, `{host}`, `{key}` in it are filled in."""

    name: str
    method: str = "POST"
    path: str = "conf/score"
    """Below the prefix; one that begins with `//` is the whole path without its first slash."""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = b"{}"
    chunks: tuple[bytes, ...] | None = None
    """The body in chunked framing, instead of `body`."""
    credential: str | None = "key"
    """`key`, `token`, `idle_key`, None (no header), or the text of an Authorization header."""
    raw: tuple[bytes | float, ...] | None = None
    half_close: bool = False
    status: tuple[int, ...] = (200,)
    code: str | None = None
    """Code of the error."""
    says: tuple[str, ...] = ()
    """Texts that the message of the error holds."""
    has: tuple[tuple[str, str | None], ...] = ()
    """Headers of the answer; None: must be absent."""
    answer: Any = field(default=...)
    """The body of the answer, as JSON."""
    answers: int = 1
    """How many answers the connection gives."""
    own_error: bool = True
    """Whether an error is the gateway's own, in the one shape."""

    def parts(self, target: Target) -> list[bytes | float]:
        if self.raw is not None:
            return [_fill(part, target) if isinstance(part, bytes) else part for part in self.raw]
        path = self.path[1:] if self.path.startswith("//") else f"{target.prefix}/{self.path}"
        lines = [f"{self.method} {path} HTTP/1.1", f"Host: {target.host}"]
        known = {"key": target.key, "token": target.token, "idle_key": target.idle_key}
        if self.credential in known:
            lines.append(f"Authorization: Bearer {known[self.credential]}")
        elif self.credential is not None:
            texts = {"key": target.key, "token": target.token, "home_key": target.home_key}
            lines.append(f"Authorization: {self.credential.format(**texts)}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.chunks is not None:
            lines.append("Transfer-Encoding: chunked")
            framed = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in self.chunks if c)
            return [(CRLF.join(lines) + CRLF * 2).encode("latin-1") + framed + b"0\r\n\r\n"]
        if self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        return [(CRLF.join(lines) + CRLF * 2).encode("latin-1") + (self.body or b"")]


def _fill(part: bytes, target: Target) -> bytes:
    filled = part.replace(b"{path}", f"{target.prefix}/conf/score".encode())
    return filled.replace(b"{host}", target.host.encode()).replace(b"{key}", target.key.encode())


def sleep_body(ms: int) -> bytes:
    """The body that has the model sleep."""
    return json.dumps({"do": "sleep", "ms": ms}).encode()


def head_of(*more: bytes, line: bytes = b"POST {path} HTTP/1.1", host: bytes = b"Host: {host}") -> bytes:
    """The head of a request with a good credential, in bytes; `{path}`, `{host}` and `{key}` are filled in later."""
    lines = [line, *([host] if host else []), b"Authorization: Bearer {key}", *more]
    return b"\r\n".join(lines) + b"\r\n\r\n"
