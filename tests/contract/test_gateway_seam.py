"""Controller and gateway mean the same by a version, a cluster name and an accepted endpoint."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from moorings.controller.publisher import GatewayView, Publisher
from moorings.gateway import snapshot
from moorings.gateway.control import GatewayControl, GatewaySettings
from moorings.gateway.state import GatewayStatus
from moorings.lib.timing import ManualClock
from moorings.security.tokens import TokenIssuer
from moorings.security.vault import Vault
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, ENDPOINT


def publisher(tmp_path: Path) -> tuple[Publisher, GatewayControl, Database]:
    clock = ManualClock()
    database = Database.at(tmp_path / "state.db", clock)
    database.open()
    with database.write() as tx:
        for name in ("shop", "bank"):
            tx.put(ENDPOINT, name, EndpointSpec(name=name).model_dump(mode="json"))
        spec = DeploymentSpec(name="blue", endpoint_name="shop")
        tx.put(DEPLOYMENT, "shop/blue", spec.model_dump(mode="json"))
    gateway = GatewayControl(
        GatewaySettings(home=tmp_path, dir=tmp_path / "gateway", run_dir=tmp_path / "run", port=1)
    )
    vault = Vault(tmp_path / "secret.key")
    tokens = TokenIssuer(tmp_path / "token-keys.json", clock)
    return Publisher(database, gateway, vault, tokens, clock, rate_limit_per_s=100), gateway, database


def test_the_version_the_controller_expects_is_the_one_that_is_in_the_snapshot(tmp_path: Path) -> None:
    made, gateway, database = publisher(tmp_path)
    try:
        view = asyncio.run(made.publish())
    finally:
        database.close()
    written = snapshot.read(gateway.settings.snapshot)
    assert written is not None
    assert view.published is not None
    assert view.published.endpoints == written.endpoints
    assert view.published.version == written.version


def test_what_an_agent_reports_is_read_as_the_controller_understands_it(tmp_path: Path) -> None:
    made, gateway, database = publisher(tmp_path)
    try:
        made.route("shop/blue", ["/run/b.sock"])
        first = asyncio.run(made.publish())
        assert first.status is None
        assert first.published is not None
        reported = GatewayStatus(
            first.published.version,
            {"shop": first.published.endpoints["shop"]},
            {"bank": "bad route"},
            {_cluster(gateway): ("/run/b.sock",)},
            os.getpid(),
            True,
        )
        snapshot.write_status(gateway.settings.status, reported)
        view: GatewayView = asyncio.run(made.publish())
    finally:
        database.close()
    assert view.settled("shop")
    assert view.rejected("bank") == "bad route"
    assert view.healthy("shop", "blue") == {"/run/b.sock"}


def _cluster(gateway: GatewayControl) -> str:
    """The name of the only cluster with workers, from what is really written for Envoy."""
    written = snapshot.read(gateway.settings.snapshot)
    assert written is not None
    names = {
        str(r.name)
        for bundle in written.bundles
        for r in bundle.resources
        if r.type.endswith("ClusterLoadAssignment") and r.body["endpoints"]
    }
    (name,) = names
    return name
