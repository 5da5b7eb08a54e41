"""The scaler over a real state and a gateway that says what it is told to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from moorings.autoscale.scaler import SAMPLE_S, Scaler
from moorings.errors.exceptions import error
from moorings.gateway.admin import Load, loads_of, times_of
from moorings.lib.timing import ManualClock
from moorings.spec.autoscale import AutoscaleSetting, Profile, setting_to_arm
from moorings.spec.autoscale_text import parse_rule
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.scaling import count_of
from moorings.spec.status import READY
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, Resource

KEY = "shop/blue"


@dataclass
class World:
    database: Database
    clock: ManualClock
    load: Load | None = None
    hints: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new daemon: it remembers what is in the state."""
        self.scaler = Scaler(
            self.database, self, self.clock, lambda kind, name: self.hints.append((kind, name))
        )

    async def loads(self, *, timed: bool) -> Mapping[tuple[str, str], Load] | None:
        return None if self.load is None else {("shop", "blue"): self.load}

    async def run(self, seconds: float, active: int | None = 0) -> None:
        for _ in range(round(seconds / SAMPLE_S)):
            self.clock.advance(SAMPLE_S)
            self.load = None if active is None else Load(active, 0, 0)
            await self.scaler.look()

    @property
    def row(self) -> Resource:
        with self.database.read() as tx:
            row = tx.resource(DEPLOYMENT, KEY)
            assert row is not None
            return row

    @property
    def count(self) -> int:
        row = self.row
        return count_of(DeploymentSpec.model_validate(row.spec), row.autoscale, row.scale)

    def put(self, *, ready: bool = True, **changes: Any) -> None:
        scale = {"type": "target_utilization", "min_instances": 1, "max_instances": 8, **changes}
        spec = DeploymentSpec.model_validate(
            {
                "name": "blue",
                "endpoint_name": "shop",
                "scale_settings": scale,
                "properties": {"moorings.scale_down_after_s": "5", "moorings.scale_to_zero_after_s": "10"},
            }
        )
        with self.database.write() as tx:
            row = tx.put(DEPLOYMENT, KEY, spec.model_dump(mode="json"))
            condition = {
                "type": READY,
                "status": "True" if ready else "Unknown",
                "generation": row.generation,
            }
            tx.set_status(row, {"conditions": {READY: condition}})


@pytest.fixture
def world(tmp_path: Path, empty_state: Path) -> Iterator[World]:
    shutil.copy(empty_state, tmp_path / "state.db")
    clock = ManualClock()
    database = Database.at(tmp_path / "state.db", clock)
    yield World(database, clock)
    database.close()


async def test_up_at_the_next_look_and_down_after_the_window(world: World) -> None:
    world.put()
    await world.run(1)
    assert world.count == 1
    await world.run(1.25, active=3)
    assert world.count == 5, "3 at 70 % are five"
    assert world.hints == [(DEPLOYMENT, KEY)]
    await world.run(4)
    assert world.count == 5
    await world.run(3)
    assert world.count == 1
    row = world.row
    assert row.generation == 1, "scaling is no change of what is desired"
    assert row.scale is not None
    assert row.scale["reason"] == "Quiet"
    with world.database.read() as tx:
        assert [event.reason for event in tx.events(DEPLOYMENT, KEY)] == ["Scaled", "Scaled"]


async def test_a_restart_keeps_the_count_and_forgets_only_the_quiet(world: World) -> None:
    world.put()
    await world.run(1.25, active=3)
    await world.run(4.5)
    world.restart()
    await world.run(4.5)
    assert world.count == 5, "the new daemon has not seen a window yet"
    await world.run(2)
    assert world.count == 1


async def test_a_gateway_that_does_not_answer_changes_nothing(world: World) -> None:
    world.put()
    await world.run(1.25, active=3)
    await world.run(120, active=None)
    await world.run(2)
    assert world.count == 5
    await world.run(6)
    assert world.count == 1


async def test_the_last_instance_goes_and_the_first_request_brings_one_back_at_once(world: World) -> None:
    world.put(min_instances=0)
    await world.run(9)
    assert world.count == 1
    await world.run(3)
    assert world.count == 0
    await world.run(SAMPLE_S, active=1)
    assert world.count >= 1


async def test_what_has_not_been_ready_is_not_scaled_down(world: World) -> None:
    world.put(ready=False, min_instances=0)
    await world.run(60)
    assert world.count == 1


async def test_a_change_of_the_spec_counts_at_once(world: World) -> None:
    world.put()
    await world.run(1.25, active=3)
    world.put(max_instances=3)
    assert world.count == 3
    await world.run(1.25, active=3)
    assert world.count == 3


async def test_the_rules_of_a_setting_scale_a_deployment_of_a_fixed_count(world: World) -> None:
    world.put(type="default")
    rule = parse_rule("s", "Concurrency > 2 avg 5s", ("out", "2"), 1, None)
    profile = Profile("default", 1, 4, 1, (rule,))
    with world.database.write() as tx:
        row = tx.resource(DEPLOYMENT, KEY)
        assert row is not None
        tx.set_autoscale(
            row, setting_to_arm(AutoscaleSetting("s", "/onlineEndpoints/shop/deployments/blue", (profile,)))
        )
    await world.run(8, active=3)
    assert world.count == 3
    await world.run(30, active=3)
    assert world.count == 3, "it waits for a minute after a change"
    await world.run(40, active=3)
    assert world.count == 4
    assert world.row.scale["message"].startswith("Concurrency > 2 avg 5s holds (3): out 2")  # type: ignore[index]


async def test_a_setting_that_cannot_be_read_and_an_engine_that_is_away_hold_up_nobody(world: World) -> None:
    class Away:
        async def of(self, owner: str) -> None:
            raise error("DockerEngineNotAvailable", "away")

    rule = parse_rule("s", "CpuUtilizationPercentage > 1 avg 5s", ("out", "1"), 1, None)
    good = setting_to_arm(
        AutoscaleSetting(
            "s", "/onlineEndpoints/shop/deployments/blue", (Profile("default", 2, 4, 2, (rule,)),)
        )
    )
    world.put(type="default")
    world.scaler = Scaler(world.database, world, world.clock, lambda kind, name: None, Away())
    for setting, count in (({"name": "s", "properties": {"enabled": True}}, 1), (good, 2)):
        with world.database.write() as tx:
            row = tx.resource(DEPLOYMENT, KEY)
            assert row is not None
            tx.set_autoscale(row, setting)
        await world.run(3)
        assert world.count == count


def test_the_figures_of_the_gateway_by_cluster() -> None:
    stats = [
        {"name": "cluster.shop~blue.upstream_rq_active", "value": 3},
        {"name": "cluster.shop~blue.upstream_rq_total", "value": 10},
        {"name": "cluster.shop~blue.upstream_rq_pending_overflow", "value": 2},
        {"name": "cluster.discovery.upstream_rq_active", "value": 1},
        {"histograms": {}},
    ]
    assert loads_of({"stats": stats}) == {"shop~blue": Load(3, 10, 2)}
    text = """# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="shop~blue",le="0.5"} 0
envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="shop~blue"} 614.63
envoy_cluster_upstream_rq_time_count{envoy_cluster_name="shop~blue"} 3
"""
    assert times_of(text) == {"shop~blue": (3, 614.63)}
