"""The traffic table as it is typed: `blue=90 green=10`, also `blue:90,green:10`. Knows no endpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from moorings.errors.exceptions import MooringsError, error

_ENTRY = re.compile(r"(?P<name>[^\s=:,]+)[=:](?P<percent>\d{1,3})%?")


def parse(texts: Sequence[str], *, flag: str = "--traffic") -> dict[str, int]:
    """Deployment name (lower case) -> per cent, zeros included. `texts` are the values the flag was given.

    Raises `TrafficTextInvalid` (the user's fault) naming the part that is not understood.
    """
    table: dict[str, int] = {}
    for part in re.split(r"[\s,]+", " ".join(texts).strip()):
        if not part:
            continue
        found = _ENTRY.fullmatch(part)
        if found is None:
            raise _invalid(f"{part!r} is not <deployment>=<percent>", flag)
        name, percent = found["name"].lower(), int(found["percent"])
        if percent > 100:
            raise _invalid(f"{part!r} is above 100 per cent", flag)
        if name in table:
            raise _invalid(f"{name!r} is named twice", flag)
        table[name] = percent
    if sum(table.values()) > 100:
        raise _invalid(f"the shares add up to {sum(table.values())} per cent", flag)
    return table


def apply(current: Mapping[str, int], given: Mapping[str, int]) -> dict[str, int]:
    """The table that results, without zeros.

    What is given is the whole table, as elsewhere; but a table of zeros only takes these deployments out
    and leaves the others as they are, so that switching one off can't silently switch off the rest.
    """
    if given and not any(given.values()):
        return {name: share for name, share in current.items() if share and name not in given}
    return {name: share for name, share in given.items() if share}


def _invalid(message: str, flag: str) -> MooringsError:
    return error("TrafficTextInvalid", f"{flag}: {message}", target=flag)
