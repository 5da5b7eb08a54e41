"""Conditions: what is true of a resource, since when and why; the provisioning state is derived from them,
never stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

READY = "Ready"
ASSETS_AVAILABLE = "AssetsAvailable"
ENVIRONMENT_READY = "EnvironmentReady"
QUOTA_GRANTED = "QuotaGranted"
INSTANCES_HEALTHY = "InstancesHealthy"
GATEWAY_ACCEPTED = "GatewayAccepted"


class Truth(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class Condition:
    """One verdict. `reason` is CamelCase and part of the API; `message` is for people; `since` is Unix
    seconds."""

    type: str
    truth: Truth
    reason: str
    message: str
    generation: int
    since: float
    failure: Mapping[str, Any] | None = None
    """`Failure.to_json()` of what made it False, where something did."""

    def to_json(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "status": str(self.truth),
            "reason": self.reason,
            "message": self.message,
            "generation": self.generation,
            "since": self.since,
            "failure": dict(self.failure) if self.failure else None,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Condition:
        return Condition(
            type=data["type"],
            truth=Truth(data["status"]),
            reason=data["reason"],
            message=data["message"],
            generation=data["generation"],
            since=data["since"],
            failure=data.get("failure"),
        )


Conditions = Mapping[str, Condition]


def mark(conditions: Conditions, new: Condition) -> dict[str, Condition]:
    """`conditions` with `new` in it; `since` moves only when the verdict moves."""
    old = conditions.get(new.type)
    if old is not None and old.truth == new.truth:
        new = replace(new, since=old.since)
    return {**conditions, new.type: new}


def provisioning_state(conditions: Conditions, *, generation: int, deleting: bool) -> str:
    """`Creating`, `Updating`, `Deleting`, `Succeeded` or `Failed` (section 4.1), for the latest
    generation."""
    if deleting:
        return "Deleting"
    ready = conditions.get(READY)
    if ready is None or ready.generation != generation or ready.truth is Truth.UNKNOWN:
        return "Creating" if generation == 1 else "Updating"
    return "Succeeded" if ready.truth is Truth.TRUE else "Failed"


def is_ready(status: Mapping[str, Any], generation: int) -> bool:
    """Whether a stored status says that this generation is ready."""
    ready = status.get("conditions", {}).get(READY, {})
    return bool(ready.get("status") == Truth.TRUE and ready.get("generation") == generation)
