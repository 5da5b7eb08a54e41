"""All rows of a state as values that either database can take: how a workspace is backed up, and moved from one to the other.

What only means something where it was made is left out: leases, and what was observed of deployments (paths, processes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, String, Table, Text, insert, select

LEFT_OUT = frozenset({"alembic_version", "leases"})
_NUMBERED = {"events": "id"}
"""Tables whose rows get numbers of their own, in the order in which they come."""
_BATCH = 500


def revision_of(connection: Connection) -> str:
    """Which migrations the state has seen; empty: none."""
    seen = _tables(connection, all_=True).get("alembic_version")
    return "" if seen is None else str(connection.execute(select(seen)).scalar() or "")


def rows_of(connection: Connection) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) of everything that is kept; the row of the workspace first."""
    tables = _tables(connection)
    for name in sorted(tables, key=lambda n: (n != "workspace", n)):
        table = tables[name]
        number = _NUMBERED.get(name)
        query = select(table) if number is None else select(table).order_by(table.c[number])
        for row in connection.execute(query):
            values = {key: value for key, value in row._mapping.items() if key != number}
            if name == "resources":
                values["status"] = {}
            yield name, values


def write_rows(connection: Connection, revision: str, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Make the tables of that revision, fill them, and bring them up to date.

    Raises KeyError for rows that no table can hold, ValueError for a revision that is not known: of a newer version.
    """
    _upgrade(connection, revision)
    tables = _tables(connection)
    for table in tables.values():
        connection.execute(table.delete())
    batch: list[dict[str, Any]] = []
    of = ""
    for name, values in rows:
        if name not in tables or set(values) - set(tables[name].c.keys()):
            raise KeyError(name)
        if batch and (name != of or len(batch) == _BATCH):
            connection.execute(insert(tables[of]), batch)
            batch = []
        of = name
        batch.append(values)
    if batch:
        connection.execute(insert(tables[of]), batch)
    _upgrade(connection, "head")


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as problem:
        raise ValueError(f"revision {revision!r} is not known: {problem}") from None


def _tables(connection: Connection, *, all_: bool = False) -> dict[str, Table]:
    known = MetaData()
    known.reflect(connection)
    for table in known.tables.values():  # what one database says of its text means nothing to the other
        for column in table.columns:
            if isinstance(column.type, String):
                column.type = Text()
    return {name: table for name, table in known.tables.items() if all_ or name not in LEFT_OUT}
