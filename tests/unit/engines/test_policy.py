"""When a worker is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moorings.engines.policy import crash_loops, crashes_in_a_row, restart_delay_s


def after(crashes: int, **changes):
    return restart_delay_s(**{"proven": True, "code": 1, "kind": None, "crashes": crashes, **changes})


def test_delays_double_up_to_a_bound():
    assert [after(n) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


@given(
    st.integers(1, 10_000),
    st.sampled_from([None, 0, 1, 3, 139]),
    st.sampled_from([None, "liveness", "boot_timeout"]),
)
def test_what_has_been_running_is_started_for_ever(crashes, code, kind):
    delay_s = after(crashes, code=code, kind=kind)
    assert delay_s is not None
    assert 0.5 <= delay_s <= 30


def test_a_boot_is_tried_three_times_in_all():
    assert [after(n, proven=False) is None for n in (1, 2, 3)] == [False, False, True]


def test_what_cannot_change_is_not_tried_again():
    assert after(1, proven=False, code=3) is None
    assert after(1, proven=False, code=None, kind="boot_timeout") is None
    assert after(1, proven=False, code=None, kind="cannot_start") is None
    assert after(1, proven=False, code=None, over_its_limit=True) is None
    assert after(1, code=None, over_its_limit=True) is not None


def test_ends_after_short_services_are_a_loop_for_a_minute():
    ends = [(100.0, 5.0), (110.0, 0.2), (125.0, 7.0)]
    assert not crash_loops(ends[:2], 126.0)
    assert crash_loops(ends, 126.0)
    assert crash_loops(ends, 184.9)
    assert not crash_loops(ends, 185.0)
    assert not crash_loops([*ends[:2], (200.0, 60.0)], 201.0), "one of them stayed"
    assert not crash_loops([*ends[:2], (125.0, None)], 126.0), "a boot that failed is another matter"
    assert crash_loops([(1.0, 500.0), *ends], 126.0), "what was before does not count"


def test_a_minute_in_service_makes_it_a_first_crash():
    assert crashes_in_a_row(7, served_s=59.9) == 8
    assert crashes_in_a_row(7, served_s=60.0) == 1
