"""How large this machine is, for whoever shares it out: what this process may use, containers and cpusets considered.
Knows nothing of what it is used for."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_GPU = re.compile(r"nvidia\d+")
_UNLIMITED_BYTES = 1 << 60
"""Kernels say a number near 2**63 where there is no limit."""


@dataclass(frozen=True)
class Machine:
    vcpus: float
    """At least one thousandth; less than a core where a container may use less."""
    memory_bytes: int
    gpus: int


def this_machine(*, control_groups: Path = Path("/sys/fs/cgroup"), devices: Path = Path("/dev")) -> Machine:
    """The size of this machine, or of the container this process is in."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [limit for limit in _memory_limits(control_groups) if 0 < limit < _UNLIMITED_BYTES]
    return Machine(
        vcpus=max(0.001, min([float(_cores()), *_cpu_limits(control_groups)])),
        memory_bytes=min([memory, *limits]),
        gpus=gpus(devices),
    )


def gpus(devices: Path = Path("/dev")) -> int:
    try:
        return sum(1 for path in devices.iterdir() if _GPU.fullmatch(path.name))
    except OSError:
        return 0


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _cpu_limits(root: Path) -> Iterator[float]:
    """Cores of the control group at `root`, v2 then v1, where it has a limit."""
    quota, _, period = _words(root / "cpu.max").partition(" ")
    yield from _ratio(quota, period)
    v1 = root / "cpu"
    yield from _ratio(_words(v1 / "cpu.cfs_quota_us"), _words(v1 / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> Iterator[float]:
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        cores = int(quota) / int(period)
        if 0 < cores < math.inf:
            yield cores


def _memory_limits(root: Path) -> Iterator[int]:
    for path in (root / "memory.max", root / "memory" / "memory.limit_in_bytes"):
        text = _words(path)
        if text.isdigit():
            yield int(text)


def _words(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
