"""Failures of building environments."""

from __future__ import annotations

from moorings.errors.entry import Entry, Fault, Step

ENTRIES: tuple[Entry, ...] = ()
