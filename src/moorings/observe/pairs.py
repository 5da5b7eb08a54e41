"""Answers to the same requests, beside each other: what the running deployment told its callers, and what the new one made of
copies. Pure: a value that grows by pairs, and holds figures of them and no body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from moorings.observe.likeness import Body, Kind, Likeness, likeness
from moorings.observe.outcomes import GOOD, Outcomes

MOST_EXAMPLES = 10
_SHOWN = {"p50": 0.50, "p90": 0.90, "p99": 0.99}


@dataclass(frozen=True)
class Answered:
    """One answer, as the worker that gave it says."""

    id: str
    """Of the request; a copy has that of its original."""
    status: int
    ms: float
    """In the worker."""
    length: int | None
    """Bytes of the body; None for a stream."""
    body: Body

    def said(self) -> dict[str, Any]:
        return {"status": self.status, "ms": round(self.ms, 3), "length": self.length}


@dataclass(frozen=True)
class Comparison:
    """JSON-safe through `to_json` / `comparison_from`."""

    pairs: int = 0
    unmatched: int = 0
    """Copies whose original is not known."""
    skipped: int = 0
    """Copies that were not looked at: more came than are compared."""
    statuses: Mapping[str, int] | None = None
    """`<live>/<copy>` -> pairs."""
    kinds: Mapping[str, int] | None = None
    """How alike the bodies of pairs with the same status are: a `Kind` -> pairs."""
    deviation: float = 0.0
    """The largest of numbers within the tolerance."""
    live: Mapping[str, int] | None = None
    copy: Mapping[str, int] | None = None
    """Latencies as a histogram: a bucket of `Outcomes` -> answers."""
    examples: tuple[Mapping[str, Any], ...] = ()
    """Of pairs that differ, the first ones."""

    def with_pair(self, live: Answered, copy: Answered, tolerance: float) -> Comparison:
        """The same with one more pair."""
        same = live.status == copy.status
        found = likeness(live.body, copy.body, tolerance) if same else Likeness(Kind.DIFFERENT)
        within = found.kind in (Kind.EQUAL, Kind.WITHIN_TOLERANCE)
        examples = self.examples
        if found.kind is Kind.DIFFERENT and len(examples) < MOST_EXAMPLES:
            where = {"at": found.place} if found.place else {}
            examples = (
                *examples,
                {"requestId": live.id, "live": live.said(), "copy": copy.said(), **where},
            )
        return replace(
            self,
            pairs=self.pairs + 1,
            statuses=_more(self.statuses, f"{live.status}/{copy.status}"),
            kinds=_more(self.kinds, str(found.kind)) if same else self.kinds,
            deviation=max(self.deviation, found.deviation) if within else self.deviation,
            live=_more(self.live, _bucket(live.ms)),
            copy=_more(self.copy, _bucket(copy.ms)),
            examples=examples,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "unmatched": self.unmatched,
            "skipped": self.skipped,
            "statuses": dict(self.statuses or {}),
            "kinds": dict(self.kinds or {}),
            "deviation": self.deviation,
            "live": dict(self.live or {}),
            "copy": dict(self.copy or {}),
            "examples": [dict(each) for each in self.examples],
        }


def comparison_from(data: Mapping[str, Any] | None) -> Comparison:
    return Comparison(**{**data, "examples": tuple(data["examples"])}) if data else Comparison()


def report_of(found: Comparison) -> dict[str, Any]:
    """The comparison as users read it."""
    statuses = []
    for key, count in sorted((found.statuses or {}).items()):
        live, _, copy = key.partition("/")
        statuses.append({"live": int(live), "copy": int(copy), "count": count})
    kinds = found.kinds or {}
    return {
        "pairs": found.pairs,
        "unmatched": found.unmatched,
        "skipped": found.skipped,
        "sameStatus": sum(each["count"] for each in statuses if each["live"] == each["copy"]),
        "statuses": statuses,
        "bodies": {str(kind): kinds.get(str(kind), 0) for kind in Kind},
        "largestDeviation": found.deviation,
        "latencyMs": {"live": _quantiles(found.live), "copy": _quantiles(found.copy)},
        "examples": list(found.examples),
    }


def _more(counts: Mapping[str, int] | None, key: str) -> dict[str, int]:
    known = dict(counts or {})
    known[key] = known.get(key, 0) + 1
    return known


def _bucket(ms: float) -> str:
    one = Outcomes()
    one.add({"code": GOOD, "model_us": ms * 1000})
    return str(next(iter(one.latencies)))


def _quantiles(histogram: Mapping[str, int] | None) -> dict[str, float | None]:
    seen = Outcomes(latencies={int(bucket): count for bucket, count in (histogram or {}).items()})
    found = {name: seen.quantile_us(q) for name, q in _SHOWN.items()}
    return {name: None if us is None else round(us / 1000, 3) for name, us in found.items()}
