"""On PostgreSQL, text is compared by its characters and has no greatest length, as it always was on SQLite."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007_text"
down_revision = "0006_scale"

_TABLES = {
    "access_policies",
    "asset_containers",
    "assets",
    "blobs",
    "connections",
    "events",
    "operations",
    "principals",
    "quotas",
    "resources",
    "role_assignments",
    "secrets",
    "vault_secrets",
    "vaults",
    "workspace",
}


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    inspector = sa.inspect(connection)
    for table in sorted(_TABLES.intersection(inspector.get_table_names())):  # others may be somebody else's
        for column in inspector.get_columns(table):
            if isinstance(column["type"], sa.String):
                op.alter_column(table, column["name"], type_=sa.Text(collation="C"))
