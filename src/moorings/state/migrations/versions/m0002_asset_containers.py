"""Asset versions can be archived and changed; the name they share is a row of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("assets", sa.Column("archived", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("assets", sa.Column("updated_at", sa.Float, nullable=False, server_default="0"))
    containers = op.create_table(
        "asset_containers",
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("anonymous", sa.Boolean, nullable=False),
        sa.Column("archived", sa.Boolean, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    assets = sa.table(
        "assets",
        sa.column("kind", sa.String),
        sa.column("name", sa.String),
        sa.column("body", sa.JSON),
        sa.column("created_at", sa.Float),
        sa.column("updated_at", sa.Float),
    )
    op.execute(sa.update(assets).values(updated_at=assets.c.created_at))
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for found in op.get_bind().execute(sa.select(assets).order_by(assets.c.created_at)):
        anonymous = isinstance(found.body, dict) and found.body.get("isAnonymous") is True
        row = rows.setdefault(
            (found.kind, found.name),
            {
                "kind": found.kind,
                "name": found.name,
                "anonymous": anonymous,
                "archived": False,
                "body": {},
                "created_at": found.created_at,
            },
        )
        row["anonymous"] = bool(row["anonymous"]) and anonymous
        row["updated_at"] = found.created_at
    if rows:
        op.bulk_insert(containers, list(rows.values()))
