"""Names of uploaded content."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("container", sa.String(63), primary_key=True),
        sa.Column("name", sa.String(1024), primary_key=True),
        sa.Column("data", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("words", sa.JSON, nullable=False),
        sa.Column("blocks", sa.String(64), nullable=True),
        sa.Column("etag", sa.String(40), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
