"""Words of the command line before they are parsed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.cli.args import Flag, FlagError, expand

FLAGS = (
    Flag(("--endpoint-name", "-e")),
    Flag(("--name", "-n")),
    Flag(("--no-wait",), takes_value=False),
    Flag(("--set",), takes_several=True),
    Flag(("--traffic", "-r"), takes_several=True),
    Flag(("--lines", "-l", "--tail")),
)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--endpoint", "a"], ["--endpoint-name", "a"]),
        (["--endpoint=a"], ["--endpoint-name", "a"]),
        (["--no-w"], ["--no-wait"]),
        (["--set", "a=1", "b=2", "--name", "x"], ["--set", "a=1", "--set", "b=2", "--name", "x"]),
        (["--set=a=1", "b=2"], ["--set", "a=1", "--set", "b=2"]),
        (["-r", "blue=9", "green=1", "-n", "x"], ["-r", "blue=9", "-r", "green=1", "-n", "x"]),
        (["\u2013-tail", "5"], ["--tail", "5"]),
        (["\u2014name", "x"], ["--name", "x"]),
        (["\u2013n", "x"], ["-n", "x"]),
        (["-nx"], ["-nx"]),
        (["--unknown", "1"], ["--unknown", "1"]),
        (["--", "--endpoint", "a"], ["--", "--endpoint", "a"]),
        (["--name", "-x"], ["--name", "-x"]),
    ],
)
def test_what_is_typed_and_what_is_meant(typed: list[str], meant: list[str]) -> None:
    assert expand(typed, FLAGS) == meant


@pytest.mark.parametrize("typed", [["--n", "x"], ["--name"], ["--set"], ["--name", "--no-wait"]])
def test_what_cannot_be_meant(typed: list[str]) -> None:
    with pytest.raises(FlagError):
        expand(typed, FLAGS)


def test_an_exact_name_beats_a_longer_one() -> None:
    flags = (Flag(("--name",)), Flag(("--name-long",)))
    assert expand(["--name", "x"], flags) == ["--name", "x"]


@given(st.lists(st.from_regex(r"[a-z0-9 =\"'.\[\]]+", fullmatch=True), min_size=1, max_size=6))
def test_every_value_of_a_greedy_flag_arrives_once_and_in_order(values: list[str]) -> None:
    words = expand(["--set", *values, "--no-wait"], FLAGS)
    assert words[-1] == "--no-wait"
    assert words[:-1:2] == ["--set"] * len(values)
    assert words[1:-1:2] == values
