"""What is true of the state in a file alone; all else: `tests/contract/state/test_state.py`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import ManualClock
from moorings.state import servers
from moorings.state.database import Database
from moorings.state.transaction import ENDPOINT


def test_a_file_that_is_no_database_is_a_coded_error(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(MooringsError) as caught:
        Database.at(tmp_path / "state.db", ManualClock()).open()
    assert caught.value.failure.code == "StateUnavailable"


def test_many_writers_of_one_process_wait_for_each_other_however_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "BUSY_TIMEOUT_S", 0)
    database = Database.at(tmp_path / "state.db", ManualClock())
    database.open()
    started = threading.Barrier(12)

    def write(number: int) -> None:
        started.wait()
        for _ in range(3):
            with database.write() as tx:
                tx.put(ENDPOINT, f"e{number}", {}, touch=True)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(write, range(12)))
    with database.read() as tx:
        assert [row.generation for row in tx.resources(ENDPOINT)] == [3] * 12
    database.close()
