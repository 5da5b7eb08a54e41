"""Names, shares and numbers of an instance."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.engines import layout

NAMES = st.from_regex(r"[a-zA-Z]([-a-zA-Z0-9]{1,30})[a-zA-Z0-9]", fullmatch=True)


@given(NAMES, NAMES, NAMES, NAMES)
def test_owners_never_share_a_folder(a, b, c, d):
    one, two = f"{a}/{b}", f"{c}/{d}"
    same = layout.owner_folder(Path("/r"), one) == layout.owner_folder(Path("/r"), two)
    assert same == (one == two)


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.just(total), st.integers(1, total))))
def test_shares_are_exact_and_even(case):
    total, workers = case
    shares = layout.shares(total, workers)
    assert (len(shares), sum(shares)) == (workers, total)
    assert min(shares) >= 1
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(
    ("variables", "most", "expected"),
    [
        ({}, 8, 1),
        ({"W": "4"}, 8, 4),
        ({"W": "4"}, 2, 2),
        ({"W": "0"}, 8, 1),
        ({"W": "many"}, 8, 1),
        ({"W": "-3"}, 8, 1),
    ],
)
def test_workers_are_what_the_user_says_within_what_may_run(variables, most, expected):
    assert layout.worker_count(variables, "W", most) == expected


@given(NAMES, NAMES)
def test_socket_names_are_short_whatever_the_instance_is_called(endpoint, deployment):
    instance = layout.instance_id(f"{endpoint}/{deployment}", "0123456789ab", 49)
    paths = layout.socket_paths(Path("/run"), instance, 3)
    assert len(set(paths)) == 3
    assert all(len(p.name) <= 40 for p in paths)  # what settings keep free for a name
    assert paths == layout.socket_paths(Path("/run"), instance, 3)
    assert set(paths).isdisjoint(layout.socket_paths(Path("/run"), instance + "0", 3))
