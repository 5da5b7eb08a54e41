"""Migrations of the state database, applied by `Database.open`."""
