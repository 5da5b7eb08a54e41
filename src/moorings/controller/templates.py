"""From a resolved deployment to the template of its instances and the revision that names it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from moorings import contract
from moorings.controller.resolve import Content
from moorings.engines.base import ContainerTemplate, InstanceTemplate, ModelMount, ProbeTimes, Routes
from moorings.spec.deployment import DeploymentSpec, Probe
from moorings.spec.instance_types import lookup
from moorings.spec.own_settings import BATCH_MAX_SIZE, BATCH_MAX_WAIT_MS, whole_numbers

_VARIABLES = {
    BATCH_MAX_SIZE: contract.ENV_BATCH_MAX_SIZE,
    BATCH_MAX_WAIT_MS: contract.ENV_BATCH_MAX_WAIT_MS,
}


def probe_times(probe: Probe) -> ProbeTimes:
    return ProbeTimes(
        initial_delay_s=probe.initial_delay,
        period_s=probe.period,
        timeout_s=probe.timeout,
        success_threshold=probe.success_threshold,
        failure_threshold=probe.failure_threshold,
    )


def template_of(
    spec: DeploymentSpec,
    content: Content,
    *,
    python: str,
    environment_key: str,
    container: ContainerTemplate | None = None,
) -> InstanceTemplate:
    """All that an instance of this deployment needs; what is not in here needs no new process when it changes."""
    size = lookup(spec.instance_type) if spec.instance_type else None
    if container is not None and container.routes is not None:
        container = replace(container, model_mount_path=spec.model_mount_path)
    return InstanceTemplate(
        endpoint=spec.endpoint_name,
        deployment=spec.name,
        python=python,
        environment_key=environment_key,
        code_digest=content.code_digest,
        code_folder=content.code_folder,
        scoring_script=content.scoring_script,
        model=content.model,
        environment_variables={**content.variables, **_settings(spec), **spec.environment_variables},
        max_concurrent_requests=spec.request_settings.max_concurrent_requests_per_instance,
        request_timeout_ms=spec.request_settings.request_timeout_ms,
        liveness=probe_times(spec.liveness_probe),
        cpus=None if size is None else float(size.vcpus),
        memory_bytes=None if size is None else size.memory_bytes,
        container=container,
    )


def _settings(spec: DeploymentSpec) -> dict[str, str]:
    """Settings of the deployment that the inference server reads from its environment."""
    return {_VARIABLES[key]: str(value) for key, value in whole_numbers(spec.properties, *_VARIABLES).items()}


def revision_of(template: InstanceTemplate) -> str:
    """12 hex digits of the content: equal templates are the same revision."""
    content = asdict(template)
    if template.container is None:
        # What an engine does not know must not change the names of what it runs.
        del content["container"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def template_from_json(data: Mapping[str, Any]) -> InstanceTemplate:
    """The inverse of `dataclasses.asdict`."""
    model, container = data["model"], data.get("container")
    return InstanceTemplate(
        **{
            **data,
            "model": None if model is None else ModelMount(**model),
            "liveness": ProbeTimes(**data["liveness"]),
            "container": None if container is None else _container(container),
        }
    )


def _container(data: Mapping[str, Any]) -> ContainerTemplate:
    routes = data["routes"]
    return ContainerTemplate(**{**data, "routes": None if routes is None else Routes(**routes)})
