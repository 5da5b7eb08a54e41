"""How much there is to share out: the machine that runs the instances, as the settings see it. Knows no deployments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from moorings.errors.exceptions import MooringsError
from moorings.lib.machine import Machine, this_machine
from moorings.spec.instance_types import GIB
from moorings.spec.quota import Capacity


@dataclass
class MachineCapacity:
    """Asked at every accept; the machine itself is looked at once. Safe to call from several threads."""

    vcpus: float
    """0: what the machine has; so for `memory_gib`. `gpus`: -1."""
    memory_gib: float
    gpus: int
    cpu_overcommit: float
    memory_overcommit: float
    engine_facts: Callable[[], Mapping[str, Any]] | None = None
    """What an engine on another kernel says of itself (`NCPU`, `MemTotal`); may raise MooringsError."""
    _machine: Machine | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> Capacity:
        with self._lock:
            machine = self._machine or self._look()
        return Capacity(
            vcpus=self.vcpus or machine.vcpus,
            memory_bytes=int(self.memory_gib * GIB) or machine.memory_bytes,
            gpus=machine.gpus if self.gpus < 0 else self.gpus,
            cpu_overcommit=self.cpu_overcommit,
            memory_overcommit=self.memory_overcommit,
        )

    def _look(self) -> Machine:
        machine = this_machine()
        if self.engine_facts is not None:
            try:
                facts = self.engine_facts()
                machine = replace(
                    machine,
                    vcpus=float(facts.get("NCPU") or machine.vcpus),
                    memory_bytes=int(facts.get("MemTotal") or machine.memory_bytes),
                )
            except MooringsError:
                return machine  # the engine is away: it is asked again next time
        self._machine = machine
        return machine
