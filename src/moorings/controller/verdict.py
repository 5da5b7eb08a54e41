"""From what engine, prober and state know of a deployment to one verdict: gathers the evidence and asks the diagnosis."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from moorings.engines.base import CONTAINER_SERVER, Engine, Exit, Inspection, Instance, Phase
from moorings.errors.diagnosis import DeploymentEvidence, InstanceEvidence, diagnose, diagnose_instance
from moorings.errors.diagnosis.deployment import said_in_short
from moorings.errors.diagnosis.evidence import End, Probed
from moorings.errors.exceptions import Failure
from moorings.lib.timing import Clock
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.instance_types import lookup
from moorings.spec.references import parse_reference
from moorings.spec.status import GATEWAY_ACCEPTED, INSTANCES_HEALTHY, READY, Truth
from moorings.state.database import Database
from moorings.state.transaction import Resource

LOG_LINES = 300
"""How much of the log the diagnosis may look at."""
LONGEST_LINE_CHARS = 4000
CLOSER_EVERY_S = 10.0


class Probes(Protocol):
    """What is asked of the prober."""

    def told(self, owner: str, address: str) -> tuple[str, int]: ...


@dataclass(frozen=True)
class Verdicts:
    engine: Engine
    probes: Probes
    disk: Path
    """A folder on the disk of the workspace."""

    async def of(
        self, instance: Instance, spec: DeploymentSpec, *, waited_s: float | None, ready: bool = False
    ) -> Failure:
        """Why this instance does not serve, or has not; `waited_s` is given when it has used up the time the rollout
        allows."""
        return diagnose_instance(await self.evidence(instance, spec, waited_s=waited_s, ready=ready))

    async def evidence(
        self,
        instance: Instance,
        spec: DeploymentSpec,
        *,
        waited_s: float | None = None,
        ready: bool = False,
        closer: bool = True,
    ) -> InstanceEvidence:
        """All that can be seen of it. One that lives and has not come to serve is looked at closer, which takes a moment
        and leaves lines in its log: not with `closer=False`."""
        lives = instance.phase in (Phase.STARTING, Phase.RUNNING)
        seen = await self.engine.inspect(instance) if lives and closer and not ready else Inspection()
        ended = instance.exit
        step = ended.step if ended else CONTAINER_SERVER
        log = await self.engine.logs(instance.owner, container=step, tail=LOG_LINES, instance=instance.id)
        size = lookup(spec.instance_type) if spec.instance_type else None
        return InstanceEvidence(
            endpoint=spec.endpoint_name,
            deployment=spec.name,
            phase=str(instance.phase),
            ready=ready,
            exit_code=ended.code if ended else None,
            signal=ended.signal if ended else None,
            report=ended.report if ended else None,
            step=step,
            oom=bool(ended and ended.oom),
            oom_sign=ended.oom_sign if ended else "",
            oom_certain=ended is None or ended.oom_certain,
            served_s=ended.served_s if ended else None,
            restarts=instance.restarts,
            ends=tuple(_end(e) for e in _exits(instance)),
            overdue=waited_s is not None,
            waited_s=waited_s,
            boot_allowed_s=instance.boot_budget_s,
            processor_s=seen.processor_s,
            processor_share=seen.processor_share,
            memory_bytes=size.memory_bytes if size else None,
            memory_peak_bytes=ended.memory_peak_bytes if ended else None,
            disk_free_bytes=await asyncio.to_thread(_free_bytes, self.disk),
            probed=self._probed(instance, spec),
            listening=seen.listening,
            code_root=instance.code_dir,
            model=model_named(spec),
            model_root=instance.model_dir,
            log_tail=tuple(line[:LONGEST_LINE_CHARS] for line in (log or "").splitlines()),
        )

    def _probed(self, instance: Instance, spec: DeploymentSpec) -> Probed | None:
        """Of the first address whose probe fails, else of the first."""
        told = [(a, *self.probes.told(instance.owner, a)) for a in instance.addresses]
        asked = [item for item in told if item[1]]
        if not asked:
            return None
        address, said, failures = max(asked, key=lambda item: item[2])
        where = instance.probes.get(address)
        if where is None:
            return Probed(said, failures=failures)
        path = f"/{where.partition('/')[2]}"
        port = instance.probe_ports.get(address)
        return Probed(said, path, port, failures)


@dataclass(frozen=True)
class Diagnoses:
    """What is wrong with a deployment now, for whoever asks."""

    database: Database
    clock: Clock
    verdicts: Verdicts
    _looked: dict[str, float] = field(default_factory=dict)
    """When an instance was looked at closer last."""

    def _closer(self, instance: Instance) -> bool:
        """Whoever asks again and again must not fill the log; how it ended before says more than where it is now."""
        now = self.clock.monotonic()
        for old in [name for name, at in self._looked.items() if now - at >= CLOSER_EVERY_S]:
            del self._looked[old]
        if instance.exit is not None or instance.id in self._looked:
            return False
        self._looked[instance.id] = now
        return True

    async def of(self, row: Resource) -> Mapping[str, Any]:
        """`verdict` (a Failure or None), `summary`, `ready`, `waitingFor`, `phases` and `instances`, as values for the
        wire."""
        spec = DeploymentSpec.model_validate(row.spec)
        status = row.status
        wanted = (status.get("resolved") or {}).get("revision")
        known = {i["id"]: i for i in status.get("instances", ())}
        found = [i for i in await self.verdicts.engine.observe(row.name) if i.revision == wanted]
        seen = [
            await self.verdicts.evidence(
                i, spec, ready=bool(known.get(i.id, {}).get("ready")), closer=self._closer(i)
            )
            for i in found
        ]
        ready = _truth(status, READY) is Truth.TRUE
        waiting_for = str(status.get("waitingFor") or "")
        verdict = diagnose(
            DeploymentEvidence(
                failed=_gave_up(row), blocked=_blocked(status), instances=tuple(seen), now=self.clock.now()
            )
        )
        return {
            "verdict": verdict,
            "summary": said_in_short(verdict, ready=ready, waiting_for=waiting_for),
            "ready": ready,
            "waitingFor": waiting_for,
            "phases": _phases(status.get("phases", ())),
            "instances": [_instance(i, e) for i, e in zip(found, seen, strict=True)],
        }


def model_named(spec: DeploymentSpec) -> str:
    """`name:version` of the model, where it is registered."""
    try:
        ref = parse_reference(spec.model) if isinstance(spec.model, str) else None
    except ValueError:
        return ""
    return f"{ref.name}:{ref.version}" if ref is not None and ref.version else ""


def _end(ended: Exit) -> End:
    return End(
        at=ended.at,
        code=ended.code,
        signal=ended.signal,
        oom=ended.oom,
        served_s=ended.served_s,
        why=str((ended.report or {}).get("kind") or ""),
    )


def _exits(instance: Instance) -> tuple[Exit, ...]:
    """Its ends, as far as they are known; a container with a server of its own is known to have ended last."""
    return instance.exits or ((instance.exit,) if instance.exit else ())


def _gave_up(row: Resource) -> Failure | None:
    found = row.status.get("gave_up")
    if not found or found["generation"] != row.generation:
        return None
    return Failure.from_json(found["failure"])


def _blocked(status: Mapping[str, Any]) -> Failure | None:
    """What the conditions of instances and gateway say of a failure that is not the deployment's own."""
    for kind in (INSTANCES_HEALTHY, GATEWAY_ACCEPTED):
        condition = status.get("conditions", {}).get(kind) or {}
        if condition.get("failure") and condition.get("status") != Truth.TRUE:
            return Failure.from_json(condition["failure"])
    return None


def _truth(status: Mapping[str, Any], kind: str) -> Truth | None:
    condition = status.get("conditions", {}).get(kind)
    return None if condition is None else Truth(condition["status"])


def _phases(phases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for phase in phases:
        begun, ended = phase["startedAt"], phase["endedAt"]
        seconds = None if begun is None or ended is None else round(ended - begun, 3)
        found.append(
            {
                "name": phase["name"],
                "status": phase["status"],
                "seconds": seconds,
                "message": phase["message"],
            }
        )
    return found


def _instance(instance: Instance, seen: InstanceEvidence) -> dict[str, Any]:
    ends = [
        {
            "at": e.at,
            "exitCode": e.code,
            "signal": e.signal,
            "outOfMemory": e.oom,
            "servedSeconds": e.served_s,
            "memoryPeakBytes": e.memory_peak_bytes,
            "reported": (e.report or {}).get("kind"),
        }
        for e in _exits(instance)
    ]
    probe = None
    if seen.probed is not None:
        probe = {
            "path": seen.probed.path,
            "port": seen.probed.port,
            "said": seen.probed.said,
            "failures": seen.probed.failures,
        }
    return {
        "id": instance.id,
        "phase": str(instance.phase),
        "ready": seen.ready,
        "restarts": instance.restarts,
        "ends": ends,
        "memoryLimitBytes": seen.memory_bytes,
        "limits": dict(instance.limits),
        "processorSeconds": seen.processor_s,
        "probe": probe,
        "listening": None if seen.listening is None else list(seen.listening),
    }


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
