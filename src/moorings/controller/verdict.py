"""From an instance that failed its rollout to one coded failure: gathers the evidence and asks the diagnosis."""

from __future__ import annotations

from dataclasses import dataclass

from moorings.engines.base import CONTAINER_SERVER, Engine, Instance
from moorings.errors.diagnosis import InstanceEvidence, diagnose_instance
from moorings.errors.exceptions import Failure
from moorings.spec.deployment import DeploymentSpec

LOG_LINES = 200
"""How much of the log the diagnosis may look at."""


@dataclass(frozen=True)
class Verdicts:
    engine: Engine

    async def of(self, instance: Instance, spec: DeploymentSpec, *, overdue: bool) -> Failure:
        """Why this instance does not serve."""
        raise AssertionError("wired below")
