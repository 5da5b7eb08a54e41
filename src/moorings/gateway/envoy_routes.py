"""An endpoint as Envoy routes: who may call, which deployment answers, and what the caller is told when none
does. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moorings.contract import HEADER_COLLECT, HEADER_COMPARE
from moorings.gateway import envoy_tokens
from moorings.gateway.envoy_clusters import cluster_name, seconds, typed
from moorings.gateway.state import DeploymentRoute, EndpointRoute
from moorings.gateway.waiting import AGAIN, HELD_HEADER, LIMIT_HEADER

DEPLOYMENT_HEADER = "azureml-model-deployment"
SCOPE_HEADER = "x-moorings-scope"
METADATA = "moorings"
"""Namespace of route metadata: the access log, the rate limiter and the bodies of 404s read it."""
RBAC = "envoy.filters.http.rbac"
BUFFER = "envoy.filters.http.buffer"
RESPONSE_BUFFER = "moorings.response_buffer"
"""A second buffer behind the first: when it is reached the request is complete, and the limit that it sets is
that of the response."""
REPLY_ID = "moorings.reply_id"
MODEL_REPLIES = "model-replies"
RATE_UNITS = 1_000_000_000
"""Units of the rate limiter a second; a request takes `RATE_UNITS // rate` of them. So one bucket size serves
every rate, and a change of the rate refills nothing."""
_LOOPBACK = (("127.0.0.0", 8), ("::1", 128))
_LOOPBACK_HOST = r"(?i)(.+\.)?localhost|127(\.\d{1,3}){3}|\[::1\]"
"""Names that mean this machine wherever they are looked up; the port is cut off by now."""
_FOREIGN_HEADERS = ("forwarded", "via", "x-real-ip", "x-forwarded-host", "origin")
"""A proxy adds these, or a browser for a page that is not the endpoint's own."""
_REMOVED_RESPONSE_HEADERS = (
    "x-envoy-upstream-service-time",
    "x-envoy-overloaded",
    "x-envoy-attempt-count",
    "x-envoy-ratelimited",
)


def routes_name(endpoint: str) -> str:
    """Name of the endpoint's route table."""
    return f"endpoint-{endpoint}"


def header(key: str, value: str) -> dict[str, Any]:
    """A header that replaces what the other side sent."""
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def scope(endpoint: str, key: str) -> dict[str, Any]:
    """Requests whose scope is `key` (an endpoint name of the path, or a host) use the endpoint's route
    table."""
    return {
        "name": key,
        "key": {"fragments": [{"string_key": key}]},
        "route_configuration_name": routes_name(endpoint),
    }


def route_configuration(endpoint: EndpointRoute) -> dict[str, Any]:
    """The endpoint's route table; it serves the path form and the host form alike."""
    return {
        "name": routes_name(endpoint.name),
        "virtual_hosts": [
            {
                "name": endpoint.name,
                "domains": ["*"],
                "routes": list(_routes(endpoint)),
                "typed_per_filter_config": _filters(endpoint),
            }
        ],
        "request_headers_to_remove": [SCOPE_HEADER],
        "response_headers_to_remove": list(_REMOVED_RESPONSE_HEADERS),
    }


def _filters(endpoint: EndpointRoute) -> dict[str, Any]:
    """What differs between endpoints: who may call, how long bodies may be."""
    filters = {RBAC: _callers(endpoint), BUFFER: _buffer(endpoint.max_request_bytes)}
    if endpoint.token_audience is not None or endpoint.callers:
        filters[envoy_tokens.FILTER] = envoy_tokens.per_endpoint()
    if endpoint.max_response_bytes > endpoint.max_request_bytes:
        filters[RESPONSE_BUFFER] = _buffer(endpoint.max_response_bytes)
    if endpoint.max_response_bytes < endpoint.max_request_bytes:
        # Only then Envoy's own reply, which has the id by itself, isn't what tells the caller.
        rule = {
            "header": "x-request-id",
            "on_header_present": {"metadata_namespace": METADATA, "key": "request_id"},
        }
        filters[REPLY_ID] = typed(
            "envoy.extensions.filters.http.header_to_metadata.v3.Config", request_rules=[rule]
        )
    return filters


def _buffer(limit_bytes: int) -> dict[str, Any]:
    return typed(
        "envoy.extensions.filters.http.buffer.v3.BufferPerRoute", buffer={"max_request_bytes": limit_bytes}
    )


def _callers(endpoint: EndpointRoute) -> dict[str, Any]:
    """Who may call. A key is compared as the exact header, because what compares keys loosely is not for
    production in this Envoy."""
    principals: list[dict[str, Any]] = [
        {"header": {"name": "authorization", "string_match": {"exact": f"Bearer {key}"}}}
        for key in endpoint.keys
        if key
    ]
    if endpoint.token_audience:
        principals.append(envoy_tokens.principal(endpoint.token_audience))
    principals += [envoy_tokens.known_caller(caller) for caller in endpoint.callers]
    if endpoint.keyless_on_loopback:
        principals.append(_program_on_this_machine())
    policies = {"callers": {"permissions": [{"any": True}], "principals": principals}} if principals else {}
    return typed(
        "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
        rbac={"rules": {"action": "ALLOW", "policies": policies}},
    )


def _program_on_this_machine() -> dict[str, Any]:
    """A request without a credential that began on this machine, as far as a request can tell.

    The peer's own address counts, never one that a header names. That is not enough: a reverse proxy on this
    machine and a browser with a page of somebody else's are such peers too. So what a proxy adds, what a browser
    says of a foreign page, and a host name that was made to point here each need a key.
    """

    def present(name: str) -> dict[str, Any]:
        return {"header": {"name": name, "present_match": True}}

    def matches(name: str, regex: str) -> dict[str, Any]:
        return {"header": {"name": name, "string_match": {"safe_regex": {"regex": regex}}}}

    peers = [
        {"direct_remote_ip": {"address_prefix": address, "prefix_len": bits}} for address, bits in _LOOPBACK
    ]
    # Envoy has added an address to x-forwarded-for by now (for a loopback peer one of this machine, whichever):
    # alone there, nobody before has said that the request was forwarded.
    return {
        "and_ids": {
            "ids": [
                {"not_id": present("authorization")},
                {"or_ids": {"ids": peers}},
                matches("x-forwarded-for", "[^,]+"),
                *({"not_id": present(name)} for name in _FOREIGN_HEADERS),
                {"not_id": matches("sec-fetch-site", "cross-site|same-site")},
                matches(":authority", _LOOPBACK_HOST),
            ]
        }
    }


def _routes(endpoint: EndpointRoute) -> Iterator[dict[str, Any]]:
    """Named by header first, then by share. All routes of a request see one random number, so shares
    accumulate."""
    for deployment in endpoint.deployments:
        wanted = {"name": DEPLOYMENT_HEADER, "string_match": {"exact": deployment.name}}
        yield _forward(endpoint, deployment, {"prefix": "/", "headers": [wanted]}, mirrored=False)
    yield _not_found(
        endpoint,
        "DeploymentNotFound",
        f"endpoint {endpoint.name} has no deployment of the name given in the header {DEPLOYMENT_HEADER}",
        {"prefix": "/", "headers": [{"name": DEPLOYMENT_HEADER, "present_match": True}]},
    )
    total = 0
    for deployment in endpoint.deployments:
        share = endpoint.traffic.get(deployment.name, 0)
        if share <= 0:
            continue
        total += share
        match: dict[str, Any] = {"prefix": "/"}
        if total < 100:
            match["runtime_fraction"] = {"default_value": {"numerator": total, "denominator": "HUNDRED"}}
        yield _forward(endpoint, deployment, match, mirrored=True)
    if total < 100:
        message = f"no deployment of endpoint {endpoint.name} takes traffic"
        yield _not_found(endpoint, "NoTraffic", message, {"prefix": "/"})


def _forward(
    endpoint: EndpointRoute, deployment: DeploymentRoute, match: dict[str, Any], *, mirrored: bool
) -> dict[str, Any]:
    action: dict[str, Any] = {
        "cluster": cluster_name(endpoint.name, deployment.name),
        "timeout": seconds((deployment.request_timeout_ms + deployment.hold_ms) / 1000),
        "regex_rewrite": {"pattern": {"regex": "^/api/v1/endpoint/[^/]+/?"}, "substitution": "/"},
        # Only what no worker has begun to answer is tried again: a model need not be idempotent.
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset-before-request",
            "num_retries": 2,
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": typed(
                        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                    ),
                }
            ],
            "host_selection_retry_max_attempts": 3,
            "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
        },
    }
    if deployment.waiting_room:
        policy = action["retry_policy"]
        policy["retry_on"] += ",retriable-headers"
        policy["retriable_headers"] = [{"name": HELD_HEADER, "string_match": {"exact": AGAIN}}]
    mirror = [
        (name, share) for name, share in sorted(endpoint.mirror.items()) if share and name != deployment.name
    ]
    added: list[dict[str, Any]] = []
    if deployment.waiting_room:  # how long it may wait there
        limit_ms = deployment.hold_ms or deployment.request_timeout_ms
        added.append(header(LIMIT_HEADER, str(limit_ms)))
    if mirrored and mirror:
        if endpoint.compared:  # copies carry it, too; what callers send under this name is removed before
            added.append(header(HEADER_COMPARE, "1"))
        action["request_mirror_policies"] = [
            {
                "cluster": cluster_name(endpoint.name, name),
                "runtime_fraction": {"default_value": {"numerator": share, "denominator": "HUNDRED"}},
                "disable_shadow_host_suffix_append": True,
            }
            for name, share in mirror
        ]
    return {
        "name": f"{endpoint.name}/{deployment.name}",
        "match": match,
        "route": action,
        "metadata": _forward_metadata(endpoint, deployment),
        "request_headers_to_remove": ["authorization", HEADER_COMPARE, HEADER_COLLECT],
        "request_headers_to_add": added,
        # Where there is no waiting room no model may speak for one.
        "response_headers_to_remove": [] if deployment.waiting_room else [HELD_HEADER],
        "response_headers_to_add": [header(DEPLOYMENT_HEADER, deployment.name)],
    }


def _not_found(endpoint: EndpointRoute, code: str, message: str, match: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"{endpoint.name}/{code}",
        "match": match,
        "direct_response": {"status": 404},
        "metadata": _metadata(endpoint, code=code, message=message),
    }


def pending_limit(deployment: DeploymentRoute) -> int:
    """How many requests of the deployment may run and wait together (behaviour reference, section 5.7)."""
    return 2 * deployment.max_concurrent_requests * deployment.instance_count


def _forward_metadata(endpoint: EndpointRoute, deployment: DeploymentRoute) -> dict[str, Any]:
    metadata = _metadata(
        endpoint,
        deployment=deployment.name,
        pending=str(pending_limit(deployment)),
        timeout_ms=str(deployment.request_timeout_ms),
    )
    limit = {"max_response_bytes": endpoint.max_response_bytes, "endpoint": endpoint.name}
    metadata["filter_metadata"][MODEL_REPLIES] = limit
    return metadata


def _metadata(endpoint: EndpointRoute, **more: str | int) -> dict[str, Any]:
    values = {
        "endpoint": endpoint.name,
        "rate": str(endpoint.rate_limit_per_s),
        "cost": RATE_UNITS // endpoint.rate_limit_per_s,
        "max_request_bytes": str(endpoint.max_request_bytes),
        "max_response_bytes": str(endpoint.max_response_bytes),
        **more,
    }
    return {"filter_metadata": {METADATA: values}}
