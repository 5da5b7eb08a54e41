"""Failures of instances, scoring scripts and what a failing instance shows."""

from __future__ import annotations

from moorings.errors.entry import Entry, Fault, Step

ENTRIES: tuple[Entry, ...] = ()
