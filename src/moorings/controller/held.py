"""What the controller says about quota: that it is granted, and when what earlier generations held is free again. Pure.

The grant itself was made where the desired state was accepted (`api/quota.py`). What was held before goes on counting
until nothing of it can come back: the rollout has ended and its instances have, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moorings.engines.base import Instance, Phase
from moorings.spec import quota
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.instance_types import lookup
from moorings.spec.own_settings import pace_of

_WITHOUT_PROCESS = (Phase.FAILED,)
"""Phases that hold nothing and are not started again by themselves."""


def granted(spec: DeploymentSpec, most: int = 0) -> str:
    """What the condition QuotaGranted says. `most`: instances that an autoscale setting allows."""
    size = lookup(spec.instance_type) if spec.instance_type else None
    if size is None:
        return f"{spec.instance_type or quota.NO_TYPE}: not in the catalogue, each instance counts as the machine"
    wanted = quota.wanted_instances(spec.model_dump(include={"instance_count", "scale_settings"}), most)
    counted = quota.reserved(size, wanted, rolling=False, pace=pace_of(spec.properties))
    part = quota.Holding("", (quota.Part(size, wanted, counted),))
    return f"{quota.in_words(size.family, counted * size.vcpus)}: {part.said()}"


def type_name(spec: DeploymentSpec) -> str:
    """The instance type as the catalogue spells it."""
    size = lookup(spec.instance_type) if spec.instance_type else None
    return size.name if size else spec.instance_type or quota.NO_TYPE


def released(
    generation: int,
    revision: str,
    count: int,
    types: Mapping[str, str],
    instances: Sequence[Instance],
    applied: Mapping[str, int],
    *,
    ended: bool,
    gave_up: bool,
) -> dict[str, Any] | None:
    """What counts from now on besides the desired state; None while that is what was held before.

    `types`: revision -> instance type. `applied`: what the engine is about to be asked for. `ended`: the rollout has.
    """
    ordinals: dict[str, int] = {rev: most for rev, most in applied.items() if most}
    for one in instances:
        if one.phase not in _WITHOUT_PROCESS:
            ordinals[one.revision] = max(ordinals.get(one.revision, 0), one.ordinal + 1)
    older = any(rev != revision for rev in ordinals)
    settled = ended and not older and ordinals.get(revision, 0) <= count
    if not (settled or gave_up) or any(rev not in types for rev in ordinals):
        return None
    counted: dict[str, int] = {}
    for rev, most in ordinals.items():
        counted[types[rev]] = counted.get(types[rev], 0) + most
    return quota.Carried(dict(sorted(counted.items())), older).to_json(generation)
