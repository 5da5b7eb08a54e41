"""Identities, role assignments, vaults with their policies and secrets, connections."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005_identity"
down_revision = "0004_quota"


def upgrade() -> None:
    op.create_table(
        "principals",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("client_id", sa.String(36), nullable=False),
        sa.Column("owner", sa.String(36), nullable=True),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("secret", sa.Text, nullable=True),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "role_assignments",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("principal", sa.String(36), nullable=False),
        sa.Column("role", sa.String(128), nullable=False),
        sa.Column("scope", sa.String(512), nullable=False),
        sa.Column("automatic", sa.Boolean, nullable=False, default=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
    )
    op.create_table(
        "vaults",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("rbac", sa.Boolean, nullable=False, default=True),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "access_policies",
        sa.Column("vault", sa.String(63), primary_key=True),
        sa.Column("principal", sa.String(36), primary_key=True),
        sa.Column("permissions", sa.JSON, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    op.create_table(
        "vault_secrets",
        sa.Column("vault", sa.String(63), primary_key=True),
        sa.Column("name", sa.String(127), primary_key=True),
        sa.Column("version", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False, default=True),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "connections",
        sa.Column("name", sa.String(127), primary_key=True),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("credentials", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    op.create_index("principals_by_name", "principals", ["kind", "name"], unique=True)
    op.create_index("principals_by_client", "principals", ["client_id"], unique=True)
    op.create_index("role_assignments_by_principal", "role_assignments", ["principal"])
