"""A sample of the kill points of each operation, the same at each run; all of them: `make kill-points`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kill_points import Operation, Row, killing_workspace, operations, try_point
from killing import Killing

# A connection that is refused because the daemon was killed leaves a socket to the garbage collector.
pytestmark = [
    pytest.mark.alone,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
IN_TEST_RACES = {"deployment create", "deployment update", "deployment delete", "environment build"}
SAMPLE = (1, 3)
"""Steps of which each operation has at least so many: a commit and what follows it."""


@pytest.fixture(scope="module")
def killing() -> Iterator[Killing]:
    with killing_workspace() as made:
        yield made


@pytest.mark.parametrize(
    "operation",
    [o for o in operations() if o.name not in IN_TEST_RACES],
    ids=lambda o: o.name.replace(" ", "-"),
)
def test_a_daemon_killed_in_the_middle_loses_nothing_and_leaves_nothing(
    killing: Killing, operation: Operation
) -> None:
    row = Row(operation.name)
    for n, at in enumerate(SAMPLE):
        assert try_point(killing, operation, at, 1000 + n, row), f"{operation.name} has fewer than {at} steps"
    assert (row.points, row.lost, row.leftovers) == (len(SAMPLE), [], [])
