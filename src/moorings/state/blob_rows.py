"""The rows of uploaded blobs: which name has which content. The content itself is elsewhere."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from moorings.state import tables

_LAST = "\U0010ffff"
"""Sorts behind every character a name may have."""


@dataclass(frozen=True)
class Blob:
    """One blob of a container. `words` is its metadata."""

    container: str
    name: str
    data: str
    """Names the file with its content."""
    size_bytes: int
    sha256: str
    content_type: str
    words: Mapping[str, str]
    blocks: str | None
    """Hash of the list of blocks it was put together from; None where it came in one piece."""
    etag: str
    created_at: float
    updated_at: float


class BlobRows:
    """The part of a transaction that is about blobs."""

    def __init__(self, connection: Connection, now: float) -> None:
        self._connection = connection
        self.now = now

    def blob(self, container: str, name: str) -> Blob | None:
        t = tables.blobs
        query = select(t).where(t.c.container == container, t.c.name == name)
        row = self._connection.execute(query).first()
        return None if row is None else _blob(row)

    def blobs(
        self, container: str, prefix: str, *, after: str = "", top: int | None = None
    ) -> Sequence[Blob]:
        """Those whose names begin with `prefix` and come after `after`, in the order of their names."""
        t = tables.blobs
        where = [t.c.container == container, t.c.name >= prefix, t.c.name < prefix + _LAST]
        if after:
            where.append(t.c.name > after)
        query = select(t).where(*where).order_by(t.c.name)
        return [_blob(row) for row in self._connection.execute(query if top is None else query.limit(top))]

    def put_blob(
        self,
        container: str,
        name: str,
        *,
        data: str,
        size_bytes: int,
        sha256: str,
        content_type: str,
        words: Mapping[str, str],
        blocks: str | None,
    ) -> Blob:
        """Make it, or give it other content."""
        t = tables.blobs
        old = self.blob(container, name)
        row: dict[str, Any] = {
            "data": data,
            "size_bytes": size_bytes,
            "sha256": sha256,
            "content_type": content_type,
            "words": dict(words),
            "blocks": blocks,
            "etag": uuid.uuid4().hex,
            "updated_at": self.now,
        }
        if old is None:
            row |= {"container": container, "name": name, "created_at": self.now}
            self._connection.execute(insert(t).values(**row))
            return Blob(**row)
        where = (t.c.container == container, t.c.name == name)
        self._connection.execute(update(t).where(*where).values(**row))
        return Blob(**row, container=container, name=name, created_at=old.created_at)

    def set_blob_words(self, blob: Blob, words: Mapping[str, str]) -> Blob:
        t = tables.blobs
        values = {"words": dict(words), "etag": uuid.uuid4().hex, "updated_at": self.now}
        where = (t.c.container == blob.container, t.c.name == blob.name)
        self._connection.execute(update(t).where(*where).values(**values))
        return Blob(**{**vars(blob), **values})

    def drop_blobs(self, names: Sequence[tuple[str, str]]) -> None:
        """Forget these (container, name)."""
        t = tables.blobs
        for container, name in names:
            self._connection.execute(delete(t).where(t.c.container == container, t.c.name == name))

    def blobs_before(self, unix_s: float) -> Sequence[Blob]:
        """Those that nobody has written to since then."""
        t = tables.blobs
        return [_blob(row) for row in self._connection.execute(select(t).where(t.c.updated_at < unix_s))]

    def blob_data(self) -> set[str]:
        """The content files that blobs have."""
        return set(self._connection.execute(select(tables.blobs.c.data)).scalars())


def _blob(row: Row[Any]) -> Blob:
    return Blob(**row._mapping)
