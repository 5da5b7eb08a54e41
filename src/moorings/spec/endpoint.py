"""The endpoint as users write it (behaviour reference, section 3.1)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from moorings.spec.base import NO_BOOL, ResourceName, Spec
from moorings.spec.limits import (
    MAX_BODY_BYTES,
    MAX_BODY_LIMIT_BYTES,
    MAX_RATE_LIMIT_PER_S,
    MIN_RESPONSE_LIMIT_BYTES,
)


class AuthMode(StrEnum):
    """How callers prove who they are (section 5.3)."""

    KEY = "key"
    AML_TOKEN = "aml_token"  # noqa: S105 - the name of a mode
    AAD_TOKEN = "aad_token"  # noqa: S105


class UserAssignedIdentity(Spec):
    resource_id: str
    client_id: str | None = None
    object_id: str | None = None


class Identity(Spec):
    type: Literal["system_assigned", "user_assigned"]
    user_assigned_identities: tuple[UserAssignedIdentity, ...] = ()


OWN = "moorings"


class EndpointLimits(Spec):
    """What the gateway lets through, all deployments of the endpoint together."""

    rate_limit_per_s: Annotated[int, Field(ge=1, le=MAX_RATE_LIMIT_PER_S), NO_BOOL] | None = None
    """Requests a second; above it the answer is 429. Not set: the workspace's own (100)."""
    max_request_bytes: Annotated[int, Field(ge=1, le=MAX_BODY_LIMIT_BYTES), NO_BOOL] = MAX_BODY_BYTES
    """Longest request body; above it the answer is 413."""
    max_response_bytes: Annotated[
        int, Field(ge=MIN_RESPONSE_LIMIT_BYTES, le=MAX_BODY_LIMIT_BYTES), NO_BOOL
    ] = MAX_BODY_BYTES
    """Longest answer of the model; above it the answer is 424. Streams have no limit."""


class EndpointOwn(EndpointLimits):
    """What Moorings knows of an endpoint beyond what other tools do: its limits, and whom it trusts."""

    local: bool = False
    """Made with `--local`: callers on this machine need no key. A wrong key is refused all the same, and so is
    everybody else without one. The workspace setting `gateway.local_requires_key` switches it off for all."""


class EndpointProperties(Spec):
    moorings: EndpointOwn = Field(default_factory=EndpointOwn)
    """Limits of the gateway and `local`. `moorings.<key>: "<value>"` directly below `properties` means the
    same."""
    enforce_access_to_default_secret_stores: Literal["enabled", "disabled"] = "disabled"  # noqa: S105 - a switch, no password

    @model_validator(mode="before")
    @classmethod
    def _fold(cls, value: Any) -> Any:
        """Flat keys (`moorings.rate_limit_per_s`) into the nested form: other clients' properties are a flat
        map of text."""
        if not isinstance(value, dict):
            return value
        flat = {k: v for k, v in value.items() if isinstance(k, str) and k.startswith(f"{OWN}.")}
        if not flat or not isinstance(value.get(OWN, {}), dict):
            return value
        nested = {key.partition(".")[2]: item for key, item in flat.items()}
        rest = {key: item for key, item in value.items() if key not in flat}
        return {**rest, OWN: {**value.get(OWN, {}), **nested}}


Percent = Annotated[int, Field(ge=0, le=100), NO_BOOL]


def _shares(table: dict[str, int]) -> dict[str, int]:
    """Deployment names lower case, zero entries left out: what the ecosystem's client does before it sends
    them."""
    shares: dict[str, int] = {}
    for name, per_cent in table.items():
        if name.lower() in shares:
            raise ValueError(f"deployment {name.lower()!r} is named twice (case does not count)")
        shares[name.lower()] = per_cent
    return {name: per_cent for name, per_cent in shares.items() if per_cent}


Traffic = Annotated[dict[str, Percent], AfterValidator(_shares)]
MirrorTraffic = Annotated[dict[str, Annotated[int, Field(ge=0, le=50), NO_BOOL]], AfterValidator(_shares)]


class EndpointSpec(Spec):
    """A stable URL with authentication and a traffic table. Read-only keys of `show` output are accepted and
    dropped by the loader."""

    schema_: str | None = Field(default=None, alias="$schema")
    name: ResourceName
    description: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    auth_mode: AuthMode = AuthMode.KEY
    compute: str | None = None
    """`azureml:<name>` of an attached cluster; kept, has no effect yet."""
    identity: Identity | None = None
    traffic: Traffic = Field(default_factory=dict)
    """Deployment name -> per cent, 1-100; the sum is 0 or 100. Names are lower case."""
    mirror_traffic: MirrorTraffic = Field(default_factory=dict)
    """One deployment name (lower case) -> per cent of live requests that are copied to it, 1-50."""
    public_network_access: Literal["enabled", "disabled"] = "enabled"
    properties: EndpointProperties = Field(default_factory=EndpointProperties)
