"""The control API without a socket: the real app over a real state; the engine is one in memory."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest

from moorings.api.app import Api, create_app
from moorings.api.assets import Assets
from moorings.api.audited import Audited
from moorings.api.blob_routes import BlobApp
from moorings.api.blobs import Blobs
from moorings.api.callers import Callers
from moorings.api.environments import EnvironmentBuilds
from moorings.api.guard import Guard
from moorings.api.identities import Identities
from moorings.api.listener import Access
from moorings.api.logs import DeploymentLogs
from moorings.api.quota import Quotas
from moorings.api.resources import Resources
from moorings.api.rollouts import Rollouts
from moorings.api.secrets import Secrets
from moorings.assets.store import AssetStore
from moorings.assets.uploads import Uploads
from moorings.engines.fake import FakeEngine
from moorings.environments.inventory import Inventory
from moorings.environments.leases import Leases
from moorings.environments.shelf import Shelf
from moorings.lib.timing import ManualClock
from moorings.observe.journal import Journal
from moorings.observe.stream import LogStream
from moorings.security.access import AccessKeys
from moorings.security.audit import AuditLog
from moorings.security.identity_tokens import ISSUER, LIFETIME_S, IdentityTokens
from moorings.security.places import Places
from moorings.security.tokens import TokenIssuer
from moorings.security.vault import Vault
from moorings.settings import WorkspaceName
from moorings.spec.quota import Capacity
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, OperationStatus, Resource

WS = WorkspaceName().path
BASE = "http://localhost"
OUTSIDE = "https://localhost:8443"


class ListenerInMemory:
    """The listener, without a socket."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.base_url: str | None = OUTSIDE
        self._keys = AccessKeys.new()

    def keys(self) -> AccessKeys:
        return self._keys

    async def turn_on(self) -> Access:
        self.base_url = OUTSIDE
        return Access(OUTSIDE, "/home/access/ca-bundle.pem", self._keys.identity)

    async def turn_off(self) -> None:
        self.base_url = None


class BuildLogs:
    def __init__(self) -> None:
        self.logs: dict[str, str] = {}

    def log(self, key: str) -> str | None:
        return self.logs.get(key)

    def key_of(self, properties: Mapping[str, Any]) -> str | None:
        return "key-of-" + str(properties["image"])


@dataclass
class Served:
    """An app and a client of it."""

    database: Database
    clock: ManualClock
    vault: Vault
    folder: Path
    hints: list[tuple[str, str]] = field(default_factory=list)
    build_logs: BuildLogs = field(default_factory=BuildLogs)
    capacity: Capacity = field(default_factory=lambda: Capacity(100, 1000 << 30, 0, 100, 100))

    def __post_init__(self) -> None:
        self.engine = FakeEngine(self.clock)
        self.journal = Journal(self.folder / "logs")
        self.leases = Leases()
        self.tokens = TokenIssuer(self.folder / "token-keys.json", self.clock)
        issuer = TokenIssuer(
            self.folder / "identity-keys.json", self.clock, issuer=ISSUER, lifetime_s=LIFETIME_S
        )
        self.callers = Callers(self.database, IdentityTokens(issuer))
        self.audit = AuditLog(self.folder)
        resources = Resources(
            self.database,
            self.vault,
            self.tokens,
            WS,
            Places(WS),
            lambda kind, name: self.hints.append((kind, name)),
            Quotas(self.database, lambda: self.capacity),
        )
        store = AssetStore(self.folder / "assets", home=self.folder)
        self.blobs = Blobs(self.database, Uploads(self.folder / "uploads"), store)
        self.listener = ListenerInMemory(self.clock)
        rollouts = Rollouts(self.database, lambda kind, name: self.hints.append((kind, name)))
        api = Api(
            callers=self.callers,
            audit=self.audit,
            identities=Identities(self.database, Places(WS)),
            secrets=Secrets(self.database, self.vault, Places(WS)),
            resources=resources,
            assets=Assets(self.database, store, uploaded=self.blobs.tree),
            blobs=self.blobs,
            logs=DeploymentLogs(
                resources,
                LogStream(
                    self.engine,
                    self.journal,
                    self.folder / "access.log",
                    (resources.secret_values,),
                    self.clock.now,
                ),
            ),
            build_logs=self.build_logs,
            environment_builds=EnvironmentBuilds(
                database=self.database,
                inventory=Inventory(Shelf(self.folder / "environments"), self.leases),
                engine=self.engine,
                key_of=self.build_logs.key_of,
            ),
            workspace_path=WS,
            workspace_name="local",
            workspace_id="the-id",
            gateway_url="http://127.0.0.1:8650",
            rate_limit_per_s=100,
            local_requires_key=False,
            diagnoses=self,
            rollouts=rollouts,
            facts=lambda: {"home": "/home"},
            listener=self.listener,
        )
        self._api = api
        self.diagnosis: dict[str, Any] = {
            "verdict": None,
            "summary": "",
            "ready": True,
            "waitingFor": "",
            "phases": [],
            "instances": [],
        }
        transport = httpx.ASGITransport(app=self._served, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url=BASE)
        blob_app = BlobApp(self.blobs, self.listener.keys, self.clock, idle_s=0.2)
        self.door = Guard(self._served, blob_app, self.listener.keys, self.clock, WS, self.callers)
        transport = httpx.ASGITransport(
            app=Audited(self.door, self.audit, self.clock, "tls"), raise_app_exceptions=False
        )
        self.outside = httpx.AsyncClient(transport=transport, base_url=OUTSIDE)

    async def of(self, row: Resource) -> Mapping[str, Any]:
        """What is wrong with a deployment: as the test has set it."""
        return self.diagnosis

    @cached_property
    def app(self) -> Any:
        """Made for those who need it: that takes a tenth of a second."""
        return create_app(self._api)

    async def _served(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    async def ask(self, verb: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """`path` below the workspace (or from the root, with `//`)."""
        url = path[1:] if path.startswith("//") else f"{WS}{path}"
        if body is not None:
            more["json"] = body
        return await self.client.request(verb, url, **more)

    async def endpoint(self, name: str = "shop", **properties: Any) -> httpx.Response:
        return await self.ask("PUT", f"/onlineEndpoints/{name}", endpoint_body(**properties))

    async def deployment(self, name: str = "blue", endpoint: str = "shop", **changes: Any) -> httpx.Response:
        path = f"/onlineEndpoints/{endpoint}/deployments/{name}"
        return await self.ask("PUT", path, deployment_body(**changes))

    async def assets(self) -> None:
        """What `deployment_body` refers to."""
        for kind, name, body in (
            ("codes", "code", {"codeUri": f"file://{self.code()}"}),
            ("environments", "env", {"image": "local/base", "condaFile": "dependencies: [python=3.11]"}),
        ):
            done = await self.ask("PUT", f"/{kind}/{name}/versions/1", {"properties": body})
            assert done.status_code == 201, done.text

    def code(self, text: str = "def init(): ...\ndef run(data): ...\n") -> Path:
        """A code folder outside the workspace folder."""
        folder = self.folder.parent / "code"
        folder.mkdir(exist_ok=True)
        (folder / "score.py").write_text(text)
        return folder

    def finish(self, kind: str, name: str, status: OperationStatus = OperationStatus.SUCCEEDED) -> None:
        """What a controller does at the end of an operation."""
        with self.database.write() as tx:
            row = tx.resource(kind, name)
            assert row is not None
            tx.finish_operations(row, status)
            if row.deleting:
                tx.drop(row)

    def say(self, kind: str, name: str, status: dict[str, Any]) -> None:
        """What a controller writes about a resource."""
        with self.database.write() as tx:
            row = tx.resource(kind, name)
            assert row is not None
            tx.set_status(row, status)


def endpoint_body(**properties: Any) -> dict[str, Any]:
    return {
        "location": "local",
        "identity": {"type": "SystemAssigned"},
        "tags": {"team": "demo"},
        "properties": {
            "authMode": "Key",
            "properties": {},
            "traffic": {},
            "mirrorTraffic": {},
            **properties,
        },
    }


def deployment_body(*, capacity: int = 1, **properties: Any) -> dict[str, Any]:
    return {
        "location": "local",
        "tags": {"stage": "probe"},
        "sku": {"name": "Default", "capacity": capacity},
        "properties": {
            "endpointComputeType": "Managed",
            "environmentId": f"{WS}/environments/env/versions/1",
            "codeConfiguration": {
                "codeId": f"{WS}/codes/code/versions/1",
                "scoringScript": "score.py",
            },
            "instanceType": "Standard_DS3_v2",
            **properties,
        },
    }


@pytest.fixture
async def api(tmp_path: Path, empty_state: Path) -> AsyncIterator[Served]:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(empty_state, home / "state.db")
    clock = ManualClock()
    database = Database.at(home / "state.db", clock)
    served = Served(database, clock, Vault(home / "secret.key"), home)
    try:
        yield served
    finally:
        await served.client.aclose()
        await served.outside.aclose()
        database.close()


@pytest.fixture
async def shop(api: Served) -> Served:
    """With one endpoint `shop` and one deployment `blue`."""
    await api.assets()
    assert (await api.endpoint()).status_code == 201
    made = await api.deployment()
    assert made.status_code == 201, made.text
    api.finish(ENDPOINT, "shop")
    api.finish(DEPLOYMENT, "shop/blue")
    return api
