"""What the caller reads when Envoy itself answers: one JSON shape, one code per cause, for every such reply.
Pure.

The codes are those of the error catalogue (area gateway). The first mapper that matches wins. A reply that is
due to a limit names it, its value and the setting that changes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from moorings.gateway.envoy_clusters import typed

REQUEST_ID = "%REQ(x-request-id)%"
_REASON = "ms-azureml-model-error-reason"


def first_of(*commands: str) -> str:
    """The request id of the first of these places that has one, as Envoy formats it."""
    operators = [{"command": command, "param": "x-request-id"} for command in commands]
    return f"%COALESCE({json.dumps({'operators': operators})})%"


def explained(code: str) -> str:
    """Where a caller reads on: the page of the code is on the control API, which is not reached through the gateway."""
    return f"moor explain {code}"


_ID = "x-request-id"
_NEW_ID = "%UNIQUE_ID%"
_REPLY_ID = first_of("REQ", "RESP")
_AGAIN = "retry-after"
_WHY = "ms-azureml-reject-reason"


@dataclass(frozen=True)
class Limit:
    """A limit of the contract: its name, where route metadata holds its value, and what changes it."""

    name: str
    unit: str
    metadata: str
    setting: str

    @property
    def value(self) -> str:
        return f"%METADATA(ROUTE:moorings:{self.metadata})%"

    def told(self, value: str) -> str:
        """The half sentence that ends a message."""
        return f"{self.name} is {value} {self.unit}; to change it: {self.setting}"

    def document(self, value: Any) -> dict[str, Any]:
        return {"name": self.name, "value": value, "setting": self.setting}


TIMEOUT = Limit(
    "the request timeout", "ms", "timeout_ms", "request_settings.request_timeout_ms of the deployment"
)
PENDING = Limit(
    "the limit of running and waiting requests (2 x max_concurrent_requests_per_instance x instance_count)",
    "requests",
    "pending",
    "instance_count or request_settings.max_concurrent_requests_per_instance of the deployment",
)
RATE = Limit(
    "the rate limit", "requests a second", "rate", "properties.moorings.rate_limit_per_s of the endpoint"
)
REQUEST = Limit(
    "the limit of request bodies",
    "bytes",
    "max_request_bytes",
    "properties.moorings.max_request_bytes of the endpoint",
)
RESPONSE = Limit(
    "the limit of responses",
    "bytes",
    "max_response_bytes",
    "properties.moorings.max_response_bytes of the endpoint",
)

_TOO_LONG = "the model's response is too long: "
TOO_LARGE_JSON = json.dumps(
    {
        "error": {
            "code": "ResponseTooLarge",
            "message": _TOO_LONG + RESPONSE.told("%d"),
            "request_id": "%s",
            "explain": explained("ResponseTooLarge"),
            "limit": RESPONSE.document("%d"),
        }
    }
).replace('"%d"', "%d")
"""The body of the same reply where it is made outside of Envoy's own; takes the limit, the id, the limit."""


def local_replies() -> dict[str, Any]:
    """The mappers and, for what none of them knows, a default body of the same shape."""
    return {
        "mappers": [
            *_not_found(),
            *_limits(),
            *_platform(),
            *_unread(),
        ],
        "body_format": _body("GatewayError", "%RESPONSE_CODE_DETAILS%"),
    }


def _not_found() -> list[dict[str, Any]]:
    unknown = _details("route_not_found", "route_configuration_not_found")
    denied = "the Authorization header holds no valid credential of this endpoint"
    return [
        _mapper(unknown, 404, "EndpointNotFound", "no endpoint of this name is served here"),
        # The body of a 404 of a route says which one it is; the route knows.
        _mapper(
            _details("direct_response"),
            None,
            "%METADATA(ROUTE:moorings:code)%",
            "%METADATA(ROUTE:moorings:message)%",
        ),
        _mapper(
            _expression('response.code_details.startsWith("rbac_access_denied")'),
            401,
            "Unauthorized",
            denied,
            {"www-authenticate": "Bearer"},
        ),
    ]


def _limits() -> list[dict[str, Any]]:
    late = "the model did not answer in time, waiting for its turn included: "
    pending = "the deployment takes no more requests at this moment: "
    rate = "the endpoint gets too many requests: "
    return [
        _mapper(_flags("UT"), 408, "RequestTimeout", late, limit=TIMEOUT),
        _mapper(
            _flags("UO"),
            429,
            "TooManyPendingRequests",
            pending,
            {_AGAIN: "1", _WHY: "too_many_pending_requests"},
            limit=PENDING,
        ),
        # The flag of the rate limiter isn't set yet when mappers run; its details are.
        _mapper(
            _details("local_rate_limited"),
            429,
            "RateLimited",
            rate,
            {_AGAIN: "1", _WHY: "rate_limited"},
            limit=RATE,
        ),
        _mapper(
            _details("response_payload_too_large"),
            424,
            "ResponseTooLarge",
            _TOO_LONG,
            {_REASON: "response_too_large"},
            limit=RESPONSE,
        ),
        _mapper(_status(413), None, "RequestTooLarge", "the request body is too long: ", limit=REQUEST),
    ]


def _unread() -> list[dict[str, Any]]:
    """Requests that end before they are understood, so that most have no id yet: the reply makes one."""
    late = "the request did not arrive in time"
    long = "the request line and the headers are over 60 KiB together"
    broken = "%RESPONSE_CODE_DETAILS%"
    return [
        _mapper(_status(408), None, "RequestTimeout", late, {_ID: _NEW_ID}, request_id=_REPLY_ID),
        _mapper(_status(431), None, "RequestHeadersTooLarge", long, {_ID: _NEW_ID}, request_id=_REPLY_ID),
        _mapper(_status(400), None, "MalformedRequest", broken, {_ID: _NEW_ID}, request_id=_REPLY_ID),
    ]


def _platform() -> list[dict[str, Any]]:
    lost = "the instance went away, or broke HTTP, before it had answered"
    return [
        _mapper(_flags("UH", "NC"), 503, "NoHealthyInstance", "no instance of the deployment is ready"),
        _mapper(_flags("UF", "UC", "URX", "UR", "LR", "UPE"), 502, "InstanceLost", lost),
    ]


def _body(
    code: str, message: str, limit: Limit | None = None, request_id: str = REQUEST_ID
) -> dict[str, Any]:
    error: dict[str, Any] = {
        "code": code,
        "message": message,
        "request_id": request_id,
        "explain": explained(code),
    }
    if limit is None:
        return {"json_format": {"error": error}}
    error["message"] += limit.told(limit.value)
    error["limit"] = limit.document(limit.value)
    # The value is a number in the body, and Envoy's own JSON would write it as 3e+06. All that is filled in
    # here is ours and needs no escaping.
    text = json.dumps({"error": error}).replace(f'"{limit.value}"', limit.value)
    return {"text_format_source": {"inline_string": text}, "content_type": "application/json"}


def _mapper(
    condition: dict[str, Any],
    status: int | None,
    code: str,
    message: str,
    headers: dict[str, str] | None = None,
    *,
    limit: Limit | None = None,
    request_id: str = REQUEST_ID,
) -> dict[str, Any]:
    body = _body(code, message, limit, request_id)
    mapper: dict[str, Any] = {"filter": condition, "body_format_override": body}
    if status is not None:
        mapper["status_code"] = status
    if headers:
        mapper["headers_to_add"] = [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ]
    return mapper


def _flags(*names: str) -> dict[str, Any]:
    return {"response_flag_filter": {"flags": list(names)}}


def _status(code: int) -> dict[str, Any]:
    value = {"default_value": code, "runtime_key": f"moorings.status.{code}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _details(*values: str) -> dict[str, Any]:
    return _expression(" || ".join(f'response.code_details == "{value}"' for value in values))


def _expression(text: str) -> dict[str, Any]:
    config = typed("envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", expression=text)
    return {"extension_filter": {"name": "cel", "typed_config": config}}
