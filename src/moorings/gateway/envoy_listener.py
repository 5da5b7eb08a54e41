"""The listener of the gateway and the bootstrap around it: filters, error bodies, ids, access log. Pure.

The listener is in the bootstrap and not discovered, so that a port that can't be bound ends Envoy with a
message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moorings.gateway.envoy_clusters import typed
from moorings.gateway.envoy_replies import TOO_LARGE_JSON, first_of, local_replies
from moorings.gateway.envoy_routes import (
    BUFFER,
    METADATA,
    MODEL_REPLIES,
    RATE_UNITS,
    RBAC,
    REPLY_ID,
    RESPONSE_BUFFER,
    SCOPE_HEADER,
    header,
)
from moorings.gateway.envoy_tokens import discovered_filter
from moorings.gateway.state import MAX_BODY_BYTES
from moorings.gateway.waiting import AGAIN, HELD_HEADER, LATE
from moorings.spec.limits import MAX_CONNECTIONS

LISTENER = "scoring"
DISCOVERY_CLUSTER = "discovery"
SERVER_NAME = "moorings"
CLIENT_REQUEST_ID = "x-ms-client-request-id"
_FILTER = "envoy.extensions.filters.http"
_DISCOVERED: dict[str, Any] = {"ads": {}, "resource_api_version": "V3"}

_BUFFER_BYTES = 1_048_576

SHORT_LENGTH = "[0-9]{1,5}"
"""Lengths that are below every limit of responses an endpoint can have."""

MODEL_REPLIES_LUA = f"""
function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get(":status")
  if status ~= "200" then
    headers:replace("ms-azureml-model-error-statuscode", status)
    headers:replace("ms-azureml-model-error-reason", "model_error")
    headers:replace(":status", "424")
    if status == "204" or status == "304" then headers:replace("content-length", "0") end
  end
  local limit = handle:metadata():get("max_response_bytes") or {MAX_BODY_BYTES}
  local length = headers:get("content-length")
  if length then
    if tonumber(length) <= limit then return end
  else
    local kind = headers:get("content-type")
    if not kind or kind:find("application/json", 1, true) ~= 1 then return end
  end
  local body = handle:body()
  if not body or body:length() <= limit then return end
  local found = handle:streamInfo():dynamicMetadata():get("{METADATA}") or {{}}
  local text = string.format([[{TOO_LARGE_JSON}]], limit, found["request_id"] or "", limit)
  body:setBytes(text)
  headers = handle:headers()
  headers:replace(":status", "424")
  headers:replace("content-type", "application/json")
  headers:replace("content-length", tostring(#text))
  headers:replace("ms-azureml-model-error-reason", "response_too_large")
  headers:remove("ms-azureml-model-error-statuscode")
  headers:remove("content-encoding")
end
"""
"""What the model itself answered: anything but 200 becomes 424 around the model's own body. Asking for the
body of one that is longer than the stream's buffer makes Envoy end it with a reply of its own, which is
mapped; where the limit is below the buffer the reply is made here. Other streams pass without limit. A 304
has no body whatever length it names: under another status its caller would wait for one."""


@dataclass(frozen=True)
class ListenerSettings:
    """Where the gateway listens and which files it uses (absolute paths; sockets at most 107 bytes)."""

    bind: str
    port: int
    discovery_socket: str
    admin_socket: str
    access_log: str
    doorstep_socket: str
    """Where callers come who waited for Envoy beside it; the gateway's agent alone speaks there."""
    max_connections: int = MAX_CONNECTIONS
    """Callers' connections at once; one more is closed."""


def bootstrap(settings: ListenerSettings, node: str) -> dict[str, Any]:
    """The whole static configuration of Envoy; `node` names it in its discovery requests and command line."""
    manager = connection_manager(
        _discovered_scopes(), discovered_filter(_DISCOVERED), access_log=settings.access_log
    )
    return {
        "node": {"id": node, "cluster": "moorings"},
        # Envoy's admin shows keys in its configuration dump: a socket of our user's only, never proxied.
        "admin": {"address": {"pipe": {"path": settings.admin_socket, "mode": 0o600}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": DISCOVERY_CLUSTER}}],
            },
            "cds_config": _DISCOVERED,
        },
        "layered_runtime": {
            "layers": [{"name": "caps", "rtds_layer": {"name": "caps", "rtds_config": _DISCOVERED}}],
        },
        "static_resources": {
            "listeners": [
                listener(settings.bind, settings.port, manager),
                _doorstep(settings.doorstep_socket, manager),
            ],
            "clusters": [_discovery_cluster(settings.discovery_socket)],
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": typed(
                        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        max_active_downstream_connections=settings.max_connections,
                    ),
                }
            ]
        },
        "stats_config": _statistics(),
    }


def listener(bind: str, port: int, manager: dict[str, Any]) -> dict[str, Any]:
    """A listener with `manager` on `bind:port`."""
    return {
        "name": LISTENER,
        "address": {"socket_address": {"address": bind, "port_value": port}},
        # The agent listens beside, and has seen to it that nobody else does.
        "enable_reuse_port": True,
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        "filter_chains": [_chain(manager)],
    }


def _doorstep(path: str, manager: dict[str, Any]) -> dict[str, Any]:
    """The same for callers who are carried here. Rates are counted apart from the listener's.

    Over HTTP/1 it is one request each, the next connection comes by itself. HTTP/2 would be told so before its first
    answer, which some clients take for the end.
    """
    once = {**manager["common_http_protocol_options"], "max_requests_per_connection": 1}
    http_2 = {"filter_chain_match": {"application_protocols": ["h2c"]}, **_chain(manager)}
    return {
        "name": "doorstep",
        "address": {"pipe": {"path": path, "mode": 0o600}},
        "tcp_backlog_size": 4096,
        "listener_filters": [
            _listener_filter("proxy_protocol", "ProxyProtocol"),
            _listener_filter("http_inspector", "HttpInspector"),
        ],
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        "filter_chains": [http_2, _chain({**manager, "common_http_protocol_options": once})],
    }


def _listener_filter(name: str, type_name: str) -> dict[str, Any]:
    return {
        "name": f"envoy.filters.listener.{name}",
        "typed_config": typed(f"envoy.extensions.filters.listener.{name}.v3.{type_name}"),
    }


def _chain(manager: dict[str, Any]) -> dict[str, Any]:
    return {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
    }


def connection_manager(
    scopes: dict[str, Any], tokens: dict[str, Any], *, access_log: str | None
) -> dict[str, Any]:
    """The HTTP side of the listener; `scopes` says where the route tables come from, `tokens` is the filter
    that checks tokens."""
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="scoring",
        codec_type="AUTO",
        server_name=SERVER_NAME,
        strip_any_host_port=True,
        # The path is made plain before the endpoint is chosen from it, so `a/../b` needs the key of b.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        use_remote_address=True,
        generate_request_id=True,
        preserve_external_request_id=False,
        always_set_request_id_in_response=True,
        request_id_extension={
            "typed_config": typed(
                "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False
            )
        },
        common_http_protocol_options={"idle_timeout": "300s"},
        # Old load generators and health checkers speak it.
        http_protocol_options={"accept_http_10": True, "default_host_for_http_10": "localhost"},
        request_headers_timeout="10s",
        request_timeout="60s",
        stream_idle_timeout="300s",
        delayed_close_timeout="1s",
        drain_timeout="10s",
        early_header_mutation_extensions=[_scope_header()],
        scoped_routes=scopes,
        http_filters=_filters(tokens),
        local_reply_config=local_replies(),
    )
    if access_log is not None:
        manager["access_log"] = [_access_log(access_log)]
    return manager


def scope_key_builder() -> dict[str, Any]:
    """The scope of a request: the fifth part of the header that `_scope_header` makes."""
    extractor = {"name": SCOPE_HEADER, "element_separator": "/", "index": 4}
    return {"fragments": [{"header_value_extractor": extractor}]}


def _discovered_scopes() -> dict[str, Any]:
    return {
        "name": "endpoints",
        "scope_key_builder": scope_key_builder(),
        "rds_config_source": _DISCOVERED,
        "scoped_rds": {"scoped_rds_config_source": _DISCOVERED},
    }


def _scope_header() -> dict[str, Any]:
    # `/api/v1/endpoint/<name>/...` has the name at index 4; in the host form index 4 is the host. The header
    # is made before the filters are chosen: changing the route later could skip the check of keys.
    prefix = "/api/v1/endpoint"
    path = f"request.url_path.startsWith('{prefix}/') ? request.url_path : '{prefix}'"
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            mutations=[{"append": header(SCOPE_HEADER, f"%CEL({path})%/%REQ(:authority)%")}],
        ),
    }


def _filters(tokens: dict[str, Any]) -> list[dict[str, Any]]:
    """In order: ids, token, caller, body size, rate, the model's reply, upstream.

    The body is buffered before the rate is counted: a 401 or 404 closes an HTTP/1.1 connection (its body was
    not read), a 408, 424 or 429 does not.
    """
    return [
        _filter(
            "header_to_metadata", "header_to_metadata.v3.Config", request_rules=[_client_request_id_rule()]
        ),
        _filter("header_mutation", "header_mutation.v3.HeaderMutation", mutations=_id_mutations()),
        _off(REPLY_ID, "header_to_metadata.v3.Config", request_rules=[_client_request_id_rule()]),
        tokens,
        _off(RBAC, "rbac.v3.RBAC"),
        _off(BUFFER, "buffer.v3.Buffer", max_request_bytes=MAX_BODY_BYTES),
        _off(RESPONSE_BUFFER, "buffer.v3.Buffer", max_request_bytes=MAX_BODY_BYTES),
        _rate_limit(),
        _model_replies(),
        _filter("router", "router.v3.Router", suppress_envoy_headers=True),
    ]


def _filter(name: str, type_name: str, **body: Any) -> dict[str, Any]:
    return {"name": f"envoy.filters.http.{name}", "typed_config": typed(f"{_FILTER}.{type_name}", **body)}


def _off(name: str, type_name: str, **body: Any) -> dict[str, Any]:
    """A filter that only the endpoints with a setting for it have."""
    return {"name": name, "disabled": True, "typed_config": typed(f"{_FILTER}.{type_name}", **body)}


def _client_request_id_rule() -> dict[str, Any]:
    return {
        "header": CLIENT_REQUEST_ID,
        "on_header_present": {
            "metadata_namespace": METADATA,
            "key": "client_request_id",
            "regex_value_rewrite": {"pattern": {"regex": "[^A-Za-z0-9_-]+"}, "substitution": ""},
        },
        "remove": True,
    }


def _id_mutations() -> dict[str, Any]:
    echoed = header(CLIENT_REQUEST_ID, f"%DYNAMIC_METADATA({METADATA}:client_request_id):40%")
    return {"request_mutations": [{"append": echoed}], "response_mutations": [{"append": echoed}]}


def _rate_limit() -> dict[str, Any]:
    """One bucket per endpoint, shared by the path and the host form, that an update of its routes does not
    refill."""

    def entry(descriptor: str, key: str) -> dict[str, Any]:
        source = {"key": METADATA, "path": [{"key": key}]}
        return {"metadata": {"descriptor_key": descriptor, "source": "ROUTE_ENTRY", "metadata_key": source}}

    return _filter(
        "local_ratelimit",
        "local_ratelimit.v3.LocalRateLimit",
        stat_prefix="rate",
        filter_enabled={"default_value": {"numerator": 100}},
        filter_enforced={"default_value": {"numerator": 100}},
        max_dynamic_descriptors=5000,
        always_consume_default_token_bucket=False,
        token_bucket=_bucket(RATE_UNITS),
        rate_limits=[
            {
                "actions": [entry("endpoint", "endpoint")],
                "hits_addend": {"format": f"%METADATA(ROUTE:{METADATA}:cost)%"},
            }
        ],
        descriptors=[{"entries": [{"key": "endpoint"}], "token_bucket": _bucket(RATE_UNITS)}],
    )


def _bucket(per_s: int) -> dict[str, Any]:
    return {"max_tokens": per_s, "tokens_per_fill": per_s, "fill_interval": "1s"}


def _model_replies() -> dict[str, Any]:
    """The Lua above, kept away from Envoy's own replies, from those of a waiting room and from a plain 200 of a known,
    short length."""

    def matcher_input(name: str, type_name: str, **body: Any) -> dict[str, Any]:
        return {"input": {"name": name, "typed_config": typed(f"envoy.type.matcher.v3.{type_name}", **body)}}

    skip = {
        "action": {
            "name": "skip",
            "typed_config": typed("envoy.extensions.filters.common.matcher.action.v3.SkipFilter"),
        }
    }
    local = {**matcher_input("local", "HttpResponseLocalReplyMatchInput"), "value_match": {"exact": "true"}}
    plain = [
        {
            **matcher_input("status", "HttpResponseHeaderMatchInput", header_name=":status"),
            "value_match": {"exact": "200"},
        },
        {
            **matcher_input("length", "HttpResponseHeaderMatchInput", header_name="content-length"),
            "value_match": {"safe_regex": {"google_re2": {}, "regex": SHORT_LENGTH}},
        },
    ]
    held = {
        **matcher_input("held", "HttpResponseHeaderMatchInput", header_name=HELD_HEADER),
        "value_match": {"safe_regex": {"google_re2": {}, "regex": f"{AGAIN}|{LATE}"}},
    }
    short = {"and_matcher": {"predicate": [{"single_predicate": part} for part in plain]}}
    return {
        "name": MODEL_REPLIES,
        "typed_config": typed(
            "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            xds_matcher={
                "matcher_list": {
                    "matchers": [
                        {"predicate": {"single_predicate": local}, "on_match": skip},
                        {"predicate": {"single_predicate": held}, "on_match": skip},
                        {"predicate": short, "on_match": skip},
                    ]
                }
            },
            extension_config={
                "name": "model-replies",
                "typed_config": typed(
                    f"{_FILTER}.lua.v3.Lua", default_source_code={"inline_string": MODEL_REPLIES_LUA}
                ),
            },
        ),
    }


def _access_log(path: str) -> dict[str, Any]:
    """One JSON object a line; durations in microseconds where the name says so. It never holds a key or a
    query."""
    fields = {
        "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%",
        "endpoint": f"%METADATA(ROUTE:{METADATA}:endpoint)%",
        "deployment": f"%METADATA(ROUTE:{METADATA}:deployment)%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ:ORIG_OR_PATH)%",
        "code": "%RESPONSE_CODE%",
        "model_code": "%RESP(ms-azureml-model-error-statuscode)%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        # A request that was refused unread has only the id of its answer; one without an answer only its own.
        "request_id": first_of("RESP", "REQ"),
        "client_request_id": f"%REQ({CLIENT_REQUEST_ID})%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "total_ms": "%DURATION%",
        "wait_us": "%COMMON_DURATION(DS_RX_END:US_TX_BEG:us)%",
        "model_us": "%COMMON_DURATION(US_TX_END:US_RX_BEG:us)%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "worker": "%UPSTREAM_HOST%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "protocol": "%PROTOCOL%",
    }
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=path,
            log_format={"json_format": fields},
        ),
    }


def _discovery_cluster(socket: str) -> dict[str, Any]:
    http2 = {"http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "5s"}}}
    host = {"endpoint": {"address": {"pipe": {"path": socket}}}}
    return {
        "name": DISCOVERY_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": DISCOVERY_CLUSTER, "endpoints": [{"lb_endpoints": [host]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config=http2
            )
        },
    }


def _statistics() -> dict[str, Any]:
    """Only the figures somebody reads: thousands of endpoints have tens of thousands of others."""
    cluster = (
        r"cluster\.[^.]*\.(upstream_rq_(active|pending_active|pending_overflow|time|timeout|total|retry|completed|"
        r"[0-9]xx|[0-9]{3})|upstream_cx_(active|connect_fail|overflow|total)|membership_(healthy|total)|"
        r"circuit_breakers\.default\..*|update_(success|rejected|failure)|outlier_detection\..*|health_check\..*)"
    )
    prefixes = (
        "cluster_manager.",
        "listener_manager.",
        "server.",
        "http.scoring.",
        "rate.",
        "runtime.",
        "listener.",
    )
    patterns: list[dict[str, Any]] = [{"safe_regex": {"regex": cluster}}]
    patterns += [{"prefix": prefix} for prefix in prefixes]
    return {"stats_matcher": {"inclusion_list": {"patterns": patterns}}}
