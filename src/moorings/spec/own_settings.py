"""Settings of ours in a deployment: names below `properties` that begin with `moorings.`, and what each may hold. Pure.

They stand there because a deployment's properties are a map of text that every client of the ecosystem passes on. This
module knows no spec model: it is given the map.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "moorings."
BATCH_MAX_SIZE = "moorings.batch_max_size"
BATCH_MAX_WAIT_MS = "moorings.batch_max_wait_ms"
MAX_SURGE = "moorings.max_surge"
MAX_UNAVAILABLE = "moorings.max_unavailable"
PROGRESS_DEADLINE_S = "moorings.progress_deadline_s"
SAMPLE_REQUEST = "moorings.sample_request"
SCALE_DOWN_AFTER_S = "moorings.scale_down_after_s"
SCALE_TO_ZERO_AFTER_S = "moorings.scale_to_zero_after_s"
ACTIVATION_TIMEOUT_S = "moorings.activation_timeout_s"

WHOLE_NUMBERS: Mapping[str, tuple[int, int]] = {
    BATCH_MAX_SIZE: (0, 10_000),
    BATCH_MAX_WAIT_MS: (0, 10_000),
    PROGRESS_DEADLINE_S: (1, 86_400),
    SCALE_DOWN_AFTER_S: (1, 86_400),
    SCALE_TO_ZERO_AFTER_S: (1, 86_400),
    ACTIVATION_TIMEOUT_S: (1, 240),
}
"""Name -> smallest and largest value."""
MAX_SAMPLE_CHARS = 65_536
DEFAULT_SURGE = "20%"
DEFAULT_UNAVAILABLE = "0"
KNOWN = (*WHOLE_NUMBERS, MAX_SURGE, MAX_UNAVAILABLE, SAMPLE_REQUEST)

_WHOLE = re.compile(r"[0-9]{1,9}")
_AMOUNT = re.compile(r"(?P<number>[0-9]{1,3})(?P<per_cent>%?)")
_MOST_INSTANCES = 50


@dataclass(frozen=True)
class Pace:
    """How a rolling update may depart from the count that is asked for. Amounts are `2` instances or `20%` of them."""

    max_surge: str = DEFAULT_SURGE
    max_unavailable: str = DEFAULT_UNAVAILABLE

    def surge(self, count: int) -> int:
        """How many instances may be there beside `count`: a percentage rounded up. At least one where none may be
        unavailable, else no update could begin."""
        return max(_part(self.max_surge, count, up=True), 0 if self.unavailable(count) else 1)

    def unavailable(self, count: int) -> int:
        """How many of `count` may be missing while an update goes on: a percentage rounded down."""
        return min(count, _part(self.max_unavailable, count, up=False))


USUAL_PACE = Pace()


def pace_of(properties: Mapping[str, str]) -> Pace:
    """The pace that the properties of a validated deployment set."""
    return Pace(
        properties.get(MAX_SURGE, DEFAULT_SURGE), properties.get(MAX_UNAVAILABLE, DEFAULT_UNAVAILABLE)
    )


def whole_numbers(properties: Mapping[str, str], *names: str) -> dict[str, int]:
    """Those of `names` that a validated deployment sets, as numbers."""
    return {name: int(properties[name]) for name in names if name in properties}


def problem_of(name: str, value: str) -> str:
    """What is wrong with one setting, as the end of a sentence (`found ...; expected ...`); empty: nothing."""
    if name in WHOLE_NUMBERS:
        least, most = WHOLE_NUMBERS[name]
        if not (_WHOLE.fullmatch(value) and least <= int(value) <= most):
            return f"found {value!r}; expected a whole number from {least} to {most}"
    elif name == SAMPLE_REQUEST:
        return _sample_problem(value)
    elif name in (MAX_SURGE, MAX_UNAVAILABLE):
        match = _AMOUNT.fullmatch(value)
        most = 100 if match and match["per_cent"] else _MOST_INSTANCES
        if match is None or int(match["number"]) > most:
            return f"found {value!r}; expected a number of instances (0 to {_MOST_INSTANCES}) or a share (0% to 100%)"
    return ""


def nothing_moves(properties: Mapping[str, str]) -> bool:
    """Whether both amounts are given and zero: an update could neither add an instance nor take one away."""
    return all(
        properties.get(name, "1").rstrip("%").lstrip("0") == "" for name in (MAX_SURGE, MAX_UNAVAILABLE)
    )


def is_request_body(value: str) -> bool:
    """Whether a sample request is the body itself, not the path of a file that holds it."""
    return value.lstrip()[:1] in ("{", "[") or not _sample_problem(value)


def _sample_problem(value: str) -> str:
    if len(value) > MAX_SAMPLE_CHARS:
        return f"it has {len(value)} characters; at most {MAX_SAMPLE_CHARS} are taken"
    try:
        json.loads(value)
    except ValueError as wrong:
        return f"it is no JSON ({wrong}); expected the body of a request, or the file that holds one"
    except RecursionError:
        return "it is nested too deeply"
    return ""


def _part(amount: str, count: int, *, up: bool) -> int:
    if not amount.endswith("%"):
        return int(amount)
    share = int(amount[:-1]) * count
    return -(-share // 100) if up else share // 100
