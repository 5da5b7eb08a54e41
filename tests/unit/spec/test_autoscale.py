"""Rules and schedules as they are written, and as documents."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.errors.exceptions import MooringsError
from moorings.spec.autoscale import (
    DAYS,
    METRICS,
    Aggregation,
    AutoscaleSetting,
    Change,
    Direction,
    FixedDate,
    Operator,
    Profile,
    Recurrence,
    Rule,
    parse_period_s,
    period_text,
    setting_from_arm,
    setting_to_arm,
)
from moorings.spec.autoscale_text import parse_profiles, parse_rule
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.scaling import count_of

PLAIN = Profile("default", 2, 5, 2)


def test_the_rules_of_the_documents() -> None:
    out = parse_rule("s", "CpuUtilizationPercentage > 70 avg 5m", ("out", "2"), 5, None)
    assert (out.metric, out.operator, out.threshold) == ("CpuUtilizationPercentage", Operator.GREATER, 70)
    assert (out.direction, out.value, out.window_s, out.cooldown_s) == (Direction.OUT, 2, 300, 300)
    down = parse_rule("s", "cpuutilizationpercentage < 25 avg 5m", ("in 1",), 0, None)
    assert (down.metric, down.direction) == ("CpuUtilizationPercentage", Direction.IN)
    half = parse_rule("s", '["ns"] RequestsPerMinute >= 1e3 max 1h', ("out", "50%"), 1, None)
    assert (half.change, half.window_s, half.aggregation) == (Change.PER_CENT, 3600, Aggregation.MAXIMUM)
    assert parse_rule("s", "RequestLatency>70", ("to", "3"), 1, None).change is Change.EXACT


def test_every_wrong_flag_is_told_at_once() -> None:
    with pytest.raises(MooringsError) as caught:
        parse_rule("s", "Mood > hot sometimes 2h where a == b", ("sideways", "0"), -1, None)
    assert caught.value.failure.code == "AutoscaleRuleInvalid"
    told = "\n".join(caught.value.failure.evidence)
    for part in (
        "no metric 'Mood'",
        "'hot' after >",
        "'sometimes'",
        "'2h'",
        "'where a == b'",
        "'sideways 0'",
        "-1",
    ):
        assert part in told


@given(st.text(max_size=60), st.lists(st.text(max_size=10), max_size=3))
def test_any_words_are_a_rule_or_a_coded_failure(condition: str, scale: list[str]) -> None:
    try:
        parse_rule("s", condition, scale, 5, None)
    except MooringsError as problem:
        assert problem.failure.code == "AutoscaleRuleInvalid"


@given(st.integers(1, 86_400))
def test_periods_survive(seconds: int) -> None:
    assert parse_period_s(period_text(seconds)) == seconds


def test_a_recurring_profile_comes_with_its_end() -> None:
    weekend = Profile("weekend", 2, 2, 2)
    begin, end = parse_profiles("s", weekend, ("week", "sat", "sun"), None, None, "Europe/Berlin", PLAIN)
    assert begin.recurrence == Recurrence("Europe/Berlin", ("Saturday", "Sunday"), 0, 0)
    assert end.recurrence == Recurrence("Europe/Berlin", ("Saturday", "Sunday"), 23, 59)
    assert (end.name, end.least, end.most) == ('{"name":"default","for":"weekend"}', 2, 5)
    (date,) = parse_profiles("s", weekend, (), "2026-12-24", "2026-12-27T06:00", "UTC", PLAIN)
    assert date.fixed_date == FixedDate("UTC", datetime(2026, 12, 24), datetime(2026, 12, 27, 6))  # noqa: DTZ001


def test_every_wrong_flag_of_a_schedule_is_told_at_once() -> None:
    with pytest.raises(MooringsError) as caught:
        parse_profiles("s", PLAIN, ("week", "caturday"), "25:00", "x", "Mars/Olympus", PLAIN)
    assert len(caught.value.failure.evidence) == 4
    with pytest.raises(MooringsError, match="AutoscaleRuleInvalid"):
        parse_profiles("s", PLAIN, (), None, None, "UTC", PLAIN)
    with pytest.raises(MooringsError, match="is not after"):
        parse_profiles("s", PLAIN, ("week", "mon"), "18:00", "06:00", "UTC", PLAIN)


RULES = st.builds(
    Rule,
    st.sampled_from(sorted(METRICS)),
    st.sampled_from(Operator),
    st.floats(-1e6, 1e6),
    st.sampled_from([Direction.OUT, Direction.IN]),
    st.integers(1, 50),
    st.sampled_from([Change.COUNT, Change.PER_CENT]),
    st.sampled_from(Aggregation),
    st.integers(1, 3600),
    st.integers(0, 604_800),
    st.just("d"),
)


@given(st.lists(RULES, max_size=4), st.booleans(), st.lists(st.sampled_from(DAYS), min_size=1, unique=True))
def test_a_setting_survives_the_wire(rules: list[Rule], enabled: bool, days: list[str]) -> None:
    profiles = (
        Profile("default", 1, 5, 2, tuple(rules)),
        Profile("r", 1, 9, 2, (), Recurrence("UTC", tuple(days), 5, 30)),
        Profile("f", 1, 9, 2, (), None, FixedDate("UTC", datetime(2026, 1, 1), datetime(2026, 1, 2))),  # noqa: DTZ001
    )
    setting = AutoscaleSetting("s", "d", profiles, enabled=enabled, tags={"a": "b"})
    assert setting_from_arm("s", setting_to_arm(setting)) == setting


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON, JSON)
def test_any_json_is_a_setting_or_a_coded_failure(
    profiles: object, recurrence: object, rules: object
) -> None:
    profile = {"name": "p", "capacity": {}, "recurrence": recurrence, "rules": rules, "fixedDate": profiles}
    for given_ in (profiles, [profile], [{"rules": [{"metricTrigger": recurrence, "scaleAction": rules}]}]):
        try:
            setting_from_arm("s", {"properties": {"targetResourceUri": "d", "profiles": given_}})
        except MooringsError as problem:
            assert problem.failure.code == "SpecInvalid"


def test_the_count_that_counts() -> None:
    fixed = DeploymentSpec(name="blue", endpoint_name="shop", instance_count=3)
    elastic = fixed.model_copy(
        update={
            "scale_settings": fixed.scale_settings.model_copy(
                update={"type": "target_utilization", "min_instances": 0, "max_instances": 5}
            )
        }
    )
    on, off = ({"properties": {"enabled": enabled, "profiles": []}} for enabled in (True, False))
    assert count_of(fixed, None, {"count": 9}) == 3
    assert count_of(elastic, None, None) == 3
    assert count_of(elastic, None, {"count": 0}) == 0
    assert count_of(elastic, None, {"count": 9}) == 5
    assert count_of(fixed, on, {"count": 9}) == 9
    assert count_of(fixed, off, {"count": 9}) == 3
