"""One state for each database: a file of SQLite, and a real PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorings.lib.timing import ManualClock
from moorings.state.database import Database
from moorings.state.tables import metadata


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a state may be made: a file that is not there, or the address of an empty database."""
    if request.param == "sqlite":
        return tmp_path / "state.db"
    return str(request.getfixturevalue("postgres").new_url())


@pytest.fixture(scope="module")
def server_url(postgres: Any) -> str:
    return str(postgres.new_url())


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where the state is: a file, or the address of a database, which the tests share and find without rows."""
    if request.param == "sqlite":
        return tmp_path / "state.db"
    server, url = request.getfixturevalue("postgres"), request.getfixturevalue("server_url")
    with contextlib.closing(Database.at(url, ManualClock())) as database:
        database.open()
    with server.connect(url) as connection:
        for table in metadata.sorted_tables:
            if table.name != "workspace":
                connection.execute(f"DELETE FROM {table.name}")
    return str(url)


class Clients:
    """Several clients of one state, as several processes are."""

    def __init__(self, place: Path | str, clock: ManualClock) -> None:
        self.place, self.clock = place, clock
        self.made: list[Database] = []

    def __call__(self) -> Database:
        self.made.append(Database.at(self.place, self.clock))
        return self.made[-1]

    def close(self) -> None:
        for each in self.made:
            each.close()


@pytest.fixture
def connect(place: Path | str, clock: ManualClock) -> Iterator[Clients]:
    made = Clients(place, clock)
    yield made
    made.close()


@pytest.fixture
def connect_empty(empty: Path | str, clock: ManualClock) -> Iterator[Clients]:
    made = Clients(empty, clock)
    yield made
    made.close()


@pytest.fixture
def database(connect: Clients) -> Database:
    opened = connect()
    opened.open()
    return opened
