"""From a request to what `run()` is called with: the body's text, the arguments of a declared schema, or the request
itself. Which of the three is decided once at boot.

Knows requests and JSON; nothing of connections, queues or scripts beyond the names of parameters.
"""

from __future__ import annotations

import inspect
import json
from typing import Any, Callable, Dict, List, Tuple
from urllib.parse import parse_qsl

from moorings_server.rawrequest import RawRequest, is_json_type

Prepare = Callable[[Any, bytes], Any]
"""(request, query) -> the data for `run()`. Raises BadInputError."""


class BadInputError(Exception):
    """The request's data cannot be given to `run()`; answered with `status` and this message. The client's
    fault."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def body_text(body: bytes) -> str:
    """The text of a POST body, whatever its content type. Raises BadInputError."""
    try:
        return body.decode()
    except UnicodeDecodeError as failure:
        raise BadInputError("Input cannot be decoded as UTF-8: %s" % failure) from failure


def query_values(query: bytes) -> Dict[str, Any]:
    """The query of a GET: values parsed as JSON where possible, repeated names become lists. Raises
    BadInputError."""
    found: Dict[str, List[Any]] = {}
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="replace")
    except ValueError as failure:
        raise BadInputError("The query cannot be read: %s" % failure) from failure
    for name, value in pairs:
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = value
        found.setdefault(name, []).append(parsed)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def query_text(query: bytes) -> str:
    """The query of a GET as JSON text. Raises BadInputError."""
    return json.dumps(query_values(query))


def prepare_text(request: Any, query: bytes) -> str:
    """For a `run()` without decorators."""
    if request.method != b"POST":
        return query_text(query)
    try:
        return request.body.decode()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        return body_text(request.body)


def prepare_raw(request: Any, query: bytes) -> RawRequest:
    """For a `run()` that is marked with `@rawhttp`."""
    return RawRequest(
        request.method, request.target, request.headers or [], request.body, request.client.peer_address()
    )


def prepare_arguments(parameters: List[inspect.Parameter]) -> Prepare:
    """For a `run()` whose schema is declared: its keyword arguments."""
    wanted = [(parameter.name, parameter.default) for parameter in parameters]

    def prepare(request: Any, query: bytes) -> Dict[str, Any]:
        if request.method == b"POST":
            return pick(wanted, json_object(request.content_type, request.body))
        return pick(wanted, query_values(query))

    return prepare


def json_object(content_type: bytes, body: bytes) -> Dict[str, Any]:
    """The JSON object in a body. Raises BadInputError: 415 for another content type, 400 for anything else."""
    if not is_json_type(content_type.partition(b";")[0].strip().lower().decode("latin-1")):
        raise BadInputError("Expects Content-Type to be application/json", 415)
    if not body:
        raise BadInputError("POST body is empty. Expecting a JSON dictionary.")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as failure:  # bad JSON, bad UTF-8, too many digits, too deep
        raise BadInputError("POST body could not be decoded as JSON: %s" % failure) from failure
    if not isinstance(content, dict):
        raise BadInputError("POST body should be a JSON dictionary.")
    return content


def pick(wanted: List[Tuple[str, Any]], content: Dict[str, Any]) -> Dict[str, Any]:
    """The value of each wanted parameter, or its default. Raises BadInputError when there is neither."""
    found: Dict[str, Any] = {}
    for name, default in wanted:
        value = content.get(name, default)
        if value is inspect.Parameter.empty:
            raise BadInputError("A value is not provided for the %r parameter." % name)
        found[name] = value
    return found
