"""Limits that a workspace has set, by region and name. What is held of them is in the rows of holdings."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from moorings.state import tables


class QuotaRows:
    """The part of a transaction that knows the table of quotas."""

    def __init__(self, connection: Connection, now: float) -> None:
        self._connection = connection
        self.now = now

    def quotas(self, region: str) -> dict[str, int]:
        """Name -> limit, for the names that have one."""
        t = tables.quotas
        rows = self._connection.execute(select(t.c.name, t.c.limit).where(t.c.region == region))
        return {row.name: row.limit for row in rows}

    def set_quota(self, region: str, name: str, limit: int | None) -> None:
        """None takes the limit away."""
        t = tables.quotas
        self._connection.execute(delete(t).where(t.c.region == region, t.c.name == name))
        if limit is not None:
            row = {"region": region, "name": name, "limit": limit, "updated_at": self.now}
            self._connection.execute(insert(t).values(**row))
