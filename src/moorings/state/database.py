"""Connection, transactions and migrations of the state database. What is committed here survives any kill.

SQLite in WAL mode with synchronous=FULL: a commit that returned is on disk. Writers take the lock at BEGIN, so a
transaction never fails half-way for want of it. Must not know what the rows mean.
"""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, exc, insert, select

from moorings.errors.exceptions import error
from moorings.lib.timing import Clock
from moorings.state import tables
from moorings.state.transaction import Transaction

BUSY_TIMEOUT_MS = 10_000


class Database:
    """One state database. Safe to use from several threads; every method blocks, so call it off the event loop."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._clock = clock
        self._url = url
        self._engine: Engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)

    @staticmethod
    def at(path: Path, clock: Clock) -> Database:
        return Database(f"sqlite:///{path}", clock)

    def open(self) -> str:
        """Bring the tables up to date; returns the id of the workspace (made at the first call).

        Raises `StateUnavailable` when the file cannot be read or written, or was made by a newer version
        (the machine's fault).
        """
        with self._translated(), self._engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            found = connection.execute(select(tables.workspace.c.id)).scalar()
            if found is not None:
                return str(found)
            new = str(uuid.uuid4())
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
        except (exc.DBAPIError, CommandError) as problem:
            reason = problem.orig if isinstance(problem, exc.DBAPIError) else problem
            raise error(
                "StateUnavailable",
                f"the state database cannot be used: {reason}",
                target=self._engine.url.database,
                fields={"path": Path(self._engine.url.database or "").parent},
            ) from problem


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's BEGIN below is the only one
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    read = connection.get_execution_options().get("moorings_read", False)
    connection.exec_driver_sql("BEGIN" if read else "BEGIN IMMEDIATE")
