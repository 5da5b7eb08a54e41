"""A deployment as an Envoy cluster: who its workers are, how they are checked, how many requests are let in.
Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from moorings.gateway.state import DeploymentRoute
from moorings.gateway.waiting import CHECK_HOST

MAX_CHECK_INTERVAL_S = 2.0
CHECKS_PER_PERIOD = 5
"""A worker is looked at so often in a period of its probe, so that there is time to ask again within it."""
RECHECK_S = 0.25
"""After a check that failed. A worker's socket appears when it is ready: the wait for the next check is time lost to
every start."""
UPSTREAM_IDLE = "55s"
"""Below the keep-alive of the inference server: a POST on a connection that the other side is closing would
be a 502 that may not be retried."""
UNLIMITED = 100_000


def cluster_name(endpoint: str, deployment: str) -> str:
    """`<endpoint>~<deployment>`: a colon would become an underscore in Envoy's statistics."""
    return f"{endpoint}~{deployment}"


def cluster_parts(cluster: str) -> tuple[str, str]:
    """Endpoint and deployment of a cluster's name."""
    endpoint, _, deployment = cluster.partition("~")
    return endpoint, deployment


def typed(type_name: str, **body: Any) -> dict[str, Any]:
    """A typed extension configuration in proto-JSON form."""
    return {"@type": f"type.googleapis.com/{type_name}", **body}


def seconds(value_s: float) -> str:
    """A duration in proto-JSON form, to the millisecond."""
    return f"{value_s:.3f}s"


def cluster(endpoint: str, deployment: DeploymentRoute) -> dict[str, Any]:
    """The cluster. It depends on neither addresses nor the number of instances: Envoy rebuilds a cluster that
    changes."""
    return {
        "name": cluster_name(endpoint, deployment.name),
        "type": "EDS",
        "connect_timeout": "2s",
        "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
        "common_lb_config": {
            # No panic mode: with nobody healthy the answer is 503, not a request to a worker that is booting.
            "healthy_panic_threshold": {"value": 0},
            # The default merges health changes for a second: every swap of the only instance would be a
            # second of 503.
            "update_merge_window": "0s",
        },
        # Otherwise a healthy worker that was taken away stays in use until a health check fails.
        "ignore_health_on_host_removal": True,
        "circuit_breakers": {"thresholds": [_thresholds(deployment)]},
        "load_balancing_policy": {
            "policies": [
                {
                    "typed_extension_config": {
                        "name": "least_request",
                        "typed_config": typed(
                            "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
                            selection_method="FULL_SCAN",
                        ),
                    }
                }
            ]
        },
        "health_checks": [_health_check(deployment)],
        "outlier_detection": _outlier_detection(),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={"http_protocol_options": {}},
                common_http_protocol_options={"idle_timeout": UPSTREAM_IDLE},
            )
        },
    }


def assignment(endpoint: str, deployment: DeploymentRoute) -> dict[str, Any]:
    """The workers of the cluster, each a host of its own; behind them the waiting room, which gets requests only while
    none of them is healthy."""
    hosts = [{"endpoint": {"address": address(worker)}} for worker in deployment.addresses]
    name = cluster_name(endpoint, deployment.name)
    groups: list[dict[str, Any]] = [{"lb_endpoints": hosts}] if hosts else []
    if not deployment.waiting_room:
        return {"cluster_name": name, "endpoints": groups}
    room = {
        "address": address(deployment.waiting_room),
        "health_check_config": {"hostname": CHECK_HOST},
    }
    groups.append({"lb_endpoints": [{"endpoint": room}], "priority": len(groups)})
    # Otherwise a share of the requests would go to the room as soon as some of the workers are not healthy.
    return {"cluster_name": name, "endpoints": groups, "policy": {"overprovisioning_factor": 1_000_000}}


def address(worker: str) -> dict[str, Any]:
    """`/path/of.sock` or `host:port` as an Envoy address."""
    if worker.startswith("/"):
        return {"pipe": {"path": worker}}
    host, _, port = worker.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def address_of(address: Mapping[str, Any]) -> str:
    """The other way: what Envoy calls an address as `/path/of.sock` or `host:port`."""
    if "pipe" in address:
        return str(address["pipe"]["path"])
    where = address["socket_address"]
    return f"{where['address']}:{where['port_value']}"


def _thresholds(deployment: DeploymentRoute) -> dict[str, Any]:
    # The cap for one instance; the real one comes with the runtime layer, which a change of count does not
    # rebuild. Envoy itself never queues: the instance's own server gates its concurrency and queues the rest.
    # Retries and mirrored requests count in the target's cap too: a mirrored one over it is dropped in
    # silence.
    return {
        "max_requests": 2 * deployment.max_concurrent_requests,
        "max_pending_requests": UNLIMITED,
        "max_connections": UNLIMITED,
        "max_retries": 100,
        "track_remaining": True,
    }


def checks(period_s: float, timeout_s: float) -> tuple[float, int]:
    """(seconds between checks, failed checks in a row after which a worker is left out): from the moment on at which it
    falls silent that takes no longer than one period of its readiness probe, or one check where that may take longer.

    How many failures the probe allows is for an instance that has yet to become ready: to be left out harms nobody who
    is served, ends with the first good answer, and costs other workers' callers nothing."""
    interval_s = max(min(period_s / CHECKS_PER_PERIOD, MAX_CHECK_INTERVAL_S), RECHECK_S)
    return interval_s, max(1, math.floor((period_s - interval_s + RECHECK_S) / (timeout_s + RECHECK_S)))


def _health_check(deployment: DeploymentRoute) -> dict[str, Any]:
    interval_s, failures = checks(deployment.health_period_s, deployment.health_timeout_s)
    return {
        "timeout": seconds(deployment.health_timeout_s),
        "interval": seconds(interval_s),
        "no_traffic_healthy_interval": seconds(interval_s),
        "no_traffic_interval": seconds(RECHECK_S),
        "unhealthy_interval": seconds(RECHECK_S),
        "unhealthy_edge_interval": seconds(RECHECK_S),
        "unhealthy_threshold": failures,
        "healthy_threshold": 1,
        # A busy single-threaded worker answers only new connections.
        "reuse_connection": False,
        **_question(deployment),
    }


def _question(deployment: DeploymentRoute) -> dict[str, Any]:
    if not deployment.health_path:
        return {"tcp_health_check": {}}
    return {
        "http_health_check": {
            "path": deployment.health_path,
            "host": "health",
            # Without this one answer that isn't 200 is enough, whatever the threshold says.
            "retriable_statuses": [{"start": 201, "end": 600}],
        },
    }


def _outlier_detection() -> dict[str, Any]:
    # Least-request by full scan loves a dead worker (nothing in flight), so it is ejected after three failed
    # connects and comes back by the health check, not by time. A model's own errors never eject.
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 3,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": "60s",
        "max_ejection_time": "300s",
        "max_ejection_percent": 100,
        "successful_active_health_check_uneject_host": True,
    }
