"""All rows of a state as values that either database can take: how a workspace is backed up, and moved from one to the other.

What only means something where it was made is left out: leases, and what was observed of deployments (paths, processes);
and what follows from the rest is counted anew by whoever opens the state: holdings.
What became of rollouts stays: one that has ended must not begin anew.
Other tables, which somebody else has in the same schema, are neither read nor touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import JSON, Connection, MetaData, String, Table, Text, insert, inspect, select

from moorings.state.tables import metadata
from moorings.state.transaction import ROLLOUT

LEFT_OUT = frozenset({"alembic_version", "holdings", "leases"})
OURS = frozenset({"alembic_version", *metadata.tables})
"""Every table that any migration has made. One that a migration drops stays in here: older states have it."""
_NUMBERED = {"events": "id"}
"""Tables whose rows get numbers of their own, in the order in which they come."""
_BATCH = 500


def revision_of(connection: Connection) -> str:
    """Which migrations the state has seen; empty: none."""
    seen = _tables(connection, all_=True).get("alembic_version")
    return "" if seen is None else str(connection.execute(select(seen)).scalar() or "")


def holder_of(connection: Connection) -> tuple[str, bool]:
    """The id of the workspace whose state it is (empty: there is none), and whether a daemon has ever led it."""
    tables = _tables(connection, all_=True)
    if "workspace" not in tables:
        return "", False
    found = connection.execute(select(tables["workspace"].c.id)).scalar()
    led = "leases" in tables and connection.execute(select(tables["leases"])).first() is not None
    return str(found or ""), led


def rows_of(connection: Connection) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) of everything that is kept; the row of the workspace first."""
    tables = _tables(connection)
    for name in sorted(tables, key=lambda n: (n != "workspace", n)):
        table = tables[name]
        number = _NUMBERED.get(name)
        query = select(table) if number is None else select(table).order_by(table.c[number])
        for row in connection.execute(query):
            values = {key: value for key, value in row._mapping.items() if key != number}
            if name == "resources" and values["kind"] != ROLLOUT:
                values["status"] = {}
            yield name, values


def write_rows(connection: Connection, revision: str, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Make the tables of that revision in the place of those that are there, fill them, and bring them up to date.

    Raises KeyError for rows that no table can hold, ValueError for a revision that is not known: of a newer version.
    """
    for table in _tables(connection, all_=True).values():
        table.drop(connection)
    try:
        upgrade(connection, revision)
    except CommandError as problem:
        raise ValueError(f"revision {revision!r} is not known: {problem}") from None
    tables = _tables(connection)
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
    upgrade(connection, "head")


def upgrade(connection: Connection, revision: str) -> None:
    """Run the migrations up to `revision`. Raises CommandError where it is not known: of a newer version."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _tables(connection: Connection, *, all_: bool = False) -> dict[str, Table]:
    known = MetaData()
    known.reflect(connection, only=sorted(OURS.intersection(inspect(connection).get_table_names())))
    for table in known.tables.values():  # what one database says of its text means nothing to the other
        for column in table.columns:
            if isinstance(column.type, String):
                column.type = Text()
            elif isinstance(column.type, JSON) and column.nullable:
                column.type = JSON(
                    none_as_null=True
                )  # nothing comes back as nothing, not as a `null` of JSON
    return {name: table for name, table in known.tables.items() if all_ or name not in LEFT_OUT}
