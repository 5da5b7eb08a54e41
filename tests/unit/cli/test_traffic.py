"""The traffic table as it is typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.cli.traffic import apply, parse
from moorings.errors.exceptions import MooringsError

NAMES = st.from_regex(r"[a-z][a-z0-9-]{1,9}[a-z0-9]", fullmatch=True)
TABLES = st.dictionaries(NAMES, st.integers(0, 100), max_size=5).filter(lambda t: sum(t.values()) <= 100)


@given(TABLES, st.sampled_from([" ", ",", ", ", "  "]), st.sampled_from(["=", ":"]))
def test_every_spelling_gives_the_same_table(table: dict[str, int], between: str, sign: str) -> None:
    text = between.join(f"{name}{sign}{share}" for name, share in table.items())
    assert parse([text]) == table


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("blue", "'blue'"),
        ("blue=", "'blue='"),
        ("blue=ten", "'blue=ten'"),
        ("blue=101", "above 100"),
        ("blue=60 green=60", "add up to 120"),
        ("blue=-1", "'blue=-1'"),
        ("blue=1 Blue=2", "named twice"),
        ("blue=1.5", "'blue=1.5'"),
    ],
)
def test_what_is_not_understood_is_named(text: str, word: str) -> None:
    with pytest.raises(MooringsError) as caught:
        parse([text])
    assert caught.value.failure.code == "TrafficTextInvalid"
    assert word in caught.value.failure.message


@given(TABLES, TABLES)
def test_no_zero_is_ever_left(current: dict[str, int], given_: dict[str, int]) -> None:
    assert all(apply(current, given_).values())


def test_a_table_replaces_the_old_one() -> None:
    assert apply({"blue": 90, "green": 10}, {"green": 100}) == {"green": 100}


def test_a_table_of_zeros_takes_only_these_out() -> None:
    assert apply({"blue": 50, "green": 50}, {"blue": 0}) == {"green": 50}
    assert apply({"blue": 100}, {"blue": 0}) == {}
