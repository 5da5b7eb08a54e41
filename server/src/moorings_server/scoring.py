"""One call of `run()` and what becomes of it: an Answer for a result, an exception, a timeout.

Knows the script's call and its log; nothing of connections, queues or threads.
"""

from __future__ import annotations

import asyncio
import json
from time import perf_counter
from typing import Any, Callable, Dict, List, Optional

from moorings_server.logs import Log
from moorings_server.report import users_traceback, words_of
from moorings_server.results import Answer, is_stream, to_answer
from moorings_server.script import UserScript

SCRIPT_FAILED = "An unexpected error occurred in scoring script. Check the logs for more info."
SERVER_FAILED = "An unexpected internal error occurred. Check the logs for more info."


class ScoringTimeout(BaseException):
    """Raised inside `run()` when it has taken too long. Not an Exception, so that `except Exception` in user
    code does not swallow it."""


class BatchResultError(Exception):
    """A batched `run()` returned something that cannot be told apart into one result per request."""


def message_body(message: str) -> bytes:
    """The JSON body of every failure."""
    return json.dumps({"message": message}).encode("ascii")


class Scorer:
    """Calls `run()` and makes an Answer of whatever happens. `execute` may be called from several threads."""

    def __init__(self, script: UserScript, log: Log, timeout_ms: int) -> None:
        self._call = script.caller()
        self._log = log
        if script.takes_data_only:  # the usual run(): one call less on the way to it
            self.execute = self._execute_plain(script.run)  # type: ignore[method-assign]
        self.timeout_s = timeout_ms / 1000
        self._script_failed = message_body(SCRIPT_FAILED)
        self._server_failed = message_body(SERVER_FAILED)
        self._timed_out = message_body("Scoring timeout after %d ms" % timeout_ms)

    def execute(self, data: Any, headers: Optional[Dict[str, str]], started: float) -> Answer:
        """Score one request, begun at `started` (perf_counter). Raises ScoringTimeout and nothing else."""
        try:
            result = self._call(data, headers)
        except ScoringTimeout:
            raise
        except BaseException as failure:  # sys.exit() in a script must not end the worker
            return self.raised(failure)
        exec_ms = (perf_counter() - started) * 1000
        try:
            return to_answer(result, exec_ms)
        except Exception as failure:  # user types may raise anything while they are encoded
            return self.internal_error(failure, exec_ms)

    def _execute_plain(self, run: Callable[[Any], Any]) -> Callable[..., Answer]:
        raised, internal_error = self.raised, self.internal_error

        def execute(data: Any, headers: Optional[Dict[str, str]], started: float) -> Answer:
            try:
                result = run(data)
            except ScoringTimeout:
                raise
            except BaseException as failure:
                return raised(failure)
            exec_ms = (perf_counter() - started) * 1000
            try:
                return to_answer(result, exec_ms)
            except Exception as failure:
                return internal_error(failure, exec_ms)

        return execute

    async def execute_async(self, data: Any, headers: Optional[Dict[str, str]], started: float) -> Answer:
        """Like `execute`, for an `async def run`; a cancelled call raises CancelledError."""
        try:
            result = self._call(data, headers)
            if not is_stream(result):  # an async generator function has its result at once
                result = await result
        except asyncio.CancelledError:
            raise
        except BaseException as failure:  # SystemExit would otherwise end the event loop
            return self.raised(failure)
        return self.shape(result, (perf_counter() - started) * 1000)

    # --- batches ----------------------------------------------------------------------------------------------------

    def execute_batch(self, data: List[Any], headers: Optional[List[Any]], started: float) -> List[Answer]:
        """Score several requests with one call. Raises ScoringTimeout and nothing else."""
        try:
            results = self._call(data, headers)
        except ScoringTimeout:
            raise
        except BaseException as failure:
            return [self.raised(failure)] * len(data)
        return self._tell_apart(results, len(data), (perf_counter() - started) * 1000)

    async def execute_batch_async(
        self, data: List[Any], headers: Optional[List[Any]], started: float
    ) -> List[Answer]:
        """Like `execute_batch`, for an `async def run`."""
        try:
            results = await self._call(data, headers)
        except asyncio.CancelledError:
            raise
        except BaseException as failure:
            return [self.raised(failure)] * len(data)
        return self._tell_apart(results, len(data), (perf_counter() - started) * 1000)

    def _tell_apart(self, results: Any, count: int, exec_ms: float) -> List[Answer]:
        """One answer per request of a batch."""
        try:
            found = batch_results(results, count)
        except Exception as failure:  # a sequence of the user's own may raise anything
            return [self.raised(failure)] * count
        return [
            self.raised(result) if isinstance(result, BaseException) else self._shape_one(result, exec_ms)
            for result in found
        ]

    def _shape_one(self, result: Any, exec_ms: float) -> Answer:
        answer = self.shape(result, exec_ms)
        if answer.stream is None:
            return answer
        return self.internal_error(TypeError("a stream cannot be one of the results of a batch"), exec_ms)

    # --- outcomes ---------------------------------------------------------------------------------------------------

    def timed_out(self) -> Answer:
        """The answer to a request whose `run()` took too long."""
        self._log.error("Scoring timeout after %d ms" % (self.timeout_s * 1000))
        return Answer(500, self._timed_out, failed=True)

    def internal_error(self, failure: BaseException, exec_ms: Optional[float] = None) -> Answer:
        """The answer when this server, not the script, could not finish the request."""
        self._log.error("Encountered Exception %s" % users_traceback(failure))
        return Answer(500, self._server_failed, exec_ms=exec_ms)

    def shape(self, result: Any, exec_ms: float) -> Answer:
        """The answer for what `run()` returned."""
        try:
            return to_answer(result, exec_ms)
        except Exception as failure:
            return self.internal_error(failure, exec_ms)

    def raised(self, failure: BaseException) -> Answer:
        """The answer when the script raised `failure`."""
        self._log.error("Encountered Exception %s" % users_traceback(failure))
        if blames_request(failure):
            return Answer(400, message_body(words_of(failure)), failed=True)
        return Answer(500, self._script_failed, failed=True)

    def broke_off(self, why: BaseException) -> None:
        """Note a stream that failed after its first part was sent."""
        self._log.error("A stream broke off. Encountered Exception %s" % users_traceback(why))


def blames_request(failure: BaseException) -> bool:
    """Whether an exception says of itself that the request's data is at fault. Those of MLflow do, when data does not
    fit a model's signature: `get_http_status_code()` is 400. Then the caller is told what the exception says."""
    say = getattr(failure, "get_http_status_code", None)
    try:
        return callable(say) and say() == 400
    except Exception:
        return False


def batch_results(results: Any, count: int) -> List[Any]:
    """`count` results as a list. Raises BatchResultError: the script's fault."""
    if isinstance(results, (str, bytes, dict)) or not hasattr(results, "__len__"):
        raise BatchResultError(
            "run() of a batch has to return a list with one result per input; it returned %s"
            % type(results).__name__
        )
    if len(results) != count:
        raise BatchResultError(
            "run() was given a batch of %d inputs and returned %d results" % (count, len(results))
        )
    return list(results)
