"""When a lease may be taken, told by what was seen and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from moorings.controller.leadership import TERM_S, Election, Sight
from moorings.lib.timing import ManualClock
from moorings.state.database import Database, Fence
from moorings.state.lease_rows import Lease

HELD = Lease("leader", "a", 3, 7)


@pytest.mark.parametrize(
    ("lease", "after_s", "free"),
    [
        (None, 0, True),
        (HELD, 0, False),
        (HELD, TERM_S - 0.01, False),
        (HELD, TERM_S, True),
        (Lease("leader", "", 3, 7), 0, True),  # given up
        (Lease("leader", "b", 3, 7), 0, True),  # ours, before we were started anew
    ],
)
def test_a_lease_is_free_when_nobody_has_it_or_nobody_lives(
    lease: Lease | None, after_s: float, free: bool
) -> None:
    assert Sight(lease, 100.0).free("b", 100.0 + after_s) is free


def test_a_sign_of_life_begins_the_wait_anew() -> None:
    sight = Sight(HELD, 100.0)
    assert sight.then(HELD, 104.0).since == 100.0
    assert sight.then(Lease("leader", "a", 3, 8), 104.0).since == 104.0


def test_a_silent_leader_is_followed_and_a_living_one_is_not(tmp_path: Path) -> None:
    clock = ManualClock()
    database = Database.at(tmp_path / "state.db", clock)
    database.open()
    fences = Fence(), Fence()
    a, b = (Election(database, fence, name, clock) for fence, name in zip(fences, "ab", strict=True))
    a._look(None)
    sight = b._look(None)
    for _ in range(10):
        clock.advance(TERM_S - 1)
        assert a._beat()
        sight = b._look(sight)
    assert a.leads and not b.leads and b.leader == "a"
    clock.advance(TERM_S)
    b._look(sight)
    assert b.leads and not a._beat()
    b.end()
    assert a._look(None) and fences[0].lease is not None and fences[0].lease.token == 3
