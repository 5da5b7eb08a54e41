"""A control plane without processes: the real state, plan, publisher and prober; an engine, a gateway and an
environment builder in memory. Nothing moves but by `look()` and the clock."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from moorings.api.quota import Quotas
from moorings.controller.access import Access
from moorings.controller.deployment import DeploymentReconciler, Tools
from moorings.controller.endpoint import EndpointReconciler
from moorings.controller.health import Prober
from moorings.controller.marks import Marks
from moorings.controller.preparation import Built
from moorings.controller.publisher import Publisher
from moorings.controller.resolve import Content
from moorings.controller.trials import Answer, Trials
from moorings.controller.verdict import Verdicts
from moorings.engines.base import Exit, GroupSpec, Instance, Phase
from moorings.engines.fake import FakeEngine, Script
from moorings.errors.diagnosis.evidence import SAID_OK, SAID_REFUSED, SAID_SILENT
from moorings.errors.exceptions import MooringsError
from moorings.gateway import envoy, snapshot
from moorings.gateway.state import TOKENS, GatewayState, GatewayStatus, Published
from moorings.lib.timing import ManualClock
from moorings.observe.journal import Journal
from moorings.security.places import Places
from moorings.security.tokens import TokenIssuer
from moorings.security.vault import Vault
from moorings.settings import WorkspaceName
from moorings.spec.assets import CodeConfiguration, EnvironmentSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.quota import Capacity
from moorings.spec.status import Condition, provisioning_state
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, Operation, Resource

MOST_LOOKS = 300
ROOMY = Capacity(1, 1 << 30, 1000, cpu_overcommit=10_000, memory_overcommit=100_000)


class Killed(BaseException):
    """The daemon is no more."""


class KillPoint:
    """Ends the daemon at the n-th time a side effect is about to happen or has happened."""

    def __init__(self) -> None:
        self.left: int | None = None

    def passed(self) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            raise Killed


class FakeGateway:
    """Takes a published state in after it was asked `lag` times; refuses what it is told to."""

    def __init__(self) -> None:
        self.kill = KillPoint()
        self.lag = 1
        self.down = False
        self.failure: str | None = None
        self.unwritable = False
        self.unhealthy: set[str] = set()
        """Addresses that fail Envoy's own checks."""
        self.refuses: dict[str, Callable[[Any], bool]] = {}
        """Endpoint -> whether Envoy refuses its route."""
        self.states: list[GatewayState] = []
        self._left = 0
        self._taken = GatewayState()
        self._rejected: dict[str, str] = {}
        self._accepted: dict[str, str] = {}
        self._serving: dict[str, dict[str, tuple[str, ...]]] = {}
        self._version = ""
        self._written: snapshot.Snapshot | None = None
        self._published: Published | None = None

    def publish(self, state: GatewayState) -> Published:
        if self.unwritable:
            raise OSError(28, "No space left on device")
        self.kill.passed()
        self._written = snapshot.of(envoy.resources(state).values(), after=self._written)
        if not self.states or self.states[-1] != state:
            self.states.append(state)
            self._left = self.lag
        self.kill.passed()
        self._published = Published.after(self._published, self._written.version, self._written.endpoints)
        return self._published

    def status(self) -> GatewayStatus | None:
        if self.down:
            return None
        self._left -= 1
        if self.states and self._left < 0 and self._taken != self.states[-1]:
            self._take(self.states[-1])
        healthy = {
            f"{endpoint}~{deployment}": tuple(a for a in addresses if a not in self.unhealthy)
            for endpoint, table in self._serving.items()
            for deployment, addresses in table.items()
        }
        return GatewayStatus(
            self._version, dict(self._accepted), dict(self._rejected), healthy, 1, True, self.failure
        )

    def _take(self, state: GatewayState) -> None:
        wanted = self._written
        assert wanted is not None
        self._taken, self._version = state, wanted.version
        names = {route.name for route in state.endpoints}
        self._rejected = {}
        self._accepted.pop(TOKENS, None)
        if TOKENS in wanted.endpoints:
            self._accepted[TOKENS] = wanted.endpoints[TOKENS]
        for name in set(self._serving) - names:
            del self._serving[name], self._accepted[name]
        for route in state.endpoints:
            if self.refuses.get(route.name, lambda _: False)(route):
                self._rejected[route.name] = "bad route"
                continue
            self._accepted[route.name] = wanted.endpoints[route.name]
            self._serving[route.name] = {d.name: d.addresses for d in route.deployments}

    def workers(self, endpoint: str, deployment: str) -> tuple[str, ...]:
        written = self._written.bundles if self._written else ()
        return tuple(a for c, a in snapshot.workers(written) if c == f"{endpoint}~{deployment}")

    def serving(self, owner: str) -> tuple[str, ...]:
        """Addresses that Envoy sends to."""
        endpoint, _, deployment = owner.partition("/")
        return self._serving.get(endpoint, {}).get(deployment, ())


class WatchedEngine(FakeEngine):
    """Refuses to end what Envoy still sends to, unless the gateway is down."""

    gateway: FakeGateway
    refusal: MooringsError | None = None
    applied: list[tuple[str, str, int]]
    by_variable: Mapping[str, Script]
    """Behaviour of instances by the value of their variable BOOT; `scripts` is filled from it."""

    def watch(self, gateway: FakeGateway) -> None:
        self.gateway, self.applied, self.by_variable = gateway, [], {}
        self.scripts: dict[str, Script] = {}

    async def apply(self, group: GroupSpec) -> None:
        self.applied.append((group.owner, group.revision, group.count))
        if self.refusal is not None:
            raise self.refusal
        boot = group.template.environment_variables.get("BOOT", "")
        self.scripts[group.revision] = self.by_variable.get(boot, Script())
        await self._check(group.owner, group.revision, group.count)
        self.gateway.kill.passed()
        await super().apply(group)
        self.gateway.kill.passed()

    async def remove(self, owner: str, revision: str, *, grace_s: float) -> None:
        await self._check(owner, revision, 0)
        self.gateway.kill.passed()
        await super().remove(owner, revision, grace_s=grace_s)
        self.gateway.kill.passed()

    async def _check(self, owner: str, revision: str, from_ordinal: int) -> None:
        if self.gateway.down:
            return
        for i in await self.observe(owner):
            if i.revision == revision and i.ordinal >= from_ordinal and i.phase is Phase.RUNNING:
                still = set(i.addresses) & set(self.gateway.serving(owner))
                assert not still, f"{i.id} is ended while Envoy sends to it"


class FakeEnvironments:
    """Counts; as slow as `gate` says, failing as `failure` says."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0
        self.gate: asyncio.Event | None = None
        self.failure: Exception | None = None
        self.released: list[str] = []

    def release(self, key: str) -> None:
        self.released.append(key)

    async def ensure(
        self,
        spec: EnvironmentSpec | None,
        content: Content,
        progress: Callable[[str], None],
        said: Callable[[str], None],
    ) -> tuple[Content, Built]:
        self.begun += 1
        progress("solving packages")
        said("Resolved 7 packages")
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        return content, Built("key", Path("/env/bin/python"), "3.11.9", 7, True, 0.0)


class Store:
    missing: frozenset[str] = frozenset()

    def exists(self, digest: str) -> bool:
        return digest not in self.missing


@dataclass
class World:
    """Everything of a control plane, and what a client could see of it."""

    database: Database
    clock: ManualClock
    vault: Vault
    tokens: TokenIssuer
    journal: Journal
    gateway: FakeGateway = field(default_factory=FakeGateway)
    environments: FakeEnvironments = field(default_factory=FakeEnvironments)
    store: Store = field(default_factory=Store)
    silent: set[str] = field(default_factory=set)
    """Addresses where nobody takes the connection of a probe."""
    mute: set[str] = field(default_factory=set)
    """Addresses where somebody does, and says nothing."""
    scored: list[tuple[str, str, bytes, float]] = field(default_factory=list)
    """Sample requests that were sent."""
    answers: dict[str, Answer | None] = field(default_factory=dict)
    """Address -> what it answers to a sample request; 200 where nothing is said."""

    def __post_init__(self) -> None:
        self.engine = WatchedEngine(self.clock)
        self.engine.watch(self.gateway)
        self.quotas = Quotas(self.database, lambda: ROOMY)
        self.start()

    # --- the daemon ---

    def start(self) -> None:
        """A new daemon over what is on disk, what runs and what Envoy serves."""
        publisher = Publisher(
            self.database, self.gateway, self.vault, self.tokens, self.clock, rate_limit_per_s=100
        )
        self.publisher = publisher
        prober, marks = Prober(self.clock, self._answers), Marks(self.database, self.clock)
        self.marks = marks
        self.deployments = DeploymentReconciler(
            Tools(
                database=self.database,
                marks=marks,
                clock=self.clock,
                engine=self.engine,
                environments=self.environments,
                store=self.store,
                access=Access(self.database, self.vault, Places(WorkspaceName().path)),
                publisher=publisher,
                prober=prober,
                verdicts=Verdicts(self.engine, prober, Path("/")),
                trials=Trials(self.engine, self.clock, self._scored),
                journal=self.journal,
                resync_s=1.0,
                busy_s=0.001,
                progress_deadline_s=0.0,
            )
        )
        self.endpoints = EndpointReconciler(self.database, marks, self.clock, publisher, 1.0, 0.001)
        with self.database.read() as tx:
            rows = [r.name for r in tx.resources(DEPLOYMENT)]
            names = [r.name for r in tx.resources(ENDPOINT)]
        publisher.expect(rows)
        self.keys = [*((DEPLOYMENT, name) for name in rows), *((ENDPOINT, name) for name in names)]

    async def restart(self) -> None:
        """The daemon is killed and started again."""
        await self.deployments.close()
        self.start()

    async def _answers(self, address: str, _timeout_s: float) -> str:
        running = {a for i in await self.engine.observe() if i.phase is Phase.RUNNING for a in i.addresses}
        if address not in running or address in self.silent:
            return SAID_REFUSED
        return SAID_SILENT if address in self.mute else SAID_OK

    async def _scored(self, address: str, path: str, body: bytes, timeout_s: float) -> Answer | None:
        self.scored.append((address, path, body, timeout_s))
        return self.answers.get(address, Answer(200, 0.01))

    async def look(self, kind: str, name: str) -> float | None:
        one = self.deployments.reconcile if kind == DEPLOYMENT else self.endpoints.reconcile
        return await one(name)

    async def round(self, seconds: float = 0.05) -> None:
        """One look at everything that is there, and a moment of time."""
        with self.database.read() as tx:
            there = [(kind, r.name) for kind in (DEPLOYMENT, ENDPOINT) for r in tx.resources(kind)]
        self.keys = list(dict.fromkeys([*self.keys, *there]))
        for key in list(self.keys):
            if await self.look(*key) is None:
                self.keys.remove(key)
        self.clock.advance(seconds)

    async def killed_at(self, side_effect: int) -> bool:
        """Go on until the n-th side effect kills the daemon, then start it again; False when all was done before."""
        self.gateway.kill.left = side_effect
        try:
            await self.settle()
        except Killed:
            await self.restart()
            return True
        self.gateway.kill.left = None
        return False

    async def until(self, reached: Callable[[], bool], *, seconds: float = 0.05) -> None:
        for _ in range(MOST_LOOKS):
            if reached():
                return
            await self.round(seconds)
        with self.database.read() as tx:
            rows = [(r.name, r.status) for k in (DEPLOYMENT, ENDPOINT) for r in tx.resources(k)]
        pytest.fail(f"never reached: {rows}")

    async def settle(self) -> None:
        """Until nothing is left to wait for."""
        await self.until(self._idle)
        for _ in range(5):
            await self.round()

    def _idle(self) -> bool:
        with self.database.read() as tx:
            return not any(
                tx.running_operations(kind, r.name)
                for kind in (DEPLOYMENT, ENDPOINT)
                for r in tx.resources(kind)
            )

    # --- the client ---

    def put_endpoint(self, name: str = "shop", **changes: Any) -> Operation:
        spec = EndpointSpec.model_validate({"name": name, **changes})
        with self.database.write() as tx:
            old = tx.resource(ENDPOINT, name)
            row = tx.put(ENDPOINT, name, spec.model_dump(mode="json", exclude={"schema_"}))
            if old is None:
                for which in ("primary", "secondary"):
                    tx.set_secret(ENDPOINT, name, which, self.vault.encrypt(f"{name}-{which}"))
            self.marks.forget(ENDPOINT, name)
            return tx.start_operation("create" if old is None else "update", row)

    def put(self, owner: str = "shop/blue", *, count: int = 1, boot: str = "", **changes: Any) -> Operation:
        """Accept a deployment; the value of `boot` is part of its revision and says how it boots."""
        endpoint, _, name = owner.partition("/")
        spec = DeploymentSpec(
            name=name,
            endpoint_name=endpoint,
            code_configuration=CodeConfiguration(code="azureml:code:1", scoring_script="score.py"),
            environment="azureml:env:1",
            instance_count=count,
            environment_variables={"BOOT": boot},
        ).model_copy(update=changes)
        with self.database.write() as tx:
            old = tx.resource(DEPLOYMENT, owner)
            failed = old is not None and self._state(old) == "Failed"
            plain = spec.model_dump(mode="json", exclude={"schema_"})
            earlier = self.quotas.admit(tx, owner, plain, old, ROOMY)
            row = tx.put(DEPLOYMENT, owner, plain, touch=failed, earlier=earlier)
            self.marks.forget(DEPLOYMENT, owner)
            return tx.start_operation("create" if old is None else "update", row)

    def delete(self, kind: str, name: str) -> Operation:
        with self.database.write() as tx:
            below = tx.resources(DEPLOYMENT, below=name) if kind == ENDPOINT else []
            for each in below:
                going = tx.mark_deleting(DEPLOYMENT, each.name)
                assert going is not None
                tx.start_operation("delete", going)
                self.marks.forget(DEPLOYMENT, each.name)
            row = tx.mark_deleting(kind, name)
            assert row is not None
            self.marks.forget(kind, name)
            return tx.start_operation("delete", row)

    def held(self, name: str) -> int:
        """What all deployments hold of a limit."""
        return next(one.used for one in self.quotas.usages() if one.name == name)

    def row(self, owner: str = "shop/blue", kind: str = DEPLOYMENT) -> Resource | None:
        with self.database.read() as tx:
            return tx.resource(kind, owner)

    def state(self, owner: str = "shop/blue", kind: str = DEPLOYMENT) -> str | None:
        row = self.row(owner, kind)
        return None if row is None else self._state(row)

    def _state(self, row: Resource) -> str:
        stored = {k: Condition.from_json(v) for k, v in row.status.get("conditions", {}).items()}
        return provisioning_state(stored, generation=row.generation, deleting=row.deleting)

    def condition(self, kind: str, owner: str = "shop/blue", of: str = DEPLOYMENT) -> Condition:
        row = self.row(owner, of)
        assert row is not None
        return Condition.from_json(row.status["conditions"][kind])

    def operation(self, operation: Operation) -> Operation:
        with self.database.read() as tx:
            found = tx.operation(operation.id)
        assert found is not None
        return found

    async def instances(self, owner: str = "shop/blue") -> Sequence[Instance]:
        return await self.engine.observe(owner)

    def published(self, owner: str = "shop/blue") -> tuple[str, ...]:
        """Addresses in the last published state."""
        endpoint, _, name = owner.partition("/")
        found = [e for e in self.gateway.states[-1].endpoints if e.name == endpoint]
        return next((d.addresses for e in found for d in e.deployments if d.name == name), ())


@pytest.fixture
async def world(tmp_path: Path, empty_state: Path) -> AsyncIterator[World]:
    clock = ManualClock()
    shutil.copy(empty_state, tmp_path / "state.db")
    database = Database.at(tmp_path / "state.db", clock)
    with database.write() as tx:
        tx.add_asset(
            "codes",
            "code",
            "1",
            digest="c" * 64,
            body={"codeUri": "file:///x", "moorings": {"folder": "src"}},
        )
        tx.add_asset("environments", "env", "1", digest="e" * 64, body={"image": "local/base"})
    made = World(
        database,
        clock,
        Vault(tmp_path / "secret.key"),
        TokenIssuer(tmp_path / "token-keys.json", clock),
        Journal(tmp_path / "logs"),
    )
    made.engine.by_variable = {
        "slow": Script(boot_s=5.0),
        "draining": Script(drain_s=3.0),
        "fails": Script(fails_with=Exit(3, None, 0.0, {"kind": "init_raised", "message": "no weights"})),
        "crashes": Script(fails_with=Exit(7, None, 0.0)),
    }
    try:
        yield made
    finally:
        await made.deployments.close()
        database.close()
