"""The desired state of a deployment with the instance count that counts now. Pure."""

from __future__ import annotations

from moorings.spec.deployment import DeploymentSpec
from moorings.spec.scaling import count_of
from moorings.spec.status import is_ready
from moorings.state.transaction import Resource


def wanted(row: Resource) -> DeploymentSpec:
    """The spec of a row of a deployment; its `instance_count` is what scaling has decided.

    0 only once this generation has been ready: what has never served must show that it can.
    """
    spec = DeploymentSpec.model_validate(row.spec)
    count = count_of(spec, row.autoscale, row.scale)
    if count == 0 and not is_ready(row.status, row.generation):
        count = 1
    return spec if count == spec.instance_count else spec.model_copy(update={"instance_count": count})
