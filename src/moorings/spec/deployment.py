"""The managed online deployment as users write it (behaviour reference, sections 3.4, 3.6, 3.8)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from moorings.spec.assets import CodeConfiguration, EnvironmentSpec, ModelSpec
from moorings.spec.base import (
    NO_BOOL,
    OBJECT_TAG,
    REFERENCE_TAG,
    ResourceName,
    Spec,
    object_or_reference,
)
from moorings.spec.own_settings import (
    ACTIVATION_TIMEOUT_S,
    SCALE_DOWN_AFTER_S,
    SCALE_TO_ZERO_AFTER_S,
    whole_numbers,
)

MAX_REQUEST_TIMEOUT_MS = 180_000
"""Upper bound of `request_timeout_ms` for managed deployments (section 3.6)."""
MAX_INSTANCES = 50
"""Instances per deployment (section 10.2)."""

MAX_WHOLE = 1_000_000
"""Upper bound of counts and times that have none of their own: far above any use, far below what would
overflow."""

PositiveInt = Annotated[int, Field(ge=1, le=MAX_WHOLE), NO_BOOL]
ModelOrReference = Annotated[
    Annotated[ModelSpec, Tag(OBJECT_TAG)] | Annotated[str, Tag(REFERENCE_TAG)],
    Discriminator(object_or_reference),
]
EnvironmentOrReference = Annotated[
    Annotated[EnvironmentSpec, Tag(OBJECT_TAG)] | Annotated[str, Tag(REFERENCE_TAG)],
    Discriminator(object_or_reference),
]


class RequestSettings(Spec):
    request_timeout_ms: Annotated[int, Field(ge=1, le=MAX_REQUEST_TIMEOUT_MS), NO_BOOL] = 5000
    max_concurrent_requests_per_instance: PositiveInt = 1
    max_queue_wait_ms: Annotated[int, Field(ge=0, le=MAX_WHOLE), NO_BOOL] = 500


class Probe(Spec):
    """Times in whole seconds, as the YAML keys have it."""

    initial_delay: PositiveInt = 10
    period: PositiveInt = 10
    timeout: PositiveInt = 2
    success_threshold: PositiveInt = 1
    failure_threshold: PositiveInt = 30


class ScaleSettings(Spec):
    type: Literal["default", "target_utilization"] = "default"
    min_instances: Annotated[int, Field(ge=0, le=MAX_INSTANCES), NO_BOOL] = 1
    """0 lets the last instance go while nobody calls."""
    max_instances: Annotated[int, Field(ge=1, le=MAX_INSTANCES), NO_BOOL] = 1
    target_utilization_percentage: Annotated[int, Field(ge=1, le=100), NO_BOOL] = 70
    polling_interval: PositiveInt = 1


class CollectionData(Spec):
    name: str | None = None
    path: str | None = None
    version: str | None = None


DataOrReference = Annotated[
    Annotated[CollectionData, Tag(OBJECT_TAG)] | Annotated[str, Tag(REFERENCE_TAG)],
    Discriminator(object_or_reference),
]


class Collection(Spec):
    enabled: bool = False
    sampling_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    data: DataOrReference | None = None
    """Where it is stored: in words, or as a reference to a registered data asset."""


class RequestLogging(Spec):
    capture_headers: tuple[str, ...] = ()


class DataCollector(Spec):
    collections: dict[str, Collection] = Field(default_factory=dict)
    sampling_rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    rolling_rate: Literal["minute", "hour", "day", "month", "year"] = "hour"
    request_logging: RequestLogging | None = None


class DeploymentSpec(Spec):
    """One version of a model behind an endpoint.

    `model` and `environment` are inline objects or references (`azureml:name:version`, `azureml:name@latest`,
    an ARM id);
    in the state they are always references to registered versions.
    """

    schema_: str | None = Field(default=None, alias="$schema")
    name: ResourceName
    endpoint_name: ResourceName
    description: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)
    """Text by name. Those that begin with `moorings.` are settings (`spec/own_settings.py`): of batches, of scaling,
    of the pace of updates, and the sample request that a new instance has to answer; unknown ones are refused."""
    type: Literal["managed"] = "managed"
    model: ModelOrReference | None = None
    model_mount_path: str | None = None
    code_configuration: CodeConfiguration | None = None
    environment: EnvironmentOrReference | None = None
    environment_variables: dict[str, str] = Field(default_factory=dict)
    instance_type: str | None = None
    instance_count: Annotated[int, Field(ge=1, le=MAX_INSTANCES), NO_BOOL] = 1
    app_insights_enabled: bool = False
    scale_settings: ScaleSettings = Field(default_factory=ScaleSettings)
    request_settings: RequestSettings = Field(default_factory=RequestSettings)
    liveness_probe: Probe = Field(default_factory=Probe)
    readiness_probe: Probe = Field(default_factory=Probe)
    egress_public_network_access: Literal["enabled", "disabled"] = "enabled"
    private_network_connection: bool | None = None
    data_collector: DataCollector | None = None


def down_after_s(spec: DeploymentSpec) -> int:
    """How long an instance must not have been needed before it goes: 20 polling intervals unless the spec says it
    (section 9.4)."""
    own = whole_numbers(spec.properties, SCALE_DOWN_AFTER_S)
    return own.get(SCALE_DOWN_AFTER_S, 20 * spec.scale_settings.polling_interval)


def zero_after_s(spec: DeploymentSpec) -> int:
    """How long nobody must have called before the last instance goes, where `min_instances` is 0."""
    own = whole_numbers(spec.properties, SCALE_TO_ZERO_AFTER_S)
    return max(own.get(SCALE_TO_ZERO_AFTER_S, 300), down_after_s(spec))


def activation_timeout_s(spec: DeploymentSpec) -> int:
    """How long a request waits for the first instance before it is turned away."""
    return whole_numbers(spec.properties, ACTIVATION_TIMEOUT_S).get(ACTIVATION_TIMEOUT_S, 30)


def no_effect_yet(spec: DeploymentSpec) -> dict[str, str]:
    """Keys given in `spec` that are kept and shown but change nothing in this version: key -> why, for the
    status."""
    found: dict[str, str] = {}

    def note(key: str, value: Any, why: str) -> None:
        if value:
            found[key] = why

    note("app_insights_enabled", spec.app_insights_enabled, "no telemetry is exported yet")
    note("data_collector", spec.data_collector, "payload collection is not there yet")
    note(
        "egress_public_network_access",
        spec.egress_public_network_access == "disabled",
        "the process engine does not isolate the network of an instance",
    )
    note("private_network_connection", spec.private_network_connection, "networks are not isolated yet")
    return found
