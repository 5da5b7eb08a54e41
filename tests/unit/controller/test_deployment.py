"""A deployment from create to delete, looked at by hand: what serves, what is said, which operations end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from moorings.engines.base import Phase
from moorings.engines.fake import Script
from moorings.engines.policy import HEALTHY_AFTER_S
from moorings.errors.exceptions import error
from moorings.spec.status import (
    ASSETS_AVAILABLE,
    ENVIRONMENT_READY,
    GATEWAY_ACCEPTED,
    INSTANCES_HEALTHY,
    READY,
    Truth,
)
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, OperationStatus

World = Any


async def serving(world: World, owner: str = "shop/blue", **wanted: Any) -> None:
    if world.row("shop", ENDPOINT) is None:
        world.put_endpoint("shop")
    world.put(owner, **wanted)
    await world.until(lambda: world.state(owner) == "Succeeded")
    await world.settle()


async def test_create_ends_succeeded_with_every_condition_true_and_the_instance_routed(world: World) -> None:
    world.put_endpoint("shop")
    operation = world.put()
    assert world.state() == "Creating"
    await world.until(lambda: world.state() == "Succeeded")

    kinds = (ASSETS_AVAILABLE, ENVIRONMENT_READY, INSTANCES_HEALTHY, GATEWAY_ACCEPTED, READY)
    assert [world.condition(kind).truth for kind in kinds] == [Truth.TRUE] * 5
    assert world.operation(operation).status is OperationStatus.SUCCEEDED
    (instance,) = await world.instances()
    assert world.gateway.serving("shop/blue") == instance.addresses
    row = world.row()
    assert [p["status"] for p in row.status["phases"]] == ["done"] * 5
    assert row.status["environment"]["packages"] == 7
    assert row.status["waitingFor"] == ""


async def test_ready_comes_only_after_the_gateway_has_taken_the_instance_in(world: World) -> None:
    world.put_endpoint("shop")
    world.gateway.lag = 10**6
    world.put()
    for _ in range(30):
        await world.round()
    assert world.state() == "Creating"
    (instance,) = await world.instances()
    assert instance.phase is Phase.RUNNING
    assert "the gateway to take it in" in world.row().status["waitingFor"]
    world.gateway.lag = world.gateway._left = 0
    await world.until(lambda: world.state() == "Succeeded")


async def test_an_instance_whose_probe_is_not_answered_gets_no_traffic(world: World) -> None:
    world.put_endpoint("shop")
    world.put(count=2)
    await world.until(lambda: len(world.engine._instances) == 2)
    mute = (await world.instances())[1]
    world.silent.update(mute.addresses)
    for _ in range(40):
        await world.round()
    assert world.state() == "Creating"
    assert not set(mute.addresses) & set(world.published())
    world.silent.clear()
    await world.until(lambda: world.state() == "Succeeded")


async def test_update_keeps_the_old_instance_until_the_new_one_serves(world: World) -> None:
    await serving(world)
    (old,) = await world.instances()
    operation = world.put(boot="slow")
    await world.until(lambda: len(world.engine._instances) == 2)
    assert world.state() == "Updating"
    while world.gateway.serving("shop/blue") == old.addresses:
        assert old.id in [i.id for i in await world.instances()]
        await world.round(0.3)
    (new,) = [i for i in await world.instances() if i.id != old.id]
    assert new.phase is Phase.RUNNING
    assert set(new.addresses) <= set(world.gateway.serving("shop/blue"))
    await world.settle()
    assert world.operation(operation).status is OperationStatus.SUCCEEDED
    assert [i.id for i in await world.instances()] == [new.id]
    assert list(world.row().status["templates"]) == [new.revision]


async def test_at_no_look_of_an_update_does_envoy_have_fewer_instances_than_before(world: World) -> None:
    await serving(world, count=5)
    world.put(count=5, boot="draining")
    while world.state() != "Succeeded":
        await world.round()
        assert len(world.gateway.serving("shop/blue")) >= 5
    await world.settle()
    assert len({i.revision for i in await world.instances()}) == 1


async def test_a_failing_boot_ends_in_the_diagnosed_code_and_the_operation_says_so(world: World) -> None:
    world.put_endpoint("shop")
    operation = world.put(boot="fails")
    await world.until(lambda: world.state() == "Failed")
    await world.settle()
    ended = world.operation(operation)
    assert ended.status is OperationStatus.FAILED
    assert ended.error["code"] == "UserScriptInitFailed"
    assert "no weights" in ended.error["message"]
    assert world.condition(READY).reason == "UserScriptInitFailed"
    assert world.condition(INSTANCES_HEALTHY).truth is Truth.FALSE
    phases = {p["name"]: p["status"] for p in world.row().status["phases"]}
    assert phases == {
        "accept": "done",
        "assets": "done",
        "environment": "done",
        "instances": "failed",
        "gateway": "waiting",
    }


async def test_a_boot_that_keeps_crashing_fails_the_rollout_too(world: World) -> None:
    world.put_endpoint("shop")
    operation = world.put(boot="crashes")
    await world.until(lambda: world.state() == "Failed", seconds=1.0)
    assert world.operation(operation).error["code"] == "CrashLoop"


async def test_a_boot_that_never_ends_is_overdue_after_what_the_probe_allows(world: World) -> None:
    world.engine.by_variable = {"never": Script(boot_s=1e9)}
    world.put_endpoint("shop")
    operation = world.put(boot="never")
    began = world.clock.monotonic()
    await world.until(lambda: world.state() == "Failed", seconds=10.0)
    assert world.operation(operation).error["code"] == "BootTimeout"
    allowed_s = 10 + 10 * 30
    assert allowed_s < world.clock.monotonic() - began < allowed_s + 60


async def test_after_a_failed_update_the_old_one_serves_alone_and_is_repaired(world: World) -> None:
    await serving(world, count=2)
    old = await world.instances()
    operation = world.put(count=2, boot="fails")
    await world.settle()
    assert world.operation(operation).status is OperationStatus.FAILED
    assert world.state() == "Failed"
    assert [i.id for i in await world.instances()] == [i.id for i in old]
    assert set(world.gateway.serving("shop/blue")) == {a for i in old for a in i.addresses}
    world.engine.lose(old[0].id)
    await world.until(lambda: world.engine._instances[old[0].id].gone is False)
    await world.settle()
    assert set(world.gateway.serving("shop/blue")) == {a for i in old for a in i.addresses}
    assert world.state() == "Failed"


async def test_the_same_spec_sent_again_is_a_new_try(world: World) -> None:
    world.put_endpoint("shop")
    first = world.put(boot="fails")
    await world.settle()
    world.engine.by_variable = {}
    second = world.put(boot="fails")
    await world.until(lambda: world.state() == "Succeeded")
    assert world.operation(first).status is OperationStatus.FAILED
    assert world.operation(second).status is OperationStatus.SUCCEEDED


async def test_a_failed_rollout_is_not_tried_again_by_itself(world: World) -> None:
    world.put_endpoint("shop")
    world.put(boot="fails")
    await world.settle()
    world.engine.applied.clear()
    for _ in range(20):
        await world.round(5.0)
    assert world.engine.applied == []


async def test_an_environment_that_cannot_be_built_fails_with_its_code_and_leaves_the_old_one(
    world: World,
) -> None:
    await serving(world)
    (old,) = await world.instances()
    world.environments.failure = error(
        "EnvironmentUnsatisfiable", "numpy==1 and numpy==2", evidence=("numpy==1", "numpy==2")
    )
    operation = world.put(boot="other")
    await world.until(lambda: world.state() == "Failed")
    failed = world.operation(operation)
    assert failed.error["code"] == "EnvironmentUnsatisfiable"
    assert failed.error["evidence"] == ["numpy==1", "numpy==2"]
    assert world.condition(ENVIRONMENT_READY).truth is Truth.FALSE
    assert world.gateway.serving("shop/blue") == old.addresses
    phases = {p["name"]: p["status"] for p in world.row().status["phases"]}
    assert (phases["environment"], phases["instances"]) == ("failed", "waiting")


async def test_while_an_environment_is_built_the_status_says_what_it_does_and_what_serves_goes_on(
    world: World,
) -> None:
    await serving(world)
    (old,) = await world.instances()
    world.environments.gate = asyncio.Event()
    world.put(boot="other")
    for _ in range(10):
        await world.round(0.5)
    row = world.row()
    assert row.status["waitingFor"] == "environment: solving packages"
    phases = {p["name"]: p["status"] for p in row.status["phases"]}
    assert (phases["environment"], phases["instances"]) == ("running", "waiting")
    assert "solving packages" in world.condition(READY).message
    world.engine.lose(old.id)
    await world.until(lambda: not world.engine._instances[old.id].gone)
    world.environments.gate.set()
    await world.until(lambda: world.state() == "Succeeded")


async def test_content_that_has_left_the_store_is_a_coded_failure(world: World) -> None:
    world.store.missing = frozenset({"c" * 64})
    world.put_endpoint("shop")
    operation = world.put()
    await world.until(lambda: world.state() == "Failed")
    assert world.operation(operation).error["code"] == "ArtifactsUnavailable"
    assert world.condition(ASSETS_AVAILABLE).truth is Truth.FALSE
    assert world.environments.begun == 0


async def test_a_superseded_build_is_stopped_and_its_operation_ends_canceled(world: World) -> None:
    world.put_endpoint("shop")
    world.environments.gate = asyncio.Event()
    first = world.put(boot="one")
    await world.round()
    await world.round()
    assert (world.environments.begun, world.environments.cancelled) == (1, 0)
    second = world.put(boot="two")
    await world.round()
    assert (world.environments.begun, world.environments.cancelled) == (2, 1)
    world.environments.gate.set()
    await world.until(lambda: world.state() == "Succeeded")
    assert world.operation(first).status is OperationStatus.CANCELED
    assert world.operation(second).status is OperationStatus.SUCCEEDED
    assert {i.revision for i in await world.instances()} == {world.row().status["resolved"]["revision"]}


async def test_a_build_is_stopped_even_when_the_newer_spec_needs_none(world: World) -> None:
    world.put_endpoint("shop")
    world.environments.gate = asyncio.Event()
    world.put(boot="one")
    await world.round()
    await world.round()
    world.store.missing = frozenset({"c" * 64})
    world.put(boot="two")
    await world.until(lambda: world.state() == "Failed")
    assert world.environments.cancelled == 1


async def test_an_operation_for_what_is_there_already_ends_at_once(world: World) -> None:
    await serving(world)
    before = world.row()
    again = world.put()
    await world.look(DEPLOYMENT, "shop/blue")
    assert world.operation(again).status is OperationStatus.SUCCEEDED
    assert world.row().generation == before.generation
    assert world.environments.begun == 1


async def test_scaling_up_starts_only_what_is_missing_and_serves_all(world: World) -> None:
    await serving(world)
    (first,) = await world.instances()
    world.put(count=3)
    await world.settle()
    now = await world.instances()
    assert [i.ordinal for i in now] == [0, 1, 2]
    assert now[0].started_at == first.started_at
    assert len(world.gateway.serving("shop/blue")) == 3


async def test_scaling_down_takes_the_highest_ordinals_out_before_it_ends_them(world: World) -> None:
    await serving(world, count=3)
    world.engine.applied.clear()
    world.put(count=1)
    await world.settle()
    assert [i.ordinal for i in await world.instances()] == [0]
    revision = world.row().status["resolved"]["revision"]
    assert world.engine.applied == [("shop/blue", revision, 1)]


async def test_an_instance_that_vanished_is_started_again(world: World) -> None:
    await serving(world, count=2)
    gone = (await world.instances())[1]
    world.engine.lose(gone.id)
    await world.round()
    assert set(gone.addresses).isdisjoint(world.published())
    await world.round()
    await world.settle()
    assert set(gone.addresses) <= set(world.gateway.serving("shop/blue"))
    assert world.state() == "Succeeded"


async def test_an_instance_that_is_begun_anew_is_tried_until_it_can_start(world: World) -> None:
    await serving(world, count=2)
    first, second = await world.instances()
    usual, world.engine.by_variable = world.engine.by_variable, {"": world.engine.by_variable["fails"]}
    world.engine.lose(second.id)
    await world.until(lambda: world.engine._instances[second.id].restarts == 4)
    assert [i.phase for i in await world.instances()] == [Phase.RUNNING, Phase.BACKOFF]
    condition = world.condition(INSTANCES_HEALTHY)
    assert (condition.truth, condition.reason) == (Truth.FALSE, "UserScriptInitFailed")
    assert (world.state(), world.gateway.serving("shop/blue")) == ("Succeeded", first.addresses)
    world.engine.by_variable, world.engine._instances[second.id].script = usual, Script()
    await world.until(lambda: len(world.gateway.serving("shop/blue")) == 2)
    await world.settle()
    assert world.condition(INSTANCES_HEALTHY).truth is Truth.TRUE


async def test_scaling_up_fails_when_the_new_instance_cannot_start_although_others_could(
    world: World,
) -> None:
    await serving(world)
    world.engine.by_variable = {"": world.engine.by_variable["fails"]}
    operation = world.put(count=2)
    await world.until(lambda: world.state() == "Failed")
    await world.settle()
    assert world.operation(operation).error["code"] == "UserScriptInitFailed"
    assert [i.ordinal for i in await world.instances()] == [0]


async def test_an_instance_that_crashes_in_service_is_said_and_heals(world: World) -> None:
    await serving(world)
    (instance,) = await world.instances()
    world.engine.crash(instance.id)
    await world.round(0.01)
    condition = world.condition(INSTANCES_HEALTHY)
    assert condition.reason == "UserContainerCrash"
    assert condition.failure is not None
    assert condition.failure["code"] == "UserContainerCrash"
    assert condition.message == condition.failure["message"]
    assert world.state() == "Succeeded"
    await world.until(lambda: world.condition(INSTANCES_HEALTHY).truth is Truth.TRUE, seconds=0.2)
    assert world.gateway.serving("shop/blue") == instance.addresses


async def test_a_crash_loop_is_a_condition_that_lasts_while_it_lasts(world: World) -> None:
    await serving(world)
    (instance,) = await world.instances()
    for _ in range(3):
        world.engine.crash(instance.id)
        await world.until(lambda: world.engine._instances[instance.id].ready_at is not None, seconds=0.2)
    await world.round(1.1)
    assert world.gateway.serving("shop/blue") == instance.addresses, "it serves between two ends"
    condition = world.condition(INSTANCES_HEALTHY)
    assert (condition.truth, condition.reason) == (Truth.FALSE, "CrashLoop")
    assert world.state() == "Succeeded"
    await world.round(HEALTHY_AFTER_S)
    await world.round(1.1)
    assert world.condition(INSTANCES_HEALTHY).truth is Truth.TRUE


async def test_a_worker_that_answers_no_more_is_named_although_it_runs(world: World) -> None:
    await serving(world)
    (instance,) = await world.instances()
    world.mute = world.gateway.unhealthy = set(instance.addresses)
    for _ in range(3):
        await world.round(11)
    condition = world.condition(INSTANCES_HEALTHY)
    assert (condition.truth, condition.reason) == (Truth.FALSE, "ResourceNotReady")
    assert "no answer within" in condition.message
    world.mute, world.gateway.unhealthy = set(), set()
    for _ in range(3):
        await world.round(11)
    assert world.condition(INSTANCES_HEALTHY).truth is Truth.TRUE


async def test_two_deployments_of_an_endpoint_do_not_disturb_each_other(world: World) -> None:
    world.put_endpoint("shop")
    good, bad = world.put("shop/blue", count=2), world.put("shop/green", boot="fails")
    await world.settle()
    assert (world.state("shop/blue"), world.state("shop/green")) == ("Succeeded", "Failed")
    assert world.operation(good).status is OperationStatus.SUCCEEDED
    assert world.operation(bad).status is OperationStatus.FAILED
    assert len(world.gateway.serving("shop/blue")) == 2
    assert world.gateway.serving("shop/green") == ()


async def test_delete_ends_instances_and_leaves_nothing(world: World) -> None:
    await serving(world, boot="draining")
    operation = world.delete(DEPLOYMENT, "shop/blue")
    assert world.state() == "Deleting"
    await world.until(lambda: world.row() is None, seconds=0.5)
    assert world.operation(operation).status is OperationStatus.SUCCEEDED
    assert await world.instances() == []
    assert world.published() == ()
    assert (DEPLOYMENT, "shop/blue") not in world.keys


async def test_delete_while_the_environment_is_built_stops_the_build(world: World) -> None:
    world.put_endpoint("shop")
    world.environments.gate = asyncio.Event()
    create = world.put()
    await world.round()
    delete = world.delete(DEPLOYMENT, "shop/blue")
    await world.until(lambda: world.row() is None)
    assert world.environments.cancelled == 1
    assert world.operation(create).status is OperationStatus.CANCELED
    assert world.operation(delete).status is OperationStatus.SUCCEEDED
    assert world.engine.applied == []


async def test_delete_when_the_environment_was_just_built_keeps_no_lease(world: World) -> None:
    world.put_endpoint("shop")
    world.environments.gate = asyncio.Event()
    world.put()
    await world.round()
    world.environments.gate.set()
    await asyncio.sleep(0.01)  # the build ends, and nobody has looked yet
    world.delete(DEPLOYMENT, "shop/blue")
    await world.until(lambda: world.row() is None)
    assert world.environments.released == ["key"]


async def test_delete_while_it_boots_leaves_nothing(world: World) -> None:
    world.put_endpoint("shop")
    world.put(boot="slow")
    await world.until(lambda: len(world.engine._instances) == 1)
    world.delete(DEPLOYMENT, "shop/blue")
    await world.until(lambda: world.row() is None)
    assert await world.instances() == []


async def test_delete_goes_on_while_the_gateway_is_down(world: World) -> None:
    await serving(world)
    world.gateway.down = True
    operation = world.delete(DEPLOYMENT, "shop/blue")
    await world.until(lambda: world.row() is None)
    assert world.operation(operation).status is OperationStatus.SUCCEEDED
    assert world.published() == ()


async def test_delete_waits_for_an_envoy_that_has_not_let_go(world: World) -> None:
    await serving(world)
    world.gateway.lag = 10**6
    world.delete(DEPLOYMENT, "shop/blue")
    for _ in range(20):
        await world.round()
    assert len(await world.instances()) == 1
    world.gateway._left = 0
    await world.until(lambda: world.row() is None)


async def test_desired_again_while_it_goes_it_serves_again_and_the_delete_ends_canceled(world: World) -> None:
    await serving(world, boot="draining")
    delete = world.delete(DEPLOYMENT, "shop/blue")
    await world.round()
    again = world.put(boot="draining")
    await world.until(lambda: world.state() == "Succeeded", seconds=0.5)
    assert world.operation(delete).status is OperationStatus.CANCELED
    assert world.operation(again).status is OperationStatus.SUCCEEDED
    assert len(world.gateway.serving("shop/blue")) == 1


async def test_what_nobody_desires_any_more_is_ended(world: World) -> None:
    await serving(world)
    with world.database.write() as tx:
        going = tx.mark_deleting(DEPLOYMENT, "shop/blue")
        tx.drop(going)
    world.gateway.down = True
    while await world.look(DEPLOYMENT, "shop/blue") is not None:
        world.clock.advance(1.0)
    assert await world.instances() == []


async def test_what_the_engine_cannot_begin_is_said_at_once_and_fails_when_it_lasts(world: World) -> None:
    world.engine.refusal = error("DiskFull", "no space left", target="shop/blue")
    world.put_endpoint("shop")
    operation = world.put()
    for _ in range(5):
        await world.round(1.0)
    assert world.state() == "Creating"
    assert world.condition(INSTANCES_HEALTHY).reason == "DiskFull"
    assert world.row().status["waitingFor"] == "no space left"
    await world.until(lambda: world.state() == "Failed", seconds=20.0)
    assert world.operation(operation).error["code"] == "DiskFull"


async def test_the_engine_that_can_again_serves(world: World) -> None:
    world.engine.refusal = error("DiskFull", "no space left", target="shop/blue")
    world.put_endpoint("shop")
    operation = world.put()
    for _ in range(5):
        await world.round(1.0)
    world.engine.refusal = None
    await world.until(lambda: world.state() == "Succeeded")
    assert world.operation(operation).status is OperationStatus.SUCCEEDED


async def test_routes_that_envoy_refuses_fail_the_deployment_they_keep_from_serving(world: World) -> None:
    await serving(world)
    world.gateway.refuses["shop"] = lambda route: any(d.name == "green" for d in route.deployments)
    operation = world.put("shop/green")
    await world.until(lambda: world.state("shop/green") == "Failed")
    assert world.operation(operation).error["code"] == "GatewayRejected"
    assert "moor online-endpoint show -n shop" in world.operation(operation).error["fix"]
    assert len(world.gateway.serving("shop/blue")) == 1
    assert world.state("shop/blue") == "Succeeded"


async def test_a_build_that_dies_of_a_defect_is_tried_again(world: World) -> None:
    world.put_endpoint("shop")
    world.environments.failure = ZeroDivisionError()
    world.put()
    with pytest.raises(ZeroDivisionError):
        for _ in range(5):
            await world.look(DEPLOYMENT, "shop/blue")
    world.environments.failure = None
    await world.until(lambda: world.state() == "Succeeded")


async def test_an_engine_that_is_away_decides_nothing_and_who_waits_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await serving(world)
    before = world.gateway.serving("shop/blue")

    async def away(_owner: str | None = None) -> Any:
        raise error("DockerEngineNotAvailable", "the Docker Engine does not answer", evidence=("refused",))

    with monkeypatch.context() as patch:
        patch.setattr(world.engine, "observe", away)
        update = world.put(boot="2")
        for _ in range(20):
            await world.round(seconds=0.5)
        assert world.gateway.serving("shop/blue") == before, "what serves goes on serving"
        assert world.operation(update).status is OperationStatus.FAILED
        assert world.operation(update).error["code"] == "DockerEngineNotAvailable"
        assert world.condition(INSTANCES_HEALTHY).reason == "DockerEngineNotAvailable"
        removal = world.delete(DEPLOYMENT, "shop/blue")
        for _ in range(20):
            await world.round(seconds=0.5)
        assert world.operation(removal).status is OperationStatus.FAILED
    await world.until(lambda: world.row() is None)
    assert await world.instances() == []


async def test_an_environment_is_given_back_only_when_the_state_names_it(world: World) -> None:
    world.put_endpoint("shop")
    world.put()
    named = False
    while not world.environments.released:
        assert not named, "the state named it before this look, so the lease should have been given back then"
        named = "environment" in world.row().status
        await world.round()
        assert world.environments.released == [] or world.row().status["environment"]["key"] == "key"
    await world.settle()
    assert world.environments.released == ["key"]
