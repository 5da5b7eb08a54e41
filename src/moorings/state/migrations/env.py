"""Alembic's entry: runs the migrations on the connection it is handed. Never reads settings of its own."""

from __future__ import annotations

from alembic import context

from moorings.state.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
