"""Whether a deployment scales by itself, and how many instances count for it now. Pure.

The count that was decided stands beside the desired state and not in it: scaling is no change of what the user wants, so
it makes no new generation, ends no operation and rolls nothing out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moorings.spec.deployment import DeploymentSpec

TARGET_UTILIZATION = "target_utilization"


def scales(spec: Mapping[str, Any], setting: Mapping[str, Any] | None) -> bool:
    """Whether something else than `instance_count` decides. `spec`: plain, as stored; `setting`: the document."""
    if setting is not None and (setting.get("properties") or {}).get("enabled"):
        return True
    return (spec.get("scale_settings") or {}).get("type") == TARGET_UTILIZATION


def count_of(
    spec: DeploymentSpec, setting: Mapping[str, Any] | None, decided: Mapping[str, Any] | None
) -> int:
    """Instances that shall be there: `instance_count`, or what was decided, within the bounds of the spec as it is now."""
    scale = spec.scale_settings
    if not scales({"scale_settings": {"type": scale.type}}, setting):
        return spec.instance_count
    count = int(decided["count"]) if decided else spec.instance_count
    if scale.type == TARGET_UTILIZATION:
        return min(scale.max_instances, max(scale.min_instances, count))
    return count


def most_of(setting: Mapping[str, Any] | None) -> int:
    """The most instances that an autoscale setting allows; 0 without one. Quota is held for them, also while the
    setting is switched off: it may be switched on at any time."""
    profiles = (setting or {}).get("properties", {}).get("profiles", ())
    return max((int(profile["capacity"]["maximum"]) for profile in profiles), default=0)
