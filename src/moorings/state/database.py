"""Transactions and migrations of the state database, SQLite or PostgreSQL. What is committed here survives any kill.

Writers come one after the other (SQLite takes the lock at BEGIN, PostgreSQL gets an advisory lock of the workspace), so a
transaction is never refused half-way, and what it has read is true when it commits. Must not know what the rows mean.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from alembic.util import CommandError
from sqlalchemy import URL, Engine, exc, insert, select

from moorings.errors.exceptions import error
from moorings.lib.timing import Clock
from moorings.state import dump, servers, tables
from moorings.state.lease_rows import Lease
from moorings.state.transaction import Transaction


class Fence:
    """Under which lease one writes, or acts on what one reads. Without it, or when it is another's by now, that is refused."""

    def __init__(self) -> None:
        self.lease: Lease | None = None

    def check(self, tx: Transaction) -> None:
        """Raises `NotLeader`. The lock of writers is held: what is true now is true when this transaction commits."""
        held = self.lease
        now = tx.lease(held.name) if held is not None else None
        if held is None or now is None or now.token != held.token or not now.holder:
            who = f"; {now.holder} leads" if now is not None and now.holder else ""
            raise error("NotLeader", f"this daemon does not lead the workspace{who}: nothing is done")


class Database:
    """One state database. Safe to use from several threads; every method blocks, so call it off the event loop."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        fence: Fence | None = None,
        read_fence: Fence | None = None,
        writers: threading.Lock | None = None,
    ) -> None:
        """`writers`: held by whoever writes in this process."""
        # SQLite has no queue: who finds the lock taken sleeps and tries again, and of many some try in vain for too long.
        self._writers = writers or threading.Lock()
        self._engine = engine
        self._clock = clock
        self._fence = fence
        self._read_fence = read_fence

    @staticmethod
    def at(place: Path | str, clock: Clock) -> Database:
        """The database in a file, or at a URL of PostgreSQL (raises ValueError when it is none)."""
        url = (
            URL.create("sqlite", database=str(place)) if isinstance(place, Path) else servers.parse_url(place)
        )
        return Database(servers.make_engine(url), clock)

    def fenced(self, fence: Fence) -> Database:
        """The same database, for whoever may write under a lease only."""
        return Database(self._engine, self._clock, fence, writers=self._writers)

    def acting(self) -> Database:
        """The same database, for whoever starts and ends things by what is read: that needs the lease, too."""
        return Database(self._engine, self._clock, self._fence, self._fence, self._writers)

    @property
    def shown(self) -> str:
        """Where it is, without its password."""
        return servers.shown(self._engine.url)

    @property
    def on_server(self) -> bool:
        """Whether it is PostgreSQL."""
        return servers.is_server(self._engine.url)

    def open(self, new_id: str | None = None, *, make: bool = True) -> str:
        """Bring the tables up to date; returns the id of the workspace (made at the first call: `new_id` if given).

        Raises LookupError where there is none and `make` does not allow one: then nothing was changed;
        `StateUnavailable` when the file cannot be read or written, or was made by a newer version,
        `StateServerUnavailable` when the server cannot be used (the machine's fault).
        """
        with self._translated(), self._engine.begin() as connection:
            dump.upgrade(connection, "head")
            found = connection.execute(select(tables.workspace.c.id)).scalar()
            if found is not None:
                Transaction(connection, self._clock.now()).recount()
                return str(found)
            if not make:
                raise LookupError(self.shown)
            new = new_id or str(uuid.uuid4())
            connection.execute(insert(tables.workspace).values(id=new, created_at=self._clock.now()))
            return new

    def dump(self) -> Iterator[tuple[str, Any]]:
        """The revision of the state, as `("", revision)`, then (table, row) of everything that is to be kept, all of
        one moment. Raises as `open`."""
        with self._translated(), self._engine.connect() as connection:
            reading = connection.execution_options(moorings_read=True)
            yield "", dump.revision_of(reading)
            yield from dump.rows_of(reading)

    def fill(self, revision: str, rows: Iterable[tuple[str, dict[str, Any]]], over: str = "") -> None:
        """Make the state of what `dump` gave, in one transaction. What a fill before has left of the workspace `over`
        is replaced.

        Raises FileExistsError where there is a workspace that has been led, or is another one: then nothing was changed.
        Else as `dump.write_rows` and `open`.
        """
        with self._translated():
            with self._engine.begin() as connection:
                found, led = dump.holder_of(connection)
                if found and (led or found != over):
                    raise FileExistsError(f"{self.shown} holds the state of workspace {found}")
                dump.write_rows(connection, revision, rows)
                sys.audit("moorings.commit")
            sys.audit("moorings.committed")

    def holder(self) -> tuple[str, bool]:
        """The id of the workspace whose state is there (empty: there is none), and whether a daemon has ever led it.
        Makes nothing on a server. Raises as `open`."""
        with self._translated(), self._engine.connect() as connection:
            return dump.holder_of(connection.execution_options(moorings_read=True))

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that may write: all of it is on disk when the block has ended, or none of it."""
        with self._writers, self._translated():
            with self._engine.begin() as connection:
                tx = Transaction(connection, self._clock.now())
                if self._fence is not None:
                    self._fence.check(tx)
                yield tx
                sys.audit("moorings.commit")
            sys.audit("moorings.committed")

    @contextlib.contextmanager
    def read(self) -> Iterator[Transaction]:
        """A consistent view; writing through it is a defect."""
        with self._translated(), self._engine.connect() as connection:
            tx = Transaction(connection.execution_options(moorings_read=True), self._clock.now())
            if self._read_fence is not None:
                self._read_fence.check(tx)
            yield tx

    def close(self) -> None:
        self._engine.dispose()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.SQLAlchemyError, CommandError) as problem:
            raise servers.failed(problem, self._engine.url) from problem
