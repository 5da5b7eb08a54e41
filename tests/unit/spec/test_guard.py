"""The grammar of guards and of rollouts: what is taken, and that every problem is said at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.spec.guard import parse_guard
from moorings.spec.rollout import Mirror, check_rollout, parse_seconds, rollout_from


@pytest.mark.parametrize(
    "text, metric, strict, limit, relative",
    [
        ("error_rate<1%", "error_rate", True, 0.01, False),
        (" ERROR_RATE <= 0.5 % ", "error_rate", False, 0.005, False),
        ("error_rate<=0%", "error_rate", False, 0.0, False),
        ("error_rate<1.5x", "error_rate", True, 1.5, True),
        ("429<5%", "429", True, 0.05, False),
        ("5xx<0.1%", "5xx", True, 0.001, False),
        ("p99<1.2x", "p99", True, 1.2, True),
        ("p50<=250ms", "p50", False, 250_000.0, False),
        ("p90<2s", "p90", True, 2_000_000.0, False),
    ],
)
def test_conditions(text: str, metric: str, strict: bool, limit: float, relative: bool) -> None:
    (found,), problems = parse_guard(text)
    assert problems == []
    assert (found.metric, found.strict, found.relative) == (metric, strict, relative)
    assert found.limit == pytest.approx(limit)
    assert parse_guard(found.text)[0] == (found,)


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "empty"),
        ("error_rate", "expected < or <="),
        ("error_rate>1%", "expected < or <="),
        ("error_rate==1%", "expected < or <="),
        ("error_rate<1", "no unit"),
        ("error_rate<1ms", "limited in % or x"),
        ("p99<1%", "limited in ms, s or x"),
        ("p42<1ms", "unknown metric 'p42'"),
        ("200<1%", "unknown metric"),
        ("p99<ms", "expected a number"),
        ("p99<0ms", "nothing is below"),
        ("error_rate<0%", "nothing is below"),
        ("error_rate<101%", "more than 100 %"),
        ("p99<1ms,p99<2ms", "two conditions of this kind"),
        ("p99<1ms,", "expected `metric<limit`"),
        ("a b c", "expected `metric<limit`"),
    ],
)
def test_wrong_ones(text: str, says: str) -> None:
    assert says in " ".join(parse_guard(text)[1])


def test_every_wrong_condition_is_said() -> None:
    found, problems = parse_guard("error_rate<1%,p42<1ms,p99>3x,429<2s")
    assert [c.text for c in found] == ["error_rate<1%"]
    assert len(problems) == 3


@given(st.text(max_size=60))
def test_any_text_is_a_guard_or_has_problems(text: str) -> None:
    found, problems = parse_guard(text)
    assert found or problems


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("2m", 120),
        ("30s", 30),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("", None),
        ("2", None),
        ("m", None),
    ],
)
def test_times(text: str, seconds: float | None) -> None:
    assert parse_seconds(text) == seconds


GOOD: dict[str, Any] = {"from": "blue", "to": "green"}


def test_a_rollout_has_defaults_and_survives_its_storage() -> None:
    spec, problems = check_rollout("shop", {**GOOD, "mirrorFirst": "10%:5m"})
    assert problems == []
    assert spec is not None
    assert (spec.steps, spec.every_s, spec.min_requests, spec.on_breach) == (
        (1, 10, 50, 100),
        120.0,
        50,
        "rollback",
    )
    assert spec.mirror == Mirror(10, 300.0)
    assert rollout_from(spec.to_json()) == spec


@pytest.mark.parametrize(
    "change, key",
    [
        ({"to": "Blue"}, "to"),
        ({"from": ""}, "from"),
        ({"steps": "10,5"}, "steps"),
        ({"steps": "0,5"}, "steps"),
        ({"steps": "five"}, "steps"),
        ({"steps": []}, "steps"),
        ({"every": "soon"}, "every"),
        ({"every": "10ms"}, "every"),
        ({"patience": "-1"}, "patience"),
        ({"guard": 5}, "guard"),
        ({"minRequests": -1}, "minRequests"),
        ({"minRequests": True}, "minRequests"),
        ({"onBreach": "panic"}, "onBreach"),
        ({"mirrorFirst": "60%:5m"}, "mirrorFirst"),
        ({"mirrorFirst": "10%"}, "mirrorFirst"),
        ({"speed": 1}, "speed"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(change: dict[str, Any], key: str) -> None:
    spec, problems = check_rollout("shop", {**GOOD, **change})
    assert spec is None
    assert [found for found, _ in problems] == [key]


def test_all_problems_of_a_rollout_at_once() -> None:
    _, problems = check_rollout("shop", {"steps": "x", "every": "y", "guard": "z", "onBreach": 1})
    assert {key for key, _ in problems} == {"from", "to", "steps", "every", "guard", "onBreach"}
