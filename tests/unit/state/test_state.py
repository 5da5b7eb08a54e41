"""What is true of the state in a file alone; all else: `tests/contract/test_state.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import ManualClock
from moorings.state.database import Database


def test_a_file_that_is_no_database_is_a_coded_error(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(MooringsError) as caught:
        Database.at(tmp_path / "state.db", ManualClock()).open()
    assert caught.value.failure.code == "StateUnavailable"
