"""What is published, when, and how a view of the gateway is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moorings.controller.publisher import REREAD_S, GatewayView
from moorings.gateway.state import GatewayStatus, Published

World = Any

STATUS = GatewayStatus("", {"shop": "v1"}, {}, {"shop~blue": ("/a",)}, 1, True)


def view(published: dict[str, str] | None, **changes: object) -> GatewayView:
    handed = None if published is None else Published("s-1", published)
    return GatewayView(handed, replace(STATUS, snapshot_version="s-1", **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "published, settled",
    [({"shop": "v1"}, True), ({"shop": "v2"}, False), ({}, False), (None, False)],
)
def test_settled_means_that_what_was_published_last_is_what_envoy_has(
    published: dict[str, str] | None, settled: bool
) -> None:
    assert view(published).settled("shop") is settled


def test_the_absence_of_an_endpoint_settles_too_but_not_before_anything_was_published() -> None:
    assert view({"shop": "v1"}).settled("gone")
    assert not view(None).settled("gone")


def test_a_refusal_counts_for_what_was_published_last_only() -> None:
    refused = {"accepted": {"shop": "v1"}, "rejected": {"shop": "bad"}}
    current = view({"shop": "v2"}, **refused)
    assert current.rejected("shop") == "bad"
    assert not current.settled("shop")
    older = GatewayView(Published("s-2", {"shop": "v3"}), current.status)
    assert older.rejected("shop") is None
    other = Published.after(Published.after(None, "s-1", {"shop": "v2"}), "s-2", {"shop": "v2", "bank": "v1"})
    assert GatewayView(other, current.status).rejected("shop") == "bad"


def test_going_back_to_an_earlier_state_is_not_taken_for_never_having_left_it() -> None:
    stale = view({"shop": "v1"})
    assert stale.settled("shop")
    assert not GatewayView(Published("s-3", {"shop": "v1"}), stale.status).settled("shop")


def test_an_endpoint_is_settled_whatever_else_has_been_published_since() -> None:
    first = Published.after(None, "s-1", {"shop": "v1", "bank": "v1"})
    other = Published.after(first, "s-2", {"shop": "v1", "bank": "v2"})
    both = replace(STATUS, snapshot_version="s-1", accepted={"shop": "v1", "bank": "v1"})
    assert GatewayView(other, both).settled("shop")
    assert not GatewayView(other, both).settled("bank")
    assert GatewayView(other, both).settled("never there")
    back = Published.after(other, "s-3", {"shop": "v1", "bank": "v1"})
    assert not GatewayView(back, both).settled("bank"), "it may hold the second one"
    less = Published.after(back, "s-4", {"bank": "v1"})
    held = replace(both, snapshot_version="s-3")
    assert not GatewayView(less, held).settled("shop")
    assert GatewayView(less, held).settled("bank")
    gone = replace(held, snapshot_version="s-4", accepted={"bank": "v1"})
    assert GatewayView(less, gone).settled("shop")


def test_an_agent_that_is_ahead_of_what_was_published_speaks_of_something_else() -> None:
    made = Published.after(None, "s-1", {"shop": "v1"})
    assert not GatewayView(made, replace(STATUS, snapshot_version="s-7")).settled("shop")
    assert not GatewayView(made, replace(STATUS, snapshot_version="s-7")).settled("gone")


def test_nothing_is_known_of_a_gateway_that_has_not_reported() -> None:
    silent = GatewayView(Published("s-1", {"shop": "v1"}), None)
    assert not silent.settled("shop")
    assert silent.rejected("shop") is None
    assert silent.healthy("shop", "blue") == frozenset()


def test_healthy_is_envoys_word() -> None:
    assert view({"shop": "v1"}).healthy("shop", "blue") == {"/a"}
    assert view({"shop": "v1"}).healthy("shop", "green") == frozenset()


async def test_nothing_is_published_twice_and_every_change_once(world: World) -> None:
    world.put_endpoint("shop")
    await world.settle()
    calls = []
    original = world.gateway.publish
    world.gateway.publish = lambda state: calls.append(state) or original(state)
    for _ in range(3):
        await world.publisher.publish()
    assert calls == []
    world.publisher.route("shop/blue", ["/b", "/a"])
    await world.publisher.publish()
    world.publisher.route("shop/blue", ["/a", "/b"])
    await world.publisher.publish()
    assert len(calls) == 1
    assert world.publisher.routed("shop/blue") == {"/a", "/b"}
    world.publisher.route("shop/blue", None)
    await world.publisher.publish()
    assert len(calls) == 2
    assert world.publisher.routed("shop/blue") == frozenset()


def reads(world: World) -> list[str]:
    """Filled with the name of each endpoint that is read from now on."""
    seen: list[str] = []
    original = world.publisher._read

    def read(tx: Any, row: Any, now: float) -> Any:
        seen.append(row.name)
        return original(tx, row, now)

    world.publisher._read = read
    return seen


async def test_a_change_is_read_alone_and_the_others_stay_published(world: World) -> None:
    for name in ("bank", "shop", "club"):
        world.put_endpoint(name)
    await world.settle()
    seen = reads(world)
    world.put_endpoint("shop", auth_mode="aml_token")
    await world.look("endpoint", "shop")
    assert seen == ["shop"]
    endpoints = {each.name: each for each in world.gateway.states[-1].endpoints}
    assert sorted(endpoints) == ["bank", "club", "shop"]
    assert endpoints["shop"].token_audience is not None
    world.delete("endpoint", "bank")
    await world.settle()
    assert [each.name for each in world.gateway.states[-1].endpoints] == ["club", "shop"]


async def test_everything_is_read_anew_now_and_then(world: World) -> None:
    for name in ("bank", "shop"):
        world.put_endpoint(name)
    await world.settle()
    seen = reads(world)
    world.clock.advance(REREAD_S - 1)
    await world.publisher.publish()
    assert seen == []
    world.clock.advance(1)
    await world.publisher.publish()
    assert sorted(seen) == ["bank", "shop"]


async def test_after_a_publication_that_failed_everything_is_read(world: World) -> None:
    for name in ("bank", "shop"):
        world.put_endpoint(name)
    await world.settle()
    world.gateway.unwritable = True
    world.publisher.route("shop/blue", ["/a"])
    with pytest.raises(OSError, match="No space"):
        await world.publisher.publish()
    world.gateway.unwritable = False
    seen = reads(world)
    await world.publisher.publish()
    assert sorted(seen) == ["bank", "shop"]


async def test_what_could_not_be_published_is_published_next_time(world: World) -> None:
    world.gateway.unwritable = True
    world.put_endpoint("shop")
    with pytest.raises(OSError, match="No space"):
        await world.publisher.publish()
    world.gateway.unwritable = False
    seen = await world.publisher.publish()
    assert seen.published is not None
    assert list(seen.published.endpoints) == ["shop"]


async def test_what_is_being_deleted_is_not_published(world: World) -> None:
    world.put_endpoint("shop")
    world.put_endpoint("going")
    world.put("shop/blue")
    world.put("shop/green")
    world.delete("deployment", "shop/green")
    world.delete("endpoint", "going")
    await world.publisher.publish()
    (endpoint,) = world.gateway.states[-1].endpoints
    assert (endpoint.name, [d.name for d in endpoint.deployments]) == ("shop", ["blue"])


async def test_one_that_cannot_be_looked_at_keeps_its_addresses_and_holds_nobody_up(world: World) -> None:
    world.put_endpoint("shop")
    world.put()
    world.publisher.route("shop/blue", ["/run/a.sock"])
    await world.publisher.publish()
    world.start()
    world.publisher.expect(["shop/blue"])
    world.put_endpoint("bank")
    world.publisher.changed()
    assert (await world.publisher.publish()).published is None
    world.publisher.presume("shop/blue")
    seen = await world.publisher.publish()
    assert seen.published is not None
    assert set(seen.published.endpoints) == {"bank", "shop"}
    assert world.published("shop/blue") == ("/run/a.sock",)
