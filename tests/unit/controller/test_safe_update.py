"""Updates that cannot break what works: the sample request, the way back, the deadline, the pace, and what is said."""

from __future__ import annotations

from typing import Any

import pytest

from moorings.api.wire import generations_json
from moorings.controller.trials import Answer
from moorings.engines.fake import Script
from moorings.spec.deployment import RequestSettings
from moorings.spec.status import INSTANCES_HEALTHY
from moorings.state.transaction import ENDPOINT, OperationStatus

World = Any
SAMPLE = {"moorings.sample_request": '{"data": [1]}'}


async def serving(world: World, **wanted: Any) -> None:
    if world.row("shop", ENDPOINT) is None:
        world.put_endpoint("shop")
    world.put(**wanted)
    await world.settle()
    assert world.state() == "Succeeded"


def answering(world: World, boot: str, answer: Answer | None) -> None:
    """Instances whose variable BOOT is `boot` answer the sample request so."""
    revisions = lambda: {  # noqa: E731
        revision
        for revision, template in world.row().status.get("templates", {}).items()
        if template["environment_variables"].get("BOOT") == boot
    }

    async def post(address: str, path: str, body: bytes, timeout_s: float) -> Answer | None:
        world.scored.append((address, path, body, timeout_s))
        owners = {a: i.revision for i in await world.engine.observe() for a in i.addresses}
        return answer if owners.get(address) in revisions() else Answer(200, 0.01)

    world.deployments.tools.trials.post = post


async def test_a_new_instance_is_scored_once_before_it_gets_traffic(world: World) -> None:
    world.put_endpoint("shop")
    world.put(count=2, properties=SAMPLE)
    while world.state() != "Succeeded":
        tried = {address for address, *_ in world.scored}
        assert set(world.published() if world.gateway.states else ()) <= tried
        await world.round()
    for _ in range(20):
        await world.round(1.0)
    assert len(world.scored) == 2
    assert {(path, body) for _, path, body, _ in world.scored} == {("/score", b'{"data": [1]}')}
    await world.restart()
    await world.settle()
    assert len(world.scored) == 2, "what is known is written down"


async def test_an_update_whose_sample_request_fails_leaves_the_old_one_and_says_why(world: World) -> None:
    await serving(world, count=2, properties=SAMPLE)
    old = await world.instances()
    answering(world, "bad", Answer(500, 0.012, "ValueError: no such column"))
    operation = world.put(count=2, boot="bad", properties=SAMPLE)
    while world.state() == "Updating":
        await world.round()
        assert set(world.gateway.serving("shop/blue")) == {a for i in old for a in i.addresses}
    await world.settle()
    ended = world.operation(operation)
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "SampleRequestFailed")
    assert "answered with 500" in ended.error["message"]
    assert ended.error["evidence"][:2] == ["HTTP 500 after 12 ms", "ValueError: no such column"]
    assert [i.id for i in await world.instances()] == [i.id for i in old]
    row = world.row()
    told = generations_json(row)
    assert (told["serving"]["generation"], told["serving"]["revision"]) == (1, old[0].revision)
    assert (told["failed"]["generation"], told["failed"]["code"]) == (2, "SampleRequestFailed")
    assert told["failed"]["revision"] not in (None, old[0].revision)
    # A later update goes on from there.
    await serving(world, count=2, boot="good", properties=SAMPLE)
    assert generations_json(world.row()).keys() == {"serving"}
    assert generations_json(world.row())["serving"]["generation"] == 3


async def test_no_answer_in_time_fails_and_a_lost_connection_is_asked_again(world: World) -> None:
    world.put_endpoint("shop")
    answering(world, "", None)
    operation = world.put(properties=SAMPLE)
    for _ in range(20):
        await world.round()
    assert world.state() == "Creating"
    assert len(world.scored) > 2
    answering(world, "", Answer(None, 5.0))
    await world.settle()
    assert "not answered within 5000 ms" in world.operation(operation).error["message"]


async def test_the_same_spec_is_tried_again_with_a_new_request(world: World) -> None:
    world.put_endpoint("shop")
    answering(world, "", Answer(500, 0.1))
    world.put(properties=SAMPLE)
    await world.settle()
    assert world.state() == "Failed"
    answering(world, "", Answer(200, 0.1))
    world.put(properties=SAMPLE)
    await world.settle()
    assert world.state() == "Succeeded"


async def test_a_sample_request_that_is_added_later_takes_nobody_out_of_service(world: World) -> None:
    await serving(world, count=2)
    before = world.gateway.serving("shop/blue")
    world.put(count=3, properties=SAMPLE)
    while world.state() != "Succeeded":
        await world.round()
        assert set(before) <= set(world.gateway.serving("shop/blue"))
    assert len(world.scored) == 1, "only the instance that is new"


async def test_an_update_that_fails_half_way_restores_what_it_had_taken(world: World) -> None:
    await serving(world, count=5)
    old = {i.id for i in await world.instances()}
    world.engine.by_variable = {"late": Script()}
    world.put(count=5, boot="late")
    fewest = 5

    async def rounds(until: Any) -> None:
        nonlocal fewest
        while not until():
            await world.round()
            fewest = min(fewest, len(world.gateway.serving("shop/blue")))

    while len({i.id for i in await world.instances()} & old) > 3:
        await rounds(lambda: True)
        await world.round()
    late = next(i.revision for i in await world.instances() if i.id not in old)
    world.engine.scripts[late] = world.engine.by_variable["late"] = Script(boot_s=1e9)
    for running in world.engine._instances.values():
        if running.group.revision == late:
            running.script = world.engine.scripts[late] if not running.ever_ran else running.script
    await world.until(lambda: world.state() == "Failed", seconds=10.0)
    await rounds(lambda: len(world.engine._instances) == 5 and len(world.gateway.serving("shop/blue")) == 5)
    await world.settle()
    assert {i.id for i in await world.instances()} == old
    assert fewest >= 5


async def test_a_gateway_that_never_takes_it_in_is_a_deadline_of_its_own(world: World) -> None:
    await serving(world)
    world.gateway.lag = 10**6
    operation = world.put(boot="other", properties={"moorings.progress_deadline_s": "30"})
    began = world.clock.monotonic()
    await world.until(lambda: world.state() == "Failed", seconds=1.0)
    assert 30 < world.clock.monotonic() - began < 50
    assert world.operation(operation).error["code"] == "ProgressDeadlineExceeded"
    assert "gateway" in world.operation(operation).error["message"]


async def test_limits_and_times_are_those_of_the_generation_that_serves(world: World) -> None:
    def bounds() -> tuple[int, int]:
        (endpoint,) = world.gateway.states[-1].endpoints
        (deployment,) = endpoint.deployments
        return deployment.max_concurrent_requests, deployment.request_timeout_ms

    fast = RequestSettings(max_concurrent_requests_per_instance=9, request_timeout_ms=100)
    await serving(world)
    world.put(boot="fails", request_settings=fast)
    await world.settle()
    assert world.state() == "Failed"
    assert bounds() == (1, 5000)
    world.put(boot="slow", request_settings=fast)
    await world.until(lambda: len(world.engine._instances) == 2)
    assert bounds() == (1, 5000)
    await world.until(lambda: world.state() == "Succeeded")
    assert bounds() == (9, 100), "and they hold when the update is told to be done"


@pytest.mark.parametrize("change", [{"count": 3}, {"request_settings": RequestSettings(max_queue_wait_ms=9)}])
async def test_what_needs_no_new_process_starts_none(world: World, change: dict[str, Any]) -> None:
    await serving(world, count=2)
    before = {i.id: i.started_at for i in await world.instances()}
    await serving(world, **{"count": 2, **change})
    after = {i.id: i.started_at for i in await world.instances()}
    assert before.items() <= after.items()
    assert len({i.revision for i in await world.instances()}) == 1


async def test_an_instance_that_is_added_and_cannot_score_is_told_and_takes_no_traffic(world: World) -> None:
    await serving(world, properties=SAMPLE)
    (first,) = await world.instances()
    answering(world, "", Answer(500, 0.1, "cannot"))
    world.put(count=2, properties=SAMPLE)
    await world.settle()
    assert world.state() == "Failed"
    assert world.condition(INSTANCES_HEALTHY).reason == "SampleRequestFailed"
    assert world.gateway.serving("shop/blue") == first.addresses
    assert [i.id for i in await world.instances()] == [first.id]
