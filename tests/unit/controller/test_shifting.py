"""The decision of rollouts: situations, and histories at random in which its promises hold."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from moorings.controller.shifting import Look, Progress, Share, decide, progress_from
from moorings.observe.outcomes import Outcomes
from moorings.spec.rollout import ENDED, Mirror, Phase, RolloutSpec

SPEC = RolloutSpec("shop", "blue", "green", (1, 10, 50, 100), 60.0, "error_rate<1%,p99<1.5x", 50, 300.0)
BOTH = frozenset({"blue", "green"})


def outcomes(requests: int, errors: int = 0, ms: float = 10.0) -> Outcomes:
    found = Outcomes()
    for n in range(requests):
        found.add({"code": 424 if n < errors else 200, "model_us": ms * 1000, "wait_us": 0, "total_ms": ms})
    return found


GOOD, NONE = outcomes(200), Outcomes()


class World:
    """An endpoint whose traffic is what was set last, and Envoy which takes it at once."""

    def __init__(self, spec: RolloutSpec = SPEC) -> None:
        self.spec = spec
        self.at = Progress()
        self.share = Share(100, 0)
        self.now = 1000.0
        self.seen: list[Share] = []

    def look(
        self, seconds: float = 1.0, old: Outcomes = GOOD, new: Outcomes = GOOD, **changes: Any
    ) -> Progress:
        self.now += seconds
        elapsed_s = 0.0 if self.at.since is None else self.now - self.at.since
        look = Look(self.now, elapsed_s, self.share, BOTH, "rev", True, old, new)
        then = decide(self.spec, self.at, replace(look, **changes))
        assert progress_from(json.loads(json.dumps(then.to_json()))) == then, "it survives its storage"
        ended, self.at = self.at.phase in ENDED, then
        if then.set_to is not None and then.phase is not Phase.SUPERSEDED and not ended:
            if then.set_to != self.share:
                self.seen.append(then.set_to)
            self.share = then.set_to
        return then

    def until(self, *phases: Phase, most: int = 2000, **changes: Any) -> Progress:
        for _ in range(most):
            if self.look(**changes).phase in phases:
                return self.at
        raise AssertionError(f"never: {self.at}")


def test_a_good_one_goes_through_all_steps_each_for_its_time() -> None:
    world = World()
    began = world.now
    world.until(Phase.SUCCEEDED)
    assert [s.target for s in world.seen] == [1, 10, 50, 100]
    assert world.now - began >= 4 * 60
    assert [s["outcome"] for s in world.at.steps] == ["held"] * 4
    assert all(s["checks"] and s["figures"]["to"]["requests"] == 200 for s in world.at.steps)
    assert world.at.failed is None


def test_a_broken_guard_is_answered_at_the_look_that_sees_it() -> None:
    world = World()
    while world.share.target != 10 or world.at.since is None:
        world.look()
    then = world.look(new=outcomes(50, errors=10))
    assert (then.phase, world.share) == (Phase.ROLLED_BACK, Share(100, 0))
    assert then.failed is not None
    assert then.failed.code == "GuardBreached"
    assert "green at 10 %" in then.failed.message
    assert "error_rate 20 % (10 of 50 requests)" in then.failed.message
    assert then.steps[-1]["outcome"] == "broken"


def test_told_so_it_pauses_instead_and_goes_on_with_new_figures() -> None:
    world = World(replace(SPEC, on_breach="pause"))
    world.until(Phase.PAUSED, new=outcomes(100, ms=30.0))
    assert world.share == Share(99, 1)
    for _ in range(10):
        assert world.look().phase is Phase.PAUSED, "it does not go on by itself"
    world.spec = world.spec.wished("run")
    world.until(Phase.SUCCEEDED)
    assert [s["outcome"] for s in world.at.steps] == ["broken", "held", "held", "held", "held"]


def test_one_error_of_fifty_is_no_proof_and_five_are() -> None:
    for errors, phase in ((1, Phase.PROGRESSING), (4, Phase.PROGRESSING), (5, Phase.ROLLED_BACK)):
        world = World()
        while world.at.since is None:
            world.look()
        assert world.look(new=outcomes(50, errors=errors)).phase is phase


def test_too_few_requests_decide_nothing_and_in_the_end_it_asks() -> None:
    world = World()
    while world.at.since is None:
        world.look()
    bad = outcomes(49, errors=49)
    for _ in range(359):
        assert world.look(new=bad).phase is Phase.PROGRESSING
        assert world.share.target == 1
    then = world.look(seconds=2, new=bad)
    assert (then.phase, world.share.target) == (Phase.PAUSED, 1)
    assert then.failed is not None
    assert then.failed.code == "RolloutWithoutTraffic"


def test_without_a_least_number_it_goes_on_without_traffic() -> None:
    world = World(replace(SPEC, min_requests=0))
    world.until(Phase.SUCCEEDED, old=NONE, new=NONE)


def test_at_all_traffic_the_last_figures_of_the_old_one_count() -> None:
    world = World()
    while world.share.target != 100 or world.at.since is None:
        world.look()
    assert world.look(old=NONE, new=outcomes(100, ms=30.0)).phase is Phase.ROLLED_BACK


def test_a_429_is_no_error_but_a_metric_of_its_own() -> None:
    throttled = Outcomes(codes={200: 80, 429: 20}, latencies=dict(GOOD.latencies))
    for guard, phase in (("error_rate<1%", Phase.PROGRESSING), ("429<5%", Phase.ROLLED_BACK)):
        world = World(replace(SPEC, guard=guard))
        while world.at.since is None:
            world.look()
        assert world.look(new=throttled).phase is phase


def test_traffic_that_somebody_else_sets_is_left_alone() -> None:
    world = World()
    while world.share.target != 10:
        world.look()
    world.share = Share(30, 70)
    then = world.look()
    assert (then.phase, world.share) == (Phase.SUPERSEDED, Share(30, 70))
    assert then.failed is not None
    assert then.failed.code == "RolloutSuperseded"
    assert world.look().phase is Phase.SUPERSEDED


def test_the_hands_of_a_user() -> None:
    world = World()
    while world.share.target != 10:
        world.look()
    world.spec = world.spec.wished("pause")
    assert world.look().phase is Phase.PAUSED
    assert world.share.target == 10
    world.spec = world.spec.wished("run")
    assert world.look().phase is Phase.PROGRESSING
    world.spec = world.spec.wished("abort")
    assert world.look().phase is Phase.ABORTED
    assert world.share == Share(100, 0)


def test_a_deployment_that_is_gone_or_made_anew() -> None:
    world = World()
    world.look()
    assert world.look(there=frozenset({"blue"})).phase is Phase.FAILED
    world = World()
    world.look()
    then = world.look(revision="other")
    assert (then.phase, then.failed.code if then.failed else "") == (Phase.PAUSED, "RolloutConflict")


def test_mirroring_comes_first_and_gives_no_live_traffic() -> None:
    world = World(replace(SPEC, mirror=Mirror(10, 30.0)))
    world.until(Phase.SUCCEEDED)
    assert world.seen[0] == Share(100, 0, 10)
    assert world.seen[1] == Share(99, 1, 0)


def test_a_share_of_a_share() -> None:
    world = World(replace(SPEC, steps=(1, 50, 99, 100), begins_at=40))
    world.share = Share(40, 0)
    world.until(Phase.SUCCEEDED)
    assert world.seen == [Share(39, 1), Share(20, 20), Share(1, 39), Share(0, 40)]


@settings(max_examples=200, deadline=None)
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["good", "bad", "few", "none", "unaccepted", "pause", "run", "abort", "hand"]),
            st.floats(0, 400),
        ),
        max_size=60,
    ),
    steps=st.lists(st.integers(1, 100), min_size=1, max_size=5, unique=True).map(lambda s: tuple(sorted(s))),
    breach=st.sampled_from(["rollback", "pause"]),
)
def test_traffic_grows_only_by_the_next_step_after_enough_good_requests(
    events: list[tuple[str, float]], steps: tuple[int, ...], breach: str
) -> None:
    world = World(replace(SPEC, steps=steps, on_breach=breach))
    new = {"good": GOOD, "bad": outcomes(100, errors=50), "few": outcomes(10), "none": NONE}
    ladder = [0, *steps]
    for event, seconds in events:
        before, at = world.share, world.at
        if event in ("pause", "run", "abort"):
            world.spec = world.spec.wished(event)
        elif event == "hand":
            world.share = before = Share(20, 80)
        then = world.look(seconds=seconds, new=new.get(event, GOOD), accepted=event != "unaccepted")
        assert world.share.source + world.share.target == 100
        if at.phase in ENDED:
            assert then == at
            assert world.share == before
            continue
        if world.share.target > before.target:
            assert ladder.index(world.share.target) == ladder.index(before.target) + 1
            assert before.target == 0 or (event not in ("bad", "few", "none") and at.since is not None)
        if world.share.target < before.target:
            assert then.phase in (Phase.ROLLED_BACK, Phase.ABORTED)
            assert world.share.target == 0
        if event == "hand" and at.set_to != Share(20, 80):
            assert then.phase is Phase.SUPERSEDED
            assert world.share == Share(20, 80)
        if then.phase is Phase.SUCCEEDED:
            assert world.share.target == steps[-1]


def test_one_that_only_fails_never_passes_a_guard_of_latencies_alone() -> None:
    """There is no answer of it that could be late."""
    world = World(replace(SPEC, guard="p99<1.5x"))
    world.until(Phase.PAUSED, new=outcomes(100, errors=100))
    assert world.share == Share(99, 1)
    assert world.at.failed is not None
    assert world.at.failed.code == "RolloutWithoutTraffic"


def test_a_guard_is_kept_while_the_endpoint_waits_for_something_else() -> None:
    """Such as a key that Envoy has not taken in yet: traffic flows, but none is added."""
    world = World()
    while world.at.since is None:
        world.look()
    for _ in range(100):
        world.look(accepted=False)
    assert world.share == Share(99, 1)
    assert world.look(accepted=False, new=outcomes(50, errors=25)).phase is Phase.ROLLED_BACK
