"""Every failure a user can cause or meet, as data, one module per area. Wire errors, CLI remedies and docs come from here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from moorings.errors.catalogue import (
    access,
    api,
    assets,
    autoscale,
    clients,
    cloud,
    containers,
    environments,
    gateway,
    instances,
    kubernetes,
    local,
    quota,
    rollouts,
    specs,
)
from moorings.errors.entry import Entry

_AREAS = (
    specs,
    local,
    api,
    quota,
    autoscale,
    access,
    clients,
    assets,
    environments,
    containers,
    instances,
    rollouts,
    gateway,
    kubernetes,
    cloud,
)


def _merge() -> Mapping[str, Entry]:
    merged: dict[str, Entry] = {}
    for area in _AREAS:
        for entry in area.ENTRIES:
            if entry.code in merged:
                raise ValueError(f"error code {entry.code} is defined twice")
            merged[entry.code] = entry
    return MappingProxyType(merged)


CATALOGUE: Mapping[str, Entry] = _merge()
