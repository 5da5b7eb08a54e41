"""Puts the desired data plane together and hands it to the gateway; says what Envoy has accepted. One per workspace."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from moorings.controller.scaled import wanted
from moorings.controller.scoring import Scoring
from moorings.errors.exceptions import Failure, MooringsError
from moorings.gateway.build import DeploymentInput, EndpointInput, route, together
from moorings.gateway.state import (
    TOKENS,
    Caller,
    EndpointRoute,
    GatewayState,
    GatewayStatus,
    Issuer,
    Published,
)
from moorings.lib.timing import Clock
from moorings.security.credentials import PRIMARY, SECONDARY, SWITCH, Switch, audience, valid_kinds
from moorings.security.tokens import TokenIssuer
from moorings.security.vault import Vault
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import AuthMode, EndpointSpec
from moorings.spec.rollout import goes_on
from moorings.spec.scaling import scales
from moorings.state.database import Database
from moorings.state.lookup import container_routes
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, ROLLOUT, Resource, Transaction

REREAD_S = 300.0
"""How often everything is read anew, whatever was said to have changed."""
GATEWAY_PATIENCE_S = 5.0
"""How long a failure of the gateway must stand before who waits for it is told so; the work itself goes on."""


class Gateway(Protocol):
    """What is needed of the gateway's control: hand over a state, which blocks; read what became of it, which takes no
    longer than to see that nothing is new, mostly."""

    def publish(self, state: GatewayState) -> Published: ...

    def status(self) -> GatewayStatus | None: ...

    def workers(self, endpoint: str, deployment: str) -> tuple[str, ...]: ...

    def waiting_room(self, endpoint: str, deployment: str) -> str: ...


@dataclass(frozen=True)
class GatewayView:
    """What was published and what the gateway made of it."""

    published: Published | None
    """What was published last; None: nothing since the start of the daemon."""
    status: GatewayStatus | None
    stuck: Failure | None = None
    """What has kept the gateway from working for more than `GATEWAY_PATIENCE_S`."""

    def settled(self, endpoint: str) -> bool:
        """Whether Envoy has accepted what was last published for the endpoint (its absence included)."""
        if self.status is None or self.published is None:
            return False
        if not self.published.taken_in(endpoint, self.status):
            return False
        accepted = self.status.accepted.get(endpoint) == self.published.endpoints.get(endpoint)
        return accepted and self.rejected(endpoint) is None and self._token_keys_settled()

    def _token_keys_settled(self) -> bool:
        """Whether Envoy has answered the keys of tokens; refused ones must not hold up endpoints with keys."""
        if self.status is None or self.published is None:
            return False
        wanted = self.published.endpoints.get(TOKENS)
        if not self.published.taken_in(TOKENS, self.status):
            return wanted is None
        accepted = self.status.accepted.get(TOKENS) == wanted
        return wanted is None or accepted or TOKENS in self.status.rejected

    def rejected(self, endpoint: str) -> str | None:
        """Envoy's message when it refuses what was last published; one about an earlier version counts no more."""
        if self.status is None or self.published is None:
            return None
        if not self.published.taken_in(endpoint, self.status):
            return None
        return self.status.rejected.get(endpoint)

    def of(self, endpoint: str, deployment: str = "") -> object:
        """Everything here that concerns an endpoint, or one of its deployments: equal values, nothing new."""
        healthy = self.healthy(endpoint, deployment) if deployment else frozenset()
        return self.settled(endpoint), self.rejected(endpoint), healthy, self.stuck

    def healthy(self, endpoint: str, deployment: str) -> frozenset[str]:
        """Addresses that Envoy itself holds healthy."""
        if self.status is None:
            return frozenset()
        return frozenset(self.status.healthy.get(f"{endpoint}~{deployment}", ()))


@dataclass(frozen=True)
class _Input:
    """What the gateway is to do for an endpoint, and when time alone will change it (Unix seconds)."""

    route: EndpointRoute
    due_at: float


class Publisher:
    """Holds the addresses that may take traffic, per deployment; publishes when anything has changed.

    What has changed is read alone: a change must not cost more where there are many endpoints.
    Nothing is published before every deployment has been looked at once after a start of the daemon: an empty
    table must never replace the one that serves.
    """

    def __init__(
        self,
        database: Database,
        gateway: Gateway,
        vault: Vault,
        tokens: TokenIssuer,
        clock: Clock,
        *,
        rate_limit_per_s: int,
        local_requires_key: bool = False,
        scoring: Scoring | None = None,
    ) -> None:
        """`scoring`: who may call endpoints with tokens that say who they are; None: nobody."""
        self._scoring = scoring
        self._problem_since: float | None = None
        self.stuck: Failure | None = None
        """As in the last view."""
        self._rate_limit_per_s = rate_limit_per_s
        self._local_requires_key = local_requires_key
        self._tokens = tokens
        self._clock = clock
        self._due_at = math.inf
        self._database = database
        self._gateway = gateway
        self._vault = vault
        self._routed: dict[str, tuple[str, ...]] = {}
        self._serving: dict[str, int] = {}
        """Instances behind the addresses of a deployment."""
        self._bounds: dict[str, Mapping[str, Any]] = {}
        self._unseen: set[str] = set()
        self._published: Published | None = None
        self._lock = asyncio.Lock()
        self._inputs: dict[str, _Input] = {}
        """Of each endpoint, as it was read last."""
        self._named: set[str] = set()
        """Endpoints that have changed since they were read."""
        self._dirty = True
        """All have to be read."""
        self._reread_at = math.inf

    def expect(self, deployments: Iterable[str]) -> None:
        """Deployments that must have been looked at before anything is published."""
        self._unseen = set(deployments)

    def route(self, deployment: str, addresses: Iterable[str] | None, instances: int = 0) -> None:
        """The addresses of a deployment (`<endpoint>/<deployment>`) that may take traffic, and how many instances have
        them (0: not known); None: it is gone."""
        self._unseen.discard(deployment)
        new = None if addresses is None else tuple(sorted(addresses))
        self._serving[deployment] = instances
        if new == self._routed.get(deployment):
            return
        if new is None:
            self._routed.pop(deployment, None)
            self._serving.pop(deployment, None)
            self._bounds.pop(deployment, None)
        else:
            self._routed[deployment] = new
        self._named.add(deployment.partition("/")[0])

    def presume(self, deployment: str) -> None:
        """A deployment cannot be looked at: it keeps the addresses it had, so that the others need not wait for it."""
        if deployment in self._unseen:
            endpoint, _, name = deployment.partition("/")
            self.route(deployment, self._gateway.workers(endpoint, name))

    def bound(self, deployment: str, spec: Mapping[str, Any] | None) -> None:
        """The limits and times of `spec` (plain) hold for a deployment in place of those that are desired, for what
        serves is of an earlier generation; None: those that are desired."""
        if spec == self._bounds.get(deployment):
            return
        if spec is None:
            del self._bounds[deployment]
        else:
            self._bounds[deployment] = spec
        self._named.add(deployment.partition("/")[0])

    def routed(self, deployment: str) -> frozenset[str]:
        """The addresses of a deployment that may take traffic, as last said."""
        return frozenset(self._routed.get(deployment, ()))

    def changed(self, endpoint: str | None = None) -> None:
        """A spec, a key or the list of deployments of an endpoint has changed in the state; None: of any."""
        if endpoint is None:
            self._dirty = True
        else:
            self._named.add(endpoint)

    async def publish(self) -> GatewayView:
        """Publish if anything has changed since; returns how things stand."""
        async with self._lock:
            if self._clock.now() >= self._due_at or self._clock.monotonic() >= self._reread_at:
                self._dirty = True
            if (self._dirty or self._named) and not self._unseen:
                await self._put()
            return self.view()

    def view(self) -> GatewayView:
        """How things stand. What was said to have changed since the last `publish` may not be in it."""
        status = self._gateway.status()
        self.stuck = self._stuck(status)
        return GatewayView(self._published, status, self.stuck)

    async def _put(self) -> None:
        """Read what has changed and hand over the whole. What fails is to be done again."""
        everything, named = self._dirty, self._named
        self._dirty, self._named = False, set()

        def hand_over() -> tuple[Published, float]:
            self._take_in(None if everything else named)
            state, due_at = self._state()
            return self._gateway.publish(state), due_at

        try:
            self._published, self._due_at = await asyncio.to_thread(hand_over)
        except BaseException:
            self._dirty = True
            raise
        if everything:
            self._reread_at = self._clock.monotonic() + REREAD_S

    def _stuck(self, status: GatewayStatus | None) -> Failure | None:
        """What has kept the gateway from working for longer than a moment."""
        problem = status.problem if status else None
        if problem is None:
            self._problem_since = None
            return None
        now = self._clock.monotonic()
        self._problem_since = now if self._problem_since is None else self._problem_since
        return problem if now - self._problem_since >= GATEWAY_PATIENCE_S else None

    def _take_in(self, named: Iterable[str] | None) -> None:
        """Read these endpoints anew; None: all."""
        now = self._clock.now()
        with self._database.read() as tx:
            names = set(tx.names(ENDPOINT) if named is None else named)
            found = {name: self._read(tx, row, now) for name in names if (row := tx.resource(ENDPOINT, name))}
        kept = {} if named is None else {n: i for n, i in self._inputs.items() if n not in names}
        self._inputs = {**kept, **{name: each for name, each in found.items() if each is not None}}

    def _read(self, tx: Transaction, row: Resource, now: float) -> _Input | None:
        """What is desired of an endpoint; None: it is to go."""
        if row.deleting:
            return None
        spec = EndpointSpec.model_validate(row.spec)
        deployments = tuple(
            DeploymentInput(
                self._capped(d), self._routed.get(d.name, ()), health_path(d.status), self._waiting_room(d)
            )
            for d in tx.resources(DEPLOYMENT, below=row.name)
            if not d.deleting
        )
        stored = self._opened(tx.secret_values(ENDPOINT, row.name))
        switch = Switch.from_text(stored.get(SWITCH, ""))
        kinds = valid_kinds(spec.auth_mode, switch, now)
        due_at = switch.until if switch is not None and now < switch.until else math.inf
        keys = tuple(stored[k] for k in (PRIMARY, SECONDARY) if k in stored and AuthMode.KEY in kinds)
        taken = audience(row.uid) if AuthMode.AML_TOKEN in kinds else None
        callers: tuple[Caller, ...] = ()
        if self._scoring is not None and spec.auth_mode is AuthMode.AAD_TOKEN:
            callers = self._scoring.callers(tx, row.name)
        going = tx.resources(ROLLOUT, below=row.name) if spec.mirror_traffic else ()
        compared = any(goes_on(each.status) for each in going)
        desired = route(
            EndpointInput(spec, keys, deployments, taken, callers, compared),
            rate_limit_per_s=self._rate_limit_per_s,
            local_requires_key=self._local_requires_key,
        )
        return _Input(desired, due_at)

    def _state(self) -> tuple[GatewayState, float]:
        """What is desired, and when time alone will change it (Unix seconds)."""
        routes = [each.route for each in self._inputs.values()]
        due_at = min((each.due_at for each in self._inputs.values()), default=math.inf)
        token_keys = ""
        if any(item.token_audience for item in routes):
            token_keys = self._tokens.public_keys()
            due_at = min(due_at, self._tokens.next_change_at())
        issuers: tuple[Issuer, ...] = ()
        if self._scoring is not None and any(item.callers for item in routes):
            issuers = self._scoring.issuers()
            due_at = min(due_at, self._scoring.next_change_at())
        return together(routes, token_keys=token_keys, issuers=issuers), due_at

    def _capped(self, row: Resource) -> DeploymentSpec:
        """The spec of a deployment, or the one that bounds it, with the instances that its cap of pending requests is for:
        the ones that serve where it scales by itself, since others are not there to wait for, and those it shall have where
        it does not."""
        spec, scaling = wanted(row), scales(row.spec, row.autoscale)
        earlier = self._bounds.get(row.name)
        if earlier is not None:
            spec = DeploymentSpec.model_validate(earlier)
            scaling = scaling or scales(earlier, row.autoscale)
        serving = self._serving.get(row.name, 0)
        if not scaling or not serving:
            return spec
        return spec.model_copy(update={"instance_count": serving})

    def _waiting_room(self, row: Resource) -> str:
        """Where requests wait, for deployments that may have no instance."""
        scale = row.spec.get("scale_settings") or {}
        if not scales(row.spec, row.autoscale) or scale.get("min_instances") != 0:
            return ""
        endpoint, _, name = row.name.partition("/")
        return self._gateway.waiting_room(endpoint, name)

    def _opened(self, stored: Mapping[str, str]) -> dict[str, str]:
        opened = {}
        for name, value in stored.items():
            # An unreadable key opens nothing; listing keys says why.
            with contextlib.suppress(MooringsError):
                opened[name] = self._vault.decrypt(value)
        return opened


def health_path(status: Mapping[str, Any]) -> str:
    """Where the workers of a deployment are asked whether they are well, from the deployment's stored status."""
    routes = container_routes(status)
    if not routes:
        return "/"
    # A readiness route on a port of its own: there the gateway, which knows the scoring port, sees connections only.
    return str(routes["readiness_path"]) if routes["readiness_port"] == routes["scoring_port"] else ""
