"""The fault suite in its shortest form: what is counted has to hold; times are for `make faults`, on a quiet machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random

import healing
import lapsing
import pytest
import rows
import scenarios
from corpus_site import borrowed, workspace_with
from hypothesis import given
from hypothesis import strategies as st
from memory import means, slope
from scenarios import SHORT, Size
from scene import Outcome, Scene, upper_bound

pytestmark = pytest.mark.alone

ONCE = replace(SHORT, name="once", times=1, kills=1, step=50, hold_s=2, away_s=2)
RATE_PER_S = 50.0

groups = borrowed("groups.py", "moorings_groups")
load = borrowed("../bench/load.py", "moorings_load")

Scenario = Callable[[Scene, Size], Outcome]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with groups.memory_group() as group, workspace_with(groups.below(group)) as workspace:
        made = Scene(workspace, RATE_PER_S)
        made.build()
        yield made


@pytest.mark.parametrize(
    "scenario",
    [
        scenarios.rolling_update,
        scenarios.traffic_shift,
        scenarios.rotate_keys,
        scenarios.daemon_away,
        scenarios.kill_agent,
        scenarios.leaving_clients,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_no_request_is_lost(scene: Scene, scenario: Scenario) -> None:
    scene.settled()
    outcome = scenario(scene, ONCE)
    assert outcome.sent > RATE_PER_S
    assert outcome.failed == 0, outcome


@pytest.mark.parametrize(
    "scenario", [scenarios.kill_worker, scenarios.kill_instance], ids=lambda scenario: scenario.__name__
)
def test_a_kill_costs_no_more_than_what_was_running(scene: Scene, scenario: Scenario) -> None:
    scene.settled()
    outcome = scenario(scene, ONCE)
    assert outcome.failed <= scenarios.PLACES, outcome
    assert outcome.notes["without_a_code"] == 0, outcome


def test_workers_that_fail_are_left_out_replaced_and_named_and_harm_nobody(scene: Scene) -> None:
    scene.settled()
    with scene.load() as result, ThreadPoolExecutor(1) as beside:
        lapsed = beside.submit(lapsing.lapse, scene, 2)
        cases = healing.heal(scene, ("stopped", "deadlocked", "exiting", "starved"))
        seen = lapsed.result()
    assert [problem for case in cases.values() for problem in healing.problems(case, timed=False)] == []
    assert lapsing.problems(seen) == []
    assert result.seen.failed == 0, result.seen.failures()


@given(st.integers(0, 200), st.integers(1, 10**7))
def test_the_bound_is_above_what_was_seen(failed: int, more: int) -> None:
    sent = failed + more
    bound = upper_bound(failed, sent)
    assert failed / sent <= bound <= 1
    assert upper_bound(failed + 1, sent + 1) >= bound - 1 / sent


def test_the_bound_of_no_failure_is_three_of_all() -> None:
    assert upper_bound(0, 100_000) == pytest.approx(3e-5, rel=0.01)


@given(st.floats(-50, 50), st.floats(1, 1000), st.integers(3, 40))
def test_a_line_has_its_own_slope(per_hour: float, level: float, count: int) -> None:
    found = slope([(at * 60.0, level + per_hour * at / 60) for at in range(count)])
    assert found.per_hour == pytest.approx(per_hour, abs=1e-6)
    assert found.give_or_take == pytest.approx(0, abs=1e-5)


def test_the_interval_of_a_slope_holds_as_often_as_it_says() -> None:
    random = Random(1)
    held = 0
    for _ in range(2000):
        points = [(at * 300.0, 50 + 2 * at / 12 + random.gauss(0, 3)) for at in range(11)]
        found = slope(points)
        held += abs(found.per_hour - 2) <= found.give_or_take
    assert 0.93 <= held / 2000 <= 0.97


def test_two_points_say_nothing_of_a_slope() -> None:
    assert math.isinf(slope([(0, 1), (1, 2)]).give_or_take)


def test_means_leave_out_the_beginning_and_what_is_not_whole() -> None:
    points = [(float(at), float(at // 10)) for at in range(100, 145)]
    assert means(points, 10) == [(115.0, 11.0), (125.0, 12.0), (135.0, 13.0)]


def _row(fault: str, size: str, *, held: bool = True) -> dict[str, object]:
    outcome = Outcome(fault, f"title of {fault}", 2, 1000, 1 - held, "0 failed", held, {"p99_ms": 3.5})
    return rows.row(outcome, rows.Run(size, "2026-01-02T03:04:05Z", "abc", "2 CPUs"), 1.5)


def test_a_row_takes_the_place_of_the_one_before_it_and_of_no_other() -> None:
    found = rows.merged(
        [_row("a", "long"), _row("a", "short"), _row("b", "long")], _row("a", "long", held=False)
    )
    assert [(each["fault"], each["size"], each["held"]) for each in found] == [
        ("a", "long", False),
        ("a", "short", True),
        ("b", "long", True),
    ]


def test_a_row_that_did_not_hold_is_on_the_page() -> None:
    page = rows.page([_row("a", "long"), _row("b", "short", held=False)])
    assert "| title of b | 2 | 1 / 1,000 |" in page
    assert "| **no** | short, 2026-01-02, `abc`, 1.5 min, machine 1 |" in page
    assert "- **title of b** (`abc`)\n  - p99 ms: 3.5\n" in page


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nok", (200, b"ok", True)),
        (b"HTTP/1.1 429 Too Many\r\nconnection: close\r\ncontent-length: 1\r\n\r\n!", (429, b"!", False)),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            (200, b"abcde", True),
        ),
    ],
)
def test_the_generator_reads_answers_however_they_are_cut(
    answer: bytes, read: tuple[int, bytes, bool]
) -> None:
    assert load.parsed(answer) == read
    assert all(load.parsed(answer[:length]) is None for length in range(len(answer)))
