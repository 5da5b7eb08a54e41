"""What every engine promises (`engines/base.py`), sentence by sentence."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from moorings.engines.base import CONTAINER_INITIALIZER, CONTAINER_SERVER, Phase
from moorings.errors.exceptions import MooringsError
from moorings.lib.logfile import stamp

OWNER = "shop/blue"


async def test_apply_starts_ordinals_below_count(world, until, running):
    group = world.group(2)
    await world.engine.apply(group)
    seen = await until(running(2))
    assert [i.ordinal for i in seen] == [0, 1]
    assert {(i.owner, i.revision) for i in seen} == {(OWNER, group.revision)}
    assert [i.id for i in seen] == [f"shop-blue-{group.revision}-{n}" for n in (0, 1)]
    assert all(i.restarts == 0 and i.exit is None for i in seen)


async def test_every_worker_has_its_own_address(world, until, running):
    await world.engine.apply(world.group(2))
    seen = await until(running(2))
    addresses = [a for i in seen for a in i.addresses]
    assert len(addresses) == len(set(addresses)) == 2
    assert all(len(a.encode()) <= 107 for a in addresses)


async def test_an_instance_that_boots_is_visible_and_starting(world, until, running):
    await world.engine.apply(world.group(1, boot_s=0.5))
    seen = await world.engine.observe(OWNER)
    assert [i.phase for i in seen] == [Phase.STARTING]
    assert (await until(running(1)))[0].id == seen[0].id


async def test_apply_again_changes_nothing(world, until, running):
    group = world.group(2)
    for _ in range(3):
        await world.engine.apply(group)
    before = await until(running(2))
    await world.engine.apply(group)
    after = await world.engine.observe()
    assert [(i.id, i.pids, i.started_at) for i in after] == [(i.id, i.pids, i.started_at) for i in before]


async def test_concurrent_applies_are_one(world, until, running):
    group = world.group(2)
    await asyncio.gather(*(world.engine.apply(group) for _ in range(5)))
    assert len(await until(running(2))) == 2


async def test_apply_with_a_lower_count_stops_the_highest_ordinals(world, until, running):
    group = world.group(3)
    await world.engine.apply(group)
    before = await until(running(3))
    await world.engine.apply(world.group(1))
    after = await until(running(1))
    assert (after[0].id, after[0].pids) == (before[0].id, before[0].pids)


async def test_an_instance_that_goes_away_may_finish(world, until, running):
    group = world.group(1, drain_s=0.4)
    await world.engine.apply(group)
    await until(running(1))
    await world.engine.remove(OWNER, group.revision, grace_s=5)
    assert [i.phase for i in await world.engine.observe()] == [Phase.STOPPING]
    await until(lambda seen: seen == [])


async def test_the_grace_is_the_limit(world, until, running):
    group = world.group(1, drain_s=3600)
    await world.engine.apply(group)
    await until(running(1))
    await world.engine.remove(OWNER, group.revision, grace_s=0.2)
    await until(lambda seen: seen == [])


async def test_a_shorter_grace_counts_later(world, until, running):
    group = world.group(1, drain_s=3600)
    await world.engine.apply(group)
    await until(running(1))
    await world.engine.remove(OWNER, group.revision, grace_s=3600)
    await world.passes()
    await world.engine.remove(OWNER, group.revision, grace_s=0.1)
    await until(lambda seen: seen == [])


async def test_remove_while_it_boots(world, until):
    group = world.group(1, boot_s=3600)
    await world.engine.apply(group)
    await world.engine.remove(OWNER, group.revision, grace_s=1)
    await until(lambda seen: seen == [])


async def test_what_was_removed_can_come_again(world, until, running):
    group = world.group(1)
    await world.engine.apply(group)
    await until(running(1))
    await world.engine.remove(OWNER, group.revision, grace_s=1)
    await until(lambda seen: seen == [])
    await world.engine.apply(group)
    await until(running(1))


async def test_unknown_is_success(world):
    await world.engine.remove("no/body", "0" * 12, grace_s=1)
    await world.engine.forget("no/body")
    assert list(await world.engine.observe("no/body")) == []
    assert await world.engine.logs("no/body", container=CONTAINER_SERVER, tail=10) is None


async def test_a_boot_that_fails_stays_visible_and_is_left_as_it_is(world, until):
    group = world.group(1, boot="fail")
    await world.engine.apply(group)
    seen = await until(lambda seen: [i.phase for i in seen] == [Phase.FAILED])
    assert (seen[0].exit.code, seen[0].exit.signal) == (3, None)
    assert seen[0].exit.report["kind"] == "init_raised"
    await world.engine.apply(group)
    for _ in range(5):
        await world.passes()
        assert [i.phase for i in await world.engine.observe()] == [Phase.FAILED]
    await world.engine.remove(OWNER, group.revision, grace_s=1)
    await until(lambda seen: seen == [])
    assert await world.engine.logs(OWNER, container=CONTAINER_SERVER, tail=10) is not None


async def test_a_boot_that_crashes_is_tried_again_but_not_for_ever(world, until):
    await world.engine.apply(world.group(1, boot="crash"))
    seen = await until(lambda seen: [i.phase for i in seen] == [Phase.FAILED])
    assert seen[0].exit.code == 7
    assert seen[0].restarts == 0


async def test_what_has_served_before_is_tried_again_whatever_its_boot_comes_to(world, until):
    await world.engine.apply(replace(world.group(boot="fail"), proven=True))
    seen = await until(lambda seen: [(i.phase, i.restarts) for i in seen] == [(Phase.BACKOFF, 1)])
    assert seen[0].exit.report["kind"] == "init_raised"
    assert [end.code for end in seen[0].exits] == [3, 3]


async def test_a_crash_after_the_boot_is_healed(world, until, running):
    await world.engine.apply(world.group(1))
    before = (await until(running(1)))[0]
    await world.crash(before)
    await until(lambda seen: [i.phase for i in seen] == [Phase.BACKOFF])
    after = (await until(running(1)))[0]
    assert (after.id, after.addresses) == (before.id, before.addresses)
    assert after.restarts == 1
    assert after.exit.code == 1


async def test_a_gone_instance_is_seen_and_started_again(world, until, running):
    group = world.group(1)
    await world.engine.apply(group)
    before = (await until(running(1)))[0]
    await world.lose(before)
    gone = (await until(lambda seen: [i.phase for i in seen] == [Phase.GONE]))[0]
    assert (gone.id, gone.pids) == (before.id, {})
    await world.engine.apply(group)
    assert (await until(running(1)))[0].id == before.id


async def test_a_gone_instance_can_be_removed(world, until, running):
    group = world.group(1)
    await world.engine.apply(group)
    await world.lose((await until(running(1)))[0])
    await until(lambda seen: [i.phase for i in seen] == [Phase.GONE])
    await world.engine.remove(OWNER, group.revision, grace_s=1)
    await until(lambda seen: seen == [])


async def test_observe_is_the_truth_after_a_restart(world, until, running):
    await world.engine.apply(world.group(1))
    await world.engine.apply(world.group(1, owner="shop/green"))
    before = await until(running(2))
    world.again()
    after = await world.engine.observe()
    assert [(i.id, i.phase, i.pids, i.addresses) for i in after] == [
        (i.id, i.phase, i.pids, i.addresses) for i in before
    ]
    assert [i.owner for i in await world.engine.observe("shop/green")] == ["shop/green"]


async def test_groups_of_one_owner_live_beside_each_other(world, until, running):
    old, new = world.group(1), world.group(1, drain_s=0.01)
    await world.engine.apply(old)
    await world.engine.apply(new)
    await until(running(2))
    await world.engine.remove(OWNER, old.revision, grace_s=1)
    seen = await until(running(1))
    assert seen[0].revision == new.revision


async def test_logs_are_the_last_lines_and_outlive_the_instance(world, until, running):
    group = world.group(1)
    await world.engine.apply(group)
    instance = (await until(running(1)))[0]
    await world.says(instance, "one")
    await world.says(instance, "two")

    async def has(expected: str, tail: int = 2) -> None:
        async with asyncio.timeout(10):
            while await world.engine.logs(OWNER, container=CONTAINER_SERVER, tail=tail) != expected:
                await world.passes()

    await has("one\ntwo\n")
    await has("two\n", tail=1)
    await world.engine.remove(OWNER, group.revision, grace_s=5)
    await until(lambda seen: seen == [])
    for instance_id in (None, instance.id):
        text = await world.engine.logs(OWNER, container=CONTAINER_SERVER, tail=50, instance=instance_id)
        assert "one\ntwo\n" in text
    assert await world.engine.logs(OWNER, container=CONTAINER_INITIALIZER, tail=5) is not None
    assert await world.engine.logs(OWNER, container=CONTAINER_SERVER, tail=5, instance="other") is None


async def test_logs_outlive_what_an_engine_forgets(world, until, running):
    group = world.group(1)
    await world.engine.apply(group)
    await until(running(1))
    await world.engine.forget(OWNER)
    assert len(await world.engine.observe()) == 1, "what lives is not forgotten"
    await world.engine.remove(OWNER, group.revision, grace_s=1)
    await until(lambda seen: seen == [])
    await world.engine.forget(OWNER)
    assert await world.engine.logs(OWNER, container=CONTAINER_SERVER, tail=5) is not None
    assert await world.engine.log_sources("no/body") == []


async def source_of(world, instance, container=CONTAINER_SERVER):
    async with asyncio.timeout(10):
        while True:
            for source in await world.engine.log_sources(OWNER):
                if (source.instance, source.container) == (instance.id, container):
                    return source
            await world.passes()


async def test_every_log_is_a_source_whose_lines_have_times(world, until, running):
    await world.engine.apply(world.group(2))
    first, second = await until(running(2))
    began = world.now()
    await world.says(first, "from-the-first")
    await world.says(second, "from-the-second")
    for instance, word in ((first, "from-the-first"), (second, "from-the-second")):
        source = await source_of(world, instance)
        assert source.running
        async with asyncio.timeout(10):
            while word not in (
                found := [line.text for line in await world.engine.log_lines(OWNER, source, most=3)]
            ):
                await world.passes()
        assert found.index(word) == 0, "the newest first"
        newest = next(await world.engine.log_lines(OWNER, source, most=None))
        assert stamp(began - 1).decode() < newest.at < stamp(world.now() + 1).decode()
    await source_of(world, first, CONTAINER_INITIALIZER)


async def test_following_gives_what_is_written_later_and_nothing_twice(world, until, running):
    await world.engine.apply(world.group(1))
    instance = (await until(running(1)))[0]
    await world.says(instance, "before")
    async with asyncio.timeout(10):
        while "before" not in (await world.engine.logs(OWNER, container=CONTAINER_SERVER, tail=1) or ""):
            await world.passes()
    source = await source_of(world, instance)
    await world.passes()
    lines = world.engine.follow_log(OWNER, source, after=world.now())
    first = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0.1)
    await world.passes()
    for word in ("alpha", "beta"):
        await world.says(instance, word)
    async with asyncio.timeout(10):
        assert [(await first).text, (await anext(lines)).text] == ["alpha", "beta"]
    await lines.aclose()
    whole = world.engine.follow_log(OWNER, source, after=0.0)
    async with asyncio.timeout(10):
        while (await anext(whole)).text != "before":
            pass
    await whole.aclose()


async def test_following_ends_with_the_instance_and_after_its_last_words(world, until, running):
    await world.engine.apply(world.group(1))
    instance = (await until(running(1)))[0]
    source = await source_of(world, instance)
    assert not source.ended
    lines = world.engine.follow_log(OWNER, source, after=0.0)
    heard = asyncio.create_task(_all(lines))
    await world.says(instance, "last-words")
    await world.passes()
    await world.engine.remove(OWNER, instance.revision, grace_s=5)
    await until(lambda found: not found)
    async with asyncio.timeout(20):
        assert "last-words" in await heard
    assert (await source_of(world, instance)).ended


async def _all(lines):
    return [line.text async for line in lines]


async def test_an_unknown_container_is_named(world):
    with pytest.raises(MooringsError) as caught:
        await world.engine.logs(OWNER, container="sidecar", tail=1)
    assert caught.value.failure.code == "LogContainerUnknown"
