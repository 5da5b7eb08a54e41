"""Quota, usage and sizes over the control API: small calls beside `client.py`, which sends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moorings.client.client import Client
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.own_settings import MAX_SURGE, MAX_UNAVAILABLE


def usages(client: Client, *, region: str | None = None) -> list[dict[str, Any]]:
    """One entry for each limit of the workspace: `name`, `limit`, `currentValue`, and below `moorings` what is `free`,
    the `quota` that is set and the `holders`. In vCPUs; `memory` in bytes."""
    return client.in_region("GET", "/usages", region=region)


def sizes(client: Client, *, region: str | None = None) -> list[dict[str, Any]]:
    """The instance types of the catalogue: `name`, `family`, `vCPUs`, `memoryGB`, `maxResourceVolumeMB`, `gpus`."""
    return client.in_region("GET", "/vmSizes", region=region)


def set_quotas(client: Client, limits: Mapping[str, int | None]) -> list[dict[str, Any]]:
    """Set quotas by name, all or none; None takes one away. Raises `QuotaLimitInvalid`."""
    value = [{"id": f"{client.workspace_path}/quotas/{name}", "limit": most} for name, most in limits.items()]
    return client.in_region("POST", "/updateQuotas", {"value": value})


def would_fit(client: Client, spec: DeploymentSpec, beside: Sequence[DeploymentSpec] = ()) -> dict[str, Any]:
    """Whether the deployment would be admitted now, and what the rest is held by. Takes nothing; the endpoint and what
    it is made of need not exist. `beside`: others of the endpoint that are to be made before it.

    `fits`; `needs` (`amounts` by limit, `said` in words, the surge of an update included); `limits`, each with `limit`,
    `used`, `free`, `needed`, `short`, `source` (`quota` or `machine`) and `holders`; `error`, which is what creating it
    would fail with, or None.
    """
    body = _size(spec)
    if beside:
        body["beside"] = [{"deployment": each.name, **_size(each)} for each in beside]
    return client.check_quota(spec.endpoint_name, spec.name, body)


def _size(spec: DeploymentSpec) -> dict[str, Any]:
    body: dict[str, Any] = {
        "instanceType": spec.instance_type,
        "instanceCount": spec.instance_count,
        "maxInstances": spec.scale_settings.max_instances,
    }
    for key, name in (("maxSurge", MAX_SURGE), ("maxUnavailable", MAX_UNAVAILABLE)):
        if name in spec.properties:
            body[key] = spec.properties[name]
    return body
