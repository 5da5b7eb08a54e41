"""The driver of loops: hints, back-off and endings, key by key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from moorings.controller.loop import STUCK_AFTER, Loop
from moorings.lib.timing import Backoff

NEVER_S = 1000.0


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Loop]]:
    loops: list[Loop] = []

    def build(reconcile: Callable[[str], Awaitable[float | None]], first_s: float = NEVER_S) -> Loop:
        loops.append(Loop("test", reconcile, Backoff(first_s=first_s, cap_s=NEVER_S)))
        return loops[-1]

    yield build
    for each in loops:
        await each.close()


async def turns(count: int = 20) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_hint_wakes_and_the_delay_is_kept_otherwise(make: Callable[..., Loop]) -> None:
    looks: list[str] = []

    async def reconcile(key: str) -> float | None:
        looks.append(key)
        return NEVER_S

    loop = make(reconcile)
    loop.watch(["a", "b"])
    await turns()
    loop.watch(["a", "b"])
    await turns()
    assert sorted(looks) == ["a", "b"]
    loop.hint("a")
    await turns()
    assert sorted(looks) == ["a", "a", "b"]


async def test_a_hint_that_comes_while_it_looks_is_kept_and_looks_do_not_overlap(
    make: Callable[..., Loop],
) -> None:
    gate, running, looks = asyncio.Event(), 0, 0

    async def reconcile(_: str) -> float | None:
        nonlocal running, looks
        running += 1
        looks += 1
        assert running == 1
        await gate.wait()
        running -= 1
        return NEVER_S

    loop = make(reconcile)
    loop.watch(["a"])
    await turns()
    for _ in range(3):
        loop.hint("a")
    await turns()
    assert looks == 1
    gate.set()
    await turns()
    assert looks == 2


async def test_a_failing_key_waits_alone_and_a_hint_cuts_the_wait_short(
    make: Callable[..., Loop], caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[str] = []

    async def reconcile(key: str) -> float | None:
        looks.append(key)
        if key == "bad":
            raise ValueError("no")
        return 0.0 if looks.count(key) < 5 else NEVER_S

    loop = make(reconcile)
    with caplog.at_level(logging.CRITICAL, logger="moorings.controller.loop"):
        loop.watch(["bad", "good"])
        await turns(60)
        assert (looks.count("bad"), looks.count("good")) == (1, 5)
        loop.hint("bad")
        await turns()
        assert looks.count("bad") == 2


async def test_back_off_grows_with_each_failure_and_starts_anew_after_a_success(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []

    class Recorded(Backoff):
        def delay_s(self, failures: int) -> float:
            asked.append(failures)
            return 0.0

    looks = 0

    async def reconcile(_: str) -> float | None:
        nonlocal looks
        looks += 1
        if looks in (1, 2, 4):
            raise ValueError("no")
        return 0.0 if looks < 5 else NEVER_S

    loop = Loop("test", reconcile, Recorded())
    with caplog.at_level(logging.CRITICAL, logger="moorings.controller.loop"):
        loop.watch(["a"])
        await turns(60)
    await loop.close()
    assert asked == [1, 2, 1]


async def test_none_ends_a_key_and_a_later_hint_revives_it(make: Callable[..., Loop]) -> None:
    looks = 0

    async def reconcile(_: str) -> float | None:
        nonlocal looks
        looks += 1
        return None

    loop = make(reconcile)
    loop.watch(["a"])
    await turns()
    assert looks == 1
    loop.hint("a")
    await turns()
    assert looks == 2
    assert not loop._tasks
    assert not loop._wakes


async def test_a_hint_while_the_last_look_ends_the_key_is_not_lost(make: Callable[..., Loop]) -> None:
    gate, looks = asyncio.Event(), 0

    async def reconcile(_: str) -> float | None:
        nonlocal looks
        looks += 1
        await gate.wait()
        return None

    loop = make(reconcile)
    loop.watch(["a"])
    await turns()
    loop.hint("a")
    gate.set()
    await turns()
    assert looks == 2


async def test_a_closed_loop_begins_nothing(make: Callable[..., Loop]) -> None:
    looks = 0

    async def reconcile(_: str) -> float | None:
        nonlocal looks
        looks += 1
        return NEVER_S

    loop = make(reconcile)
    loop.watch(["a"])
    await turns()
    await loop.close()
    loop.hint("a")
    loop.watch(["b"])
    await turns()
    assert looks == 1


async def test_a_key_that_keeps_failing_is_told_of_and_goes_on_being_tried() -> None:
    told: list[str] = []
    looks = 0
    enough = asyncio.Event()

    async def reconcile(key: str) -> float | None:
        nonlocal looks
        looks += 1
        if looks > STUCK_AFTER + 2:
            enough.set()
        raise RuntimeError("no luck")

    async def stuck(key: str) -> None:
        assert looks >= STUCK_AFTER
        told.append(key)
        raise RuntimeError("telling fails too")

    loop = Loop("deployment", reconcile, Backoff(first_s=0.0, cap_s=0.0), stuck)
    loop.watch(["a"])
    await asyncio.wait_for(enough.wait(), 2)
    await loop.close()
    assert set(told) == {"a"}
