"""Answers to copies beside the originals: how alike bodies are, and what is known of all pairs together."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.observe.likeness import PLACE_CHARS, Body, Kind, deviation, likeness
from moorings.observe.pairs import MOST_EXAMPLES, Answered, Comparison, comparison_from, report_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


def body(content: bytes) -> Body:
    return Body(f"digest of {content!r}", content)


def found(one: bytes, other: bytes, tolerance: float = 1e-6) -> tuple[str, str]:
    alike = likeness(body(one), body(other), tolerance)
    return str(alike.kind), alike.place


@pytest.mark.parametrize(
    "live, copy, kind, place",
    [
        (b"[1, 2]", b"[1, 2]", "identical", ""),
        (b"no json", b"no json", "identical", ""),
        (b"[1, 2]", b"[1,2.0]", "equal", ""),
        (b'{"a": 1, "b": 2}', b'{"b": 2, "a": 1}', "equal", ""),
        (b"[NaN]", b"[ NaN]", "equal", ""),
        (b'{"s": [0.1]}', b'{"s": [0.1000000001]}', "withinTolerance", "$.s[0]"),
        (b"[1000000]", b"[1000000.5]", "withinTolerance", "$[0]"),
        (b"[0.1]", b"[0.11]", "different", "$[0]"),
        (b"[0.1]", b"[NaN]", "different", "$[0]"),
        (b"[1, 2, 3]", b"[1, 2]", "different", "$"),
        (b'{"a": {"b": 1}}', b'{"a": {"c": 1}}', "different", "$.a"),
        (b'{"a": "x"}', b'{"a": "y"}', "different", "$.a"),
        (b"[1]", b"[true]", "different", "$[0]"),
        (b"[0]", b"[null]", "different", "$[0]"),
        (b"one", b"other", "different", "$"),
        (b"[1]", b"[" * 200_000, "different", "$"),
        (b"[1e400]", b"[1e401]", "equal", ""),
        (b"[1]", b"[1" + b"0" * 400 + b".5]", "different", "$[0]"),
    ],
)
def test_bodies(live: bytes, copy: bytes, kind: str, place: str) -> None:
    assert found(live, copy) == (kind, place)
    assert found(copy, live)[0] == kind


def test_what_nobody_has_seen_whole_is_not_called_different() -> None:
    long, other, stream = Body("a", None), Body("b", None), Body("", None)
    assert likeness(long, long, 0.0).kind is Kind.IDENTICAL
    for one, two in ((long, other), (long, body(b"1")), (stream, stream), (body(b"1"), stream)):
        assert likeness(one, two, 0.0).kind is Kind.UNKNOWN


@given(VALUES)
def test_a_body_is_equal_to_itself_however_it_is_written(value: Any) -> None:
    one, other = json.dumps(value).encode(), json.dumps(value, indent=1, sort_keys=True).encode()
    assert likeness(body(one), body(other + b"\n"), 0.0).kind is Kind.EQUAL


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True))
def test_a_deviation_is_symmetric_and_no_less_than_nothing(a: float, b: float) -> None:
    apart = deviation(a, b)
    assert apart == deviation(b, a) >= 0.0
    assert (apart == 0.0) == (a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) == 0.0)


def test_a_place_is_short_and_no_value_is_in_what_is_found() -> None:
    deep = {"key" * 30: {"key" * 30: "secret one"}}
    other = {"key" * 30: {"key" * 30: "secret other"}}
    alike = likeness(body(json.dumps(deep).encode()), body(json.dumps(other).encode()), 0.0)
    assert len(alike.place) == PLACE_CHARS
    assert "secret" not in repr(alike)


def answered(id_: str, content: bytes, status: int = 200, ms: float = 10.0) -> Answered:
    return Answered(id_, status, ms, len(content), body(content))


def test_pairs_are_counted_by_status_body_and_time() -> None:
    pairs = Comparison(unmatched=2)
    for n in range(20):
        pairs = pairs.with_pair(
            answered(f"a{n}", b"[0.1]"), answered(f"a{n}", b"[0.1000000002]", ms=20.0), 1e-6
        )
        pairs = pairs.with_pair(answered(f"b{n}", b"[1]"), answered(f"b{n}", b"[2]"), 1e-6)
        pairs = pairs.with_pair(answered(f"c{n}", b"[1]"), answered(f"c{n}", b"no", 500), 1e-6)
    assert comparison_from(json.loads(json.dumps(pairs.to_json()))) == pairs
    report = report_of(pairs)
    assert (report["pairs"], report["unmatched"], report["sameStatus"]) == (60, 2, 40)
    assert report["statuses"] == [
        {"live": 200, "copy": 200, "count": 40},
        {"live": 200, "copy": 500, "count": 20},
    ]
    assert report["bodies"] == {
        "identical": 0,
        "equal": 0,
        "withinTolerance": 20,
        "different": 20,
        "notCompared": 0,
    }
    assert 1e-10 < report["largestDeviation"] < 1e-9
    assert report["latencyMs"]["live"]["p50"] == pytest.approx(10, rel=0.05)
    assert report["latencyMs"]["copy"]["p90"] == pytest.approx(20, rel=0.05)
    assert len(report["examples"]) == MOST_EXAMPLES
    assert report["examples"][0] == {
        "requestId": "b0",
        "live": {"status": 200, "ms": 10.0, "length": 3},
        "copy": {"status": 200, "ms": 10.0, "length": 3},
        "at": "$[0]",
    }


def test_nothing_compared_is_a_report_too() -> None:
    report = report_of(comparison_from(None))
    assert (report["pairs"], report["latencyMs"]["live"]) == (0, {"p50": None, "p90": None, "p99": None})
