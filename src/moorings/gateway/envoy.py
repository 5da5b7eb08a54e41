"""Gateway state -> Envoy resources: one bundle per endpoint, each resource versioned by the hash of its
content. Pure.

It must not know files, sockets or how a resource reaches Envoy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from moorings.gateway import envoy_clusters, envoy_routes, envoy_tokens
from moorings.gateway.state import MAX_RATE_LIMIT_PER_S, TOKENS, EndpointRoute, GatewayState, Issuer
from moorings.gateway.waiting import is_room

CLUSTER = "envoy.config.cluster.v3.Cluster"
ASSIGNMENT = "envoy.config.endpoint.v3.ClusterLoadAssignment"
ROUTES = "envoy.config.route.v3.RouteConfiguration"
SCOPE = "envoy.config.route.v3.ScopedRouteConfiguration"
RUNTIME = "envoy.service.runtime.v3.Runtime"
EXTENSION = "envoy.config.core.v3.TypedExtensionConfig"

RUNTIME_LAYER = "caps"
"""Name of the one runtime resource: the caps of admitted requests of all clusters."""


@dataclass(frozen=True)
class Resource:
    """One Envoy resource in proto-JSON form. Its version is the hash of its content."""

    type: str
    name: str
    body: Mapping[str, Any]
    version: str = field(default="")

    def __post_init__(self) -> None:
        if not self.version:
            object.__setattr__(self, "version", content_hash(self.body))


@dataclass(frozen=True)
class Bundle:
    """What is accepted or refused as one: an endpoint's resources and the caps of its clusters (cluster ->
    admitted requests), or what all endpoints share (under a name that no endpoint can have)."""

    endpoint: str
    resources: tuple[Resource, ...]
    caps: Mapping[str, int]
    version: str = field(default="")

    def __post_init__(self) -> None:
        if not self.version:
            parts = [[r.type, r.name, r.version] for r in self.resources]
            object.__setattr__(self, "version", content_hash([parts, self.caps]))

    @cached_property
    def subject(self) -> str:
        """Hash of what is validated: a change of workers or caps alone leaves it as it is."""
        return content_hash([[r.type, r.name, r.version] for r in self.resources if r.type != ASSIGNMENT])

    @cached_property
    def workers(self) -> tuple[tuple[str, str], ...]:
        """Cluster (`<endpoint>~<deployment>`) and address of every worker that takes traffic."""
        return tuple((cluster, address) for cluster, address in self._hosts() if not is_room(address))

    @cached_property
    def rooms(self) -> tuple[tuple[str, str], ...]:
        """Cluster and socket of every waiting room."""
        return tuple((cluster, address) for cluster, address in self._hosts() if is_room(address))

    def _hosts(self) -> Iterator[tuple[str, str]]:
        for resource in self.of_type(ASSIGNMENT):
            for group in resource.body["endpoints"]:
                for host in group["lb_endpoints"]:
                    yield resource.name, envoy_clusters.address_of(host["endpoint"]["address"])

    def of_type(self, type_name: str) -> tuple[Resource, ...]:
        return tuple(resource for resource in self.resources if resource.type == type_name)


Resources = Mapping[str, Bundle]
"""Endpoint name -> bundle."""


@dataclass(frozen=True)
class EndpointPart:
    """All that an endpoint's bundle is made of: equal parts make equal bundles."""

    endpoint: EndpointRoute
    hosts: tuple[str, ...]

    def bundle(self) -> Bundle:
        """Raises ValueError for a rate limit out of range."""
        return _bundle(self.endpoint, self.hosts)


@dataclass(frozen=True)
class TokensPart:
    """The same of what endpoints share to check tokens with."""

    token_keys: str
    issuers: tuple[Issuer, ...]

    def bundle(self) -> Bundle:
        check = envoy_tokens.extension(self.token_keys or None, self.issuers)
        return Bundle(TOKENS, (Resource(EXTENSION, check["name"], check),), {})


Part = EndpointPart | TokensPart


def parts(state: GatewayState, hosts: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, Part]:
    """What `state` is served with, by the name of the bundle. `hosts`: as from `hosts_of` for these endpoints, for who has
    them already."""
    if hosts is None:
        hosts = hosts_of([endpoint.name for endpoint in state.endpoints])
    found: dict[str, Part] = {
        endpoint.name: EndpointPart(endpoint, hosts[endpoint.name]) for endpoint in state.endpoints
    }
    if state.token_keys or state.issuers:
        found[TOKENS] = TokensPart(state.token_keys, tuple(state.issuers))
    return found


def resources(state: GatewayState) -> dict[str, Bundle]:
    """The resources of every endpoint of `state`, and the shared ones. Raises ValueError for a rate limit
    out of range."""
    return {name: part.bundle() for name, part in parts(state).items()}


def no_tokens() -> Resource:
    """What is served while no token keys are published: Envoy opens its listener only when it has been told."""
    check = envoy_tokens.extension(None)
    return Resource(EXTENSION, check["name"], check)


def runtime(bundles: Sequence[Bundle]) -> Resource:
    """The caps of all clusters as one runtime layer.

    A cap is changed here and not in its cluster, because Envoy rebuilds a changed cluster and the new one
    starts to count requests in flight at zero.
    """
    caps = {cluster: cap for bundle in bundles for cluster, cap in bundle.caps.items()}
    layer = {f"circuit_breakers.{name}.default.max_requests": cap for name, cap in sorted(caps.items())}
    return Resource(RUNTIME, RUNTIME_LAYER, {"name": RUNTIME_LAYER, "layer": layer})


def content_hash(value: Any) -> str:
    """16 hex digits that are equal for equal JSON content."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hosts_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Host names per endpoint: as spelled and in lower case, as browsers send it; the first of two alike gets
    that."""
    owner: dict[str, str] = {}
    for name in names:
        owner[name] = name
    for name in names:
        owner.setdefault(name.lower(), name)
    hosts: dict[str, list[str]] = {name: [] for name in names}
    for host, name in sorted(owner.items()):
        hosts[name].append(f"{host}.localhost")
    return {name: tuple(each) for name, each in hosts.items()}


def _bundle(endpoint: EndpointRoute, hosts: Sequence[str]) -> Bundle:
    if not 1 <= endpoint.rate_limit_per_s <= MAX_RATE_LIMIT_PER_S:
        raise ValueError(f"{endpoint.rate_limit_per_s} requests/s is not 1 to {MAX_RATE_LIMIT_PER_S}")
    found: list[Resource] = []
    for deployment in endpoint.deployments:
        name = envoy_clusters.cluster_name(endpoint.name, deployment.name)
        found.append(Resource(CLUSTER, name, envoy_clusters.cluster(endpoint.name, deployment)))
        found.append(Resource(ASSIGNMENT, name, envoy_clusters.assignment(endpoint.name, deployment)))
    found.append(
        Resource(ROUTES, envoy_routes.routes_name(endpoint.name), envoy_routes.route_configuration(endpoint))
    )
    for key in (endpoint.name, *hosts):
        found.append(Resource(SCOPE, key, envoy_routes.scope(endpoint.name, key)))
    caps = {
        envoy_clusters.cluster_name(endpoint.name, d.name): envoy_routes.pending_limit(d)
        for d in endpoint.deployments
    }
    return Bundle(endpoint.name, tuple(found), caps)
