"""How alike two answers' bodies are: byte for byte, as JSON, as JSON whose numbers may differ a little, or not. Pure.

Nothing of a body is in what it finds but the place of a difference: names of keys and positions, no value.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

PLACE_CHARS = 80
_MOST_VALUES = 200_000
"""Values of one body that are looked at."""


class Kind(StrEnum):
    IDENTICAL = "identical"
    """The same bytes."""
    EQUAL = "equal"
    """The same JSON: order of keys, spaces and the form of numbers apart."""
    WITHIN_TOLERANCE = "withinTolerance"
    """The same JSON but for numbers that differ by no more than the tolerance."""
    DIFFERENT = "different"
    UNKNOWN = "notCompared"
    """Too long to be looked into, or a stream."""


@dataclass(frozen=True)
class Body:
    """What is known of the body of an answer."""

    digest: str
    """Of its bytes; empty for a stream, which nobody has seen whole."""
    content: bytes | None
    """None: it is too long, or a stream."""


@dataclass(frozen=True)
class Likeness:
    kind: Kind
    deviation: float = 0.0
    """The largest between two numbers at the same place: their distance, as a part of the larger one where that is
    above 1."""
    place: str = ""
    """Of the first difference: `$.scores[3].label`."""


def likeness(live: Body, copy: Body, tolerance: float) -> Likeness:
    """Compare two bodies. `tolerance`: the largest deviation of numbers that is none, 0 or more."""
    if not live.digest or not copy.digest:
        return Likeness(Kind.UNKNOWN)
    if live.digest == copy.digest:
        return Likeness(Kind.IDENTICAL)
    if live.content is None or copy.content is None:
        return Likeness(Kind.UNKNOWN)
    try:
        one, other = _read(live.content), _read(copy.content)
    except (ValueError, RecursionError):
        return Likeness(Kind.DIFFERENT, place="$")
    return _compared(one, other, tolerance)


def _read(content: bytes) -> Any:
    return json.loads(content)


def _compared(one: Any, other: Any, tolerance: float) -> Likeness:
    """Both walked side by side, without recursion."""
    largest, where, left = 0.0, "", _MOST_VALUES
    pending: list[tuple[Any, Any, str]] = [(one, other, "$")]
    while pending:
        a, b, place = pending.pop()
        left -= 1
        if left < 0:
            return Likeness(Kind.UNKNOWN, largest)
        if isinstance(a, dict) and isinstance(b, dict):
            if a.keys() != b.keys():
                return Likeness(Kind.DIFFERENT, largest, _cut(place))
            pending += [(a[key], b[key], f"{place}.{key}"[: PLACE_CHARS + 1]) for key in reversed(a)]
        elif isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return Likeness(Kind.DIFFERENT, largest, _cut(place))
            pending += [(a[n], b[n], f"{place}[{n}]"[: PLACE_CHARS + 1]) for n in range(len(a) - 1, -1, -1)]
        elif _is_number(a) and _is_number(b):
            apart = deviation(a, b)
            if apart > tolerance:
                return Likeness(Kind.DIFFERENT, max(largest, apart), _cut(place))
            if apart > largest:
                largest, where = apart, place
        elif type(a) is not type(b) or a != b:
            return Likeness(Kind.DIFFERENT, largest, _cut(place))
    kind = Kind.WITHIN_TOLERANCE if largest else Kind.EQUAL
    return Likeness(kind, largest, _cut(where))


def deviation(a: float, b: float) -> float:
    """How far two numbers are apart, as a part of the larger one where that is above 1. Infinite where one is no number."""
    if a == b or (a != a and b != b):
        return 0.0
    try:
        apart = abs(a - b) / max(1.0, abs(a), abs(b))
    except OverflowError:  # whole numbers beyond what a float holds
        return math.inf
    return apart if math.isfinite(apart) else math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cut(place: str) -> str:
    return place if len(place) <= PLACE_CHARS else place[: PLACE_CHARS - 1] + "…"
