"""The scoring contract as a table: what is sent, and what must come back. Readable from top to bottom.

A row is a request (or raw bytes) and what is expected. It runs against any base URL behind which the model of
`score.py` is deployed as the table's targets say. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from case import CLOSED, LIMIT, REFUSED, SMALL, TIMEOUT_MS, Case, head_of, sleep_body
from table_http import HTTP_SECTIONS


def table() -> list[Case]:
    """All rows; names are unique."""
    sections = (
        _values, _bad_json, _credentials, _local, _paths, _deployments, _ids, _methods, _sizes, _model_errors,
        _timeouts, *HTTP_SECTIONS,
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
        "408": Case("", headers=_to("short"), body=sleep_body(2000), status=(408,)),
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
        raw=(head_of(b"Content-Length: 1000000000000000"), 0.1),
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
    yield Case("in time", headers=_to("short"), body=sleep_body(20), answer={"slept": 20})
    yield Case("too late", headers=_to("short"), body=sleep_body(1500), **late)
    yield Case("and again", headers=_to("short"), body=b"[1]", status=(200, 408))
    for name in ("x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms",
                 "x-envoy-expected-rq-timeout-ms", "grpc-timeout", "x-request-timeout"):  # fmt: skip
        yield Case(
            f"stretched by {name}", headers=(*_to("short"), (name, "60000")), body=sleep_body(1500), **late
        )
    yield Case(
        "shrunk",
        headers=(("x-envoy-upstream-rq-timeout-ms", "1"),),
        body=sleep_body(50),
        answer={"slept": 50},
    )
    head = head_of(b"Content-Length: 3")
    yield Case("a body that comes slowly", raw=(head, 0.2, b"[", 0.2, b"1", 0.2, b"]"), answer=[1])
    yield Case("headers that come slowly", raw=(b"POST {path} HT", 0.2, b"TP/1.1\r\nHo", 0.2,
               b"st: g\r\nAuthorization: Bearer {key}\r\nContent-Length: 3\r", 0.2, b"\n\r\n[1]"), answer=[1])  # fmt: skip
