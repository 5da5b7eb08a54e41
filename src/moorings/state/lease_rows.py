"""The rows of leases: who leads, by a token that grows with every change of hands. What is written under an old token is
refused, in the transaction that would write it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from moorings.state import tables


@dataclass(frozen=True)
class Lease:
    """As it was seen. Two sights that are equal mean that nobody has given a sign of life in between."""

    name: str
    holder: str
    """Empty: given up, free at once."""
    token: int
    beat: int
    """Counts the signs of life of this holder."""


class LeaseRows:
    """The part of a transaction that is about leases."""

    _connection: Connection

    def lease(self, name: str) -> Lease | None:
        t = tables.leases
        row = self._connection.execute(select(t).where(t.c.name == name)).first()
        return None if row is None else Lease(**row._mapping)

    def take_lease(self, name: str, holder: str, seen: Lease | None) -> Lease | None:
        """Take over what was `seen` (None: there was none); None when it has changed since."""
        t = tables.leases
        if self.lease(name) != seen:
            return None
        taken = Lease(name, holder, 1 if seen is None else seen.token + 1, 0)
        if seen is None:
            self._connection.execute(insert(t).values(**vars(taken)))
        else:
            self._connection.execute(update(t).where(t.c.name == name).values(**vars(taken)))
        return taken

    def beat_lease(self, held: Lease, *, end: bool = False) -> Lease | None:
        """A sign of life, or the end of it; None when somebody else has it by now."""
        t = tables.leases
        values = {"beat": t.c.beat + 1, "holder": "" if end else held.holder}
        mine = (t.c.name == held.name, t.c.token == held.token)
        done = self._connection.execute(update(t).where(*mine).values(**values))
        return self.lease(held.name) if done.rowcount else None
