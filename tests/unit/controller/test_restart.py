"""The daemon killed and started again between any two looks: it converges, and takes nothing out of service."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from moorings.spec.deployment import Probe
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, OperationStatus

World = Any

ROUNDS = range(12)


@pytest.mark.parametrize("at", ROUNDS)
async def test_a_create_arrives_whenever_the_daemon_is_killed(world: World, at: int) -> None:
    world.put_endpoint("shop")
    operation = world.put(count=2, boot="draining")
    for _ in range(at):
        await world.round()
    await world.restart()
    await world.until(lambda: world.state() == "Succeeded")
    await world.settle()
    assert world.operation(operation).status is OperationStatus.SUCCEEDED
    assert len(world.gateway.serving("shop/blue")) == 2
    assert len(await world.instances()) == 2


@pytest.mark.parametrize("at", ROUNDS)
async def test_an_update_never_empties_the_table_whenever_the_daemon_is_killed(world: World, at: int) -> None:
    world.put_endpoint("shop")
    world.put("shop/blue", count=2)
    world.put("shop/green")
    await world.settle()
    first = len(world.gateway.states)
    operation = world.put("shop/blue", count=2, boot="draining")
    for _ in range(at):
        await world.round()
    await world.restart()
    await world.settle()
    assert world.operation(operation).status is OperationStatus.SUCCEEDED
    for state in world.gateway.states[first:]:
        (endpoint,) = state.endpoints
        counts = {d.name: len(d.addresses) for d in endpoint.deployments}
        assert counts["blue"] >= 2
        assert counts["green"] == 1
    await world.until(lambda: len(world.engine._instances) == 3)


@pytest.mark.parametrize("at", ROUNDS)
async def test_a_delete_arrives_whenever_the_daemon_is_killed(world: World, at: int) -> None:
    world.put_endpoint("shop")
    world.put("shop/blue", boot="draining")
    world.put("shop/green")
    await world.settle()
    operation = world.delete(DEPLOYMENT, "shop/blue")
    for _ in range(at):
        await world.round()
    await world.restart()
    await world.until(lambda: world.row() is None, seconds=0.5)
    assert world.operation(operation).status is OperationStatus.SUCCEEDED
    assert await world.instances() == []
    assert len(world.gateway.serving("shop/green")) == 1


@pytest.mark.parametrize("at", ROUNDS)
async def test_a_failed_create_says_so_once_whenever_the_daemon_is_killed(world: World, at: int) -> None:
    world.put_endpoint("shop")
    operation = world.put(boot="fails")
    for _ in range(at):
        await world.round()
    await world.restart()
    await world.settle()
    ended = world.operation(operation)
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "UserScriptInitFailed")
    with world.database.read() as tx:
        reasons = [e.reason for e in tx.events(DEPLOYMENT, "shop/blue")]
    assert reasons.count("UserScriptInitFailed") == 1


@pytest.mark.parametrize("side_effect", range(11))
async def test_an_update_killed_before_or_after_any_side_effect_arrives(
    world: World, side_effect: int
) -> None:
    world.put_endpoint("shop")
    world.put("shop/blue", count=2)
    await world.settle()
    first = len(world.gateway.states)
    operation = world.put("shop/blue", count=2, boot="draining")
    assert await world.killed_at(side_effect)
    await world.settle()
    assert world.operation(operation).status is OperationStatus.SUCCEEDED
    assert all(len(s.endpoints[0].deployments[0].addresses) >= 2 for s in world.gateway.states[first:])
    (revision,) = {i.revision for i in await world.instances()}
    assert revision == world.row().status["resolved"]["revision"]
    assert len(world.gateway.serving("shop/blue")) == 2


@pytest.mark.parametrize("side_effect", range(4))
async def test_a_delete_killed_before_or_after_any_side_effect_arrives(
    world: World, side_effect: int
) -> None:
    world.put_endpoint("shop")
    world.put("shop/blue")
    await world.settle()
    operation = world.delete(DEPLOYMENT, "shop/blue")
    assert await world.killed_at(side_effect)
    await world.until(lambda: world.row() is None)
    assert world.operation(operation).status is OperationStatus.SUCCEEDED
    assert await world.instances() == []


async def test_nothing_is_published_before_every_deployment_was_looked_at(world: World) -> None:
    world.put_endpoint("shop")
    world.put("shop/blue")
    world.put("shop/green")
    await world.settle()
    await world.restart()
    before = len(world.gateway.states)
    world.put_endpoint("shop", tags={"a": "b"})
    for _ in range(5):
        await world.look(ENDPOINT, "shop")
        await world.look(DEPLOYMENT, "shop/blue")
        assert len(world.gateway.states) == before
    await world.look(DEPLOYMENT, "shop/green")
    await world.look(ENDPOINT, "shop")
    assert {d.name: len(d.addresses) for d in world.gateway.states[-1].endpoints[0].deployments} == {
        "blue": 1,
        "green": 1,
    }


async def test_an_endpoint_made_while_nothing_is_published_yet_is_not_called_accepted(world: World) -> None:
    world.put_endpoint("shop")
    world.put("shop/blue")
    await world.settle()
    await world.restart()
    operation = world.put_endpoint("fresh")
    await world.look(ENDPOINT, "fresh")
    assert world.operation(operation).status is OperationStatus.IN_PROGRESS
    assert world.state("fresh", ENDPOINT) == "Creating"
    await world.settle()
    assert world.operation(operation).status is OperationStatus.SUCCEEDED


async def test_a_restart_takes_no_instance_out_that_needs_several_good_probes(world: World) -> None:
    world.put_endpoint("shop")
    world.put(readiness_probe=Probe(success_threshold=3))
    await world.settle()
    first = len(world.gateway.states)
    await world.restart()
    for _ in range(10):
        await world.round()
    assert [s for s in world.gateway.states[first:] if not s.endpoints[0].deployments[0].addresses] == []


async def test_a_restart_takes_no_instance_out_that_is_too_busy_for_one_probe(world: World) -> None:
    world.put_endpoint("shop")
    world.put()
    await world.settle()
    (instance,) = await world.instances()
    world.silent.update(instance.addresses)
    await world.restart()
    for _ in range(3):
        await world.round()
    assert world.gateway.serving("shop/blue") == instance.addresses
    await world.until(lambda: not world.gateway.serving("shop/blue"), seconds=10.0)


async def test_a_build_that_was_under_way_is_begun_again(world: World) -> None:
    world.put_endpoint("shop")
    world.environments.gate = asyncio.Event()
    world.put()
    await world.round()
    await world.restart()
    assert world.environments.cancelled == 1
    await world.round()
    assert world.environments.begun == 2
    world.environments.gate.set()
    await world.until(lambda: world.state() == "Succeeded")
