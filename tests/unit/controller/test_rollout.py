"""Rollouts over the real state: what is written with what, and that a daemon may die at any look."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from moorings.api.rollouts import Rollouts, rollout_json
from moorings.controller.copies import Copies
from moorings.controller.rollout import RolloutReconciler
from moorings.errors.exceptions import MooringsError
from moorings.state.transaction import ENDPOINT, ROLLOUT

World = Any


class Shop:
    """Endpoint `shop` with `blue` (all traffic) and `green`, rollouts, and callers whose requests are logged."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.log = world, folder / "access.log"
        self.rollouts = Rollouts(world.database, lambda kind, name: None)
        self.codes = {"blue": 200, "green": 200}
        self.requests = 100
        self.copies: dict[int, int] = {200: 7}
        """Answers of green as the gateway counts them."""
        self.compared = 0
        self.history: list[int] = []
        self.reconciler: RolloutReconciler | None = None
        self.restart()

    def restart(self) -> None:
        if self.reconciler is not None:
            self.reconciler.close()
        self.reconciler = RolloutReconciler(
            self.world.database,
            self.world.clock,
            self.log,
            lambda *_: None,
            self._answered,
            Copies(lambda owner: (f"/run/{owner}.sock",), self._kept),
        )

    async def _answered(self, cluster: str) -> dict[int, int]:
        assert cluster == "shop~green"
        return dict(self.copies)

    async def _kept(self, address: str, wanted: str) -> bytes:
        """Each look finds one more copy; both deployments answer alike."""
        if wanted == "*":
            assert "green" in address
            self.compared += 1
            wanted = f"request-{self.compared}"
        return json.dumps({"answers": [[wanted, 200, 1.0, 2, "same", None]], "skipped": 0}).encode()

    async def open(self) -> None:
        self.world.put_endpoint("shop")
        for name in ("shop/blue", "shop/green"):
            self.world.put(name)
        await self.world.settle()
        self.set_traffic({"blue": 100})
        await self.world.settle()

    def set_traffic(self, table: dict[str, int]) -> None:
        self.world.put_endpoint("shop", traffic=table)

    def traffic(self) -> dict[str, int]:
        return dict(self.world.row("shop", ENDPOINT).spec["traffic"])

    def start(self, **given: Any) -> str:
        body = {
            "from": "blue",
            "to": "green",
            "steps": "10,100",
            "every": "10s",
            "guard": "error_rate<1%",
            **given,
        }
        return str(self.rollouts.start("shop", "", body).name)

    async def look(self, key: str, seconds: float = 1.0) -> str:
        """A second goes by, in which callers call."""
        shares = self.traffic()
        self.world.clock.advance(seconds)
        at = datetime.fromtimestamp(self.world.clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        with self.log.open("a") as handle:
            for name, share in shares.items():
                one = {
                    "time": at,
                    "endpoint": "shop",
                    "deployment": name,
                    "code": self.codes[name],
                    "total_ms": 5,
                }
                one |= {"model_us": 5000, "wait_us": 0}
                handle.write((json.dumps(one) + "\n") * (share * self.requests // 100))
        await self.world.round(0.0)
        await self.reconciler.reconcile(key)
        green = self.traffic().get("green", 0)
        if not self.history or self.history[-1] != green:
            self.history.append(green)
        return str(self.rollouts.rollout("shop", "latest").status["phase"])

    async def until_ended(self, key: str, *, restarts: bool = False) -> dict[str, Any]:
        for _ in range(300):
            phase = await self.look(key)
            if restarts:
                self.restart()
            if phase in ("Succeeded", "RolledBack", "Aborted", "Superseded", "Failed", "Paused"):
                return dict(rollout_json(self.rollouts.rollout("shop", "latest"), "/w")["properties"])
        raise AssertionError("it never ends")


@pytest.fixture
async def shop(world: World, tmp_path: Path) -> AsyncIterator[Shop]:
    made = Shop(world, tmp_path)
    await made.open()
    yield made
    made.restart()


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_good_one_ends_with_all_traffic_whatever_becomes_of_the_daemon(
    shop: Shop, restarts: bool
) -> None:
    found = await shop.until_ended(shop.start(), restarts=restarts)
    assert found["phase"] == "Succeeded"
    assert shop.history == [10, 100]
    assert shop.traffic() == {"green": 100}
    assert [s["outcome"] for s in found["history"]] == ["held", "held"]
    assert found["history"][0]["figures"]["to"]["requests"] >= 50
    assert found["endedAt"] is not None


async def test_a_bad_one_goes_back_and_says_why(shop: Shop) -> None:
    shop.codes["green"] = 424
    found = await shop.until_ended(shop.start())
    assert (found["phase"], found["error"]["code"]) == ("RolledBack", "GuardBreached")
    assert shop.traffic() == {"blue": 100}


async def test_traffic_and_status_are_written_together(shop: Shop) -> None:
    """Whatever is read between two looks agrees."""
    key = shop.start(steps="5,10,20,40,80,100", every="1s")
    while await shop.look(key) != "Succeeded":
        row = shop.rollouts.rollout("shop", "latest")
        if row.status.get("setTo"):
            assert shop.traffic().get("green", 0) == row.status["setTo"]["to"]


@pytest.mark.parametrize("code, phase", [(200, "Succeeded"), (500, "RolledBack")])
async def test_copies_come_first_and_a_deployment_that_fails_them_gets_no_caller(
    shop: Shop, code: int, phase: str
) -> None:
    key = shop.start(mirrorFirst="20%:5s")
    while shop.traffic() == {"blue": 100}:
        if shop.world.row("shop", ENDPOINT).spec["mirror_traffic"] == {"green": 20}:
            shop.copies[code] = shop.copies.get(code, 0) + 20
        if await shop.look(key) == phase:
            break
    found = await shop.until_ended(key)
    assert found["phase"] == phase
    assert found["history"][0]["mirror"] == 20
    assert found["history"][0]["figures"]["to"]["requests"] >= 50
    assert shop.history == ([0, 10, 100] if phase == "Succeeded" else [0])
    assert shop.world.row("shop", ENDPOINT).spec["mirror_traffic"] == {}


@pytest.mark.parametrize("restarts", [False, True])
async def test_copies_are_compared_and_only_figures_are_kept(shop: Shop, restarts: bool) -> None:
    """While there are copies, the gateway has workers keep what they answer; a daemon that starts anew goes on counting."""

    def kept() -> list[bool]:
        return [route.compared for route in shop.world.gateway.states[-1].endpoints]

    key = shop.start(mirrorFirst="20%:8s")
    assert kept() == [False]
    seen = []
    for n in range(40):
        shop.copies[200] += 60
        await shop.look(key)
        seen += kept()
        if restarts and n == 5:
            shop.restart()
    await shop.until_ended(key)
    assert True in seen
    assert kept() == [False]
    report = shop.rollouts.report("shop", "latest")
    assert report["pairs"] >= 8
    assert report["pairs"] in (shop.compared, shop.compared - 1), "what was found last may not be written"
    assert report["bodies"]["identical"] == report["sameStatus"] == report["pairs"]
    assert report["tolerance"] == 1e-6
    assert "same" not in json.dumps(shop.rollouts.rollout("shop", "latest").status)


async def test_without_traffic_it_asks_in_the_end(shop: Shop) -> None:
    shop.requests = 0
    found = await shop.until_ended(shop.start(patience="30s"))
    assert (found["phase"], found["error"]["code"]) == ("Paused", "RolloutWithoutTraffic")
    shop.requests = 100
    shop.rollouts.wish("shop", "latest", "resume")
    key = shop.rollouts.rollout("shop", "latest").name
    while await shop.look(key) == "Paused":
        pass
    assert (await shop.until_ended(key))["phase"] == "Succeeded"


async def test_a_hand_on_the_traffic_ends_it(shop: Shop) -> None:
    key = shop.start()
    await shop.look(key)
    shop.set_traffic({"blue": 50, "green": 50})
    found = await shop.until_ended(key)
    assert (found["phase"], found["error"]["code"]) == ("Superseded", "RolloutSuperseded")
    assert shop.traffic() == {"blue": 50, "green": 50}


async def test_abort_brings_the_traffic_back(shop: Shop) -> None:
    key = shop.start()
    await shop.look(key)
    assert shop.traffic() == {"blue": 90, "green": 10}
    shop.rollouts.wish("shop", "latest", "abort")
    assert (await shop.until_ended(key))["phase"] == "Aborted"
    assert shop.traffic() == {"blue": 100}
    with pytest.raises(MooringsError, match="RolloutEnded"):
        shop.rollouts.wish("shop", "latest", "pause")


async def test_what_keeps_one_from_being_started(shop: Shop, world: World) -> None:
    with pytest.raises(MooringsError) as caught:
        shop.start(to="pink", steps="5,1")
    assert caught.value.failure.code == "RolloutInvalid"
    assert len(caught.value.failure.details) == 2
    with pytest.raises(MooringsError, match="nothing to shift"):
        shop.start(**{"from": "green", "to": "blue"})
    shop.start()
    with pytest.raises(MooringsError, match="goes on"):
        shop.start()
    with pytest.raises(MooringsError, match="RolloutNotFound"):
        shop.rollouts.rollout("shop", "r9")
    with pytest.raises(MooringsError, match="EndpointNotFound"):
        shop.rollouts.rollouts("other")
    world.delete(ENDPOINT, "shop")
    for _ in range(40):
        await world.round(1.0)
    with world.database.read() as tx:
        assert list(tx.resources(ROLLOUT)) == [], "they go with their endpoint"


async def test_names_count_up_and_old_ones_go(shop: Shop) -> None:
    for n in range(25):
        key = shop.start()
        assert key == f"shop/r{n + 1}"
        shop.rollouts.wish("shop", "latest", "abort")
        await shop.reconciler.reconcile(key)
        await shop.world.round(0.1)
    names = [row.name for row in shop.rollouts.rollouts("shop")]
    assert names[0] == "shop/r25"
    assert len(names) == 20
