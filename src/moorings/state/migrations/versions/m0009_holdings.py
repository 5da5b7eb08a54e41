"""What deployments hold of the quota, one row for each instance type: so that what is used is a sum, not a reading of all.
The rows are counted anew whenever the state is opened. And an index for what goes on, and for what is old."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009_holdings"
down_revision = "0008_leases"


def upgrade() -> None:
    text = sa.Text(collation="C") if op.get_bind().dialect.name == "postgresql" else sa.Text()
    op.create_table(
        "holdings",
        sa.Column("name", text, primary_key=True),
        sa.Column("type", text, primary_key=True),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("counted", sa.Integer, nullable=False),
    )
    op.create_index("holdings_by_type", "holdings", ["type", "wanted", "counted"])
    op.create_index("operations_by_status", "operations", ["status", "started_at"])
