"""The fault suite in its shortest form: what is counted has to hold; times are for `make faults`, on a quiet machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import scenarios
from corpus_site import workspace_with
from hypothesis import given
from hypothesis import strategies as st
from scenarios import Size
from scene import Scene, upper_bound

pytestmark = pytest.mark.alone

ONCE = Size("once", times=1, step=50, hold_s=2)
RATE_PER_S = 50.0


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with workspace_with({}) as workspace:
        made = Scene(workspace, RATE_PER_S)
        made.build()
        yield made


@pytest.mark.parametrize(
    "scenario",
    [
        scenarios.rolling_update,
        scenarios.traffic_shift,
        scenarios.rotate_keys,
        scenarios.kill_daemon,
        scenarios.kill_agent,
        scenarios.leaving_clients,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_no_request_is_lost(scene: Scene, scenario: scenarios.Scenario) -> None:
    scene.settled()
    outcome = scenario(scene, ONCE)
    assert outcome.sent > RATE_PER_S
    assert outcome.failed == 0, outcome


@pytest.mark.parametrize(
    "scenario", [scenarios.kill_worker, scenarios.kill_instance], ids=lambda scenario: scenario.__name__
)
def test_a_kill_costs_no_more_than_what_was_running(scene: Scene, scenario: scenarios.Scenario) -> None:
    scene.settled()
    outcome = scenario(scene, ONCE)
    assert outcome.failed <= scenarios.PLACES, outcome
    assert outcome.notes["answers_without_a_code"] == 0, outcome


@given(st.integers(0, 200), st.integers(1, 10**7))
def test_the_bound_is_above_what_was_seen(failed: int, more: int) -> None:
    sent = failed + more
    bound = upper_bound(failed, sent)
    assert failed / sent <= bound <= 1
    assert upper_bound(failed + 1, sent + 1) >= bound - 1 / sent


def test_the_bound_of_no_failure_is_three_of_all() -> None:
    assert upper_bound(0, 100_000) == pytest.approx(3e-5, rel=0.01)
