"""What deployments hold of the quota, as rows that are kept beside those of the deployments: written in the same transaction
as whatever they follow from, so that there is no moment at which they say something else. It must not know what there is to
be held, nor whether it is enough.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, case, delete, func, insert, select

from moorings.spec.quota import Count, Total, carried, counts
from moorings.spec.scaling import most_of
from moorings.state import tables


def counts_of(
    spec: Mapping[str, Any],
    earlier: Mapping[str, Any] | None,
    status: Mapping[str, Any],
    autoscale: Mapping[str, Any] | None,
) -> tuple[Count, ...]:
    """What the row of a deployment holds; until the row is gone, whatever state it is in."""
    return counts(spec, carried(earlier, status), most_of(autoscale))


class HoldingRows:
    """The part of a transaction that knows the table of holdings."""

    _connection: Connection

    def held(self, *, apart: Collection[str] = ()) -> list[Total]:
        """What all deployments but those named hold together: a sum that the database makes."""
        t = tables.holdings
        devices = case((t.c.wanted > 0, t.c.wanted), else_=t.c.counted)
        query = select(t.c.type, func.sum(t.c.counted), func.sum(devices)).group_by(t.c.type)
        query = query.where(t.c.name.not_in(sorted(apart))).order_by(t.c.type)
        return [Total(row[0], int(row[1]), int(row[2])) for row in self._connection.execute(query)]

    def holdings(self) -> dict[str, tuple[Count, ...]]:
        """By deployment, sorted; what it asks for comes before what is left of earlier generations."""
        t = tables.holdings
        found: dict[str, list[Count]] = {}
        for row in self._connection.execute(select(t).order_by(t.c.name, t.c.wanted.desc(), t.c.type)):
            found.setdefault(row.name, []).append(Count(row.type, row.wanted, row.counted))
        return {name: tuple(each) for name, each in found.items()}

    def hold(self, name: str, wanted: Sequence[Count]) -> None:
        """A deployment holds this from now on; nothing: it is gone."""
        t = tables.holdings
        query = select(t).where(t.c.name == name).order_by(t.c.wanted.desc(), t.c.type)
        if [Count(row.type, row.wanted, row.counted) for row in self._connection.execute(query)] == list(
            wanted
        ):
            return
        self._connection.execute(delete(t).where(t.c.name == name))
        rows = [{"name": name, "type": c.type, "wanted": c.wanted, "counted": c.counted} for c in wanted]
        if rows:
            self._connection.execute(insert(t), rows)
