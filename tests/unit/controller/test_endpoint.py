"""An endpoint from create to delete: accepted by the gateway or not, keys, traffic, and its going away last."""

from __future__ import annotations

from typing import Any

from moorings.spec.status import GATEWAY_ACCEPTED, READY, Truth
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, OperationStatus

World = Any


async def test_create_succeeds_when_the_gateway_has_accepted_it(world: World) -> None:
    world.gateway.lag = 3
    operation = world.put_endpoint("shop")
    assert world.state("shop", ENDPOINT) == "Creating"
    await world.look(ENDPOINT, "shop")
    assert world.condition(GATEWAY_ACCEPTED, "shop", ENDPOINT).reason == "Publishing"
    assert world.operation(operation).status is OperationStatus.IN_PROGRESS
    await world.settle()
    assert world.operation(operation).status is OperationStatus.SUCCEEDED
    assert world.state("shop", ENDPOINT) == "Succeeded"
    assert world.gateway.states[-1].endpoints[0].keys == ("shop-primary", "shop-secondary")


async def test_it_says_that_it_waits_for_a_gateway_that_is_away(world: World) -> None:
    world.gateway.down = True
    world.put_endpoint("shop")
    await world.look(ENDPOINT, "shop")
    assert world.row("shop", ENDPOINT).status["waitingFor"] == "the gateway to start"
    world.gateway.down, world.gateway.failure, world.gateway.lag = False, "port 8650 is taken", 10**6
    world.gateway._left = 10**6
    await world.look(ENDPOINT, "shop")
    assert world.row("shop", ENDPOINT).status["waitingFor"] == "the gateway: port 8650 is taken"
    world.gateway._left = 0
    await world.settle()
    assert world.state("shop", ENDPOINT) == "Succeeded"


async def test_a_refused_endpoint_fails_alone_and_its_last_good_routes_serve(world: World) -> None:
    world.put_endpoint("shop")
    world.put_endpoint("other")
    world.put("shop/blue")
    await world.settle()
    world.gateway.refuses["shop"] = lambda route: bool(route.traffic)
    refused = world.put_endpoint("shop", traffic={"blue": 100})
    fine = world.put_endpoint("other", tags={"a": "b"})
    await world.settle()
    assert world.operation(refused).status is OperationStatus.FAILED
    assert world.operation(refused).error["code"] == "GatewayRejected"
    assert world.operation(fine).status is OperationStatus.SUCCEEDED
    assert world.condition(GATEWAY_ACCEPTED, "shop", ENDPOINT).message == "bad route"
    assert world.state("other", ENDPOINT) == "Succeeded"
    assert world.state("shop/blue") == "Succeeded"
    assert len(world.gateway.serving("shop/blue")) == 1


async def test_the_update_that_repairs_a_refused_endpoint_does_not_fail_for_the_old_reason(
    world: World,
) -> None:
    world.gateway.lag = 5
    world.put_endpoint("shop")
    world.put("shop/blue")
    await world.settle()
    world.gateway.refuses["shop"] = lambda route: bool(route.traffic)
    world.put_endpoint("shop", traffic={"blue": 100})
    await world.until(lambda: world.state("shop", ENDPOINT) == "Failed")
    repaired = world.put_endpoint("shop")
    await world.settle()
    assert world.operation(repaired).status is OperationStatus.SUCCEEDED
    assert world.state("shop", ENDPOINT) == "Succeeded"


async def test_an_accepted_endpoint_that_is_refused_later_stays_succeeded_and_says_so(world: World) -> None:
    world.put_endpoint("shop")
    await world.settle()
    world.gateway.refuses["shop"] = lambda route: any(d.addresses for d in route.deployments)
    world.put("shop/blue")
    await world.until(lambda: world.state() == "Failed")
    await world.settle()
    assert world.condition(READY, "shop", ENDPOINT).truth is Truth.TRUE
    assert world.condition(GATEWAY_ACCEPTED, "shop", ENDPOINT).truth is Truth.FALSE


async def test_traffic_reaches_the_gateway(world: World) -> None:
    world.put_endpoint("shop")
    world.put("shop/blue")
    await world.settle()
    world.put_endpoint("shop", traffic={"blue": 100})
    await world.settle()
    assert world.gateway.states[-1].endpoints[0].traffic == {"blue": 100}


async def test_a_token_mode_endpoint_has_no_keys_in_the_gateway(world: World) -> None:
    world.put_endpoint("shop", auth_mode="aml_token")
    await world.settle()
    assert world.gateway.states[-1].endpoints[0].keys == ()


async def test_a_key_that_cannot_be_read_opens_nothing_and_the_other_one_still_does(world: World) -> None:
    world.put_endpoint("shop")
    with world.database.write() as tx:
        tx.set_secret(ENDPOINT, "shop", "primary", "no cipher text")
    await world.settle()
    assert world.gateway.states[-1].endpoints[0].keys == ("shop-secondary",)


async def test_delete_takes_deployments_first_and_leaves_nothing(world: World) -> None:
    world.put_endpoint("shop")
    world.put("shop/blue", boot="draining")
    world.put_endpoint("other")
    await world.settle()
    operation = world.delete(ENDPOINT, "shop")
    assert world.state("shop", ENDPOINT) == "Deleting"
    while world.row("shop/blue") is not None:
        await world.look(ENDPOINT, "shop")
        assert world.row("shop", ENDPOINT) is not None
        await world.look(DEPLOYMENT, "shop/blue")
        world.clock.advance(0.5)
    await world.until(lambda: world.row("shop", ENDPOINT) is None)
    assert world.operation(operation).status is OperationStatus.SUCCEEDED
    assert [e.name for e in world.gateway.states[-1].endpoints] == ["other"]
    assert await world.instances() == []
    with world.database.read() as tx:
        assert tx.secret_values(ENDPOINT, "shop") == {}


async def test_delete_goes_on_while_the_gateway_is_down(world: World) -> None:
    world.put_endpoint("shop")
    world.put("shop/blue")
    await world.settle()
    world.gateway.down = True
    world.delete(ENDPOINT, "shop")
    await world.until(lambda: world.row("shop", ENDPOINT) is None)
    assert world.gateway.states[-1].endpoints == ()


async def test_what_became_of_it_is_an_event_once_per_change(world: World) -> None:
    world.put_endpoint("shop")
    await world.settle()
    for _ in range(5):
        await world.round(1.0)
    with world.database.read() as tx:
        reasons = [e.reason for e in tx.events(ENDPOINT, "shop")]
    assert reasons == ["Progressing", "Accepted"]


async def test_endpoints_without_deployments_do_not_wait_for_any(world: World) -> None:
    operations = [world.put_endpoint(f"shop{n}") for n in range(3)]
    await world.settle()
    assert {world.operation(o).status for o in operations} == {OperationStatus.SUCCEEDED}
    assert (DEPLOYMENT, "shop0/blue") not in world.keys
