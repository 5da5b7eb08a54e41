"""Quota and capacity as values: what a deployment holds, what a workspace has, and whether one more fits. Pure.

What a deployment holds follows from its row alone, and is written in the transaction that changes the row; what all hold is
the sum of that. Rules: behaviour reference, section 10. Knows no database, no machine and no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moorings.spec.instance_types import GIB, INSTANCE_TYPES, InstanceType, lookup
from moorings.spec.own_settings import USUAL_PACE, Pace, pace_of

REGION = "local"
"""The region of a workspace: this machine."""
CORES, MEMORY, GPUS = "cores", "memory", "gpus"
"""Names beside the quota families: vCPUs of all families (regional total), bytes, devices."""
UNLISTED_FAMILY = "unlisted"
"""Family of instance types that the catalogue does not have."""
NO_TYPE = "no instance type"
"""In the place of the name where a deployment names none."""
FAMILIES: tuple[str, ...] = (*dict.fromkeys(t.family for t in INSTANCE_TYPES), UNLISTED_FAMILY)
LIMITABLE: tuple[str, ...] = (CORES, *FAMILIES)
"""What a workspace may set a quota on, in vCPUs."""

ROLLS_NOTHING = frozenset({"instance_count", "scale_settings", "tags", "description", "properties"})
"""Keys of a deployment whose change asks for no new process of those that run (its own settings aside)."""


@dataclass(frozen=True)
class Capacity:
    """What instances of one workspace may take in all: the machine's size, times what is promised of it."""

    vcpus: float
    memory_bytes: int
    gpus: int
    cpu_overcommit: float = 1.0
    memory_overcommit: float = 1.0

    @property
    def limits(self) -> Mapping[str, int]:
        """`cores` (vCPUs), `memory` (bytes), `gpus`: whole numbers. GPUs are never promised twice."""
        return {
            CORES: int(self.vcpus * self.cpu_overcommit),
            MEMORY: int(self.memory_bytes * self.memory_overcommit),
            GPUS: self.gpus,
        }


_ANY = Capacity(0.0, 0, 0)
"""Where it does not matter how large the machine is."""


@dataclass(frozen=True)
class Part:
    """Instances of one size that a deployment holds."""

    size: InstanceType
    wanted: int
    """Instances that are asked for; 0 where only older ones are left of this size."""
    counted: int
    """Instances that count: those wanted and those kept free for updates, or older ones that have not ended."""
    pace: Pace = USUAL_PACE
    """How many are kept free for updates of them."""


@dataclass(frozen=True)
class Count:
    """The same, whatever there is of the machine: by the name of the type."""

    type: str
    wanted: int
    counted: int


@dataclass(frozen=True)
class Total:
    """What several deployments hold of one type."""

    type: str
    counted: int
    devices: int
    """Instances that have the GPUs: nobody has one for itself while an update goes on."""


@dataclass(frozen=True)
class Holding:
    """What one deployment (`<endpoint>/<deployment>`) holds."""

    deployment: str
    parts: tuple[Part, ...]

    @property
    def amounts(self) -> dict[str, int]:
        """Family (vCPUs), `cores`, `memory` (bytes), `gpus` -> how much."""
        found = {CORES: 0, MEMORY: 0, GPUS: 0}
        for part in self.parts:
            size = part.size
            found[size.family] = found.get(size.family, 0) + part.counted * size.vcpus
            found[CORES] += part.counted * size.vcpus
            found[MEMORY] += part.counted * size.memory_bytes
            # Nobody has a GPU for itself: old and new instances share it while an update goes on.
            found[GPUS] += (part.wanted or part.counted) * size.gpus
        return found

    def said(self) -> str:
        """`2 x Standard_DS3_v2 (1 wanted, 1 kept free for updates)`."""
        return ", ".join(_part_said(part) for part in self.parts)


def _part_said(part: Part) -> str:
    spare = part.counted - part.wanted
    if not part.wanted:
        why = " (not ended yet)"
    elif spare:
        why = f" ({part.wanted} wanted, {spare} kept free for updates)"
    else:
        why = ""
    return f"{part.counted} x {part.size.name}{why}"


@dataclass(frozen=True)
class Carried:
    """What a deployment still holds of its earlier generations."""

    counted: Mapping[str, int] = field(default_factory=dict)
    """Instance type -> instances."""
    rolling: bool = False
    """Whether instances of an older revision are being replaced."""

    def to_json(self, generation: int) -> dict[str, Any]:
        return {"generation": generation, "counted": dict(self.counted), "rolling": self.rolling}

    @staticmethod
    def of(stored: Mapping[str, Any] | None) -> Carried:
        if not stored:
            return Carried()
        return Carried(dict(stored["counted"]), bool(stored["rolling"]))


def carried(earlier: Mapping[str, Any] | None, status: Mapping[str, Any]) -> Carried:
    """What a row says is held besides its desired state.

    `earlier` was written with the desired state; the controller's word in `status` takes its place once it has seen,
    at that generation or later, that nothing of it is left to come.
    """
    seen = status.get("held")
    if seen and seen["generation"] >= (earlier or {}).get("generation", 0):
        return Carried.of(seen)
    return Carried.of(earlier)


def size_of(name: str | None, capacity: Capacity) -> InstanceType:
    """The size of an instance type. One that is not in the catalogue has no limits: it counts as the whole machine, and
    nothing is kept free beside it."""
    found = lookup(name) if name else None
    if found is not None:
        return found
    cores, memory = max(1, int(capacity.vcpus)), capacity.memory_bytes
    return InstanceType(name or NO_TYPE, UNLISTED_FAMILY, cores, memory, None, exempt=True)


def wanted_instances(spec: Mapping[str, Any], most: int = 0) -> int:
    """Instances that quota is reserved for: those asked for, or the most it may scale to (sections 3.3 and 9.2), by its
    own settings or by an autoscale setting that allows `most`."""
    scale = spec.get("scale_settings") or {}
    return max(int(spec.get("instance_count") or 1), int(scale.get("max_instances") or 1), most)


def reserved(size: InstanceType, count: int, *, rolling: bool, pace: Pace = USUAL_PACE) -> int:
    """Instances that count for `count` wanted ones: what an update may add is kept free, a fifth where nothing else is
    set (section 10.3).

    Sizes that are exempt keep nothing free, and count what an update adds only while it goes on.
    """
    return count + pace.surge(count) if rolling or not size.exempt else count


def holding(
    deployment: str, spec: Mapping[str, Any], before: Carried, capacity: Capacity, most: int = 0
) -> Holding:
    """What a deployment of the desired state `spec` (plain, as stored) holds, with what is left of earlier ones.

    `most`: as for `wanted_instances`.
    """
    return holding_of(deployment, counts(spec, before, most), capacity, pace_of(spec.get("properties") or {}))


def holding_of(
    deployment: str, counted: Sequence[Count], capacity: Capacity, pace: Pace = USUAL_PACE
) -> Holding:
    """The same from what was counted. `pace`: of the instances that it asks for."""
    parts = [
        Part(size_of(c.type, capacity), c.wanted, c.counted, pace if c.wanted else USUAL_PACE)
        for c in counted
    ]
    return Holding(deployment, tuple(parts))


def counts(spec: Mapping[str, Any], before: Carried, most: int = 0) -> tuple[Count, ...]:
    """What a deployment holds: first what it asks for, then by name what is left of other types. As for `holding`."""
    size = size_of(spec.get("instance_type"), _ANY)
    wanted, pace = wanted_instances(spec, most), pace_of(spec.get("properties") or {})
    counted = reserved(size, wanted, rolling=before.rolling, pace=pace)
    found = [Count(size.name, wanted, max(counted, before.counted.get(size.name, 0)))]
    left = (name for name in sorted(before.counted) if name != size.name and before.counted[name])
    return (*found, *(Count(name, 0, before.counted[name]) for name in left))


def amounts_of(totals: Iterable[Total], capacity: Capacity) -> dict[str, int]:
    """Family (vCPUs), `cores`, `memory` (bytes), `gpus` -> how much is held of it together."""
    found = {CORES: 0, MEMORY: 0, GPUS: 0}
    for total in totals:
        size = size_of(total.type, capacity)
        found[size.family] = found.get(size.family, 0) + total.counted * size.vcpus
        found[CORES] += total.counted * size.vcpus
        found[MEMORY] += total.counted * size.memory_bytes
        found[GPUS] += total.devices * size.gpus
    return found


def carry_on(held: Holding, *, rolling: bool) -> Carried:
    """What the next generation of a deployment has to count of what it holds now."""
    return Carried({part.size.name: part.counted for part in held.parts}, rolling)


def rolls(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a change needs new processes in the place of those that run. Errs on the side of yes."""
    keys = (set(old) | set(new)) - ROLLS_NOTHING
    return any(old.get(key) != new.get(key) for key in keys)


@dataclass(frozen=True)
class Line:
    """One limit, what is used of it by others, and what a deployment needs of it."""

    name: str
    """A family, `cores`, `memory` or `gpus`."""
    is_quota: bool
    """True: the workspace has set it. False: it is what the machine has."""
    limit: int
    used: int
    """By other deployments."""
    needed: int
    holders: tuple[tuple[str, int], ...] = ()
    """Other deployments and how much each holds, largest first; none: it was not asked."""

    @property
    def free(self) -> int:
        return max(0, self.limit - self.used)


@dataclass(frozen=True)
class Fit:
    """Whether a deployment fits, and what the rest is held by."""

    needs: Holding
    lines: tuple[Line, ...]
    """Every limit it counts against."""
    short: tuple[Line, ...]
    """Those that it would go beyond; none: it fits."""

    @property
    def fits(self) -> bool:
        return not self.short


def fit(
    needs: Holding,
    now: Holding | None,
    used: Mapping[str, int],
    quotas: Mapping[str, int],
    capacity: Capacity,
) -> Fit:
    """Whether `needs` may take the place of `now` (what the same deployment holds; None: nothing) beside what others hold
    together (`used`, as from `amounts_of`). Who they are is not in it (`held_by`).

    A change that takes no more of something is never refused for it, even where a limit has been lowered meanwhile.
    """
    amounts, before = needs.amounts, now.amounts if now else {}
    limits = [(name, True, quotas[name]) for name in amounts if name in quotas]
    limits += [(name, False, limit) for name, limit in capacity.limits.items()]
    lines = [Line(name, is_quota, most, used.get(name, 0), amounts[name]) for name, is_quota, most in limits]
    lines = [line for line in lines if line.needed]
    short = [line for line in lines if line.needed > line.free and line.needed > before.get(line.name, 0)]
    return Fit(needs, tuple(lines), tuple(short))


def held_by(found: Fit, others: Iterable[Holding]) -> Fit:
    """The same with who the others are, largest first."""
    held = [(one.deployment, one.amounts) for one in others]

    def told(line: Line) -> Line:
        holders = [(who, amounts[line.name]) for who, amounts in held if amounts.get(line.name)]
        holders.sort(key=lambda one: (-one[1], one[0]))
        return replace(line, holders=tuple(holders))

    lines = {line: told(line) for line in found.lines}
    return Fit(found.needs, tuple(lines.values()), tuple(lines[line] for line in found.short))


def in_words(name: str, amount: int) -> str:
    """`8 vCPUs of standardDSv2Family`, `8 vCPUs in all`, `28 GiB of memory`, `1 GPU`."""
    if name == MEMORY:
        return f"{round(amount / GIB, 1):g} GiB of memory"
    if name == GPUS:
        return f"{amount} GPU{'' if amount == 1 else 's'}"
    unit = "vCPU" if amount == 1 else "vCPUs"
    return f"{amount} {unit} in all" if name == CORES else f"{amount} {unit} of {name}"


def localized(name: str) -> str:
    """What the ecosystem's tools show: `Standard DSv2 Family Cluster Dedicated vCPUs`."""
    fixed = {
        CORES: "Total Cluster Dedicated Regional vCPUs",
        MEMORY: "Memory",
        GPUS: "GPUs",
        UNLISTED_FAMILY: "vCPUs of sizes that are not listed",
    }
    family = name.removeprefix("standard").removesuffix("Family")
    return fixed.get(name) or f"Standard {family} Family Cluster Dedicated vCPUs"


def figure(name: str, amount: int) -> str:
    """The amount alone: `8`, or `28 GiB`."""
    return f"{round(amount / GIB, 1):g} GiB" if name == MEMORY else str(amount)
