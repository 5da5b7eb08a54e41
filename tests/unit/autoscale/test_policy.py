"""The policies as rules over random histories, and as a table of situations."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.autoscale.policy import Moment, RulesPolicy, TargetPolicy, active_profile, last_start
from moorings.autoscale.window import concurrency, needed, stretch
from moorings.spec.autoscale import (
    CONCURRENCY,
    CPU,
    DAYS,
    RATE,
    Aggregation,
    AutoscaleSetting,
    Change,
    Direction,
    FixedDate,
    Operator,
    Profile,
    Recurrence,
    Rule,
)

START_S = 1000.0


def history(values: list[float], period_s: float = 1.0) -> list[tuple[float, float]]:
    return [(START_S + number * period_s, value) for number, value in enumerate(values)]


def play(policy: TargetPolicy, loads: list[float], count: int) -> list[int]:
    """The counts after each look, one a period."""
    counts: list[int] = []
    points: list[tuple[float, float]] = []
    for number, load in enumerate(loads):
        now = START_S + number * policy.period_s
        points.append((now, load))
        count = policy.decide({CONCURRENCY: points}, Moment(now, now, count)).count
        counts.append(count)
    return counts


# --- the formula --------------------------------------------------------------------------------------------
def test_the_example_of_the_documents() -> None:
    assert needed(concurrency(20, 10), 1, 0.7) == 286


@given(st.floats(0, 1e4), st.integers(1, 64), st.integers(1, 100))
def test_what_is_needed_keeps_every_instance_at_or_below_its_target_and_not_one_more(
    concurrent: float, slots: int, target: int
) -> None:
    count = needed(concurrent, slots, target / 100)
    carried = slots * target / 100
    assert count * carried >= concurrent - 1e-6
    assert count <= 1 or (count - 1) * carried < concurrent + 1e-6


@given(st.integers(1, 50), st.integers(1, 16), st.integers(1, 100))
def test_floating_point_costs_no_instance(count: int, slots: int, target: int) -> None:
    assert needed(count * slots * (target / 100), slots, target / 100) == count


# --- windows ------------------------------------------------------------------------------------------------
def test_a_stretch_with_a_gap_or_without_a_beginning_says_nothing() -> None:
    points = history([1, 2, 3, 4, 5, 6])
    now = points[-1][0]
    assert stretch(points, now, 3, 2) == [6, 5, 4]
    assert stretch(points, now, 5, 2) == [6, 5, 4, 3, 2]
    assert stretch(points, now, 6, 2) is None, "it was not watched for so long"
    assert stretch([points[0], points[-1]], now, 3, 2) is None, "nobody knows what was between them"
    assert stretch(points, now + 3, 3, 2) is None, "nobody knows what has been since"


# --- target utilization -------------------------------------------------------------------------------------
POLICIES = st.builds(
    lambda least, more, slots, target, down: TargetPolicy(
        least=least,
        most=max(1, least + more),
        slots=slots,
        utilization=target / 100,
        down_after_s=float(down),
        zero_after_s=float(2 * down),
    ),
    st.integers(0, 5),
    st.integers(0, 20),
    st.integers(1, 4),
    st.integers(10, 100),
    st.integers(2, 15),
)
LOADS = st.lists(st.one_of(st.just(0.0), st.floats(0, 40)), min_size=1, max_size=40)


@given(POLICIES, LOADS, st.integers(0, 30))
def test_bounds_hold_whatever_was_measured(policy: TargetPolicy, loads: list[float], count: int) -> None:
    assert all(policy.least <= n <= policy.most for n in play(policy, loads, count))


@given(POLICIES, LOADS)
def test_a_load_is_answered_at_the_next_look(policy: TargetPolicy, loads: list[float]) -> None:
    counts = play(policy, loads, policy.least)
    for load, count in zip(loads, counts, strict=True):
        assert count >= policy.wanted(load)


@given(POLICIES, LOADS)
def test_an_instance_goes_only_when_the_whole_window_could_do_without_it(
    policy: TargetPolicy, loads: list[float]
) -> None:
    counts = play(policy, loads, policy.least)
    window = int(policy.down_after_s)
    for at, (before, after) in enumerate(itertools.pairwise(counts), 1):
        if after < before:
            assert at >= window, "less than a window had been watched"
            assert all(policy.wanted(load) <= after for load in loads[at - window + 1 : at + 1])


@given(POLICIES, LOADS)
def test_between_two_steps_down_and_up_again_lies_a_window(policy: TargetPolicy, loads: list[float]) -> None:
    counts = play(policy, loads, policy.least)
    last_up = -math.inf
    for at, (before, after) in enumerate(zip([policy.least, *counts], counts, strict=False)):
        if after > before:
            last_up = at
        if after < before:
            assert at - last_up >= int(policy.down_after_s), "up and down within one window: flapping"


@given(POLICIES, st.floats(0, 40))
def test_a_constant_load_comes_to_rest(policy: TargetPolicy, load: float) -> None:
    counts = play(policy, [load] * 80, policy.most)
    assert counts[-1] == policy.wanted(load)
    assert counts == sorted(counts, reverse=True)


@given(POLICIES, LOADS, st.floats(0, 10))
def test_more_load_never_means_fewer_instances(policy: TargetPolicy, loads: list[float], more: float) -> None:
    fewer = play(policy, loads, policy.least)
    many = play(policy, [load + more for load in loads], policy.least)
    assert all(a <= b for a, b in zip(fewer, many, strict=True))


def test_silence_is_not_taken_for_quiet() -> None:
    policy = TargetPolicy(least=1, most=10, slots=1, utilization=0.7, down_after_s=5)
    points = history([7.0] * 3)
    decision = policy.decide({CONCURRENCY: points}, Moment(points[-1][0] + 60, 0, 10))
    assert (decision.count, decision.reason) == (10, "NotMeasured")
    assert policy.decide({}, Moment(0, 0, 10)).count == 10
    fresh = [(points[-1][0] + 60, 0.0)]
    assert policy.decide({CONCURRENCY: [*points, *fresh]}, Moment(fresh[0][0], 0, 10)).reason == "NotMeasured"


def test_the_last_instance_goes_after_its_own_longer_time_and_comes_back_at_once() -> None:
    policy = TargetPolicy(least=0, most=3, slots=1, utilization=1, down_after_s=3, zero_after_s=10)
    counts = play(policy, [3.0] + [0.0] * 11 + [0.2], 1)
    assert counts == [3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1]
    points = history([0.0] * 5)
    decision = policy.decide({CONCURRENCY: points}, Moment(points[-1][0], 0, 3))
    assert (decision.count, decision.message.rpartition("; ")[2]) == (1, "none after 10s without a request")


# --- rules --------------------------------------------------------------------------------------------------
OUT = Rule(CPU, Operator.GREATER, 70, Direction.OUT, 2, window_s=60, cooldown_s=0)
IN = Rule(CPU, Operator.LESS, 30, Direction.IN, 1, window_s=60, cooldown_s=0)


def setting(*rules: Rule, least: int = 2, most: int = 5, default: int = 2) -> AutoscaleSetting:
    return AutoscaleSetting("s", "d", (Profile("default", least, most, default, rules),))


def ask(
    found: AutoscaleSetting, count: int, changed_at: float | None = None, **values: float
) -> tuple[int, str]:
    now = START_S + 100
    measured = {name: [(now - 100 + n, value) for n in range(101)] for name, value in values.items()}
    decision = RulesPolicy(found).decide(measured, Moment(now, now, count, changed_at))
    return decision.count, decision.reason


@pytest.mark.parametrize(
    ("cpu", "count", "expected"),
    [
        (71, 2, (4, "Rule")),
        (71, 4, (5, "Rule")),
        (71, 5, (5, "Bounds")),
        (70, 2, (2, "Enough")),
        (29, 4, (3, "Rule")),
        (29, 2, (2, "Bounds")),
        (50, 9, (5, "Bounds")),
        (50, 1, (2, "Bounds")),
    ],
)
def test_the_rules_of_the_sample(cpu: float, count: int, expected: tuple[int, str]) -> None:
    assert ask(setting(OUT, IN), count, **{CPU: cpu}) == expected


def test_out_if_any_says_so_and_in_only_if_all_do() -> None:
    busy = Rule(RATE, Operator.GREATER, 100, Direction.OUT, 1, window_s=60, cooldown_s=0)
    quiet = Rule(RATE, Operator.LESS, 10, Direction.IN, 1, window_s=60, cooldown_s=0)
    rules = setting(OUT, IN, busy, quiet)
    assert ask(rules, 3, **{CPU: 10, RATE: 200})[0] == 4
    assert ask(rules, 3, **{CPU: 10, RATE: 50})[0] == 3
    assert ask(rules, 3, **{CPU: 10, RATE: 5})[0] == 2
    assert ask(rules, 3, **{CPU: 80, RATE: 200})[0] == 5, "the rule that asks for most counts"
    assert ask(rules, 3, **{CPU: 10})[0] == 3, "what was not measured is not low"


def test_it_does_not_scale_in_to_where_it_would_scale_out_at_once() -> None:
    tight = setting(
        OUT, Rule(CPU, Operator.LESS, 60, Direction.IN, 3, window_s=60, cooldown_s=0), least=1, most=9
    )
    assert ask(tight, 5, **{CPU: 55})[0] == 4, "three at 92 % would be too busy, four at 69 % are not"
    assert ask(tight, 2, **{CPU: 50}) == (2, "Enough")


def test_a_rule_waits_for_its_cooldown_whoever_changed_the_count() -> None:
    slow = setting(Rule(CPU, Operator.GREATER, 70, Direction.OUT, 1, window_s=60, cooldown_s=300))
    now = START_S + 100
    assert ask(slow, 2, now - 299, **{CPU: 90}) == (2, "Cooldown")
    assert ask(slow, 2, now - 300, **{CPU: 90}) == (3, "Rule")
    assert ask(slow, 2, now + 3600, **{CPU: 90}) == (3, "Rule"), "the clock was set back"


def test_per_cent_and_exact_counts() -> None:
    half = Rule(CPU, Operator.GREATER, 70, Direction.OUT, 50, Change.PER_CENT, window_s=60, cooldown_s=0)
    exact = Rule(CPU, Operator.GREATER, 70, Direction.TO, 4, Change.EXACT, window_s=60, cooldown_s=0)
    assert ask(setting(half, most=9), 4, **{CPU: 90})[0] == 6
    assert ask(setting(half, most=9, least=1), 1, **{CPU: 90})[0] == 2, "at least one"
    assert ask(setting(exact), 2, **{CPU: 90})[0] == 4
    assert ask(setting(exact), 5, **{CPU: 90})[0] == 4


@given(
    st.lists(
        st.builds(
            Rule,
            st.just(CPU),
            st.sampled_from(Operator),
            st.floats(0, 100),
            st.sampled_from(Direction),
            st.integers(1, 50),
            st.sampled_from(Change),
            st.sampled_from(Aggregation),
            st.just(60),
            st.just(0),
        ),
        max_size=4,
    ),
    st.floats(0, 100),
    st.integers(0, 60),
)
def test_rules_never_leave_the_bounds(rules: list[Rule], cpu: float, count: int) -> None:
    assert 2 <= ask(setting(*rules), count, **{CPU: cpu})[0] <= 5


def test_the_default_counts_when_what_was_measured_has_stopped() -> None:
    found = setting(OUT, IN, default=4)
    now = START_S + 1000
    stale = {CPU: [(START_S + n, 50.0) for n in range(100)]}
    decision = RulesPolicy(found).decide(stale, Moment(now, now, 2))
    assert (decision.count, decision.reason) == (4, "NotMeasured")
    assert RulesPolicy(found).decide({}, Moment(now, now, 2)).count == 2, "it has only begun to watch"
    assert RulesPolicy(found).decide(stale, Moment(now, now, 5)).count == 5


# --- schedules ----------------------------------------------------------------------------------------------
WEEKEND = Profile("weekend", 2, 2, 2, recurrence=Recurrence("Europe/Berlin", ("Saturday", "Sunday"), 6, 0))
WORKDAYS = Profile("workdays", 3, 9, 3, recurrence=Recurrence("Europe/Berlin", DAYS[:5], 6, 30))
ALWAYS = Profile("default", 1, 5, 1)
CHRISTMAS = Profile(
    "christmas",
    6,
    9,
    6,
    fixed_date=FixedDate("UTC", datetime(2026, 12, 24), datetime(2026, 12, 27)),  # noqa: DTZ001 - local
)


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("at", "name"),
    [
        ("2026-11-20T12:00", "workdays"),
        ("2026-11-21T04:59", "workdays"),
        ("2026-11-21T05:00", "weekend"),
        ("2026-11-23T05:29", "weekend"),
        ("2026-11-23T05:30", "workdays"),
        ("2026-07-18T04:00", "weekend"),
        ("2026-12-24T00:00", "christmas"),
        ("2026-12-26T23:59", "christmas"),
        ("2026-12-27T00:00", "weekend"),
    ],
)
def test_the_profile_that_is_on(at: str, name: str) -> None:
    found = AutoscaleSetting("s", "d", (ALWAYS, WEEKEND, WORKDAYS, CHRISTMAS))
    assert active_profile(found, unix(at)).name == name


def test_without_a_recurring_profile_the_plain_one_is_on() -> None:
    assert active_profile(AutoscaleSetting("s", "d", (CHRISTMAS, ALWAYS)), unix("2026-11-20T12:00")) is ALWAYS


@given(
    st.floats(1.7e9, 2.0e9),
    st.lists(st.sampled_from(DAYS), min_size=1, unique=True),
    st.integers(0, 23),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia"]),
)
def test_a_recurrence_has_always_begun_within_the_last_eight_days(
    at: float, days: list[str], hour: int, zone: str
) -> None:
    begun = last_start(Recurrence(zone, tuple(days), hour, 0), at)
    assert at - 8 * 86400 - 7200 < begun <= at
