"""Which asset version a reference names: `azureml:name:version`, `azureml:name@latest` or an ARM id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moorings.errors.exceptions import MooringsError, error
from moorings.spec.references import LATEST, AssetRef, parse_reference, workspace_of
from moorings.state.asset_rows import Asset, AssetRows

CODES, MODELS, ENVIRONMENTS, DATA = "codes", "models", "environments", "data"
_LISTED = 10
"""Versions named as evidence."""


def find_asset(tx: AssetRows, kind: str, reference: str, *, workspace: str | None = None) -> Asset:
    """The asset version a reference names; an id must be of `workspace` (its name) where that is given.

    Raises `AssetNotFound` (the user's fault), with the versions that there are as evidence.
    """
    try:
        parsed = parse_reference(reference)
    except ValueError as problem:
        raise _missing(reference, str(problem)) from None
    elsewhere = _elsewhere(parsed, kind, workspace_of(reference), workspace)
    if elsewhere:
        raise _missing(reference, f"{reference} {elsewhere}")
    if parsed.version is not None:
        asset = tx.asset(kind, parsed.name, parsed.version)
    else:
        asset = tx.latest_asset(kind, parsed.name) if parsed.label == LATEST else None
    if asset is not None:
        return asset
    known = tx.asset_versions(kind, parsed.name, top=_LISTED)
    message = f"{reference} is not registered in this workspace"
    if parsed.label not in (None, LATEST):
        message = f"{reference}: the only label is @{LATEST}"
    elif parsed.label == LATEST and known:
        message = f"{reference}: every version of {parsed.name} is archived"
    shown = ", ".join(each.version + (" (archived)" if each.archived else "") for each in known)
    raise _missing(reference, message, f"versions of {parsed.name}, newest first: {shown}" if known else None)


def _elsewhere(parsed: AssetRef, kind: str, theirs: str | None, ours: str | None) -> str:
    if parsed.registry is not None:
        return f"is in registry {parsed.registry}: no registry is attached to this workspace"
    if parsed.kind not in (None, kind):
        return f"names one of the {parsed.kind}, where one of the {kind} is expected"
    if theirs is not None and ours is not None and theirs.lower() != ours.lower():
        return f"is in workspace {theirs}: what a deployment names must be registered in this one, {ours}"
    return ""


def _missing(reference: str, message: str, evidence: str | None = None) -> MooringsError:
    return error(
        "AssetNotFound",
        message,
        target=reference,
        evidence=(evidence,) if evidence else (),
        fields={"reference": reference},
    )


def container_routes(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The routes of a deployment whose container has a server of its own (`engines.base.Routes` as stored); else None."""
    resolved = status.get("resolved") or {}
    template = (status.get("templates") or {}).get(resolved.get("revision")) or {}
    routes: Mapping[str, Any] | None = (template.get("container") or {}).get("routes")
    return routes
