"""What the caller reads when Envoy itself answers: one JSON shape, one code per cause, for every such reply.
Pure.

The codes are those of the error catalogue (area gateway). The first mapper that matches wins.
"""

from __future__ import annotations

from typing import Any

from moorings.gateway.envoy_clusters import typed

REQUEST_ID = "%REQ(x-request-id)%"
_REASON = "ms-azureml-model-error-reason"


def local_replies() -> dict[str, Any]:
    """The mappers and, for what none of them knows, a default body of the same shape."""
    late = "the model did not answer within request_timeout_ms"
    denied = "the Authorization header holds no valid key of this endpoint"
    return {
        "mappers": [
            _mapper(
                _details("route_not_found", "route_configuration_not_found"),
                404,
                "EndpointNotFound",
                "no endpoint of this name is served here",
            ),
            # The body of a 404 of a route says which one it is; the route knows.
            _mapper(
                _details("direct_response"),
                None,
                "%METADATA(ROUTE:moorings:code)%",
                "%METADATA(ROUTE:moorings:message)%",
            ),
            _mapper(_flags("UT"), 408, "RequestTimeout", late),
            _mapper(
                _flags("UO"),
                429,
                "TooManyPendingRequests",
                "2 x max_concurrent_requests_per_instance x instance_count requests are pending already",
                {"retry-after": "1", "ms-azureml-reject-reason": "too_many_pending_requests"},
            ),
            # The flag of the rate limiter isn't set yet when mappers run; its details are.
            _mapper(
                _details("local_rate_limited"),
                429,
                "RateLimited",
                "the endpoint gets more requests a second than its limit",
                {"retry-after": "1", "ms-azureml-reject-reason": "rate_limited"},
            ),
            _mapper(
                _expression('response.code_details.startsWith("rbac_access_denied")'),
                401,
                "Unauthorized",
                denied,
            ),
            _mapper(
                _details("response_payload_too_large"),
                424,
                "ResponseTooLarge",
                "the model's response is over the limit of the endpoint",
                {_REASON: "response_too_large"},
            ),
            _mapper(
                _status(413), None, "RequestTooLarge", "the request body is over the limit of the endpoint"
            ),
            _mapper(_flags("UH", "NC"), 503, "NoHealthyInstance", "no instance of the deployment is ready"),
            _mapper(
                _flags("UF", "UC", "URX", "UR", "LR"), 502, "InstanceLost", "the instance went away meanwhile"
            ),
            _mapper(_status(408), None, "RequestTimeout", "the request did not arrive in time"),
            _mapper(_status(400), None, "MalformedRequest", "%RESPONSE_CODE_DETAILS%"),
        ],
        "body_format": _body("GatewayError", "%RESPONSE_CODE_DETAILS%"),
    }


def _body(code: str, message: str) -> dict[str, Any]:
    return {"json_format": {"error": {"code": code, "message": message, "request_id": REQUEST_ID}}}


def _mapper(
    condition: dict[str, Any],
    status: int | None,
    code: str,
    message: str,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    mapper: dict[str, Any] = {"filter": condition, "body_format_override": _body(code, message)}
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
