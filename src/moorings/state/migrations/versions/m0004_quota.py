"""Quotas of the workspace, and what a deployment holds of its earlier generations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_quota"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("region", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("limit", sa.Integer, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    op.add_column("resources", sa.Column("earlier", sa.JSON, nullable=True))
