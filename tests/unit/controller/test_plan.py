"""The rollout decision, as a table of situations and as a simulation over random histories."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorings.controller.plan import Desired, Good, Plan, Seen, plan
from moorings.engines.base import Phase
from moorings.spec.own_settings import Pace


def seen(revision: str, ordinal: int, **changes: object) -> Seen:
    """A serving instance, unless changed."""
    base = Seen(f"{revision}-{ordinal}", revision, ordinal, Phase.RUNNING, True, True, False)
    return replace(base, **changes)  # type: ignore[arg-type]


STARTING = {"phase": Phase.STARTING, "ready": False, "in_gateway": False, "gone_from_gateway": True}
OUT = {"in_gateway": False, "gone_from_gateway": True}


def test_create_asks_for_all_instances_at_once() -> None:
    step = plan(Desired("new", 3, started=True), [])
    assert step.apply == {"new": 3}
    assert not step.complete


def test_nothing_to_do_when_all_serve() -> None:
    step = plan(Desired("new", 2, started=True), [seen("new", 0), seen("new", 1)])
    assert step == Plan(routed=frozenset({"new-0", "new-1"}), serving=2, complete=True)


def test_scaling_after_a_failed_try_ends_what_failed_and_nothing_that_serves() -> None:
    """An instance of the same revision that failed to join must not take the serving ones with it."""
    failed = seen("new", 1, phase=Phase.FAILED, **{k: v for k, v in OUT.items() if k != "phase"}, ready=False)
    step = plan(Desired("new", 3, started=False), [seen("new", 0), failed])
    assert (step.apply, step.remove, step.routed) == ({"new": 1}, (), frozenset({"new-0"}))
    assert step.clearing
    step = plan(Desired("new", 3, started=False), [seen("new", 0)])
    assert step.apply == {"new": 3}
    assert not step.clearing
    first = replace(failed, id="new-0", ordinal=0)
    step = plan(Desired("new", 2, started=False), [first, seen("new", 1)])
    assert step.routed == {"new-1"} and not step.remove, "what serves stays, even where it cannot be cleared"


def test_what_serves_on_after_a_failed_update_still_follows_the_load() -> None:
    failed = seen("new", 0, phase=Phase.FAILED, ready=False, in_gateway=False, gone_from_gateway=True)
    wish = Desired("new", 3, started=True, gave_up=True)
    assert plan(wish, [seen("old", 0), failed]).apply == {}
    assert plan(replace(wish, scales=True), [seen("old", 0), failed]).apply == {"old": 3}
    assert plan(replace(wish, scales=True, count=1), [seen("old", 0), seen("old", 1)]).apply == {}


def test_no_instance_at_all_may_be_desired() -> None:
    serving = seen("new", 0)
    step = plan(Desired("new", 0, started=True), [serving])
    assert (step.routed, step.apply, step.remove) == (frozenset(), {}, ())
    step = plan(Desired("new", 0, started=True), [replace(serving, **OUT)])
    assert step.apply == {"new": 0}
    assert plan(Desired("new", 0, started=True), []) == Plan(complete=True)


def test_ready_instance_is_routed_before_it_counts_as_serving() -> None:
    step = plan(Desired("new", 1, started=True), [seen("new", 0, in_gateway=False)])
    assert step.routed == {"new-0"}
    assert not step.complete


def test_update_keeps_the_old_one_until_the_new_one_serves_through_the_gateway() -> None:
    old = seen("old", 0)
    step = plan(Desired("new", 1, started=True), [old, seen("new", 0, in_gateway=False)])
    assert step.routed == {"old-0", "new-0"}
    assert step.remove == ()
    step = plan(Desired("new", 1, started=True), [old, seen("new", 0)])
    assert step.routed == {"new-0"}
    assert step.remove == ()
    step = plan(Desired("new", 1, started=True), [replace(old, **OUT), seen("new", 0)])
    assert step.remove == ("old",)
    assert step.complete


def test_update_replaces_a_fifth_at_a_time() -> None:
    old = [seen("old", i) for i in range(10)]
    assert plan(Desired("new", 10, started=True), old).apply == {"new": 2}


def test_scale_down_unroutes_the_highest_ordinals_before_it_stops_them() -> None:
    three = [seen("new", i) for i in range(3)]
    step = plan(Desired("new", 1, started=True), three)
    assert step.routed == {"new-0"}
    assert step.apply == {}
    step = plan(Desired("new", 1, started=True), [three[0], *(replace(s, **OUT) for s in three[1:])])
    assert step.apply == {"new": 1}


def test_failed_update_leaves_the_old_one_alone_and_serving() -> None:
    both = [seen("old", 0), seen("new", 0, **{**STARTING, "phase": Phase.FAILED})]
    step = plan(Desired("new", 1, started=True), both)
    assert step.failed == "new-0"
    assert step.routed == {"old-0"}
    step = plan(Desired("new", 1, started=True, gave_up=True), both)
    assert step.remove == ("new",)
    assert step.routed == {"old-0"}
    assert step.apply == {}


def test_failed_create_stays_visible() -> None:
    step = plan(
        Desired("new", 1, started=True, gave_up=True), [seen("new", 0, **{**STARTING, "phase": Phase.FAILED})]
    )
    assert step.remove == ()
    assert step.apply == {}


def test_a_new_try_clears_failed_leftovers_first() -> None:
    left = seen("new", 0, **{**STARTING, "phase": Phase.FAILED})
    assert plan(Desired("new", 1, started=False), [left]).remove == ("new",)


def test_vanished_instance_is_started_again() -> None:
    gone = seen("new", 1, **{**STARTING, "phase": Phase.GONE})
    assert plan(Desired("new", 2, started=True), [seen("new", 0), gone]).apply == {"new": 2}


@pytest.mark.parametrize("restarts, failed", [(2, None), (3, "new-0")])
def test_crash_loop_ends_a_rollout(restarts: int, failed: str | None) -> None:
    looping = seen("new", 0, **{**STARTING, "phase": Phase.BACKOFF, "restarts": restarts})
    assert plan(Desired("new", 1, started=True), [looping]).failed == failed


@dataclass
class World:
    """An engine, a prober and a gateway that do what they are told, each a step late."""

    instances: dict[tuple[str, int], Phase] = field(default_factory=dict)
    routed: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)

    def look(self) -> list[Seen]:
        settled = self.accepted == self.routed
        found = []
        for (revision, ordinal), phase in self.instances.items():
            id_ = f"{revision}-{ordinal}"
            ready = phase is Phase.RUNNING
            found.append(
                Seen(
                    id_,
                    revision,
                    ordinal,
                    phase,
                    ready,
                    id_ in self.accepted,
                    settled and id_ not in self.routed,
                )
            )
        return found

    def act(self, step: Plan) -> None:
        self.routed = set(step.routed)
        for revision, count in step.apply.items():
            for ordinal in range(count):
                if self.instances.get((revision, ordinal)) in (None, Phase.GONE):
                    self.instances[revision, ordinal] = Phase.STARTING
            for key in [k for k in self.instances if k[0] == revision and k[1] >= count]:
                self.stop(key)
        for revision in step.remove:
            for key in [k for k in self.instances if k[0] == revision]:
                self.stop(key)

    def stop(self, key: tuple[str, int]) -> None:
        assert f"{key[0]}-{key[1]}" not in self.accepted, "stopped while Envoy still sends to it"
        if self.instances[key] is Phase.FAILED:  # nothing runs of it
            del self.instances[key]
        else:
            self.instances[key] = Phase.STOPPING

    def end(self) -> None:
        """One that was stopped has finished what it had."""
        for key in [k for k, phase in self.instances.items() if phase is Phase.STOPPING][:1]:
            del self.instances[key]

    def serving(self) -> int:
        return sum(
            phase is Phase.RUNNING and f"{r}-{o}" in self.accepted for (r, o), phase in self.instances.items()
        )


@settings(max_examples=300, deadline=None)
@given(
    count=st.integers(1, 6),
    target=st.integers(1, 6),
    events=st.lists(st.sampled_from(["boot", "accept", "accept", "boot", "look", "end"]), max_size=60),
)
def test_an_update_never_serves_with_less_and_always_arrives(
    count: int, target: int, events: list[str]
) -> None:
    world = World({("old", i): Phase.RUNNING for i in range(count)}, {f"old-{i}" for i in range(count)})
    world.accepted = set(world.routed)
    desired = Desired("new", target, started=True)
    for event in [*events, *(["look", "boot", "look", "accept", "end"] * 40)]:
        if event == "boot":
            starting = [k for k, phase in world.instances.items() if phase is Phase.STARTING]
            for key in starting[:1]:
                world.instances[key] = Phase.RUNNING
        elif event == "accept":
            world.accepted = set(world.routed)
        elif event == "end":
            world.end()
        else:
            world.act(plan(desired, world.look()))
        most = max(count + Pace().surge(count), target + Pace().surge(target))
        assert len(world.instances) <= most, "more at once than quota was granted for"
        assert world.serving() >= min(count, target), (
            "capacity fell below what served before and what is wanted"
        )
        assert len(world.instances) <= max(count, target) + max(1, -(-target // 5)) + count
    assert set(world.instances) == {("new", i) for i in range(target)}
    assert plan(desired, world.look()).complete


@settings(max_examples=300, deadline=None)
@given(
    count=st.integers(1, 6),
    target=st.integers(1, 6),
    max_surge=st.sampled_from(["0", "1", "2", "20%", "50%", "100%"]),
    max_unavailable=st.sampled_from(["0", "1", "25%", "50%"]),
    good_boots=st.integers(0, 5),
    events=st.lists(st.sampled_from(["boot", "accept", "accept", "boot", "look", "end"]), max_size=60),
)
def test_a_failed_update_goes_back_to_all_that_served_at_no_time_with_less_than_is_allowed(
    count: int, target: int, max_surge: str, max_unavailable: str, good_boots: int, events: list[str]
) -> None:
    """After `good_boots` new instances the next one fails."""
    pace = Pace(max_surge, max_unavailable)
    world = World({("old", i): Phase.RUNNING for i in range(count)}, {f"old-{i}" for i in range(count)})
    world.accepted = set(world.routed)
    desired = Desired("new", target, started=True, pace=pace, good=Good("old", count))
    booted = 0
    least = min(count, target) - max(pace.unavailable(target), pace.unavailable(count))
    most = max(n + pace.surge(n) for n in (count, target))
    for event in [*events, *(["look", "boot", "look", "accept", "end"] * 60)]:
        if event == "boot":
            for key in [k for k, phase in world.instances.items() if phase is Phase.STARTING][:1]:
                good = key[0] == "old" or booted < good_boots
                booted += key[0] == "new"
                world.instances[key] = Phase.RUNNING if good else Phase.FAILED
        elif event == "accept":
            world.accepted = set(world.routed)
        elif event == "end":
            world.end()
        else:
            step = plan(desired, world.look())
            world.act(step)
            if step.failed:
                desired = replace(desired, gave_up=True)
        assert world.serving() >= least
        holding = [phase for phase in world.instances.values() if phase is not Phase.FAILED]
        assert len(holding) <= most, "more at once than quota was granted for"
        begun = any(r == "new" and p is Phase.RUNNING for (r, _), p in world.instances.items())
        if not desired.gave_up and pace.surge(target) and not begun:
            assert world.serving() >= min(count, target), "less served before any new one did"
    if desired.gave_up:
        assert set(world.instances) == {("old", i) for i in range(count)}
        assert world.serving() == count
    else:
        assert good_boots >= target
        assert set(world.instances) == {("new", i) for i in range(target)}


def test_without_surge_one_has_to_go_before_its_successor_comes() -> None:
    pace = Pace("0", "1")
    two = [seen("old", 0), seen("old", 1)]
    step = plan(Desired("new", 2, started=True, pace=pace), two)
    assert step.routed == {"old-0"}
    assert step.apply == {}
    step = plan(Desired("new", 2, started=True, pace=pace), [two[0], replace(two[1], **OUT)])
    assert step.apply == {"old": 1}
    step = plan(Desired("new", 2, started=True, pace=pace), two[:1])
    assert step.apply == {"new": 1}


def test_unavailable_ones_go_only_when_a_new_one_serves() -> None:
    pace = Pace("1", "2")
    four = [seen("old", i) for i in range(4)]
    assert plan(Desired("new", 4, started=True, pace=pace), four).routed == {s.id for s in four}
    step = plan(Desired("new", 4, started=True, pace=pace), [*four, seen("new", 0)])
    assert step.routed == {"old-0", "new-0"}


@pytest.mark.parametrize(
    "surge, unavailable, count, expected",
    [
        ("20%", "0", 1, (1, 0)),
        ("20%", "0", 10, (2, 0)),
        ("20%", "0", 11, (3, 0)),
        ("100%", "0", 4, (4, 0)),
        ("3", "0", 1, (3, 0)),
        ("0", "50%", 1, (1, 0)),
        ("0", "50%", 3, (0, 1)),
        ("0", "5", 3, (0, 3)),
    ],
)
def test_pace(surge: str, unavailable: str, count: int, expected: tuple[int, int]) -> None:
    pace = Pace(surge, unavailable)
    assert (pace.surge(count), pace.unavailable(count)) == expected
