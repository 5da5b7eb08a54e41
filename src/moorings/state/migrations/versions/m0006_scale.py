"""What scales a deployment, and what was decided last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006_scale"
down_revision = "0005_identity"


def upgrade() -> None:
    op.add_column("resources", sa.Column("autoscale", sa.JSON, nullable=True))
    op.add_column("resources", sa.Column("scale", sa.JSON, nullable=True))
