"""The tables of the state database, as SQLAlchemy Core values. Changes to them come with a migration beside."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

workspace = Table(
    "workspace",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("created_at", Float, nullable=False),
)

resources = Table(
    "resources",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("uid", String(36), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("accepted_at", Float, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("status", JSON, nullable=False),
    Column("deleting", Boolean, nullable=False, default=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("earlier", JSON, nullable=True),
    Column("autoscale", JSON, nullable=True),
    Column("scale", JSON, nullable=True),
)

quotas = Table(
    "quotas",
    metadata,
    Column("region", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("limit", Integer, nullable=False),
    Column("updated_at", Float, nullable=False),
)

holdings = Table(
    "holdings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("wanted", Integer, nullable=False),
    Column("counted", Integer, nullable=False),
)
Index("holdings_by_type", holdings.c.type, holdings.c.wanted, holdings.c.counted)

secrets = Table(
    "secrets",
    metadata,
    Column("owner", String(160), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

assets = Table(
    "assets",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("version", String(255), primary_key=True),
    Column("digest", String(64), nullable=True),
    Column("body", JSON, nullable=False),
    Column("archived", Boolean, nullable=False, default=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

asset_containers = Table(
    "asset_containers",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("anonymous", Boolean, nullable=False, default=False),
    Column("archived", Boolean, nullable=False, default=False),
    Column("body", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

blobs = Table(
    "blobs",
    metadata,
    Column("container", String(63), primary_key=True),
    Column("name", String(1024), primary_key=True),
    Column("data", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("words", JSON, nullable=False),
    Column("blocks", String(64), nullable=True),
    Column("etag", String(40), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

operations = Table(
    "operations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("verb", String(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("name", String(128), nullable=False),
    Column("uid", String(36), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float, nullable=True),
    Column("error", JSON, nullable=True),
)
Index("operations_by_target", operations.c.kind, operations.c.name, operations.c.status)
Index("operations_by_status", operations.c.status, operations.c.started_at)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("name", String(128), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("message", Text, nullable=False),
)
Index("events_by_target", events.c.kind, events.c.name)

principals = Table(
    "principals",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("name", String(255), nullable=False),
    Column("client_id", String(36), nullable=False),
    Column("owner", String(36), nullable=True),
    Column("body", JSON, nullable=False),
    Column("secret", Text, nullable=True),
    Column("created_at", Float, nullable=False),
)
Index("principals_by_name", principals.c.kind, principals.c.name, unique=True)
Index("principals_by_client", principals.c.client_id, unique=True)

role_assignments = Table(
    "role_assignments",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("principal", String(36), nullable=False),
    Column("role", String(128), nullable=False),
    Column("scope", String(512), nullable=False),
    Column("automatic", Boolean, nullable=False, default=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", String(255), nullable=False),
)
Index("role_assignments_by_principal", role_assignments.c.principal)

vaults = Table(
    "vaults",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("rbac", Boolean, nullable=False, default=True),
    Column("tags", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

access_policies = Table(
    "access_policies",
    metadata,
    Column("vault", String(63), primary_key=True),
    Column("principal", String(36), primary_key=True),
    Column("permissions", JSON, nullable=False),
    Column("updated_at", Float, nullable=False),
)

vault_secrets = Table(
    "vault_secrets",
    metadata,
    Column("vault", String(63), primary_key=True),
    Column("name", String(127), primary_key=True),
    Column("version", String(32), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("value", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, default=True),
    Column("content_type", String(255), nullable=False),
    Column("tags", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

connections = Table(
    "connections",
    metadata,
    Column("name", String(127), primary_key=True),
    Column("body", JSON, nullable=False),
    Column("credentials", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("beat", BigInteger, nullable=False),
)
