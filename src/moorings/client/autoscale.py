"""Autoscale settings over the control API: small calls beside `client.py`, which sends them."""

from __future__ import annotations

from typing import Any

from moorings.client.client import Client, part
from moorings.spec.autoscale import AutoscaleSetting, setting_from_arm, setting_to_arm


def _path(client: Client, name: str | None = None) -> str:
    group = client.workspace_path.partition("/providers/")[0]
    at = f"{group}/providers/Microsoft.Insights/autoscaleSettings"
    return at if name is None else f"{at}/{part(name)}"


def documents(client: Client) -> list[dict[str, Any]]:
    found = client.call("GET", _path(client))[1].get("value")
    return [one for one in found or () if isinstance(one, dict)]


def document(client: Client, name: str) -> dict[str, Any]:
    """Raises AutoscaleNotFound."""
    return client.call("GET", _path(client, name))[1]


def setting(client: Client, name: str) -> AutoscaleSetting:
    """Raises AutoscaleNotFound."""
    return setting_from_arm(name, document(client, name))


def put(client: Client, changed: AutoscaleSetting) -> dict[str, Any]:
    """Create or replace. Raises SpecInvalid, DeploymentNotFound, AutoscaleConflict, OutOfQuota, OutOfCapacity."""
    return client.call("PUT", _path(client, changed.name), setting_to_arm(changed))[1]


def delete(client: Client, name: str) -> bool:
    """False when it was not there."""
    return client.call("DELETE", _path(client, name))[0] != 204
