"""Whether this machine can carry a deployment: the size of its instances, quota, disk. `facts_of` looks; the rest is
pure."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from moorings.assets.objects import human_size
from moorings.errors.exceptions import Failure
from moorings.errors.sentence import Sentence, sentence
from moorings.preflight.findings import Finding, Place, Severity, finding, of_failure
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.instance_types import GIB, INSTANCE_TYPES, InstanceType, lookup
from moorings.spec.problems import FieldPath, Located

ENVIRONMENT_BYTES = GIB // 2
"""Free disk below which few environments can be built."""

Locate = Callable[[FieldPath], Located]


@dataclass(frozen=True)
class MachineFacts:
    """What there is. Sizes in bytes; None where the system does not tell."""

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
    there = next((folder for folder in (home, *home.parents) if folder.is_dir()), Path("/"))
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        free = None
    return MachineFacts(free, str(home))


def machine_findings(
    spec: DeploymentSpec, load: Load, facts: MachineFacts, locate: Locate, *, again: str
) -> list[Finding]:
    """What the machine has too little of."""
    size = lookup(spec.instance_type) if spec.instance_type else None
    found: list[Finding] = []
    if spec.instance_type and size is None:
        found.append(_unknown_type(spec.instance_type, locate, again))
    if size is not None:
        found += _model_findings(size, load, locate, again)
    found += _disk_findings(load, facts, locate, again)
    return found


def room_findings(refused: Failure | None, locate: Locate) -> list[Finding]:
    """Want of quota or capacity, the surge of updates included, as the workspace itself would refuse it."""
    if refused is None:
        return []
    located = locate(("instance_type",))
    place = Place.parse(located.target)
    return [
        Finding(one.severity, replace(one.failure, target=located.target), place)
        for one in of_failure(refused)
    ]


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
        fix = sentence("Choose an instance_type with more memory, then: {again}", again=again)
        found.append(_finding(Severity.WARNING, "OutOfMemory", message, locate(at), fix))
    if size.disk_bytes is not None and load.model_bytes > size.disk_bytes:
        message = f"the model has {human_size(load.model_bytes)}, and {size.name} has {_gib(size.disk_bytes)} of disk"
        fix = sentence("Choose an instance_type with a larger disk, then: {again}", again=again)
        found.append(_finding(Severity.WARNING, "ArtifactsNoSpace", message, locate(at), fix))
    return found


def _disk_findings(load: Load, facts: MachineFacts, locate: Locate, again: str) -> list[Finding]:
    free = facts.free_disk_bytes
    if free is None:
        return []
    # The store keeps one copy of the content; the instances link to it, and have a copy of the code.
    need = (load.model_bytes or 0) + 2 * (load.code_bytes or 0)
    fix = sentence("Free space (see: df -h {home}), then: {again}", home=facts.home, again=again)
    if need > free:
        message = f"model and code need {human_size(need)}, and the disk of {facts.home} has {human_size(free)} free"
        return [_finding(Severity.ERROR, "AssetStoreFull", message, locate(("model", "path")), fix)]
    if need + ENVIRONMENT_BYTES > free:
        message = f"the disk of {facts.home} has {human_size(free)} free, which is little for an environment"
        return [_finding(Severity.WARNING, "EnvironmentDiskFull", message, None, fix)]
    return []


def _unknown_type(name: str, locate: Locate, again: str) -> Finding:
    known = [size.name for size in INSTANCE_TYPES]
    near = difflib.get_close_matches(name.lower(), [each.lower() for each in known], n=1, cutoff=0.6)
    hint = f"; did you mean {next(each for each in known if each.lower() == near[0])}?" if near else ""
    message = f"`instance_type`: {name} is not known here, so no limits of CPU and memory hold for it{hint}"
    fix = sentence("Correct instance_type, or leave it; then: {again}", again=again)
    return _finding(Severity.WARNING, "SpecValueInvalid", message, locate(("instance_type",)), fix)


def _finding(severity: Severity, code: str, message: str, located: Located | None, fix: Sentence) -> Finding:
    place = None if located is None else Place.parse(located.target)
    evidence = () if located is None else located.evidence
    return finding(severity, code, message, place=place, evidence=evidence, fix=fix)


def _gib(count: int) -> str:
    """As instance types are listed."""
    return f"{count / GIB:.1f} GiB"
