"""Failures of the gateway and scoring requests."""

from __future__ import annotations

from moorings.errors.entry import Entry, Fault, Step

ENTRIES: tuple[Entry, ...] = ()
