"""The scoring contract as a table: what is sent, and what must come back. Readable from top to bottom.

A row is a request (or raw bytes) and what is expected. It runs against any base URL behind which the model of
`score.py` is deployed as the table's targets say. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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


READ_KINDLY = (
    "version 0.9",
    "version 1.2",
    "version 2.0",
    "version 9.9",
    "a tab for a blank",
    "two blanks",
    "a bare LF",
)
"""Request lines that may be read as the HTTP/1.1 they resemble: what goes on to the container is written anew, so
that no second parser sees them."""


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


def table() -> list[Case]:
    """All rows; names are unique."""
    sections = (
        _values, _bad_json, _credentials, _local, _paths, _deployments, _ids, _methods, _sizes, _model_errors,
        _timeouts, _framing, _smuggling, _malformed, _headers, _connections,
    )  # fmt: skip
    rows = [replace(row, name=f"{make.__name__[1:]}: {row.name}") for make in sections for row in make()]
    names = [row.name for row in rows]
    assert len(names) == len(set(names)), sorted({n for n in names if names.count(n) > 1})
    return rows


def _values() -> Iterator[Case]:
    """What is sent as JSON comes to `run()` as it was sent, and its result goes back as JSON."""
    texts = ("", "a", "ä", "日本語", "🜚", '"', "\\", "/", "\n\t", "\x7f", "\u2028", "x" * 5000, "a,b", "null")
    numbers = (0, -1, 1, 2**31, 2**53, -(2**63), 2**64, 10**30, 0.5, -0.25, 1e10, 1.5e300, 5e-300)
    others = (True, False, [], {}, [[]], [{}], [None], {"": ""}, {"a": {"b": {"c": [1, 2, 3]}}})
    for value in (*texts, *numbers, *others):
        body = json.dumps(value, ensure_ascii=False).encode()
        yield Case(f"{json.dumps(value)[:40]}", body=body, answer=value)
    for count in (1, 10, 100, 1000):
        rows = [[float(i) for i in range(10)]] * count
        yield Case(f"{count} rows", body=json.dumps({"data": rows}).encode(), answer={"data": rows})
    for depth in (1, 10, 100, 400):
        deep: Any = []
        for _ in range(depth):
            deep = [deep]
        yield Case(f"{depth} levels", body=json.dumps(deep).encode(), answer=deep)
    yield Case("escaped text", body=b'"\\u00e4\\ud83d\\ude00"', answer="ä😀")
    yield Case("white space around", body=b" \r\n\t[1]\n ", answer=[1])
    yield Case("the last of two equal keys counts", body=b'{"a":1,"a":2}', answer={"a": 2})
    yield Case("no content type", headers=(), body=b"[1]", answer=[1])
    for kind in ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "text/plain"):
        yield Case(f"content type {kind}", headers=(("Content-Type", kind),), body=b"[1]", answer=[1])


def _bad_json() -> Iterator[Case]:
    """What the script can't read is the model's error: 424 around its own words, and the worker lives on."""
    bad = {
        "nothing": b"",
        "a word": b"hello",
        "half an object": b'{"a":',
        "a trailing comma": b"[1,]",
        "two documents": b"[1] [2]",
        "single quotes": b"{'a': 1}",
        "a byte order mark": b"\xef\xbb\xbf[1]",
        "invalid UTF-8": b'"\xff\xfe"',
        "half a UTF-8 sequence": b'"\xc3"',
        "an overlong sequence": b'"\xc0\xaf"',
        "a surrogate in UTF-8": b'"\xed\xa0\x80"',
        "UTF-16": '"a"'.encode("utf-16"),
        "a zero byte": b"\x00",
        "100,000 levels": b"[" * 100_000 + b"]" * 100_000,
        "100,000 open brackets": b"[" * 100_000,
        "binary": bytes(range(256)),
        "an integer of 5,000 digits": b"9" * 5000,
        "not a number": b"NaN",
        "infinity": b"[Infinity, -Infinity]",
        "a lone surrogate": b'"\\ud800"',
        "1e999": b"1e999",
    }
    for what, body in bad.items():
        yield Case(what, body=body, status=(200, 424), own_error=False)


def _credentials() -> Iterator[Case]:
    """Whoever has no valid credential learns nothing but that."""
    texts: dict[str, str | None] = {
        "none": None,
        "empty": "",
        "the scheme alone": "Bearer",
        "the scheme and a blank": "Bearer ",
        "a wrong key": "Bearer wrong",
        "the key without a scheme": "{key}",
        "another scheme": "Basic {key}",
        "another scheme with a user": "Basic dXNlcjpwYXNz",
        "the key twice": "Bearer {key}{key}",
        "a key with more": "Bearer {key}x",
        "two keys": "Bearer {key}, Bearer {key}",
        "two blanks": "Bearer  {key}",
        "a tab": "Bearer\t{key}",
        "quotes": 'Bearer "{key}"',
        "a token of another endpoint": "Bearer {token}",
        "not ASCII": "Bearer \xe4\xf6",
        "very long": "Bearer " + "x" * 8000,
        "three dots": "Bearer a.b.c",
    }
    for what, text in texts.items():
        yield Case(what, credential=text, status=(401,), code="Unauthorized")
    again = ("Authorization", "Bearer wrong")
    yield Case("two headers", headers=(again,), status=(401,), code="Unauthorized")
    yield Case("too large a body", credential="Bearer no", body=b"x" * (LIMIT + 1), status=(401, CLOSED))
    yield Case("an unknown deployment", credential="Bearer no", headers=_to("nobody"), status=(401,))
    yield Case("an endpoint without traffic", path="idle/score", credential="key", status=(401,))
    yield Case("the header's name in capitals", credential=None, headers=(("AUTHORIZATION", "Bearer x"),),
               status=(401,), code="Unauthorized")  # fmt: skip
    yield Case("in the query", path="conf/score?key=x&access_token=x", credential=None, status=(401,))
    yield Case("a token", path="strict/score", credential="token", body=b"[1]", answer=[1])
    for what, text in {
        "a key where tokens are": "Bearer {key}",
        "a changed token": "Bearer x{token}",
        "half a token": "Bearer eyJhbGciOiJFUzI1NiJ9.e30",
        "an unsigned token": "Bearer eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4In0.",
        "a token in the query": "",
    }.items():
        yield Case(
            what, path="strict/score?access_token=x", credential=text, status=(401,), code="Unauthorized"
        )


def _local() -> Iterator[Case]:
    """The endpoint `home` was made with `--local`: whoever asks from this machine itself needs no credential."""
    home = "home/score"
    yield Case("no credential", path=home, credential=None, body=b"[1]", answer=[1])
    yield Case("no credential, one deployment named", path=home, credential=None, headers=_to("echo"))
    yield Case("its key is not needed and not refused", path=home, credential="Bearer {home_key}")
    for what, text in {
        "a wrong key": "Bearer wrong",
        "an empty header": "",
        "the key of another endpoint": "Bearer {key}",
        "a token": "Bearer {token}",
    }.items():
        yield Case(what, path=home, credential=text, status=(401,), code="Unauthorized")
    foreign = {
        "passed on": ("X-Forwarded-For", "203.0.113.7"),
        "passed on for this machine": ("X-Forwarded-For", "127.0.0.1"),
        "passed on by a proxy that says so": ("Via", "1.1 front"),
        "the address in a header": ("X-Real-IP", "127.0.0.1"),
        "a standard header of proxies": ("Forwarded", "for=127.0.0.1"),
        "a page of another site": ("Origin", "https://news.example"),
        "a page that hides its site": ("Origin", "null"),
        "a picture in a page": ("Sec-Fetch-Site", "cross-site"),
    }
    for what, line in foreign.items():
        yield Case(what, path=home, credential=None, headers=(line,), status=(401,), code="Unauthorized")
    yield Case("too large a body", path=home, credential=None, body=b"x" * (LIMIT + 1), status=(413, CLOSED))
    yield Case("an unknown deployment", path=home, credential=None, headers=_to("nobody"), status=(404,),
               code="DeploymentNotFound")  # fmt: skip


def _paths() -> Iterator[Case]:
    """One address per endpoint, of which everything below goes to the container; all else is 404."""
    for path in (
        "",
        "x",
        "x/score",
        "CONF/score",
        "conf2/score",
        "con/score",
        "%63onf2/score",
        "~tokens/score",
    ):
        yield Case(f"unknown endpoint {path!r}", path=path, status=(404,), code="EndpointNotFound")
    for path in ("///", "//score", "//api", "//api/v1", "//api/v2/endpoint/conf/score", "//api/v1/service/conf/score",
                 "//favicon.ico", "//API/V1/ENDPOINT/conf/score", "//api/v1/endpointconf/score"):  # fmt: skip
        yield Case(f"elsewhere: {path[1:]}", path=path, status=(404,), code="EndpointNotFound")
    yield Case("no traffic", path="idle/score", credential="idle_key", status=(404,), code="NoTraffic")
    yield Case("a query", path="conf/score?a=1&b=%20", body=b"[1]", answer=[1])
    yield Case("an empty query", path="conf/score?", body=b"[1]", answer=[1])
    yield Case("a fragment", path="conf/score#x", status=(200, 400, CLOSED))
    yield Case("dots that stay inside", path="x/../conf/score", body=b"[1]", answer=[1])
    yield Case("dots that leave for another endpoint", path="conf/../idle/score", status=(401,))
    yield Case("encoded dots that leave", path="conf/%2e%2e/idle/score", status=(401, 400))
    yield Case("dots above the root", path="../../../../../etc/passwd", status=(404, 400))
    yield Case("double slashes", path="conf//score", body=b"[1]", answer=[1])
    yield Case("an encoded slash", path="conf%2fscore", status=(400,), code="MalformedRequest")
    yield Case("an encoded slash below", path="conf/a%2Fb", status=(400,), code="MalformedRequest")
    yield Case("an encoded backslash", path="conf/a%5cb", status=(400,), code="MalformedRequest")
    yield Case("an encoded zero", path="conf/score%00", status=(*REFUSED, 424))
    yield Case("half an escape", path="conf/score%4", status=(*REFUSED, 424))
    yield Case("a path of 20,000 characters", path="conf/" + "a" * 20_000, status=(424,), own_error=False)
    yield Case("a path of 100,000 characters", path="conf/" + "a" * 100_000, status=(431, CLOSED))
    yield Case("a path the container doesn't know", path="conf/nothing", status=(424,), own_error=False,
               has=(("ms-azureml-model-error-statuscode", "404"),))  # fmt: skip
    yield Case("the bare endpoint", method="GET", path="conf/", body=None, status=(200, 424), own_error=False)
    yield Case("the swagger", method="GET", path="conf/swagger.json", body=None)


def _to(deployment: str) -> tuple[tuple[str, str], ...]:
    return (("azureml-model-deployment", deployment),)


def _deployments() -> Iterator[Case]:
    """A header names the deployment, whatever the shares; the answer says which one it was."""
    for name in ("echo", "short"):
        yield Case(f"by name {name}", headers=_to(name), body=b"[1]", answer=[1],
                   has=(("azureml-model-deployment", name),))  # fmt: skip
    yield Case("by share", has=(("azureml-model-deployment", "echo"),))
    for name in ("nobody", "ECHO", "echo2", "ech", "echo,short", "*", "conf~echo", "x" * 300):
        yield Case(f"unknown {name[:12]!r}", headers=_to(name), status=(404,), code="DeploymentNotFound",
                   says=("azureml-model-deployment",))  # fmt: skip
    yield Case("named twice", headers=_to("echo") + _to("short"), status=(200, 404))
    yield Case("named by nothing", headers=_to(""), status=(404,), code="DeploymentNotFound")
    yield Case("the header's name in capitals", headers=(("AZUREML-MODEL-DEPLOYMENT", "short"),),
               has=(("azureml-model-deployment", "short"),))  # fmt: skip
    yield Case("an error names it too", headers=_to("short"), body=b'{"do":"raise"}', status=(424,),
               own_error=False, has=(("azureml-model-deployment", "short"),))  # fmt: skip


def _ids() -> Iterator[Case]:
    """The request id is always ours; the client's own is cleaned, cut and sent back with every answer."""
    long = "0123456789" * 4
    for sent, back in {
        "abc": "abc",
        "A-b_9": "A-b_9",
        "a b": "ab",
        "a.b.c": "abc",
        "<script>": "script",
        "a;b=c": "abc",
        "\xe4bc": "bc",
        long: long,
        long + "x": long,
        long * 20: long,
        "a" * 39 + "!!" + "bc": "a" * 39 + "b",
        "{}": None,
        "...": None,
        "": None,
    }.items():
        yield Case(f"client id {sent[:50]!r}", headers=(("x-ms-client-request-id", sent),),
                   has=(("x-ms-client-request-id", back),))  # fmt: skip
    yield Case("no client id", has=(("x-ms-client-request-id", None),))
    mine = (("x-ms-client-request-id", "mine"),)
    for what, row in {
        "401": Case("", credential=None, status=(401,)),
        "404": Case("", path="nobody/score", status=(404,)),
        "404 of a deployment": Case("", headers=_to("nobody"), status=(404,)),
        "408": Case("", headers=_to("short"), body=_sleep(2000), status=(408,)),
        "413": Case("", body=b"x" * (LIMIT + 1), status=(413,)),
        "424": Case("", body=b'{"do":"raise"}', status=(424,), own_error=False),
    }.items():
        yield replace(row, name=f"client id on {what}", headers=row.headers + mine, has=mine)
    guid = "00000000-0000-4000-8000-000000000000"
    for sent in ("evil", guid, "", "a" * 500):
        yield Case(f"request id {sent[:10]!r} is not taken", headers=(("x-request-id", sent),))
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for what, sent in {
        "trace context": {"traceparent": trace, "tracestate": "a=1,b=2"},
        "a trace context without a state": {"traceparent": trace},
        "a broken trace context": {"traceparent": "x"},
        "baggage": {"baggage": "user=1"},
    }.items():
        yield Case(
            f"{what} is passed on as it is", headers=tuple(sent.items()), body=_headers_of(*sent), answer=sent
        )
    hidden = dict.fromkeys(("authorization", "x-moorings-scope", "x-envoy-expected-rq-timeout-ms"))
    yield Case("the container never sees the credential", body=_headers_of(*hidden), answer=hidden)
    yield Case("a client id is passed on", headers=mine, body=_headers_of("x-ms-client-request-id"),
               answer={"x-ms-client-request-id": "mine"})  # fmt: skip


def _sleep(ms: int) -> bytes:
    return json.dumps({"do": "sleep", "ms": ms}).encode()


def _headers_of(*names: str) -> bytes:
    return json.dumps({"do": "headers", "names": names}).encode()


def _methods() -> Iterator[Case]:
    """The gateway lets every method on that HTTP knows; what the container refuses is its 424."""
    for method in ("PUT", "PATCH", "DELETE"):
        yield Case(method, method=method, status=(424,), own_error=False)
    yield Case("GET", method="GET", path="conf/score", body=None, status=(200, 424), own_error=False)
    yield Case("OPTIONS", method="OPTIONS", body=None, status=(200, 424), own_error=False)
    yield Case("HEAD", method="HEAD", body=None, status=(200, 424), own_error=False)
    yield Case(
        "HEAD without a credential", method="HEAD", body=None, credential=None, status=(401,), own_error=False
    )
    for method in ("TRACE", "CONNECT", "PURGE", "post", "POST\tx", "P(ST", "X" * 500):
        yield Case(method[:20], method=method, body=None, status=(*REFUSED, 424, 403), own_error=False)


def _sizes() -> Iterator[Case]:
    """Limits hold to the byte in both framings, and say what they are."""

    def text(length: int) -> bytes:
        return json.dumps({"do": "text", "length": length}).encode()

    pad = b" " * (LIMIT - 3)
    named = ("max_request_bytes", str(LIMIT))
    yield Case("the longest body", body=b"[1]" + pad, answer=[1])
    yield Case("the longest body in chunks", chunks=(b"[1]", pad), answer=[1])
    yield Case("one byte more", body=b"[1]" + pad + b" ", status=(413,), code="RequestTooLarge", says=named)
    yield Case(
        "one byte more in chunks",
        chunks=(b"[1]", pad, b" "),
        status=(413,),
        code="RequestTooLarge",
        says=named,
    )
    yield Case("10 MB", body=b" " * 10_000_000, status=(413, CLOSED))
    yield Case("10 MB in chunks", chunks=(b" " * 1_000_000,) * 10, status=(413, CLOSED))
    strict = {"path": "strict/score", "credential": "token"}
    yield Case("own limit of an endpoint", **strict, body=b"[1]" + b" " * (SMALL - 3), answer=[1])
    yield Case("own limit of an endpoint and one", **strict, body=b"[1]" + b" " * (SMALL - 2), status=(413,),
               code="RequestTooLarge", says=(str(SMALL), "max_request_bytes"))  # fmt: skip
    yield Case(
        "an announced petabyte",
        raw=(_head(b"Content-Length: 1000000000000000"), 0.1),
        half_close=True,
        status=(413, CLOSED),
    )
    for length in (0, 1, 99_990, 999_990, LIMIT - 2):
        yield Case(f"an answer of {length} characters", body=text(length), answer="x" * length)
    for length in (LIMIT - 1, LIMIT, 5_000_000):
        yield Case(f"an answer of {length} characters", body=text(length), status=(424,), code="ResponseTooLarge",
                   says=("max_response_bytes", str(LIMIT)),
                   has=(("ms-azureml-model-error-reason", "response_too_large"),))  # fmt: skip
    for count in (1, 10, 1000):
        yield Case(f"{count} chunks", chunks=(b"[", *(b" ",) * count, b"]"), answer=[])


def _model_errors() -> Iterator[Case]:
    """Whatever the model answers but 200 is 424, with its status and its own body."""
    reason = (("ms-azureml-model-error-statuscode", "500"), ("ms-azureml-model-error-reason", "model_error"))
    for text in ("boom", "", "ä", "x" * 5000, "a\nb", "<html>", '{"error": 1}'):
        body = json.dumps({"do": "raise", "text": text}).encode()
        yield Case(f"raises {text[:12]!r}", body=body, status=(424,), has=reason, own_error=False)
    yield Case("an unknown wish", body=b'{"do": "?"}', status=(424,), has=reason, own_error=False)
    yield Case("a result that is no JSON", body=b'{"do": "unserialisable"}', status=(424,), own_error=False)
    yield Case("no result", body=b'{"do": "none"}', answer={})
    yield Case("null", body=b"null", answer={})


def _timeouts() -> Iterator[Case]:
    """The deployment's time counts from the moment the request is there; the caller can't change it."""
    late = {"status": (408,), "code": "RequestTimeout", "says": (str(TIMEOUT_MS), "request_timeout_ms")}
    yield Case("in time", headers=_to("short"), body=_sleep(20), answer={"slept": 20})
    yield Case("too late", headers=_to("short"), body=_sleep(1500), **late)
    yield Case("and again", headers=_to("short"), body=b"[1]", status=(200, 408))
    for name in ("x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms",
                 "x-envoy-expected-rq-timeout-ms", "grpc-timeout", "x-request-timeout"):  # fmt: skip
        yield Case(
            f"stretched by {name}", headers=(*_to("short"), (name, "60000")), body=_sleep(1500), **late
        )
    yield Case(
        "shrunk", headers=(("x-envoy-upstream-rq-timeout-ms", "1"),), body=_sleep(50), answer={"slept": 50}
    )
    head = _head(b"Content-Length: 3")
    yield Case("a body that comes slowly", raw=(head, 0.2, b"[", 0.2, b"1", 0.2, b"]"), answer=[1])
    yield Case("headers that come slowly", raw=(b"POST {path} HT", 0.2, b"TP/1.1\r\nHo", 0.2,
               b"st: g\r\nAuthorization: Bearer {key}\r\nContent-Length: 3\r", 0.2, b"\n\r\n[1]"), answer=[1])  # fmt: skip


def _head(*more: bytes, line: bytes = b"POST {path} HTTP/1.1", host: bytes = b"Host: {host}") -> bytes:
    lines = [line, *([host] if host else []), b"Authorization: Bearer {key}", *more]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _framing() -> Iterator[Case]:
    """Bodies are framed by length or by chunks, as the standard says."""
    te = b"Transfer-Encoding: chunked"
    yield Case("one chunk", raw=(_head(te) + b"3\r\n[1]\r\n0\r\n\r\n",), answer=[1])
    yield Case(
        "chunk sizes in capitals", raw=(_head(te) + b"A\r\n[1,2,3,4 ]\r\n0\r\n\r\n",), answer=[1, 2, 3, 4]
    )
    yield Case("leading zeros", raw=(_head(te) + b"0003\r\n[1]\r\n0\r\n\r\n",), answer=[1])
    yield Case(
        "a chunk extension",
        raw=(_head(te) + b"3;a=b\r\n[1]\r\n0\r\n\r\n",),
        answer=[1],
        status=(200, *REFUSED),
    )
    yield Case(
        "a trailer", raw=(_head(te) + b"3\r\n[1]\r\n0\r\nX-A: b\r\n\r\n",), answer=[1], status=(200, *REFUSED)
    )
    yield Case("the coding in capitals", raw=(_head(b"Transfer-Encoding: CHUNKED") + b"3\r\n[1]\r\n0\r\n\r\n",),
               status=(200, *REFUSED))  # fmt: skip
    yield Case(
        "chunks in pieces",
        raw=(_head(te), 0.05, b"1\r\n[\r", 0.05, b"\n2\r\n1]\r\n0", 0.05, b"\r\n\r\n"),
        answer=[1],
    )
    yield Case("no body at all", raw=(_head(),), status=(424, 411), own_error=False)
    yield Case("length zero", raw=(_head(b"Content-Length: 0"),), status=(424,), own_error=False)
    yield Case("length with zeros", raw=(_head(b"Content-Length: 003") + b"[1]",), status=(200, *REFUSED))
    yield Case(
        "expects to continue",
        raw=(_head(b"Content-Length: 3", b"Expect: 100-continue"), 0.1, b"[1]"),
        answer=[1],
    )
    yield Case("expects to continue with chunks",
               raw=(_head(te, b"Expect: 100-continue"), 0.1, b"3\r\n[1]\r\n0\r\n\r\n"), answer=[1])  # fmt: skip
    yield Case("expects to continue without a credential", credential=None, headers=(("Expect", "100-continue"),),
               status=(401,), code="Unauthorized")  # fmt: skip
    yield Case("expects something else", raw=(_head(b"Content-Length: 3", b"Expect: wonders") + b"[1]",),
               status=(200, 417, 424, *REFUSED), own_error=False)  # fmt: skip
    bad = {
        "a size that is no number": b"x\r\n[1]\r\n0\r\n\r\n",
        "a negative size": b"-3\r\n[1]\r\n0\r\n\r\n",
        "a size with a sign": b"+3\r\n[1]\r\n0\r\n\r\n",
        "a size of 17 digits": b"11111111111111111\r\n[1]",
        "a size with 0x": b"0x3\r\n[1]\r\n0\r\n\r\n",
        "a chunk that is longer than it says": b"2\r\n[1]\r\n0\r\n\r\n",
        "no end of line after a chunk": b"3\r\n[1]0\r\n\r\n",
        "an empty size": b"\r\n[1]\r\n0\r\n\r\n",
        "a bare LF after the size": b"3\n[1]\n0\n\n",
    }
    for what, body in bad.items():
        # The gateway cuts the body where the size says; the script then gets JSON without an end.
        cut = (424,) if what == "a chunk that is longer than it says" else ()
        yield Case(what, raw=(_head(te) + body,), half_close=True, status=(*REFUSED, *cut))


def _smuggling() -> Iterator[Case]:
    """What two parsers might cut differently is refused, and no hidden request is answered."""
    hidden = b"POST {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {key}\r\nContent-Length: 3\r\n\r\n[9]"
    te, cl = b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(b"0\r\n\r\n" + hidden)
    both = {
        "length then chunked": (cl, te),
        "chunked then length": (te, cl),
        "chunked, in a list": (cl, b"Transfer-Encoding: gzip, chunked"),
        "chunked twice": (cl, te, te),
        "identity": (cl, b"Transfer-Encoding: identity"),
        "an unknown coding": (cl, b"Transfer-Encoding: xchunked"),
        "chunked not last": (cl, b"Transfer-Encoding: chunked, identity"),
        "a blank before the colon": (cl, b"Transfer-Encoding : chunked"),
        "a tab before the value": (cl, b"Transfer-Encoding:\tchunked"),
        "a vertical tab": (cl, b"Transfer-Encoding: \x0bchunked"),
        "quotes": (cl, b'Transfer-Encoding: "chunked"'),
        "a folded value": (cl, b"Transfer-Encoding:\r\n chunked"),
        "a folded name": (cl, b"X: a\r\n Transfer-Encoding: chunked"),
        "an underscore": (cl, b"Transfer_Encoding: chunked"),
        "hidden behind a CR": (cl, b"X: a\rTransfer-Encoding: chunked"),
        "hidden behind an LF": (cl, b"X: a\nTransfer-Encoding: chunked"),
        "hidden behind a zero": (cl, b"X: a\x00Transfer-Encoding: chunked"),
    }
    for what, lines in both.items():
        yield Case(f"both framings: {what}", raw=(_head(*lines) + b"0\r\n\r\n" + hidden,), half_close=True,
                   status=(*REFUSED, 424), own_error=False, answers=2)  # fmt: skip
    for what, lines in {
        "two lengths": (b"Content-Length: 3", b"Content-Length: 4"),
        "two equal lengths": (b"Content-Length: 3", b"Content-Length: 3"),
        "a list of lengths": (b"Content-Length: 3, 4",),
        "a signed length": (b"Content-Length: +3",),
        "a negative length": (b"Content-Length: -3",),
        "a length in hex": (b"Content-Length: 0x3",),
        "a length that is a word": (b"Content-Length: three",),
        "an empty length": (b"Content-Length: ",),
        "a length of 30 digits": (b"Content-Length: " + b"9" * 30,),
        "a length with a blank inside": (b"Content-Length: 1 3",),
        "a length with a decimal point": (b"Content-Length: 3.0",),
    }.items():
        yield Case(what, raw=(_head(*lines) + b"[1]",), half_close=True, status=REFUSED)
    yield Case("chunked in HTTP/1.0", raw=(_head(te, line=b"POST {path} HTTP/1.0") + b"3\r\n[1]\r\n0\r\n\r\n",),
               half_close=True, status=(200, 424, *REFUSED), own_error=False)  # fmt: skip
    yield Case("a request behind a GET with a body", raw=(
        _head(b"Content-Length: 3", line=b"GET {path} HTTP/1.1") + b"[1]" + hidden,), answers=2,
        status=(200, 424), own_error=False)  # fmt: skip


def _malformed() -> Iterator[Case]:
    """Bytes that are no HTTP are answered or the connection ends; nothing crashes and nobody waits."""
    end = b"\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Length: 3\r\n\r\n[1]"
    lines = {
        "no path": b"POST HTTP/1.1",
        "no version": b"POST {path}",
        "only a method": b"POST",
        "version 0.9": b"POST {path} HTTP/0.9",
        "version 1.2": b"POST {path} HTTP/1.2",
        "version 2.0": b"POST {path} HTTP/2.0",
        "version 9.9": b"POST {path} HTTP/9.9",
        "version 1": b"POST {path} HTTP/1",
        "version 1.1.1": b"POST {path} HTTP/1.1.1",
        "a word for a version": b"POST {path} HTTP",
        "another protocol": b"POST {path} RTSP/1.0",
        "small letters": b"POST {path} http/1.1",
        "a blank in the path": b"POST {path} x HTTP/1.1",
        "a tab for a blank": b"POST\t{path}\tHTTP/1.1",
        "two blanks": b"POST  {path} HTTP/1.1",
        "a leading blank": b" POST {path} HTTP/1.1",
        "a zero byte in the path": b"POST {path}\x00 HTTP/1.1",
        "a control byte in the path": b"POST {path}\x01 HTTP/1.1",
        "bytes above 127 in the path": b"POST {path}\xff HTTP/1.1",
        "a bare LF": b"POST {path} HTTP/1.1\nX: y",
        "a bare CR": b"POST {path} HTTP/1.1\rX: y",
        "a path without a slash": b"POST score HTTP/1.1",
        "a star": b"POST * HTTP/1.1",
    }
    for what, line in lines.items():
        yield Case(f"request line: {what}", raw=(line + end,), half_close=True, own_error=False,
                   status=(*REFUSED, 424, *((200,) if what in READ_KINDLY else ())))  # fmt: skip
    for what, data in {
        "one byte": b"\x00",
        "random bytes": bytes((i * 197 + 13) % 256 for i in range(2000)),
        "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        "an SSH banner": b"SSH-2.0-OpenSSH_9.0\r\n",
        "an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "SMTP": b"EHLO example\r\n",
        "JSON": b'{"data": [1]}\r\n\r\n',
        "a megabyte without an end of line": b"A" * 1_000_000,
        "nothing": b"",
        "empty lines": b"\r\n" * 5,
        "half a request line": b"POST {path} HT",
        "half the headers": b"POST {path} HTTP/1.1\r\nHost: g\r\nAuthor",
        "half a body": _head(b"Content-Length: 30") + b"[1",
        "half a chunk": _head(b"Transfer-Encoding: chunked") + b"30\r\n[1",
        "chunks without an end": _head(b"Transfer-Encoding: chunked") + b"3\r\n[1]\r\n",
    }.items():
        yield Case(f"then the end: {what}", raw=(data,), half_close=True, status=REFUSED)


def _headers() -> Iterator[Case]:
    """Headers that break the standard, and very many of them."""
    body = b"[1]"
    length = b"Content-Length: 3"
    for what, line in {
        "no colon": b"X-Nothing",
        "no name": b": value",
        "a blank in the name": b"X A: b",
        "a blank before the colon": b"X-A : b",
        "a leading blank": b" X-A: b",
        "a zero byte in the name": b"X\x00A: b",
        "a zero byte in the value": b"X-A: a\x00b",
        "a bare CR in the value": b"X-A: a\rb",
        "a folded value": b"X-A: a\r\n b",
        "brackets in the name": b"X(A): b",
    }.items():
        # Folding may be undone, and a CR be a blank: the standard leaves that to the reader.
        kindly = (200,) if what in ("a folded value", "a bare CR in the value") else ()
        yield Case(what, raw=(_head(line, length) + body,), half_close=True, status=(*REFUSED, *kindly))
    for what, line in {
        "an empty value": b"X-A:",
        "no blank": b"X-A:b",
        "a tab in the value": b"X-A: a\tb",
        "bytes above 127": b"X-A: \xe4\xff",
        "a name with every sign": b"X!#$%&'*+-.^_`|~A: b",
        "8 KB": b"X-A: " + b"a" * 8000,
    }.items():
        yield Case(what, raw=(_head(line, length) + body,), answer=[1], status=(200, *REFUSED))
    yield Case("50 headers", headers=tuple((f"x-h{i}", "v") for i in range(50)), body=body, answer=[1])
    yield Case(
        "200 headers",
        headers=tuple((f"x-h{i}", "v") for i in range(200)),
        body=body,
        status=(431, 413, CLOSED),
    )
    yield Case(
        "a megabyte of headers",
        headers=tuple((f"x-h{i}", "v" * 1000) for i in range(1000)),
        status=(431, CLOSED),
    )
    yield Case("one header of a megabyte", headers=(("x-h", "v" * 1_000_000),), status=(431, CLOSED))
    yield Case("no host", raw=(_head(length, host=b"") + body,), half_close=True, status=REFUSED)
    yield Case(
        "two hosts", raw=(_head(b"Host: other", length) + body,), half_close=True, status=(200, *REFUSED)
    )
    yield Case(
        "an empty host", raw=(_head(length, host=b"Host:") + body,), half_close=True, status=(200, *REFUSED)
    )
    yield Case("a host with a slash", raw=(_head(length, host=b"Host: a/b") + body,), half_close=True,
               status=(200, *REFUSED))  # fmt: skip
    yield Case("another host", raw=(_head(length, host=b"Host: example.com:1") + body,), answer=[1])
    for name in ("x-moorings-scope", "x-envoy-retry-on", "x-envoy-original-path", "x-forwarded-for",
                 "x-forwarded-proto", "x-envoy-decorator-operation", "x-envoy-internal", "x-envoy-max-retries",
                 "ms-azureml-model-error-statuscode", "x-http-method-override", "forwarded", "via"):  # fmt: skip
        value = "/api/v1/endpoint/idle/score" if "scope" in name or "path" in name else "5"
        yield Case(f"{name} from outside", headers=((name, value),), body=body, answer=[1])
    yield Case("an upgrade to HTTP/2", headers=(("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"),
               ("HTTP2-Settings", "AAMAAABkAAQAAP__")), body=body, status=(200, 403, *REFUSED))  # fmt: skip
    yield Case("an upgrade to a web socket", method="GET", body=None, headers=(("Connection", "Upgrade"),
               ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
               ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")), status=(403, *REFUSED), own_error=False)  # fmt: skip
    yield Case("hop-by-hop header of the credential", headers=(("Connection", "authorization"),), body=body,
               status=(200, *REFUSED))  # fmt: skip


def _connections() -> Iterator[Case]:
    """One connection carries many requests, in order; old and new versions of HTTP."""
    one = _head(b"Content-Length: 3") + b"[1]"
    yield Case("3 requests at once", raw=(one * 3,), answers=3, answer=[1])
    yield Case("50 requests at once", raw=(one * 50,), answers=50, answer=[1])
    yield Case("one after another", raw=(one, 0.2, one, 0.2, one), answers=3, answer=[1])
    yield Case("a good one, then garbage", raw=(one + b"\x00\x01garbage\r\n\r\n",), answers=2, half_close=True,
               status=(200, *REFUSED))  # fmt: skip
    yield Case(
        "an empty line between", raw=(one + b"\r\n" + one,), answers=2, answer=[1], status=(200, *REFUSED)
    )
    yield Case("the caller closes", headers=(("Connection", "close"),), body=b"[1]", answer=[1],
               has=(("connection", "close"),))  # fmt: skip
    yield Case(
        "HTTP/1.0", raw=(_head(b"Content-Length: 3", line=b"POST {path} HTTP/1.0") + b"[1]",), answer=[1]
    )
    yield Case("HTTP/1.0 without a host", raw=(_head(b"Content-Length: 3", line=b"POST {path} HTTP/1.0", host=b"")
               + b"[1]",), answer=[1])  # fmt: skip
    yield Case("HTTP/1.0 without a credential",
               raw=(b"POST {path} HTTP/1.0\r\nContent-Length: 3\r\n\r\n[1]",), status=(401,))  # fmt: skip
    yield Case("HTTP/1.0 kept alive", raw=(_head(b"Content-Length: 3", b"Connection: keep-alive",
               line=b"POST {path} HTTP/1.0") + b"[1]",), answer=[1])  # fmt: skip
    yield Case("an absolute address", raw=(_head(b"Content-Length: 3", line=b"POST http://{host}{path} HTTP/1.1")
               + b"[1]",), answer=[1])  # fmt: skip
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    yield Case(
        "HTTP/2: the preface, then nothing", raw=(preface + settings, 0.1), half_close=True, status=REFUSED
    )
    yield Case(
        "HTTP/2: the preface, then garbage",
        raw=(preface + b"garbage" * 10, 0.1),
        half_close=True,
        status=REFUSED,
    )
    yield Case("HTTP/2: a frame of 16 MB", raw=(preface + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", 0.1),
               half_close=True, status=REFUSED)  # fmt: skip
    yield Case("a caller that stops sending", raw=(one,), half_close=True, status=(200, CLOSED), answer=...)
    yield Case("a caller that leaves while the model computes", raw=(
        _head(b"Content-Length: %d" % len(_sleep(100))) + _sleep(100),), half_close=True, status=(200, CLOSED))  # fmt: skip
