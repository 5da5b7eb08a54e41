"""Marks of all resources, read at once; what was heard meanwhile is not overruled by what was read before it."""

from __future__ import annotations

from typing import Any

from moorings.controller.marks import FRESH_S, Marks
from moorings.state.transaction import DEPLOYMENT, ENDPOINT

World = Any


def made(world: World) -> Marks:
    world.put_endpoint("shop")
    world.put("shop/blue")
    return Marks(world.database, world.clock)


async def test_all_are_read_at_once_and_not_again_while_they_are_fresh(world: World) -> None:
    marks = made(world)
    assert await marks.refresh() == {ENDPOINT: ["shop"], DEPLOYMENT: ["shop/blue"]}
    known = await marks.of(DEPLOYMENT, "shop/blue")
    assert known is not None
    assert (known.generation, known.deleting, known.waiting) == (1, False, True)
    world.put("shop/blue", count=2)
    assert await marks.of(DEPLOYMENT, "shop/blue") == known
    world.clock.advance(FRESH_S)
    assert (await marks.of(DEPLOYMENT, "shop/blue")).generation == 2


async def test_what_may_have_changed_is_asked_for_by_itself(world: World) -> None:
    marks = made(world)
    await marks.refresh()
    world.put("shop/blue", count=2)
    marks.forget(DEPLOYMENT, "shop/blue")
    assert (await marks.of(DEPLOYMENT, "shop/blue")).generation == 2
    assert await marks.of(DEPLOYMENT, "shop/green") is None


async def test_what_was_heard_while_all_were_read_is_not_overruled(world: World) -> None:
    marks = made(world)
    read = marks.read_all

    def slowly() -> Any:
        found = read()
        world.put("shop/blue", count=2)
        marks.forget(DEPLOYMENT, "shop/blue")
        return found

    marks.read_all = slowly  # type: ignore[method-assign]
    await marks.refresh()
    assert (await marks.of(DEPLOYMENT, "shop/blue")).generation == 2
