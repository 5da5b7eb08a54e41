"""What is gathered of a deployment for its verdict, and that asking does not disturb it."""

from __future__ import annotations

from typing import Any

from moorings.controller.verdict import CLOSER_EVERY_S, Diagnoses
from moorings.engines.base import Inspection, Phase
from moorings.errors.exceptions import Failure


def diagnoses(world: Any) -> Diagnoses:
    return Diagnoses(world.database, world.clock, world.deployments.tools.verdicts)


async def test_the_verdict_of_a_failed_rollout_is_the_one_that_was_stored(world: Any) -> None:
    world.put_endpoint("shop")
    operation = world.put("shop/blue", boot="fails")
    await world.settle()
    found = await diagnoses(world).of(world.row("shop/blue"))
    stored = Failure.from_json(world.operation(operation).error)
    assert found["verdict"] == stored
    assert (found["ready"], found["summary"]) == (False, stored.message)
    assert "<" not in stored.fix.replace("<deployment.yml>", "")
    [instance] = found["instances"]
    assert (instance["phase"], instance["ends"][0]["exitCode"]) == (Phase.FAILED, 3)
    assert [p["name"] for p in found["phases"] if p["status"] == "failed"] == ["instances"]


async def test_what_serves_has_no_verdict_until_it_ends(world: Any) -> None:
    world.put_endpoint("shop")
    world.put("shop/blue")
    await world.settle()
    found = await diagnoses(world).of(world.row())
    assert (found["verdict"], found["ready"]) == (None, True)
    assert found["instances"][0]["probe"]["said"] == "ok"
    (instance,) = await world.instances()
    world.engine.crash(instance.id, code=None, signal=9)
    found = await diagnoses(world).of(world.row())
    assert found["verdict"].code == "KilledBySignal"


async def test_who_asks_again_and_again_does_not_fill_the_log(world: Any) -> None:
    world.put_endpoint("shop")
    world.put("shop/blue", boot="slow")
    await world.round()
    await world.round()
    looked: list[str] = []

    async def inspect(instance: Any) -> Inspection:
        looked.append(instance.id)
        return Inspection(processor_s=1.0)

    world.engine.inspect = inspect
    asked = diagnoses(world)
    for _ in range(5):
        await asked.of(world.row())
    assert len(looked) == 1
    world.clock.advance(CLOSER_EVERY_S)
    await asked.of(world.row())
    assert len(looked) == 2
