"""The rows of registered assets: versions, and the containers that hold all versions of one name. Content is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    and_,
    cast,
    func,
    insert,
    or_,
    select,
    update,
)

from moorings.state import tables


class View(StrEnum):
    """Which assets a list shows: the values of `listViewType`."""

    ACTIVE = "ActiveOnly"
    ARCHIVED = "ArchivedOnly"
    ALL = "All"


@dataclass(frozen=True)
class Asset:
    """One version of a model, code folder, environment or data asset. `body` is its ARM `properties`."""

    kind: str
    name: str
    version: str
    digest: str | None
    body: Mapping[str, Any]
    archived: bool
    """Of this version alone; its container may be archived as a whole."""
    created_at: float
    updated_at: float


@dataclass(frozen=True)
class Container:
    """All versions of one name. `body` is its ARM `properties`: description, tags, properties."""

    kind: str
    name: str
    anonymous: bool
    """Whether all of its versions were registered implicitly; then no list shows it."""
    archived: bool
    body: Mapping[str, Any]
    created_at: float
    updated_at: float


@dataclass(frozen=True)
class Numbering:
    """Which versions of a name there are, in short."""

    latest: str | None
    """The newest that is not archived itself."""
    following: str
    """The number after the highest; versions that are no numbers do not count."""


class AssetRows:
    """The part of a transaction that is about assets."""

    def __init__(self, connection: Connection, now: float) -> None:
        self._connection = connection
        self.now = now

    # --- versions ---

    def asset(self, kind: str, name: str, version: str) -> Asset | None:
        t = tables.assets
        where = (t.c.kind == kind, t.c.name == name, t.c.version == version)
        row = self._connection.execute(select(t).where(*where)).first()
        return None if row is None else _asset(row)

    def asset_versions(
        self,
        kind: str,
        name: str,
        *,
        view: View = View.ALL,
        stage: str | None = None,
        oldest_first: bool = False,
        top: int | None = None,
        skip: int = 0,
    ) -> Sequence[Asset]:
        """Newest first, unless asked otherwise; `top` at most, after the first `skip`."""
        t, c = tables.assets, tables.asset_containers
        hidden = or_(t.c.archived, c.c.archived)
        query = select(t).join(c, and_(c.c.kind == t.c.kind, c.c.name == t.c.name))
        query = _viewed(query.where(t.c.kind == kind, t.c.name == name), hidden, view)
        if stage is not None:
            query = query.where(t.c.body["stage"].as_string() == stage)
        # Versions made in one tick of the clock: the higher number counts as the newer.
        order = (t.c.created_at, func.length(t.c.version), t.c.version)
        query = query.order_by(*(order if oldest_first else (each.desc() for each in order)))
        rows = self._connection.execute(_paged(query, top, skip))
        return [_asset(row) for row in rows]

    def assets_by_hash(self, kind: str, hash_: str) -> Sequence[Asset]:
        """The oldest version, of any name, whose content has this hash of a client's."""
        t = tables.assets
        query = select(t).where(t.c.kind == kind, t.c.body["properties"]["hash_sha256"].as_string() == hash_)
        return [_asset(row) for row in self._connection.execute(query.order_by(t.c.created_at).limit(1))]

    def latest_asset(self, kind: str, name: str) -> Asset | None:
        """The newest version that is not archived itself. (An archived container is hidden, not out of use.)"""
        t = tables.assets
        query = select(t).where(t.c.kind == kind, t.c.name == name, t.c.archived.is_(False))
        query = query.order_by(t.c.created_at.desc(), func.length(t.c.version).desc(), t.c.version.desc())
        row = self._connection.execute(query.limit(1)).first()
        return None if row is None else _asset(row)

    def add_asset(
        self,
        kind: str,
        name: str,
        version: str,
        *,
        digest: str | None,
        body: Mapping[str, Any],
        archived: bool = False,
    ) -> Asset:
        """A new version, in a container that is made with its first one."""
        anonymous = body.get("isAnonymous") is True
        old = self.asset_container(kind, name)
        if old is None:
            self._add_container(kind, name, anonymous=anonymous, archived=False, body={})
        else:
            self._change_container(kind, name, anonymous=old.anonymous and anonymous)
        row: dict[str, Any] = {"kind": kind, "name": name, "version": version}
        row |= {"digest": digest, "body": dict(body)}
        row |= {"archived": archived, "created_at": self.now, "updated_at": self.now}
        self._connection.execute(insert(tables.assets).values(**row))
        return Asset(kind, name, version, digest, body, archived, self.now, self.now)

    def change_asset(self, asset: Asset, *, body: Mapping[str, Any], archived: bool) -> Asset:
        """Other words about the same content; nothing is written when nothing differs."""
        if dict(asset.body) == dict(body) and asset.archived == archived:
            return asset
        t = tables.assets
        where = (t.c.kind == asset.kind, t.c.name == asset.name, t.c.version == asset.version)
        values = {"body": dict(body), "archived": archived, "updated_at": self.now}
        self._connection.execute(update(t).where(*where).values(**values))
        created = asset.created_at
        return Asset(asset.kind, asset.name, asset.version, asset.digest, body, archived, created, self.now)

    def asset_bodies(self, kind: str) -> list[Mapping[str, Any]]:
        """The bodies of all versions of all names."""
        t = tables.assets
        return [row.body for row in self._connection.execute(select(t.c.body).where(t.c.kind == kind))]

    def asset_digests(self) -> set[str]:
        """The digests of all versions."""
        t = tables.assets
        return {row.digest for row in self._connection.execute(select(t.c.digest).distinct()) if row.digest}

    def mentions(self, digest: str) -> bool:
        """Whether any version, or anything a deployment is made of, refers to stored content by this digest."""
        t, r = tables.assets, tables.resources
        places = (
            select(t.c.name).where(or_(t.c.digest == digest, cast(t.c.body, Text).contains(digest))),
            select(r.c.name).where(cast(r.c.status, Text).contains(digest)),
        )
        return any(self._connection.execute(query.limit(1)).first() is not None for query in places)

    # --- containers ---

    def asset_container(self, kind: str, name: str) -> Container | None:
        c = tables.asset_containers
        row = self._connection.execute(select(c).where(c.c.kind == kind, c.c.name == name)).first()
        return None if row is None else _container(row)

    def asset_containers(
        self, kind: str, *, view: View = View.ACTIVE, top: int | None = None, skip: int = 0
    ) -> Sequence[Container]:
        """By name, without those that are anonymous."""
        c = tables.asset_containers
        query = select(c).where(c.c.kind == kind, c.c.anonymous.is_(False))
        query = _viewed(query, c.c.archived.is_(True), view).order_by(c.c.name)
        return [_container(row) for row in self._connection.execute(_paged(query, top, skip))]

    def put_container(
        self, kind: str, name: str, *, body: Mapping[str, Any], archived: bool
    ) -> tuple[Container, bool]:
        """Make it, or change its words; and whether it is new."""
        old = self.asset_container(kind, name)
        if old is None:
            self._add_container(kind, name, anonymous=False, archived=archived, body=body)
        elif dict(old.body) != dict(body) or old.archived != archived:
            self._change_container(kind, name, body=dict(body), archived=archived)
        found = self.asset_container(kind, name)
        if found is None:
            raise AssertionError("a container vanished inside its own transaction")
        return found, old is None

    def add_container_facts(self, kind: str, name: str, facts: Mapping[str, Any]) -> None:
        """Note `facts` beside what is said of a container that is there."""
        old = self.asset_container(kind, name)
        if old is not None and any(old.body.get(key) != value for key, value in facts.items()):
            self._change_container(kind, name, body={**old.body, **facts})

    def numbering(self, kind: str, names: Sequence[str]) -> dict[str, Numbering]:
        """For each of `names`, which versions there are."""
        t = tables.assets
        query = select(t.c.name, t.c.version, t.c.archived).where(t.c.kind == kind, t.c.name.in_(names))
        query = query.order_by(t.c.created_at, func.length(t.c.version), t.c.version)
        latest: dict[str, str] = {}
        highest = dict.fromkeys(names, 0)
        for name, version, archived in self._connection.execute(query):
            if not archived:
                latest[name] = version
            if version.isascii() and version.isdigit():
                highest[name] = max(highest[name], int(version))
        return {name: Numbering(latest.get(name), str(highest[name] + 1)) for name in names}

    def _add_container(
        self, kind: str, name: str, *, anonymous: bool, archived: bool, body: Mapping[str, Any]
    ) -> None:
        row = {"kind": kind, "name": name, "anonymous": anonymous, "archived": archived, "body": dict(body)}
        self._connection.execute(
            insert(tables.asset_containers).values(**row, created_at=self.now, updated_at=self.now)
        )

    def _change_container(self, kind: str, name: str, **values: Any) -> None:
        c = tables.asset_containers
        where = (c.c.kind == kind, c.c.name == name)
        self._connection.execute(update(c).where(*where).values(**values, updated_at=self.now))


def _viewed(query: Select[Any], hidden: ColumnElement[bool], view: View) -> Select[Any]:
    if view is View.ALL:
        return query
    return query.where(hidden if view is View.ARCHIVED else ~hidden)


def _paged(query: Select[Any], top: int | None, skip: int) -> Select[Any]:
    if top is not None:
        query = query.limit(top)
    return query.offset(skip) if skip else query


def _asset(row: Row[Any]) -> Asset:
    return Asset(**row._mapping)


def _container(row: Row[Any]) -> Container:
    return Container(**row._mapping)
