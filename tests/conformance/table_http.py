"""The rows of the conformance table about HTTP itself: framing, smuggling, broken bytes, headers, connections.

They are a part of `table.py`, which names them all. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator

from case import CLOSED, REFUSED, Case, head_of, sleep_body

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


def _framing() -> Iterator[Case]:
    """Bodies are framed by length or by chunks, as the standard says."""
    te = b"Transfer-Encoding: chunked"
    yield Case("one chunk", raw=(head_of(te) + b"3\r\n[1]\r\n0\r\n\r\n",), answer=[1])
    yield Case(
        "chunk sizes in capitals", raw=(head_of(te) + b"A\r\n[1,2,3,4 ]\r\n0\r\n\r\n",), answer=[1, 2, 3, 4]
    )
    yield Case("leading zeros", raw=(head_of(te) + b"0003\r\n[1]\r\n0\r\n\r\n",), answer=[1])
    yield Case(
        "a chunk extension",
        raw=(head_of(te) + b"3;a=b\r\n[1]\r\n0\r\n\r\n",),
        answer=[1],
        status=(200, *REFUSED),
    )
    yield Case(
        "a trailer",
        raw=(head_of(te) + b"3\r\n[1]\r\n0\r\nX-A: b\r\n\r\n",),
        answer=[1],
        status=(200, *REFUSED),
    )
    yield Case("the coding in capitals", raw=(head_of(b"Transfer-Encoding: CHUNKED") + b"3\r\n[1]\r\n0\r\n\r\n",),
               status=(200, *REFUSED))  # fmt: skip
    yield Case(
        "chunks in pieces",
        raw=(head_of(te), 0.05, b"1\r\n[\r", 0.05, b"\n2\r\n1]\r\n0", 0.05, b"\r\n\r\n"),
        answer=[1],
    )
    yield Case("no body at all", raw=(head_of(),), status=(424, 411), own_error=False)
    yield Case("length zero", raw=(head_of(b"Content-Length: 0"),), status=(424,), own_error=False)
    yield Case("length with zeros", raw=(head_of(b"Content-Length: 003") + b"[1]",), status=(200, *REFUSED))
    yield Case(
        "expects to continue",
        raw=(head_of(b"Content-Length: 3", b"Expect: 100-continue"), 0.1, b"[1]"),
        answer=[1],
    )
    yield Case("expects to continue with chunks",
               raw=(head_of(te, b"Expect: 100-continue"), 0.1, b"3\r\n[1]\r\n0\r\n\r\n"), answer=[1])  # fmt: skip
    yield Case("expects to continue without a credential", credential=None, headers=(("Expect", "100-continue"),),
               status=(401,), code="Unauthorized")  # fmt: skip
    yield Case("expects something else", raw=(head_of(b"Content-Length: 3", b"Expect: wonders") + b"[1]",),
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
        yield Case(what, raw=(head_of(te) + body,), half_close=True, status=(*REFUSED, *cut))


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
        yield Case(f"both framings: {what}", raw=(head_of(*lines) + b"0\r\n\r\n" + hidden,), half_close=True,
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
        yield Case(what, raw=(head_of(*lines) + b"[1]",), half_close=True, status=REFUSED)
    yield Case("chunked in HTTP/1.0", raw=(head_of(te, line=b"POST {path} HTTP/1.0") + b"3\r\n[1]\r\n0\r\n\r\n",),
               half_close=True, status=(200, 424, *REFUSED), own_error=False)  # fmt: skip
    yield Case("a request behind a GET with a body", raw=(
        head_of(b"Content-Length: 3", line=b"GET {path} HTTP/1.1") + b"[1]" + hidden,), answers=2,
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
        "half a body": head_of(b"Content-Length: 30") + b"[1",
        "half a chunk": head_of(b"Transfer-Encoding: chunked") + b"30\r\n[1",
        "chunks without an end": head_of(b"Transfer-Encoding: chunked") + b"3\r\n[1]\r\n",
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
        yield Case(what, raw=(head_of(line, length) + body,), half_close=True, status=(*REFUSED, *kindly))
    for what, line in {
        "an empty value": b"X-A:",
        "no blank": b"X-A:b",
        "a tab in the value": b"X-A: a\tb",
        "bytes above 127": b"X-A: \xe4\xff",
        "a name with every sign": b"X!#$%&'*+-.^_`|~A: b",
        "8 KB": b"X-A: " + b"a" * 8000,
    }.items():
        yield Case(what, raw=(head_of(line, length) + body,), answer=[1], status=(200, *REFUSED))
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
    yield Case("no host", raw=(head_of(length, host=b"") + body,), half_close=True, status=REFUSED)
    yield Case(
        "two hosts", raw=(head_of(b"Host: other", length) + body,), half_close=True, status=(200, *REFUSED)
    )
    yield Case(
        "an empty host", raw=(head_of(length, host=b"Host:") + body,), half_close=True, status=(200, *REFUSED)
    )
    yield Case("a host with a slash", raw=(head_of(length, host=b"Host: a/b") + body,), half_close=True,
               status=(200, *REFUSED))  # fmt: skip
    yield Case("another host", raw=(head_of(length, host=b"Host: example.com:1") + body,), answer=[1])
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
    one = head_of(b"Content-Length: 3") + b"[1]"
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
        "HTTP/1.0", raw=(head_of(b"Content-Length: 3", line=b"POST {path} HTTP/1.0") + b"[1]",), answer=[1]
    )
    yield Case("HTTP/1.0 without a host", raw=(head_of(b"Content-Length: 3", line=b"POST {path} HTTP/1.0", host=b"")
               + b"[1]",), answer=[1])  # fmt: skip
    yield Case("HTTP/1.0 without a credential",
               raw=(b"POST {path} HTTP/1.0\r\nContent-Length: 3\r\n\r\n[1]",), status=(401,))  # fmt: skip
    yield Case("HTTP/1.0 kept alive", raw=(head_of(b"Content-Length: 3", b"Connection: keep-alive",
               line=b"POST {path} HTTP/1.0") + b"[1]",), answer=[1])  # fmt: skip
    yield Case("an absolute address", raw=(head_of(b"Content-Length: 3", line=b"POST http://{host}{path} HTTP/1.1")
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
    busy = sleep_body(100)
    yield Case("a caller that leaves while the model computes",
               raw=(head_of(b"Content-Length: %d" % len(busy)) + busy,), half_close=True, status=(200, CLOSED))  # fmt: skip


HTTP_SECTIONS = (_framing, _smuggling, _malformed, _headers, _connections)
