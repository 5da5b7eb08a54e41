"""ISO 8601 durations, to whole milliseconds and back."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.spec.durations import format_duration_ms, format_duration_s, parse_duration_ms, parse_duration_s


@given(st.integers(0, 10**12))
def test_milliseconds_survive(milliseconds: int) -> None:
    text = format_duration_ms(milliseconds)
    assert parse_duration_ms(text) == milliseconds
    assert not re.search(r"(?<!\d)0[HM]|\.\d*0S", text)


@given(st.integers(0, 10**9))
def test_seconds_survive(seconds: int) -> None:
    assert parse_duration_s(format_duration_s(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("PT5S", 5000),
        ("PT0.5S", 500),
        ("PT0,5S", 500),
        ("PT1.5S", 1500),
        ("PT3M", 180_000),
        ("PT180S", 180_000),
        ("PT1H2M3.004S", 3_723_004),
        ("P1D", 86_400_000),
        ("P1DT1S", 86_401_000),
        ("P2W", 1_209_600_000),
        ("pt5s", 5000),
        ("PT0S", 0),
        ("PT05S", 5000),
    ],
)
def test_shapes(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "PT0S"), (500, "PT0.5S"), (60_000, "PT1M"), (90_010, "PT1M30.01S"), (3_600_000, "PT1H")],
)
def test_canonical_text(milliseconds: int, text: str) -> None:
    assert format_duration_ms(milliseconds) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "5",
        "5s",
        "PT5",
        "P1Y",
        "P1M",
        "PT-5S",
        "-PT5S",
        "PT5S ",
        "PT.5S",
        "PT0.0005S",
        "PT5S5S",
        "PT٣S",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="found"):
        parse_duration_ms(text)


def test_parts_of_a_second_where_seconds_are_meant() -> None:
    with pytest.raises(ValueError, match="whole seconds"):
        parse_duration_s("PT0.5S")


@given(st.text("PT0123456789HMSDWY.,- ", max_size=12))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_duration_ms(text) >= 0
