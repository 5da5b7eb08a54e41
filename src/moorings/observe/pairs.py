"""Answers to the same requests, beside each other: what the running deployment told its callers, and what the new one made of
copies. Pure: lines of both logs go in.

The inference server writes a line for each request it answers, with status, time, length of the body and request id, and a
copy has the id of its request. So nothing has to be collected while requests run, nothing of a body is kept, and the figures
are both workers' own. What a log has lost (it is bounded) is counted as unmatched.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moorings.lib.logfile import Line

MOST_EXAMPLES = 10
_REQUEST = re.compile(
    r" - [A-Z]+ \S+ (?P<status>[0-9]{3}) (?P<ms>[0-9]+\.[0-9]{3})ms (?P<length>\S+) request_id=(?P<id>\S+)$"
)
_QUANTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}


@dataclass(frozen=True)
class Answered:
    """One answer, as the worker that gave it says."""

    status: int
    ms: float
    length: str
    """Bytes of the body; `-` for a stream."""


def answers_of(lines: Iterable[Line], begin: str, end: str) -> dict[str, Answered]:
    """By request id, of lines that are newest first; `begin` and `end` are times as lines have them."""
    found: dict[str, Answered] = {}
    for line in lines:
        if line.at and line.at < begin:
            break
        match = _REQUEST.search(line.text)
        if match is not None and line.at <= end:
            found[match["id"]] = Answered(int(match["status"]), float(match["ms"]), match["length"])
    return found


def compare(live: Mapping[str, Answered], copies: Mapping[str, Answered]) -> dict[str, Any]:
    """The report: how many pairs there are, and how their answers differ."""
    ids = sorted(copies.keys() & live.keys())
    differing = [
        id_ for id_ in ids if (live[id_].status, live[id_].length) != (copies[id_].status, copies[id_].length)
    ]
    statuses = Counter((live[id_].status, copies[id_].status) for id_ in ids)
    return {
        "pairs": len(ids),
        "unmatched": len(copies) - len(ids),
        "sameStatus": sum(count for (one, other), count in statuses.items() if one == other),
        "sameLength": sum(live[id_].length == copies[id_].length for id_ in ids),
        "statuses": [
            {"live": one, "copy": other, "count": count} for (one, other), count in sorted(statuses.items())
        ],
        "latencyMs": {
            "live": _quantiles([live[id_].ms for id_ in ids]),
            "copy": _quantiles([copies[id_].ms for id_ in ids]),
        },
        "examples": [
            {"requestId": id_, "live": vars(live[id_]).copy(), "copy": vars(copies[id_]).copy()}
            for id_ in differing[:MOST_EXAMPLES]
        ],
    }


def _quantiles(values: list[float]) -> dict[str, float | None]:
    ordered = sorted(values)
    return {
        name: ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
        for name, q in _QUANTILES.items()
    }
