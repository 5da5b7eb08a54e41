"""The machine sizes a deployment can name, as data (behaviour reference, section 10.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

GIB = 1 << 30


@dataclass(frozen=True)
class InstanceType:
    """What one instance of a size may use. A `disk_bytes` of None means that the size is not published."""

    name: str
    family: str
    """Quota family, as in `standardDSv2Family`."""
    vcpus: int
    memory_bytes: int
    disk_bytes: int | None
    gpus: int = 0
    exempt: bool = False
    """Whether nothing is reserved for updates beside its instances (section 10.3)."""


def _size(
    name: str,
    family: str,
    vcpus: int,
    memory_gib: float,
    disk_gib: int | None,
    gpus: int = 0,
    *,
    exempt: bool = False,
) -> InstanceType:
    disk_bytes = disk_gib * GIB if disk_gib is not None else None
    full, quota = f"Standard_{name}", f"standard{family}Family"
    return InstanceType(full, quota, vcpus, int(memory_gib * GIB), disk_bytes, gpus, exempt)


INSTANCE_TYPES: tuple[InstanceType, ...] = (
    _size("DS1_v2", "DSv2", 1, 3.5, 7),
    _size("DS2_v2", "DSv2", 2, 7, 14),
    _size("DS3_v2", "DSv2", 4, 14, 28),
    _size("DS4_v2", "DSv2", 8, 28, 56),
    _size("DS5_v2", "DSv2", 16, 56, 112),
    _size("F2s_v2", "FSv2", 2, 4, 16),
    _size("F4s_v2", "FSv2", 4, 8, 32),
    _size("F8s_v2", "FSv2", 8, 16, 64),
    _size("F16s_v2", "FSv2", 16, 32, 128),
    _size("F32s_v2", "FSv2", 32, 64, 256),
    _size("F72s_v2", "FSv2", 72, 144, 576),
    _size("D2as_v4", "DASv4", 2, 8, 16),
    _size("D4as_v4", "DASv4", 4, 16, 32),
    _size("D8as_v4", "DASv4", 8, 32, 64),
    _size("E2s_v3", "ESv3", 2, 16, 32),
    _size("E4s_v3", "ESv3", 4, 32, 64),
    _size("E8s_v3", "ESv3", 8, 64, 128),
    _size("NC6s_v3", "NCSv3", 6, 112, 736, 1),
    _size("NC12s_v3", "NCSv3", 12, 224, 1474, 2),
    _size("NC24s_v3", "NCSv3", 24, 448, 2948, 4),
    _size("NC4as_T4_v3", "NCASv3_T4", 4, 28, 180, 1),
    _size("NC8as_T4_v3", "NCASv3_T4", 8, 56, 360, 1),
    _size("NC16as_T4_v3", "NCASv3_T4", 16, 110, 360, 1),
    _size("NC64as_T4_v3", "NCASv3_T4", 64, 440, 2880, 4),
    _size("NC24ads_A100_v4", "NCADSA100v4", 24, 220, 64, 1, exempt=True),
    _size("NC48ads_A100_v4", "NCADSA100v4", 48, 440, 128, 2),
    _size("NC96ads_A100_v4", "NCADSA100v4", 96, 880, 256, 4, exempt=True),
    _size("ND40rs_v2", "NDSv2", 40, 672, None, 8, exempt=True),
    _size("ND96asr_v4", "NDASv4_A100", 96, 900, None, 8, exempt=True),
    _size("ND96amsr_A100_v4", "NDAMSv4_A100", 96, 1900, None, 8, exempt=True),
    _size("ND96isr_H100_v5", "NDSH100v5", 96, 1900, None, 8, exempt=True),
)

_BY_NAME: Mapping[str, InstanceType] = MappingProxyType({size.name.lower(): size for size in INSTANCE_TYPES})


def lookup(name: str) -> InstanceType | None:
    """The size of this name, in any case; None for a name that is not in the table (it is allowed, with no
    limits known)."""
    return _BY_NAME.get(name.lower())
