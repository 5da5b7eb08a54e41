"""From what `run()` returned to an answer: JSON, bytes, a response object with its own status and headers, or a
stream of parts.

Knows values and header lines; nothing of connections. Response objects are told by what they offer, not by their
class, so that those of any installed package are taken.
"""

from __future__ import annotations

import json
from json.encoder import c_make_encoder, encode_basestring_ascii
from typing import Any, Callable, List, Optional, Tuple

from moorings_server.wire import BYTES_TYPE, EVENTS_TYPE, LINES_TYPE, PLAIN_TYPE, status_line

FAILED_HEADER = "x-ms-run-function-failed"
OWN_HEADERS = frozenset(
    (
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "server",
        "te",
        "traceid",
        "trailer",
        "transfer-encoding",
        "upgrade",
        FAILED_HEADER,
        "x-ms-client-request-id",
        "x-ms-request-id",
        "x-ms-run-fn-exec-ms",
        "x-ms-server-version",
        "x-request-id",
    )
)
"""What the server itself says in an answer; a script's own are left out."""

BODILESS = frozenset((204, 205, 304))
EVENT_STARTS = ("data:", "event:", "id:", "retry:", ":")
_PLAIN = frozenset((str, dict, list, int, float, bool, tuple))
_FAILED_LINES = {
    None: b"",
    False: b"x-ms-run-function-failed: False\r\n",
    True: b"x-ms-run-function-failed: True\r\n",
}


class Answer:
    """What goes back. `exec_ms` is None when `run()` did not return. `head`: the status line and the header lines
    that belong to this answer (None: those of a JSON answer). `stream`: an iterator or async iterator whose parts
    are the body; then `body` is unused, and `head` is None where the first part decides it."""

    __slots__ = ("body", "exec_ms", "failed", "head", "status", "stream")

    def __init__(
        self,
        status: int,
        body: bytes,
        failed: bool = False,
        exec_ms: Optional[float] = None,
        head: Optional[bytes] = None,
        stream: Any = None,
    ) -> None:
        self.status = status
        self.body = body
        self.failed = failed
        self.exec_ms = exec_ms
        self.head = head
        self.stream = stream


def _plain_value(value: Any) -> Any:
    """What `json` does not know: arrays, scalars and tensors say their values through `tolist`."""
    convert = getattr(value, "tolist", None)
    if convert is None or isinstance(value, type):
        raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)
    return convert()


def _encoder() -> Callable[[Any], str]:
    """`json.dumps` without what it does anew in each call. Its encoder in C is made once, where it can be made as
    `json` itself makes it; it then tells a circular value by its depth."""
    usual = json.JSONEncoder(default=_plain_value)
    try:
        parts = c_make_encoder(
            None, _plain_value, encode_basestring_ascii, None, ": ", ", ", False, False, True
        )
        sample = [1, -0.5, '\u00e4"', None, True, {"a": [float("inf")], 2: {}}]
        if "".join(parts(sample, 0)) != usual.encode(sample):
            return usual.encode
    except Exception:  # another Python's json: whatever it says, the public way works
        return usual.encode
    return lambda value: "".join(parts(value, 0))


_encode = _encoder()


def result_body(result: Any) -> bytes:
    """The JSON of what `run()` returned. Raises whatever the encoder raises for a value that has none."""
    return b"{}" if result is None else _encode(result).encode("ascii")


def to_answer(result: Any, exec_ms: Optional[float]) -> Answer:
    """The answer for a result. Raises anything for a value that cannot be sent: the script's fault."""
    kind = type(result)
    if kind is str:
        return Answer(200, encode_basestring_ascii(result).encode("ascii"), False, exec_ms)
    if result is None or kind in _PLAIN:
        return Answer(200, result_body(result), False, exec_ms)
    if isinstance(result, (bytes, bytearray, memoryview)):
        return Answer(200, bytes(result), False, exec_ms, plain_head(200, BYTES_TYPE))
    if hasattr(result, "status_code") and hasattr(result, "headers") and hasattr(result, "get_data"):
        return _shaped(result, exec_ms)
    if is_stream(result):
        return Answer(200, b"", False, exec_ms, None, result)
    if hasattr(result, "__await__"):
        raise TypeError("run() returned an awaitable; declare it with `async def`")
    return Answer(200, result_body(result), False, exec_ms)


def is_stream(value: Any) -> bool:
    """Whether a value gives its parts one by one: generators and (async) iterators, not lists."""
    return hasattr(value, "__next__") or hasattr(value, "__anext__")


def plain_head(status: int, kind: bytes, failed: Optional[bool] = False) -> bytes:
    """Status line, content type and failure line."""
    return b"%bContent-Type: %b\r\n%b" % (status_line(status), kind, _FAILED_LINES[failed])


def _shaped(response: Any, exec_ms: Optional[float]) -> Answer:
    """The answer that a response object describes."""
    status = int(response.status_code)
    if not 200 <= status <= 599:
        raise ValueError("an answer cannot have the status %d" % status)
    pairs = [(str(name), str(value)) for name, value in _header_pairs(response.headers)]
    said: Optional[bool] = None
    for name, value in pairs:
        if name.lower() == FAILED_HEADER:
            said = value.strip().lower() == "true"
    failed = True if status >= 500 else said
    lines = [status_line(status)]
    for name, value in pairs:
        if name.lower() not in OWN_HEADERS:
            lines.append(header_line(name, value))
    lines.append(_FAILED_LINES[failed])
    head = b"".join(lines)
    stream = _stream_of(response)
    if stream is not None and status not in BODILESS:
        return Answer(status, b"", bool(failed), exec_ms, head, stream)
    body = b"" if status in BODILESS else bytes(response.get_data())
    return Answer(status, body, bool(failed), exec_ms, head)


def _header_pairs(headers: Any) -> List[Tuple[Any, Any]]:
    return list(headers.items())


def header_line(name: str, value: str) -> bytes:
    """One header as it is sent. Raises ValueError for what would change the lines around it."""
    line = ("%s: %s" % (name, value)).encode("latin-1")
    if not name or any(byte < 32 and byte != 9 for byte in line) or ":" in name or " " in name:
        raise ValueError("the header %r: %r cannot be sent" % (name, value))
    return line + b"\r\n"


def _stream_of(response: Any) -> Any:
    """The iterator of a response whose body is a stream, or None."""
    if not getattr(response, "is_streamed", False):
        return None
    body: Any = getattr(response, "response", None)
    if hasattr(body, "__aiter__"):
        return body.__aiter__()
    if hasattr(response, "iter_encoded"):
        return iter(response.iter_encoded())
    return iter(body) if body is not None else None


# --- streams --------------------------------------------------------------------------------------------------------


def part_bytes(part: Any) -> bytes:
    """One yielded part as it is sent: bytes as they are, text as UTF-8, any other value as a line of JSON. Raises
    anything for a value that has none."""
    if isinstance(part, str):
        return part.encode("utf-8", "surrogatepass")
    if isinstance(part, (bytes, bytearray, memoryview)):
        return bytes(part)
    return result_body(part) + b"\n"


def stream_head(answer: Answer, first: Any) -> bytes:
    """The head of a streamed answer whose first part is `first` (None: there is none)."""
    if answer.head is not None:
        return answer.head
    if isinstance(first, str) or first is None:
        events = first is not None and first.startswith(EVENT_STARTS)
        return plain_head(200, EVENTS_TYPE if events else PLAIN_TYPE)
    if isinstance(first, (bytes, bytearray, memoryview)):
        return plain_head(200, BYTES_TYPE)
    return plain_head(200, LINES_TYPE)
