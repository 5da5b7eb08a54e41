"""What scoring scripts import to read raw requests and to shape answers: `rawhttp`, `AMLRequest`, `AMLResponse`,
under the names they have always had (`azureml.contrib.services.*`, `azureml_inference_server_http.api.*`).

Those names lead here only where the environment has nothing of that name itself. Knows nothing of connections.
"""

from __future__ import annotations

import json
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from moorings_server.rawrequest import Headers, RawRequest

RAW_MARK = "__moorings_rawhttp__"
FAILED_HEADER = "x-ms-run-function-failed"
JSON_TYPE = "application/json"
TEXT_TYPE = "text/html; charset=utf-8"
REQUEST_MODULES = ("azureml.contrib.services.aml_request", "azureml_inference_server_http.api.aml_request")
RESPONSE_MODULES = ("azureml.contrib.services.aml_response", "azureml_inference_server_http.api.aml_response")
FOREIGN_FLAGS = ("_rawHttpRequested", "rawHttpRequested")

AMLRequest = RawRequest


def rawhttp(run: Callable[..., Any]) -> Callable[..., Any]:
    """Mark `run()`: it gets the request itself, for every method of /score, instead of the body's text."""
    setattr(run, RAW_MARK, True)
    return run


def wants_raw(run: Callable[..., Any]) -> bool:
    """Whether `run` was marked, by our `rawhttp` or by the one of a package that the environment has (which keeps
    a flag for the whole process)."""
    if getattr(run, RAW_MARK, False):
        return True
    modules = [sys.modules.get(name) for name in REQUEST_MODULES]
    return any(getattr(module, flag, False) is True for module in modules for flag in FOREIGN_FLAGS)


class AMLResponse:
    """An answer with its own status, headers and body.

    `message`: text, bytes, an iterable (or async iterable) of them that is sent as it comes, or None for `{}`;
    with `json_str` any JSON value. A header value with commas becomes one header per part. A status of 500 or more
    counts as a failure of `run()`, as does `run_function_failed`. Raises TypeError or ValueError for what cannot be
    sent: the script's fault.
    """

    def __init__(
        self,
        message: Any,
        status_code: Any,
        response_headers: Optional[Mapping[str, Any]] = None,
        json_str: bool = False,
        run_function_failed: bool = False,
    ) -> None:
        self.status_code = _status(status_code)
        kind = JSON_TYPE if json_str or message is None else TEXT_TYPE
        if message is None:
            message = "{}"
        elif json_str:
            message = json.dumps(message)
        self.body: Any = message.encode("utf-8") if isinstance(message, str) else message
        if isinstance(self.body, (bytearray, memoryview)):
            self.body = bytes(self.body)
        streams = any(hasattr(self.body, name) for name in ("__iter__", "__aiter__"))
        if not streams or isinstance(self.body, dict):
            raise TypeError(
                "An AMLResponse takes text, bytes or an iterable of them, not %s; give json_str=True for a JSON value"
                % type(message).__name__
            )
        lines: List[Tuple[str, str]] = []
        for name, value in dict(response_headers or {}).items():
            lines += [(str(name), part.strip()) for part in str(value).split(",")]
        if not any(name.lower() == "content-type" for name, _ in lines):
            lines.insert(0, ("Content-Type", kind))
        self.headers = Headers(lines)
        self.headers[FAILED_HEADER] = str(bool(run_function_failed))
        for name, value in self.headers:
            if not _TOKEN.issuperset(name) or not name or any(c in value for c in "\r\n\0"):
                raise ValueError("The header %r: %r cannot be sent" % (name, value))

    @property
    def is_streamed(self) -> bool:
        return not isinstance(self.body, bytes)

    @property
    def response(self) -> Any:
        return self.body

    @property
    def data(self) -> bytes:
        return self.get_data()

    def get_data(self) -> bytes:
        """The body, if it is not a stream. Raises TypeError."""
        if self.is_streamed:
            raise TypeError("The body of this AMLResponse is a stream")
        return bytes(self.body)


_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _status(code: Any) -> int:
    """200 of 200, HTTPStatus.OK, "200" or "200 OK"."""
    number = int(code.split()[0]) if isinstance(code, str) else int(code)
    if not 200 <= number <= 599:
        raise ValueError("The status of an answer is a number from 200 to 599, not %r" % (code,))
    return number


# --- the names ------------------------------------------------------------------------------------------------------


def _contents() -> Dict[str, Dict[str, Any]]:
    request = {"AMLRequest": AMLRequest, "rawhttp": rawhttp}
    response = {"AMLResponse": AMLResponse}
    return dict(
        [(name, request) for name in REQUEST_MODULES] + [(name, response) for name in RESPONSE_MODULES]
    )


class AliasFinder(MetaPathFinder, Loader):
    """The last finder that is asked, so what is installed wins. It knows the four modules and their parents."""

    def __init__(self) -> None:
        self._contents = _contents()
        self._parents = {
            name.rsplit(".", depth)[0] for name in self._contents for depth in range(1, name.count(".") + 1)
        }

    def find_spec(
        self, fullname: str, path: Optional[Iterable[Any]], target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        if fullname in self._contents or fullname in self._parents:
            return ModuleSpec(fullname, self, origin="moorings-server", is_package=fullname in self._parents)
        return None

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(self._contents.get(module.__name__, {}))


def install_aliases() -> None:
    """Make the four modules importable in this process."""
    if not any(isinstance(finder, AliasFinder) for finder in sys.meta_path):
        sys.meta_path.append(AliasFinder())
