"""Everything the gateway does, as one immutable value. If it is not in here, Envoy does not do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from moorings.errors.exceptions import Failure
from moorings.spec.limits import MAX_BODY_BYTES, MAX_RATE_LIMIT_PER_S, RATE_LIMIT_PER_S

TOKENS = "~tokens"
"""Name under which the keys that tokens are checked with are published; no endpoint can have it."""


__all__ = [
    "MAX_BODY_BYTES",
    "MAX_RATE_LIMIT_PER_S",
    "RATE_LIMIT_PER_S",
    "TOKENS",
    "DeploymentRoute",
    "EndpointRoute",
    "GatewayState",
    "GatewayStatus",
]


@dataclass(frozen=True)
class DeploymentRoute:
    """One deployment behind an endpoint: where it is and how a request to it is bounded."""

    name: str
    addresses: tuple[str, ...]
    """Sockets (or `host:port`) of workers that may take traffic; sorted. Empty: 503."""
    instance_count: int
    """Desired instances; the cap of admitted requests is `2 x max_concurrent_requests x instance_count`."""
    max_concurrent_requests: int
    request_timeout_ms: int
    """Bounds queueing and computing together; over it: 408."""
    health_period_s: float = 10.0
    health_timeout_s: float = 2.0
    health_path: str = "/"
    """Empty: a connection is proof enough."""
    waiting_room: str = ""
    """Socket where requests wait while no instance is there (`waiting.py`); empty: they are 503."""
    hold_ms: int = 0
    """How long they wait there, before the request timeout begins; 0 while there are instances."""


@dataclass(frozen=True)
class Issuer:
    """Whose tokens say who a caller is, beside those of endpoints themselves."""

    name: str
    """What `Caller.issuer` refers to."""
    issuer: str
    """`iss`."""
    audience: str
    """`aud`."""
    keys: str
    """A JSON Web Key Set."""


@dataclass(frozen=True)
class Caller:
    """Somebody who may call an endpoint: a claim of a good token of an issuer."""

    issuer: str
    claim: str
    value: str


@dataclass(frozen=True)
class EndpointRoute:
    """One endpoint: who may call it and how its requests spread over deployments."""

    name: str
    keys: tuple[str, ...]
    """Valid bearer keys. Neither keys, nor an audience, nor `keyless_on_loopback`: every request is 401."""
    deployments: tuple[DeploymentRoute, ...] = ()
    traffic: Mapping[str, int] = field(default_factory=dict)
    """Deployment -> per cent; sums to 0 or 100."""
    mirror: Mapping[str, int] = field(default_factory=dict)
    compared: bool = False
    """Whether workers shall keep their answers for a moment, to be put beside those to copies."""
    rate_limit_per_s: int = RATE_LIMIT_PER_S
    """1 to `MAX_RATE_LIMIT_PER_S`; over it: 429."""
    max_request_bytes: int = MAX_BODY_BYTES
    """A longer body is 413."""
    max_response_bytes: int = MAX_BODY_BYTES
    """A longer answer of the model is 424, unless it is a stream."""
    token_audience: str | None = None
    """`aud` of the tokens that open this endpoint; None: no token does."""
    callers: tuple[Caller, ...] = ()
    """Who may call with a token that says who they are."""
    keyless_on_loopback: bool = False
    """Whether a request without a credential is let in when a program on this machine sent it."""


@dataclass(frozen=True)
class GatewayState:
    """The whole data plane: endpoints sorted by name."""

    endpoints: tuple[EndpointRoute, ...] = ()
    token_keys: str = ""
    """The public keys of tokens as a JSON Web Key Set; empty: no token is valid."""
    issuers: tuple[Issuer, ...] = ()
    """Whose other tokens are looked at; none: nobody is known by one."""


@dataclass(frozen=True)
class Published:
    """What was handed to the gateway last."""

    version: str
    """Of the snapshot; never used twice, so that going back to an earlier state is told from never having left it."""
    endpoints: Mapping[str, str]
    """Endpoint name -> version (content hash) of its resources."""
    since: Mapping[str, int] | None = None
    """Endpoint name -> serial of the first snapshot that has it as it is; None: of this one alone that is known."""
    gone: int = 0
    """Serial of the first snapshot without the endpoints that have gone; nothing where `since` is None."""

    @staticmethod
    def after(before: Published | None, version: str, endpoints: Mapping[str, str]) -> Published:
        """What is handed over next: what has not changed is as it was in `before`."""
        now = serial_of(version)
        if before is None:
            return Published(version, endpoints, dict.fromkeys(endpoints, now), now)
        if before.version == version and before.since is not None:
            return before
        known = before.endpoints
        since = {
            name: before._since(name) if known.get(name) == content else now
            for name, content in endpoints.items()
        }
        went = not known.keys() <= endpoints.keys()
        return Published(version, endpoints, since, now if went else before._since(""))

    def taken_in(self, endpoint: str, status: GatewayStatus) -> bool:
        """Whether the agent speaks of what is published for this endpoint (its absence included), whatever else has been
        published since. One that is ahead of what was handed over has taken in another's."""
        return self._since(endpoint) <= serial_of(status.snapshot_version) <= serial_of(self.version)

    def _since(self, endpoint: str) -> int:
        return serial_of(self.version) if self.since is None else self.since.get(endpoint, self.gone)


def serial_of(version: str) -> int:
    """Which snapshot of all: each has one more than the one before it; -1 where there is none."""
    text = version.rpartition("-")[2]
    return int(text) if text.isdigit() else -1


@dataclass(frozen=True)
class GatewayStatus:
    """What the agent reports (`status.json`): written by the agent, read by the controller."""

    snapshot_version: str
    """Version of the last snapshot the agent has taken in."""
    accepted: Mapping[str, str]
    """Endpoint name -> version (content hash of the endpoint's resources) that Envoy has acknowledged."""
    rejected: Mapping[str, str]
    """Endpoint name -> Envoy's message for the version it refused; the last good one keeps serving."""
    healthy: Mapping[str, tuple[str, ...]]
    """Cluster `<endpoint>~<deployment>` -> addresses Envoy itself holds healthy (active check and not
    ejected)."""
    envoy_pid: int | None
    ready: bool
    """Envoy is LIVE, its listener is there and a probe request was answered."""
    failure: str | None = None
    """Why Envoy is not running (port taken, binary refused), for people."""
    problem: Failure | None = None
    """The same as a coded failure with its evidence and fix."""
