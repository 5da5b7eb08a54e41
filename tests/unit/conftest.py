"""What unit tests of several areas begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from moorings.lib.timing import ManualClock
from moorings.state.database import Database


@pytest.fixture(scope="session")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state database with its tables and nothing in them."""
    path = tmp_path_factory.mktemp("state") / "state.db"
    database = Database.at(path, ManualClock())
    database.open()
    database.close()
    return path
