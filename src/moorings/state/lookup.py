"""Which asset version a reference names: `azureml:name:version`, `azureml:name@latest` or an ARM id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moorings.errors.exceptions import error
from moorings.spec.references import parse_reference
from moorings.state.transaction import Asset, Transaction

CODES, MODELS, ENVIRONMENTS = "codes", "models", "environments"


def find_asset(tx: Transaction, kind: str, reference: str) -> Asset:
    """The asset version a reference names. Raises `AssetNotFound` (the user's fault)."""
    try:
        parsed = parse_reference(reference)
    except ValueError as problem:
        raise error(
            "AssetNotFound", str(problem), target=reference, fields={"reference": reference}
        ) from None
    asset = None
    if parsed.version is not None:
        asset = tx.asset(kind, parsed.name, parsed.version)
    elif parsed.label == "latest":
        asset = next(iter(tx.asset_versions(kind, parsed.name)), None)
    if asset is None:
        raise error(
            "AssetNotFound",
            f"{reference} is not registered in this workspace",
            target=reference,
            fields={"reference": reference},
        )
    return asset


def container_routes(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The routes of a deployment whose container has a server of its own (`engines.base.Routes` as stored); else None."""
    resolved = status.get("resolved") or {}
    template = (status.get("templates") or {}).get(resolved.get("revision")) or {}
    routes: Mapping[str, Any] | None = (template.get("container") or {}).get("routes")
    return routes
