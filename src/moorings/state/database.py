"""Transactions and migrations of the state database, SQLite or PostgreSQL. What is committed here survives any kill.

Writers come one after the other (SQLite takes the lock at BEGIN, PostgreSQL gets an advisory lock of the workspace), so a
transaction is never refused half-way, and what it has read is true when it commits. Must not know what the rows mean.
"""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import URL, Engine, exc, insert, make_url, select

from moorings.lib.timing import Clock
from moorings.state import servers, tables
from moorings.state.transaction import Transaction


class Database:
    """One state database. Safe to use from several threads; every method blocks, so call it off the event loop."""

    def __init__(self, url: str | URL, clock: Clock) -> None:
        self._clock = clock
        self._engine: Engine = servers.make_engine(make_url(url))

    @staticmethod
    def at(place: Path | str, clock: Clock) -> Database:
        """The database in a file, or at a URL of PostgreSQL (raises ValueError when it is none)."""
        url = (
            URL.create("sqlite", database=str(place)) if isinstance(place, Path) else servers.parse_url(place)
        )
        return Database(url, clock)

    @property
    def shown(self) -> str:
        """Where it is, without its password."""
        return servers.shown(self._engine.url)

    @property
    def on_server(self) -> bool:
        """Whether it is PostgreSQL."""
        return servers.is_server(self._engine.url)

    def open(self, new_id: str | None = None) -> str:
        """Bring the tables up to date; returns the id of the workspace (made at the first call: `new_id` if given).

        Raises `StateUnavailable` when the file cannot be read or written, or was made by a newer version,
        `StateServerUnavailable` when the server cannot be used (the machine's fault).
        """
        with self._translated(), self._engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            found = connection.execute(select(tables.workspace.c.id)).scalar()
            if found is not None:
                return str(found)
            new = new_id or str(uuid.uuid4())
            connection.execute(insert(tables.workspace).values(id=new, created_at=self._clock.now()))
            return new

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that may write: all of it is on disk when the block has ended, or none of it."""
        with self._translated():
            with self._engine.begin() as connection:
                yield Transaction(connection, self._clock.now())
                sys.audit("moorings.commit")
            sys.audit("moorings.committed")

    @contextlib.contextmanager
    def read(self) -> Iterator[Transaction]:
        """A consistent view; writing through it is a defect."""
        with self._translated(), self._engine.connect() as connection:
            yield Transaction(connection.execution_options(moorings_read=True), self._clock.now())

    def close(self) -> None:
        self._engine.dispose()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.SQLAlchemyError, CommandError) as problem:
            raise servers.failed(problem, self._engine.url) from problem
