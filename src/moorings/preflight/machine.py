"""Whether this machine can carry a deployment: size, disk, ports. `facts_of` looks; the rest is pure."""

from __future__ import annotations

import difflib
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moorings.assets.objects import human_size
from moorings.preflight.findings import Finding, Place, Severity, finding
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.instance_types import GIB, INSTANCE_TYPES, InstanceType, lookup
from moorings.spec.problems import FieldPath, Located

SURGE = 1.2
"""Instances that an update may hold for each that runs (behaviour reference, section 10.3)."""
ENVIRONMENT_BYTES = GIB // 2
"""Free disk below which few environments can be built."""

Locate = Callable[[FieldPath], Located]


@dataclass(frozen=True)
class MachineFacts:
    """What there is. Sizes in bytes; None where the system does not tell."""

    cpus: int
    memory_bytes: int | None
    free_disk_bytes: int | None
    home: str
    """The folder whose disk that is."""


@dataclass(frozen=True)
class Load:
    """What a deployment brings along."""

    model_bytes: int | None = None
    code_bytes: int | None = None


def facts_of(home: Path) -> MachineFacts:
    """Of the machine we run on; `home` need not be there yet."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        memory = None
    there = next((folder for folder in (home, *home.parents) if folder.is_dir()), Path("/"))
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        free = None
    return MachineFacts(os.cpu_count() or 1, memory, free, str(home))


def machine_findings(
    spec: DeploymentSpec, load: Load, facts: MachineFacts, locate: Locate, *, again: str
) -> list[Finding]:
    """What the machine has too little of."""
    size = lookup(spec.instance_type) if spec.instance_type else None
    found: list[Finding] = []
    if spec.instance_type and size is None:
        found.append(_unknown_type(spec.instance_type, locate, again))
    if size is not None:
        found += capacity_findings(spec, size, facts, locate, again=again)
        found += _model_findings(size, load, locate, again)
    found += _disk_findings(load, facts, locate, again)
    return found


def capacity_findings(
    spec: DeploymentSpec, size: InstanceType, facts: MachineFacts, locate: Locate, *, again: str
) -> list[Finding]:
    """Whether the instances fit on the machine. They share it, so more than it has is a warning."""
    at: FieldPath = ("instance_type",)
    count, surge = spec.instance_count, math.ceil(SURGE * spec.instance_count)
    need_cpus, need_bytes = count * size.vcpus, count * size.memory_bytes
    short: list[str] = []
    if need_cpus > facts.cpus:
        short.append(f"{need_cpus} vCPUs (the machine has {facts.cpus})")
    if facts.memory_bytes is not None and need_bytes > facts.memory_bytes:
        short.append(f"{_gib(need_bytes)} of memory (the machine has {_gib(facts.memory_bytes)})")
    if not short:
        return []
    what = f"{count} instance{'' if count == 1 else 's'} of {size.name} (up to {surge} during an update)"
    message = f"{what}: {' and '.join(short)}; they share what there is"
    fix = f"Choose a smaller instance_type or instance_count, if that is too little; then: {again}"
    return [_finding(Severity.WARNING, "ContainerCannotStart", message, locate(at), fix)]


def _model_findings(size: InstanceType, load: Load, locate: Locate, again: str) -> list[Finding]:
    at: FieldPath = ("instance_type",)
    found: list[Finding] = []
    if load.model_bytes is None:
        return found
    if load.model_bytes > size.memory_bytes:
        message = (
            f"the model has {human_size(load.model_bytes)}, and an instance of {size.name} may use "
            f"{_gib(size.memory_bytes)} of memory"
        )
        fix = f"Choose an instance_type with more memory, then: {again}"
        found.append(_finding(Severity.WARNING, "OutOfMemory", message, locate(at), fix))
    if size.disk_bytes is not None and load.model_bytes > size.disk_bytes:
        message = f"the model has {human_size(load.model_bytes)}, and {size.name} has {_gib(size.disk_bytes)} of disk"
        fix = f"Choose an instance_type with a larger disk, then: {again}"
        found.append(_finding(Severity.WARNING, "ArtifactsNoSpace", message, locate(at), fix))
    return found


def _disk_findings(load: Load, facts: MachineFacts, locate: Locate, again: str) -> list[Finding]:
    free = facts.free_disk_bytes
    if free is None:
        return []
    # The store keeps one copy of the content; the instances link to it, and have a copy of the code.
    need = (load.model_bytes or 0) + 2 * (load.code_bytes or 0)
    if need > free:
        message = f"model and code need {human_size(need)}, and the disk of {facts.home} has {human_size(free)} free"
        fix = f"Free space (see: df -h {facts.home}), then: {again}"
        return [_finding(Severity.ERROR, "AssetStoreFull", message, locate(("model", "path")), fix)]
    if need + ENVIRONMENT_BYTES > free:
        message = f"the disk of {facts.home} has {human_size(free)} free, which is little for an environment"
        fix = f"Free space (see: df -h {facts.home}), then: {again}"
        return [_finding(Severity.WARNING, "EnvironmentDiskFull", message, None, fix)]
    return []


def _unknown_type(name: str, locate: Locate, again: str) -> Finding:
    known = [size.name for size in INSTANCE_TYPES]
    near = difflib.get_close_matches(name.lower(), [each.lower() for each in known], n=1, cutoff=0.6)
    hint = f"; did you mean {next(each for each in known if each.lower() == near[0])}?" if near else ""
    message = f"`instance_type`: {name} is not known here, so no limits of CPU and memory hold for it{hint}"
    fix = f"Correct instance_type, or leave it; then: {again}"
    return _finding(Severity.WARNING, "SpecValueInvalid", message, locate(("instance_type",)), fix)


def _finding(severity: Severity, code: str, message: str, located: Located | None, fix: str) -> Finding:
    place = None if located is None else Place.parse(located.target)
    evidence = () if located is None else located.evidence
    return finding(severity, code, message, place=place, evidence=evidence, fix=fix)


def _gib(count: int) -> str:
    """As instance types are listed."""
    return f"{count / GIB:.1f} GiB"
