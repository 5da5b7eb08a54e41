"""On PostgreSQL, text is compared by its characters and has no greatest length, as it always was on SQLite."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007_text"
down_revision = "0006_scale"


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    inspector = sa.inspect(connection)
    for table in inspector.get_table_names():
        for column in inspector.get_columns(table):
            if isinstance(column["type"], sa.String) and table != "alembic_version":
                op.alter_column(table, column["name"], type_=sa.Text(collation="C"))
