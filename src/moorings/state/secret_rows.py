"""The rows of vaults, their access policies and secrets, and of connections. Values come encrypted and stay so here."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from moorings.state import tables


@dataclass(frozen=True)
class VaultRow:
    """A vault. `rbac`: roles say who may read; else its access policies do."""

    name: str
    rbac: bool
    tags: Mapping[str, str]
    created_at: float


@dataclass(frozen=True)
class SecretRow:
    """One version of a secret. `number` counts the versions of its name from 1; `value` is encrypted."""

    vault: str
    name: str
    version: str
    number: int
    value: str
    enabled: bool
    content_type: str
    tags: Mapping[str, str]
    created_at: float

    def __repr__(self) -> str:
        return f"SecretRow({self.vault}/{self.name}/{self.version})"


@dataclass(frozen=True)
class ConnectionRow:
    """A connection. `body` is what may be shown; `credentials` is an encrypted JSON object."""

    name: str
    body: Mapping[str, Any]
    credentials: str
    created_at: float
    updated_at: float

    def __repr__(self) -> str:
        return f"ConnectionRow({self.name})"


class SecretRows:
    """The part of a transaction that is about vaults and connections."""

    _connection: Connection
    now: float

    # --- vaults and policies ---

    def vault(self, name: str) -> VaultRow | None:
        t = tables.vaults
        row = self._connection.execute(select(t).where(t.c.name == name)).first()
        return None if row is None else _vault(row)

    def vaults(self) -> Sequence[VaultRow]:
        t = tables.vaults
        return [_vault(row) for row in self._connection.execute(select(t).order_by(t.c.name))]

    def put_vault(
        self, name: str, *, rbac: bool | None, tags: Mapping[str, str] | None
    ) -> tuple[VaultRow, bool]:
        """Make it, or change what is given; policies and secrets stay. And whether it is new."""
        t = tables.vaults
        old = self.vault(name)
        if old is None:
            row: dict[str, Any] = {"name": name, "rbac": rbac is not False, "tags": dict(tags or {})}
            row |= {"created_at": self.now}
            self._connection.execute(insert(t).values(**row))
            return VaultRow(**row), True
        values: dict[str, Any] = {}
        if rbac is not None:
            values["rbac"] = rbac
        if tags is not None:
            values["tags"] = dict(tags)
        if values:
            self._connection.execute(update(t).where(t.c.name == name).values(**values))
        return VaultRow(**{**vars(old), **values}), False

    def drop_vault(self, name: str) -> bool:
        """With its policies and secrets."""
        v, p, s = tables.vaults, tables.access_policies, tables.vault_secrets
        self._connection.execute(delete(p).where(p.c.vault == name))
        self._connection.execute(delete(s).where(s.c.vault == name))
        return bool(self._connection.execute(delete(v).where(v.c.name == name)).rowcount)

    def policies(self, vault: str) -> dict[str, list[str]]:
        """Principal id -> what it may do with the secrets: `get`, `list`, `set`, `delete`."""
        t = tables.access_policies
        query = select(t.c.principal, t.c.permissions).where(t.c.vault == vault).order_by(t.c.principal)
        return {row.principal: list(row.permissions) for row in self._connection.execute(query)}

    def set_policy(self, vault: str, principal: str, permissions: Sequence[str]) -> None:
        """In place of what the principal had; nothing left removes it."""
        t = tables.access_policies
        self._connection.execute(delete(t).where(t.c.vault == vault, t.c.principal == principal))
        if permissions:
            row = {"vault": vault, "principal": principal, "permissions": list(permissions)}
            self._connection.execute(insert(t).values(**row, updated_at=self.now))

    # --- secrets ---

    def vault_secret(self, vault: str, name: str, version: str | None = None) -> SecretRow | None:
        """The version named, or the newest one that is enabled."""
        t = tables.vault_secrets
        query = select(t).where(t.c.vault == vault, t.c.name == name)
        query = query.where(t.c.version == version) if version else query.where(t.c.enabled.is_(True))
        row = self._connection.execute(query.order_by(t.c.number.desc()).limit(1)).first()
        return None if row is None else _secret(row)

    def vault_secret_versions(self, vault: str, name: str) -> Sequence[SecretRow]:
        """Newest first."""
        t = tables.vault_secrets
        query = select(t).where(t.c.vault == vault, t.c.name == name).order_by(t.c.number.desc())
        return [_secret(row) for row in self._connection.execute(query)]

    def vault_secrets(self, vault: str) -> Sequence[SecretRow]:
        """The newest version of each, by name."""
        t = tables.vault_secrets
        query = select(t).where(t.c.vault == vault).order_by(t.c.name, t.c.number)
        newest = {row.name: _secret(row) for row in self._connection.execute(query)}
        return list(newest.values())

    def add_vault_secret(
        self, vault: str, name: str, value: str, *, content_type: str, tags: Mapping[str, str]
    ) -> SecretRow:
        t = tables.vault_secrets
        last = select(func.max(t.c.number)).where(t.c.vault == vault, t.c.name == name)
        number = int(self._connection.execute(last).scalar() or 0) + 1
        row: dict[str, Any] = {"vault": vault, "name": name, "version": uuid.uuid4().hex, "number": number}
        row |= {"value": value, "enabled": True, "content_type": content_type, "tags": dict(tags)}
        row |= {"created_at": self.now}
        self._connection.execute(insert(t).values(**row))
        return SecretRow(**row)

    def enable_vault_secret(self, secret: SecretRow, *, enabled: bool) -> SecretRow:
        t = tables.vault_secrets
        where = (t.c.vault == secret.vault, t.c.name == secret.name, t.c.version == secret.version)
        self._connection.execute(update(t).where(*where).values(enabled=enabled))
        return SecretRow(**{**vars(secret), "enabled": enabled})

    def drop_vault_secret(self, vault: str, name: str) -> bool:
        """With all versions."""
        t = tables.vault_secrets
        done = self._connection.execute(delete(t).where(t.c.vault == vault, t.c.name == name))
        return bool(done.rowcount)

    # --- connections ---

    def connection(self, name: str) -> ConnectionRow | None:
        t = tables.connections
        row = self._connection.execute(select(t).where(t.c.name == name)).first()
        return None if row is None else _connection(row)

    def connections(self) -> Sequence[ConnectionRow]:
        t = tables.connections
        return [_connection(row) for row in self._connection.execute(select(t).order_by(t.c.name))]

    def put_connection(
        self, name: str, *, body: Mapping[str, Any], credentials: str
    ) -> tuple[ConnectionRow, bool]:
        """Make it or replace it; and whether it is new."""
        t = tables.connections
        old = self.connection(name)
        row: dict[str, Any] = {"name": name, "body": dict(body), "credentials": credentials}
        row |= {"created_at": self.now if old is None else old.created_at, "updated_at": self.now}
        self._connection.execute(delete(t).where(t.c.name == name))
        self._connection.execute(insert(t).values(**row))
        return ConnectionRow(**row), old is None

    def drop_connection(self, name: str) -> bool:
        t = tables.connections
        return bool(self._connection.execute(delete(t).where(t.c.name == name)).rowcount)


def _vault(row: Row[Any]) -> VaultRow:
    return VaultRow(**row._mapping)


def _secret(row: Row[Any]) -> SecretRow:
    return SecretRow(**row._mapping)


def _connection(row: Row[Any]) -> ConnectionRow:
    return ConnectionRow(**row._mapping)
