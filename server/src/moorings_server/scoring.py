"""What one scoring request means: body or query to the text `run()` gets, its result or failure to an answer.

Knows the script's call and JSON; nothing of connections, queues or threads.
"""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import parse_qsl

from moorings_server.logs import Log
from moorings_server.report import users_traceback
from moorings_server.script import UserScript

SCRIPT_FAILED = "An unexpected error occurred in scoring script. Check the logs for more info."
SERVER_FAILED = "An unexpected internal error occurred. Check the logs for more info."

_encode = json.JSONEncoder().encode  # what json.dumps does, without its argument checks


class ScoringTimeout(BaseException):
    """Raised inside `run()` when it has taken too long. Not an Exception, so that `except Exception` in user
    code does not swallow it."""


class BadInputError(Exception):
    """The request's data cannot be given to `run()`; answered with 400 and this message. The client's
    fault."""


class Answer:
    """What goes back: `exec_ms` is None when `run()` did not return."""

    __slots__ = ("body", "exec_ms", "failed", "status")

    def __init__(
        self, status: int, body: bytes, failed: bool = False, exec_ms: Optional[float] = None
    ) -> None:
        self.status = status
        self.body = body
        self.failed = failed
        self.exec_ms = exec_ms


def message_body(message: str) -> bytes:
    """The JSON body of every failure."""
    return json.dumps({"message": message}).encode("ascii")


def body_text(body: bytes) -> str:
    """The text of a POST body, whatever its content type. Raises BadInputError."""
    try:
        return body.decode()
    except UnicodeDecodeError as failure:
        raise BadInputError("Input cannot be decoded as UTF-8: %s" % failure) from failure


def query_text(query: bytes) -> str:
    """The query of a GET as JSON text: values parsed as JSON where possible, repeated names become lists."""
    found: Dict[str, List[Any]] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="replace"):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = value
        found.setdefault(name, []).append(parsed)
    return json.dumps({name: values[0] if len(values) == 1 else values for name, values in found.items()})


def header_dict(raw: List[Tuple[bytes, bytes]]) -> Dict[str, str]:
    """Request headers as `request_headers` shows them: names in Title-Case, repeated ones joined by a
    comma."""
    found: Dict[str, str] = {}
    for name, value in raw:
        key = name.decode("latin-1").title()
        text = value.decode("latin-1")
        found[key] = found[key] + "," + text if key in found else text
    return found


def result_body(result: Any) -> bytes:
    """The JSON of what `run()` returned. Raises whatever the encoder raises for a value that has none."""
    return b"{}" if result is None else _encode(result).encode("ascii")


class Scorer:
    """Calls `run()` and makes an Answer of whatever happens. `execute` may be called from several threads."""

    def __init__(self, script: UserScript, log: Log, timeout_ms: int) -> None:
        self._call = script.caller()
        self._log = log
        self.timeout_s = timeout_ms / 1000
        self._script_failed = message_body(SCRIPT_FAILED)
        self._server_failed = message_body(SERVER_FAILED)
        self._timed_out = message_body("Scoring timeout after %d ms" % timeout_ms)

    def execute(self, text: str, headers: Optional[Dict[str, str]], started: float) -> Answer:
        """Score one request, begun at `started` (perf_counter). Raises ScoringTimeout and nothing else."""
        try:
            result = self._call(text, headers)
        except ScoringTimeout:
            raise
        except BaseException as failure:  # sys.exit() in a script must not end the worker
            return self._raised(failure)
        exec_ms = (perf_counter() - started) * 1000
        return self._shape(result, exec_ms)

    async def execute_async(self, text: str, headers: Optional[Dict[str, str]], started: float) -> Answer:
        """Like `execute`, for an `async def run`."""
        try:
            result = await self._call(text, headers)
        except BaseException as failure:  # SystemExit would otherwise end the event loop
            return self._raised(failure)
        return self._shape(result, (perf_counter() - started) * 1000)

    def timed_out(self) -> Answer:
        """The answer to a request whose `run()` took too long."""
        self._log.error("Scoring timeout after %d ms" % (self.timeout_s * 1000))
        return Answer(500, self._timed_out, failed=True)

    def internal_error(self, failure: BaseException, exec_ms: Optional[float] = None) -> Answer:
        """The answer when this server, not the script, could not finish the request."""
        self._log.error("Encountered Exception %s" % users_traceback(failure))
        return Answer(500, self._server_failed, exec_ms=exec_ms)

    def _shape(self, result: Any, exec_ms: float) -> Answer:
        try:
            return Answer(200, result_body(result), exec_ms=exec_ms)
        except Exception as failure:  # user types may raise anything while they are encoded
            return self.internal_error(failure, exec_ms)

    def _raised(self, failure: BaseException) -> Answer:
        self._log.error("Encountered Exception %s" % users_traceback(failure))
        return Answer(500, self._script_failed, failed=True)


Execute = Callable[[str, Optional[Dict[str, str]], float], Answer]
