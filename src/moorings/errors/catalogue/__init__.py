"""Every failure a user can cause or meet, as data, one module per area. Wire errors, CLI remedies and docs come from here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from moorings.errors.catalogue import (
    api,
    assets,
    clients,
    containers,
    environments,
    gateway,
    instances,
    local,
    specs,
)
from moorings.errors.entry import Entry

_AREAS = (specs, local, api, clients, assets, environments, containers, instances, gateway)


def _merge() -> Mapping[str, Entry]:
    merged: dict[str, Entry] = {}
    for area in _AREAS:
        for entry in area.ENTRIES:
            if entry.code in merged:
                raise ValueError(f"error code {entry.code} is defined twice")
            merged[entry.code] = entry
    return MappingProxyType(merged)


CATALOGUE: Mapping[str, Entry] = _merge()
