"""What is desired -> the gateway's state: which endpoints, keys, deployments and shares of traffic. Pure;
knows no Envoy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from moorings.gateway.state import (
    RATE_LIMIT_PER_S,
    Caller,
    DeploymentRoute,
    EndpointRoute,
    GatewayState,
    Issuer,
)
from moorings.spec.deployment import DeploymentSpec, activation_timeout_s
from moorings.spec.endpoint import EndpointSpec


@dataclass(frozen=True)
class DeploymentInput:
    """A deployment and the worker addresses that should take its traffic now (any order)."""

    spec: DeploymentSpec
    addresses: tuple[str, ...]
    health_path: str = "/"
    """What a worker answers with 200 when it is well; empty: it takes connections."""
    waiting_room: str = ""
    """Where requests wait while there are no addresses; empty: nowhere."""


@dataclass(frozen=True)
class EndpointInput:
    """An endpoint, the keys and the audience of tokens that are valid now, and the deployments it has."""

    spec: EndpointSpec
    keys: tuple[str, ...]
    deployments: tuple[DeploymentInput, ...] = ()
    token_audience: str | None = None
    callers: tuple[Caller, ...] = ()
    compared: bool = False
    """A rollout puts the answers to mirrored requests beside the originals'."""


def build(
    endpoints: Sequence[EndpointInput],
    *,
    rate_limit_per_s: int = RATE_LIMIT_PER_S,
    token_keys: str = "",
    issuers: Sequence[Issuer] = (),
    local_requires_key: bool = False,
) -> GatewayState:
    """The state that serves exactly `endpoints`; `rate_limit_per_s` is for those that have none of their own.

    Equal inputs in any order give equal states. `token_keys` are left out where no endpoint takes tokens. With
    `local_requires_key` local endpoints want a credential like all others.
    """
    routes = [
        route(item, rate_limit_per_s=rate_limit_per_s, local_requires_key=local_requires_key)
        for item in endpoints
    ]
    return together(routes, token_keys=token_keys, issuers=issuers)


def together(
    routes: Iterable[EndpointRoute], *, token_keys: str = "", issuers: Sequence[Issuer] = ()
) -> GatewayState:
    """The state of these routes, in any order, with as much of what they share as any of them needs."""
    ordered = tuple(sorted(routes, key=lambda item: item.name))
    taken = any(item.token_audience is not None for item in ordered)
    named = {caller.issuer for item in ordered for caller in item.callers}
    return GatewayState(
        ordered,
        token_keys if taken else "",
        tuple(sorted((each for each in issuers if each.name in named), key=lambda each: each.name)),
    )


def route(item: EndpointInput, *, rate_limit_per_s: int, local_requires_key: bool) -> EndpointRoute:
    """What the gateway does for one endpoint."""
    deployments = tuple(_deployment(d) for d in sorted(item.deployments, key=lambda d: d.spec.name))
    names = {deployment.name.lower(): deployment.name for deployment in deployments}
    own = item.spec.properties.moorings
    return EndpointRoute(
        name=item.spec.name,
        keys=tuple(sorted(set(item.keys))),
        deployments=deployments,
        traffic=_shares(item.spec.traffic, names),
        mirror=_shares(item.spec.mirror_traffic, names),
        compared=item.compared,
        rate_limit_per_s=own.rate_limit_per_s or rate_limit_per_s,
        max_request_bytes=own.max_request_bytes,
        max_response_bytes=own.max_response_bytes,
        token_audience=item.token_audience,
        callers=tuple(sorted(set(item.callers), key=lambda c: (c.issuer, c.claim, c.value))),
        keyless_on_loopback=own.local and not local_requires_key,
    )


def _shares(wanted: Mapping[str, int], names: Mapping[str, str]) -> dict[str, int]:
    """Shares above zero of deployments that exist, under the deployment's own spelling.

    The share of one that doesn't exist goes to nobody (those requests are 404): handing it to the others
    would load them beyond what was asked for.
    """
    found = {
        names[name.lower()]: share for name, share in wanted.items() if share > 0 and name.lower() in names
    }
    return dict(sorted(found.items()))


def _deployment(item: DeploymentInput) -> DeploymentRoute:
    settings, probe = item.spec.request_settings, item.spec.readiness_probe
    return DeploymentRoute(
        name=item.spec.name,
        addresses=tuple(sorted(set(item.addresses))),
        instance_count=max(1, item.spec.instance_count),
        max_concurrent_requests=settings.max_concurrent_requests_per_instance,
        request_timeout_ms=settings.request_timeout_ms,
        health_path=item.health_path,
        health_period_s=float(probe.period),
        health_timeout_s=float(probe.timeout),
        waiting_room=item.waiting_room,
        hold_ms=1000 * activation_timeout_s(item.spec) if item.waiting_room and not item.addresses else 0,
    )
