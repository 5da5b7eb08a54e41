"""From what somebody typed to entries of the catalogue: a code, one of its other names, a numeric code of 2021, or the
name of a group, however it is spelt. Pure; says nothing to anybody."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from moorings.errors.catalogue import CATALOGUE
from moorings.errors.entry import Entry

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "ERR_1100": "Not enough quota",
        "ERR_1101": "Out of capacity",
        "ERR_1102": "No more role assignments",
        "ERR_1103": "Endpoint quota reached",
        "ERR_1200": "Unable to download the container image",
        "ERR_1300": "Unable to download the model or code",
        "ERR_1350": "Unable to download the model: not enough space on the disk",
        "ERR_2100": "Unable to start the container",
        "ERR_2101": "Kubernetes cannot schedule the deployment",
        "ERR_2102": "The resource requests are invalid",
        "ERR_2200": "The container has crashed or ended",
        "ERR_5000": "Internal error",
        "BadArgument": "Something that was asked for cannot be",
    }
)
"""Names that stand for several codes -> what they say: the numeric codes of 2021, and families that are no code."""

MOST_SUGGESTIONS = 5
_CLOSE = 0.65


@dataclass(frozen=True)
class Found:
    """One entry, or the group that the name stands for."""

    name: str
    """The code, or the name of the group."""
    entries: tuple[Entry, ...]
    """The entry, or the members of the group: those that can be met here first."""
    is_group: bool


def find(name: str) -> Found | None:
    """What `name` names; upper and lower case, blanks, `_` and `-` do not matter, nor does the `ERR_` of a number."""
    key = _key(name)
    if key.isdigit():
        key = f"err{key}"
    for group in GROUPS:
        if _key(group) == key:
            return Found(group, members(group), is_group=True)
    codes = _names().get(key, ())
    if not codes:
        return None
    entries = tuple(CATALOGUE[code] for code in codes)
    return Found(codes[0] if len(codes) == 1 else name.strip(), entries, is_group=len(codes) > 1)


def canonical(code: str) -> str:
    """The code of today for one that an older version stored or sent; others as they are."""
    if code in CATALOGUE:
        return code
    codes = _names().get(_key(code), ())
    return codes[0] if len(codes) == 1 else code


def members(group: str) -> tuple[Entry, ...]:
    """The entries of a numeric code or family, the entry of that name itself left out."""
    found = (e for e in CATALOGUE.values() if group in (e.numeric, e.family) and e.code != group)
    return tuple(sorted(found, key=lambda entry: entry.origin != "moorings"))


def related(entry: Entry) -> tuple[Entry, ...]:
    """Other entries that may be meant: of the same family, or of the family that the entry names itself. A family that is
    no code holds too many different things; there it is the same numeric code."""
    family = entry.family or entry.code
    if family in GROUPS:
        found = members(entry.numeric) if entry.numeric else ()
    else:
        found = (*((CATALOGUE[family],) if family in CATALOGUE else ()), *members(family))
    return tuple(other for other in found if other.code != entry.code)


def suggest(name: str) -> tuple[str, ...]:
    """Codes and groups that may have been meant, the nearest first; at most `MOST_SUGGESTIONS`."""
    key, known = _key(name), _names()
    spelt = {**{_key(group): (group,) for group in GROUPS}, **known}
    near = difflib.get_close_matches(key, spelt, n=MOST_SUGGESTIONS, cutoff=_CLOSE)
    if len(key) >= 3:
        near += [other for other in spelt if key in other]
        words = [word.lower() for word in re.findall(r"[^\W\d_]{4,}", name)]
        near += [
            _key(e.code)
            for e in CATALOGUE.values()
            if words and all(word in f"{e.title} {e.code}".lower() for word in words)
        ]
    return tuple(dict.fromkeys(code for other in near for code in spelt[other]))[:MOST_SUGGESTIONS]


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


@functools.cache
def _names() -> Mapping[str, tuple[str, ...]]:
    """Every spelling, without what does not matter -> the codes it stands for. A code wins over other names."""
    names: dict[str, tuple[str, ...]] = {}
    for entry in CATALOGUE.values():
        for alias in entry.aliases:
            names[_key(alias)] = (*names.get(_key(alias), ()), entry.code)
    names |= {_key(code): (code,) for code in CATALOGUE}
    return MappingProxyType(names)
