"""Quota through the life of a deployment: granted, held while anything of it may run, and free again exactly then."""

from __future__ import annotations

from typing import Any

import pytest

from moorings.engines.base import Phase
from moorings.errors.exceptions import error
from moorings.spec.instance_types import lookup
from moorings.spec.status import QUOTA_GRANTED, Truth
from moorings.state.transaction import DEPLOYMENT, ENDPOINT

World = Any
DS, FS, ND = "standardDSv2Family", "standardFSv2Family", "standardNDSv2Family"
DS3, F2S, ND40 = "Standard_DS3_v2", "Standard_F2s_v2", "Standard_ND40rs_v2"


async def serving(world: World, **wanted: Any) -> None:
    if world.row("shop", ENDPOINT) is None:
        world.put_endpoint("shop")
    world.put(**wanted)
    await world.until(lambda: world.state() == "Succeeded")
    await world.settle()


async def running(world: World) -> dict[str, int]:
    """vCPUs by family of the instances there are, as the engine has them."""
    types = (world.row().status if world.row() else {}).get("instanceTypes", {})
    found: dict[str, int] = {}
    for one in await world.instances():
        size = lookup(types[one.revision])
        assert size is not None
        if one.phase is not Phase.FAILED:
            found[size.family] = found.get(size.family, 0) + size.vcpus
    return found


async def until(world: World, reached: Any) -> None:
    """Look on; at no moment does more run than is held."""

    async def fits() -> None:
        for family, vcpus in (await running(world)).items():
            assert vcpus <= world.held(family), f"{family}: more runs than is held"

    for _ in range(300):
        await fits()
        if reached():
            return
        await world.round(0.2)
    pytest.fail(f"never reached: {world.row()}")


async def test_the_condition_says_what_is_granted(world: World) -> None:
    await serving(world, instance_type=DS3, count=5)
    granted = world.condition(QUOTA_GRANTED)
    assert granted.truth is Truth.TRUE
    assert "24 vCPUs of standardDSv2Family: 6 x Standard_DS3_v2 (5 wanted" in granted.message
    await serving(world, instance_type="Standard_Unheard", count=1)
    assert "counts as the machine" in world.condition(QUOTA_GRANTED).message


async def test_a_change_of_size_holds_both_until_the_last_older_instance_has_ended(world: World) -> None:
    await serving(world, instance_type=DS3, count=5, boot="draining")
    assert (world.held(DS), world.held(FS)) == (24, 0)
    world.put(instance_type=F2S, count=5)
    assert (world.held(DS), world.held(FS)) == (24, 12)
    await until(world, lambda: world.state() == "Succeeded" and world.held(DS) == 0)
    assert len(await world.instances()) == 5
    assert (world.held(DS), world.held(FS)) == (0, 12)


async def test_scaling_down_gives_back_when_the_instances_have_ended(world: World) -> None:
    await serving(world, instance_type=DS3, count=10)
    world.put(instance_type=DS3, count=1)
    assert world.held(DS) == 48
    await until(world, lambda: world.held(DS) == 8)
    assert len(await world.instances()) == 1


async def test_an_update_and_a_scale_at_once_never_run_more_than_is_held(world: World) -> None:
    await serving(world, instance_type=DS3, count=10)
    world.put(instance_type=DS3, count=2, boot="draining")
    await until(world, lambda: world.held(DS) == 12)
    world.put(instance_type=DS3, count=7, boot="slow")
    await until(world, lambda: world.state() == "Succeeded" and world.held(DS) == 36)


async def test_exempt_sizes_count_their_surge_while_they_are_replaced(world: World) -> None:
    await serving(world, instance_type=ND40, count=5)
    assert world.held(ND) == 5 * 40
    world.put(instance_type=ND40, count=5, boot="draining")
    assert world.held(ND) == 6 * 40
    await until(world, lambda: world.state() == "Succeeded" and world.held(ND) == 5 * 40)


async def test_a_failed_update_holds_what_serves_and_what_is_desired(world: World) -> None:
    await serving(world, instance_type=DS3, count=2)
    world.put(instance_type=F2S, count=2, boot="fails")
    await until(world, lambda: world.state() == "Failed")
    for _ in range(20):
        await until(world, lambda: True)
        await world.round()
    assert (world.held(DS), world.held(FS)) == (8, 6)
    world.put(instance_type=DS3, count=2)
    await until(world, lambda: world.state() == "Succeeded" and world.held(FS) == 0)
    assert world.held(DS) == 12


async def test_a_failed_create_holds_its_quota_until_it_is_deleted(world: World) -> None:
    world.put_endpoint("shop")
    world.environments.failure = error("EnvironmentUnsatisfiable", "no such package")
    world.put(instance_type=DS3)
    await world.until(lambda: world.state() == "Failed")
    assert world.held(DS) == 8
    world.delete(DEPLOYMENT, "shop/blue")
    assert world.held(DS) == 8
    await world.until(lambda: world.row() is None)
    assert world.held("cores") == 0


@pytest.mark.parametrize("at", range(12))
async def test_a_daemon_killed_at_any_side_effect_loses_and_takes_nothing(world: World, at: int) -> None:
    await serving(world, instance_type=DS3, count=3)
    world.put(instance_type=F2S, count=2)
    killed = await world.killed_at(at)
    await until(world, lambda: world.state() == "Succeeded" and world.held(DS) == 0)
    assert world.held(FS) == 6
    world.delete(DEPLOYMENT, "shop/blue")
    if killed:
        await world.killed_at(at)
    await world.until(lambda: world.row() is None)
    assert world.held("cores") == 0
    assert await world.instances() == []
