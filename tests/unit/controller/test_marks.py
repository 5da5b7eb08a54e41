"""Marks of all resources, read at once; what was heard meanwhile is not overruled by what was read before it."""

from __future__ import annotations

import asyncio
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


async def test_however_many_ask_at_once_all_are_read_once(world: World) -> None:
    for number in range(20):
        world.put_endpoint(f"shop-{number}")
    marks = Marks(world.database, world.clock)
    reads: list[str] = []
    read_all, read_one = marks.read_all, marks._read
    marks.read_all = lambda: reads.append("all") or read_all()  # type: ignore[method-assign,func-returns-value]
    marks._read = lambda *of: reads.append("one") or read_one(*of)  # type: ignore[method-assign,func-returns-value]

    async def everyone() -> None:
        found = await asyncio.gather(*(marks.of(ENDPOINT, f"shop-{number}") for number in range(20)))
        assert all(mark is not None for mark in found)

    await everyone()
    assert reads == ["all"]
    world.clock.advance(FRESH_S)
    await everyone()
    assert reads == ["all", "all"], "nor where it is long since they were read"


async def test_a_reading_that_fails_is_told_to_all_who_wait_and_made_again(world: World) -> None:
    marks = made(world)
    read = marks.read_all

    def broken() -> Any:
        raise OSError(5, "Input/output error")

    marks.read_all = broken  # type: ignore[method-assign]
    found = await asyncio.gather(
        *(marks.of(ENDPOINT, "shop") for _ in range(3)), marks.refresh(), return_exceptions=True
    )
    assert all(isinstance(each, OSError) for each in found)
    marks.read_all = read  # type: ignore[method-assign]
    assert await marks.of(ENDPOINT, "shop") is not None
