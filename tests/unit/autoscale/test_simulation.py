"""Traces played through the policy: the figures add up, and what people write wrong is told."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorings.autoscale.picture import picture
from moorings.autoscale.policy import TargetPolicy
from moorings.autoscale.simulation import Outcome, Stretch, Workload, simulate
from moorings.autoscale.trace import parse
from moorings.errors.exceptions import MooringsError

SVG = "{http://www.w3.org/2000/svg}"


def policy(least: int = 1, most: int = 10, **more: float) -> TargetPolicy:
    return TargetPolicy(least=least, most=most, slots=1, utilization=0.7, **more)


def stretches(*parts: tuple[float, float]) -> list[Stretch]:
    found, at = [], 0.0
    for length, rate in parts:
        found.append(Stretch(at, at + length, rate))
        at += length
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1, 20), st.floats(0, 40)), min_size=1, max_size=5),
    st.integers(0, 3),
    st.integers(1, 8),
    st.floats(0.01, 1),
)
def test_every_request_ends_one_way_and_the_bounds_hold(
    parts: list[tuple[float, float]], least: int, more: int, request_s: float
) -> None:
    outcome = simulate(stretches(*parts), Workload(request_s), policy(least, least + more), least)
    assert outcome.served + outcome.rejected + outcome.timed_out == outcome.requests
    assert all(least <= row.wanted <= least + more for row in outcome.rows)
    assert all(row.serving <= least + more for row in outcome.rows)
    ElementTree.fromstring(picture(outcome, "a <b> & c"))


def test_a_step_of_load_is_followed_and_refuses_only_while_instances_start() -> None:
    outcome = simulate(stretches((30, 2), (60, 40), (90, 2)), Workload(0.1, start_s=2), policy(), 1)
    assert outcome.most >= 6
    late = [row.rejected + row.timed_out for row in outcome.rows if row.at_s > 40]
    assert outcome.rejected > 0
    assert sum(late) <= 0.02 * outcome.requests
    assert outcome.rows[-1].serving < 6, "it has come down again"


def test_enough_instances_from_the_beginning_refuse_almost_nobody() -> None:
    load = stretches((60, 40))
    few = simulate(load, Workload(0.1), policy(1, 1), 1)
    many = simulate(load, Workload(0.1), policy(8, 8), 8)
    assert few.rejected > 0.5 * few.requests
    assert many.rejected + many.timed_out <= 0.01 * many.requests
    assert (few.instance_seconds, many.instance_seconds) == (pytest.approx(60), pytest.approx(480))


def test_the_first_request_waits_for_the_first_instance() -> None:
    outcome = simulate(stretches((30, 0.3)), Workload(0.1, start_s=4), policy(0, 2, zero_after_s=20), 0)
    assert outcome.rejected == outcome.timed_out == 0
    assert outcome.longest_wait_s > 3
    never = simulate(stretches((30, 0.1)), Workload(0.1, start_s=99, activation_timeout_s=5), policy(0, 2), 0)
    assert never.timed_out >= never.requests - 1 > 0


def test_the_same_trace_gives_the_same_picture_and_the_picture_shows_the_figures() -> None:
    def once() -> Outcome:
        return simulate(stretches((20, 30)), Workload(0.2), policy(1, 2), 1)

    drawn = picture(once(), "trace")
    assert drawn == picture(once(), "trace")
    root = ElementTree.fromstring(drawn)
    bars = [box for box in root.iter(f"{SVG}rect") if box.get("class") == "r"]
    assert len(bars) == sum(row.rejected > 0 for row in once().rows)
    assert f"{once().rejected} rejected" in drawn


# --- traces -------------------------------------------------------------------------------------------------
def test_rates_counts_and_dates() -> None:
    assert parse("seconds,rps\n0,1\n10,5\n", "t.csv") == [Stretch(0, 10, 1), Stretch(10, 20, 5)]
    assert parse("time,requests\n0,20\n10,50\n\n", "t.csv") == [Stretch(0, 10, 2), Stretch(10, 20, 5)]
    dated = "x,timestamp,rate\na,2026-11-20T12:00:00,1\nb,2026-11-20T12:01:00Z,2\n"
    assert parse(dated, "t.csv") == [Stretch(0, 60, 1), Stretch(60, 120, 2)]


def test_every_wrong_line_is_told_at_once() -> None:
    with pytest.raises(MooringsError) as caught:
        parse("seconds,rps\n0,1\nsoon,x\n0,-1\n5\n", "t.csv")
    assert caught.value.failure.code == "TraceInvalid"
    assert [line.split(";")[0] for line in caught.value.failure.evidence] == [
        "t.csv:3: found 'soon'",
        "t.csv:3: found 'x'",
        "t.csv:4: found '-1'",
        "t.csv:5: found ''",
    ]


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "seconds,rps\n0,1\n", "seconds,rps\n0,9e9\n9,1\n", "seconds,rps\n5,1\n4,1\n"]
)
def test_no_traceback_for_what_is_no_trace(text: str) -> None:
    with pytest.raises(MooringsError, match="TraceInvalid"):
        parse(text, "t.csv")


@given(st.text(max_size=200))
def test_any_text_is_a_trace_or_a_coded_failure(text: str) -> None:
    try:
        parse("seconds,rps\n" + text, "t.csv")
    except MooringsError as problem:
        assert problem.failure.code == "TraceInvalid"


def test_the_picture_of_the_page_is_that_of_its_trace() -> None:
    """To renew it: run the command of the page, with --picture docs/how-to/pictures/autoscale.svg."""
    pages = Path(__file__).parents[3] / "docs" / "how-to"
    text = (pages / "autoscale.md").read_text()
    trace = parse(text.partition("<<'CSV'\n")[2].partition("CSV\n")[0], "day.csv")
    outcome = simulate(trace, Workload(0.1, start_s=3.0), policy(1, 12), 1)
    drawn = picture(outcome, "day.csv: 1 to 12 instances at 70 %")
    assert drawn == (pages / "pictures" / "autoscale.svg").read_text()
