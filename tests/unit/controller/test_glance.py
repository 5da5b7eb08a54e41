"""Looks that are cut short because nothing has changed, and what makes them whole again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from moorings.controller.glance import LONGEST_S, longest_s
from moorings.state.transaction import DEPLOYMENT, ENDPOINT

World = Any


async def settled(world: World) -> None:
    world.put_endpoint("shop", traffic={"blue": 100})
    world.put("shop/blue")
    await world.settle()
    for _ in range(3):
        await world.round(1.0)


def whole_looks(world: World) -> list[str]:
    """Filled with the name of each resource that is read as a whole from now on."""
    seen: list[str] = []
    for reader, name in ((world.deployments._records, "load"), (world.endpoints, "_load")):
        original = getattr(reader, name)

        def load(key: str, original: Callable[[str], Any] = original) -> Any:
            seen.append(key)
            return original(key)

        object.__setattr__(reader, name, load)
    return seen


async def test_what_is_settled_is_not_read_again_for_a_while(world: World) -> None:
    await settled(world)
    seen = whole_looks(world)
    for _ in range(5):
        await world.round(1.0)
    assert seen == []
    await world.round(LONGEST_S)
    await world.round(1.0)
    assert sorted(seen) == ["shop", "shop/blue"]


def _desired(world: World) -> None:
    world.put("shop/blue", count=2)


def _waited_for(world: World) -> None:
    with world.database.write() as tx:
        tx.start_operation("update", tx.resource(DEPLOYMENT, "shop/blue"))
    world.marks.forget(DEPLOYMENT, "shop/blue")


def _crashed(world: World) -> None:
    world.engine.crash(next(iter(world.engine._instances)))


def _silent(world: World) -> None:
    world.silent.update(a for a in world.gateway.serving("shop/blue"))
    world.clock.advance(1000.0)


def _ejected(world: World) -> None:
    world.gateway._serving["shop"]["blue"] = ()


def _scaled(world: World) -> None:
    with world.database.write() as tx:
        tx.set_scale(
            tx.resource(DEPLOYMENT, "shop/blue"), {"count": 1, "at": 0.0, "reason": "r", "message": "m"}
        )
    world.marks.forget(DEPLOYMENT, "shop/blue")


def _going(world: World) -> None:
    world.delete(DEPLOYMENT, "shop/blue")


def _refused(world: World) -> None:
    world.gateway._rejected["shop"] = "bad route"


@pytest.mark.parametrize(
    "happens", [_desired, _waited_for, _crashed, _silent, _ejected, _scaled, _going, _refused]
)
async def test_whatever_a_deployment_depends_on_makes_the_look_whole(
    world: World, happens: Callable[[World], None]
) -> None:
    await settled(world)
    happens(world)
    seen = whole_looks(world)
    await world.look(DEPLOYMENT, "shop/blue")
    assert "shop/blue" in seen


async def test_a_change_of_one_is_a_glance_for_all_others(world: World) -> None:
    for name in ("shop", "bank", "club", "mint"):
        world.put_endpoint(name, traffic={"blue": 100})
        world.put(f"{name}/blue")
    await world.settle()
    for _ in range(3):
        await world.round(1.0)
    seen = whole_looks(world)
    world.put_endpoint("bank", traffic={})
    world.gateway.lag = 40  # looks at anything while Envoy has not answered yet
    await world.settle()
    assert world.state("bank", ENDPOINT) == "Succeeded"
    assert {name.partition("/")[0] for name in seen} == {"bank"}


def test_whole_looks_that_began_together_do_not_stay_together() -> None:
    periods = [longest_s(f"shop-{number}/blue") for number in range(1000)]
    assert LONGEST_S / 2 <= min(periods) < max(periods) <= LONGEST_S
    seconds = Counter(int(period) for period in periods)
    assert max(seconds.values()) < 100, "of a thousand in any one second"
    assert longest_s("shop/blue") == longest_s("shop/blue")


def _shared_otherwise(world: World) -> None:
    world.put_endpoint("shop", traffic={})


def _endpoint_going(world: World) -> None:
    world.delete(ENDPOINT, "shop")


@pytest.mark.parametrize("happens", [_shared_otherwise, _endpoint_going, _refused])
async def test_whatever_an_endpoint_depends_on_makes_the_look_whole(
    world: World, happens: Callable[[World], None]
) -> None:
    await settled(world)
    happens(world)
    seen = whole_looks(world)
    await world.look(ENDPOINT, "shop")
    assert seen == ["shop"]
