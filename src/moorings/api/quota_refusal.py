"""What whoever is refused for want of quota or capacity is told: need, have, holders, and the exact next command. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from moorings.errors.exceptions import Failure, MooringsError, failure
from moorings.errors.sentence import Sentence, sentence
from moorings.spec import quota
from moorings.spec.instance_types import INSTANCE_TYPES, InstanceType
from moorings.spec.quota import CORES, GPUS, MEMORY, Capacity, Fit, Line

HOLDERS_SAID = 10


def refusal(
    fit: Fit,
    spec: Mapping[str, Any],
    quotas: Mapping[str, int],
    capacity: Capacity,
    planned: Collection[str] = (),
) -> Failure:
    """The failure of a deployment that does not fit: one coded failure for each limit, the first in front. `planned`:
    holders that are still to be made, and cannot be deleted."""
    found = [_of(line, fit, spec, quotas, capacity, planned) for line in fit.short]
    found.sort(key=lambda one: one.code != "InstanceTypeTooLarge")
    first = found[0]
    return first if len(found) == 1 else failure_with(first, tuple(found))


def failure_with(first: Failure, details: tuple[Failure, ...]) -> Failure:
    return Failure(first.code, first.message, first.target, first.evidence, first.remedy, details)


def refuse(fit: Fit, spec: Mapping[str, Any], quotas: Mapping[str, int], capacity: Capacity) -> None:
    """Raises OutOfQuota, OutOfCapacity or InstanceTypeTooLarge (the user's fault) unless it fits."""
    if not fit.fits:
        raise MooringsError(refusal(fit, spec, quotas, capacity))


def _of(
    line: Line,
    fit: Fit,
    spec: Mapping[str, Any],
    quotas: Mapping[str, int],
    capacity: Capacity,
    planned: Collection[str],
) -> Failure:
    who = fit.needs.deployment
    size = fit.needs.parts[0].size
    need = quota.in_words(line.name, line.needed)
    whose = "the quota" if line.is_quota else "what the machine has"
    evidence = [
        f"need: {need}: {fit.needs.said()}",
        f"have: {quota.figure(line.name, line.free)} free of {quota.figure(line.name, line.limit)}, {whose}",
    ]
    for name, amount in line.holders[:HOLDERS_SAID]:
        word, tail = ("needed", ", which comes before it") if name in planned else ("held", "")
        evidence.append(f"{word}: {quota.figure(line.name, amount)} by {name}{tail}")
    if len(line.holders) > HOLDERS_SAID:
        evidence.append(f"held: the rest by {len(line.holders) - HOLDERS_SAID} more")
    free = quota.figure(line.name, line.free)
    message = f"deployment {who} needs {need}; {free} of {quota.figure(line.name, line.limit)} are free"
    code = "OutOfQuota" if line.is_quota else "OutOfCapacity"
    if not line.is_quota and _alone(line.name, fit.needs.parts[0]) > line.limit:
        code = "InstanceTypeTooLarge"
        message = f"one instance of {size.name} needs {quota.in_words(line.name, _alone(line.name, fit.needs.parts[0]))}; "
        message += f"the machine has {quota.figure(line.name, line.limit)}"
    there = [name for name, _ in line.holders if name not in planned]
    fix = _remedy(code, line, fit, spec, quotas, capacity, largest=there[0] if there else None)
    return failure(code, message, target=who, evidence=evidence, fix=fix)


def _alone(name: str, part: quota.Part) -> int:
    """What one instance needs by itself."""
    size = part.size
    count = quota.reserved(size, 1, rolling=False, pace=part.pace)
    amounts = {CORES: count * size.vcpus, MEMORY: count * size.memory_bytes, GPUS: size.gpus}
    return amounts.get(name, count * size.vcpus)


def _remedy(
    code: str,
    line: Line,
    fit: Fit,
    spec: Mapping[str, Any],
    quotas: Mapping[str, int],
    capacity: Capacity,
    *,
    largest: str | None,
) -> Sentence:
    """Every way out, and what shows the choice. `largest`: who holds most and could be deleted."""
    first, *others = _ways(code, line, fit, spec, quotas, capacity, largest=largest)
    ways = first
    for other in others:
        ways = sentence("{way}   Or: {other}", way=ways, other=other)
    if code == "InstanceTypeTooLarge":
        return sentence("{ways}   (which types there are: moor compute list-sizes -o table)", ways=ways)
    return sentence("{ways}   (who holds what: moor quota list -o table)", ways=ways)


def _ways(
    code: str,
    line: Line,
    fit: Fit,
    spec: Mapping[str, Any],
    quotas: Mapping[str, int],
    capacity: Capacity,
    *,
    largest: str | None,
) -> list[Sentence]:
    ways: list[Sentence] = []
    if code != "InstanceTypeTooLarge" and largest is not None:
        endpoint, _, name = largest.partition("/")
        command = f"moor online-deployment delete -e {endpoint} -n {name} --yes"
        ways.append(sentence("Delete what is not used: {command}", command=command))
    fewer = _fewer(line, fit, spec)
    if fewer:
        ways.append(sentence("Ask for fewer instances: --set instance_count={count}", count=fewer))
    smaller = _smaller(fit, quotas, capacity)
    if smaller is not None and not fewer:
        ways.append(sentence("Choose a smaller type: --set instance_type={type}", type=smaller.name))
    if line.is_quota:
        enough = line.used + line.needed
        command = f"moor quota set --resource-name {line.name} --limit {enough}"
        ways.append(sentence("Raise the quota: {command}", command=command))
    else:
        key = {CORES: "cpu_overcommit", MEMORY: "memory_overcommit", GPUS: "gpus"}[line.name]
        ways.append(
            sentence(
                "Promise more of the machine: raise capacity.{key} in settings.json, then moor workspace stop",
                key=key,
            )
        )
    return ways


def _fewer(line: Line, fit: Fit, spec: Mapping[str, Any]) -> int:
    """The most instances that this limit has room for; 0 where that is no way out."""
    part = fit.needs.parts[0]
    if quota.wanted_instances(spec) != part.wanted or int(spec.get("instance_count") or 1) != part.wanted:
        return 0  # reserved for what it may scale to: fewer instances change nothing
    for count in range(part.wanted - 1, 0, -1):
        each = quota.reserved(part.size, count, rolling=False, pace=part.pace)
        amounts = {MEMORY: each * part.size.memory_bytes, GPUS: count * part.size.gpus}
        if amounts.get(line.name, each * part.size.vcpus) <= line.free:
            return count
    return 0


def _smaller(fit: Fit, quotas: Mapping[str, int], capacity: Capacity) -> InstanceType | None:
    """The largest type below this one that all limits have room for; of the same family where there is one."""
    part = fit.needs.parts[0]
    free = {line.name: line.free for line in fit.lines}
    fitting = []
    for size in INSTANCE_TYPES:
        count = quota.reserved(size, part.wanted, rolling=False, pace=part.pace)
        if (size.gpus > 0) != (part.size.gpus > 0 and free.get(GPUS, 0) > 0) or size.vcpus > part.size.vcpus:
            continue
        if size.family in quotas and size.family != part.size.family:
            continue  # how much of that is free is not known here
        cores = min(free.get(CORES, 0), free.get(size.family, capacity.limits[CORES]))
        room = count * size.vcpus <= cores and count * size.memory_bytes <= free.get(MEMORY, 0)
        if room and size.name != part.size.name and part.wanted * size.gpus <= free.get(GPUS, 0):
            fitting.append(size)
    fitting.sort(key=lambda size: (size.family == part.size.family, size.vcpus, size.memory_bytes))
    return fitting[-1] if fitting else None
