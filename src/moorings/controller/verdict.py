"""From an instance that failed its rollout to one coded failure: gathers the evidence and asks the diagnosis."""

from __future__ import annotations

from dataclasses import dataclass

from moorings.engines.base import CONTAINER_SERVER, Engine, Instance
from moorings.errors.diagnosis import InstanceEvidence, diagnose_instance
from moorings.errors.exceptions import Failure
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.instance_types import lookup

LOG_LINES = 200
"""How much of the log the diagnosis may look at."""


@dataclass(frozen=True)
class Verdicts:
    engine: Engine

    async def of(self, instance: Instance, spec: DeploymentSpec, *, waited_s: float | None) -> Failure:
        """Why this instance does not serve; `waited_s` is given when it has used up the time the rollout allows."""
        ended = instance.exit
        step = ended.step if ended else CONTAINER_SERVER
        log = await self.engine.logs(instance.owner, container=step, tail=LOG_LINES, instance=instance.id)
        size = lookup(spec.instance_type) if spec.instance_type else None
        return diagnose_instance(
            InstanceEvidence(
                endpoint=spec.endpoint_name,
                deployment=spec.name,
                phase=str(instance.phase),
                exit_code=ended.code if ended else None,
                signal=ended.signal if ended else None,
                report=ended.report if ended else None,
                step=step,
                oom=bool(ended and ended.oom),
                restarts=instance.restarts,
                overdue=waited_s is not None,
                waited_s=waited_s,
                memory_bytes=size.memory_bytes if size else None,
                log_tail=tuple((log or "").splitlines()),
            )
        )
