"""A home and a state that do not belong together are refused before anything is made of them."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import ManualClock
from moorings.state.binding import FILE_NAME, open_bound
from moorings.state.database import Database

NOWHERE = "postgresql://u:secret7word@127.0.0.1:1/d"


def opened(home: Path, place: Path | str) -> str:
    with contextlib.closing(Database.at(place, ManualClock())) as database:
        return open_bound(database, home)


def code(home: Path, place: Path | str) -> str:
    with pytest.raises(MooringsError) as caught:
        opened(home, place)
    return caught.value.failure.code


def test_a_home_keeps_its_id_and_an_older_one_gets_its_file(tmp_path: Path) -> None:
    first = Database.at(tmp_path / "state.db", ManualClock()).open()  # as before there was the file
    assert opened(tmp_path, tmp_path / "state.db") == first
    assert json.loads((tmp_path / FILE_NAME).read_text()) == {"id": first, "state": "sqlite"}
    assert opened(tmp_path, tmp_path / "state.db") == first


def test_a_home_with_a_file_is_not_used_with_a_server_nor_the_other_way(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    Database.at(one / "state.db", ManualClock()).open()  # older: without the file
    assert code(one, NOWHERE) == "StateElsewhere"
    opened(one, one / "state.db")
    assert code(one, NOWHERE) == "StateElsewhere"

    assert code(other, NOWHERE) == "StateServerUnavailable"  # a first start that did not get far
    assert code(other, NOWHERE) == "StateServerUnavailable"  # may be tried again
    assert code(other, other / "state.db") == "StateElsewhere"
    assert not (other / "state.db").exists()


def test_a_state_of_another_home_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    opened(one, one / "state.db")
    opened(other, other / "state.db")
    (one / "state.db").replace(other / "state.db")
    assert code(other, other / "state.db") == "StateElsewhere"


def test_a_state_that_was_lost_is_not_made_anew_as_an_empty_one(tmp_path: Path) -> None:
    place = tmp_path / "state.db"
    opened(tmp_path, place)
    place.unlink()
    assert code(tmp_path, place) == "StateElsewhere" and not place.exists()
    place.touch()
    assert code(tmp_path, place) == "StateElsewhere"
    with contextlib.closing(sqlite3.connect(place)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    (tmp_path / FILE_NAME).unlink()  # said by hand: it shall begin with nothing
    opened(tmp_path, place)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"id": 1, "state": "sqlite"}', '{"id": "x", "state": "moon"}']
)
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    assert code(tmp_path, tmp_path / "state.db") == "StateElsewhere"
