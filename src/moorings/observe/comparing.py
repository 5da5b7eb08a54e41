"""Whether figures of a new deployment are within a guard, beside those of the running one. Pure.

A condition counts as broken when the figures show it and chance does not explain it. What is asked of them is a sequential
test (Robbins' mixture of likelihood ratios): whether the share of requests that count is above the limit. It is right
however often one looks: of a hundred steps of a deployment that is exactly at its limit one at most is called broken, and of
better ones fewer. One failed request of fifty is 2 %, and does not show that a deployment fails more than 1 % of them; five
of fifty do. For a quantile the share is that of the requests which took longer than the limit. Where the limit is a factor
of the running deployment's own figure, that is known only so well, too: the upper end of its interval counts (99 %).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moorings.observe.outcomes import Outcomes
from moorings.spec.guard import QUANTILES, RATES, Condition

Z_ONE_SIDED_99 = 2.3263
SURE = 100.0
"""How many times better a share above the limit has to explain the figures. By Ville's inequality its inverse bounds the
chance of a false alarm, over all looks at a step together."""
_ODDS = (1.5, 2.0, 4.0, 8.0, 16.0, 32.0)
"""The shares above the limit that are tried: its odds times these."""
_LARGEST_EXPONENT = 700.0
_ERRORS = RATES[0]


@dataclass(frozen=True)
class Summary:
    """Figures without their histogram: what is stored, shown, and compared against. Times in milliseconds."""

    requests: int = 0
    measured: int = 0
    errors: int = 0
    codes: Mapping[str, int] | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    most: Mapping[str, float] | None = None
    """Quantile -> the upper end of its interval."""

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "measured": self.measured,
            "errors": self.errors,
            "codes": dict(self.codes or {}),
            **{name: getattr(self, name) for name in QUANTILES},
            "most": dict(self.most or {}),
        }

    def rate_at_most(self, metric: str) -> float:
        """The upper end of the interval of a rate of the guard, 0 to 1."""
        counts = {int(code): count for code, count in (self.codes or {}).items()}
        return upper_bound(Outcomes(codes=counts).count(metric), self.requests)


def summary_from(data: Mapping[str, Any] | None) -> Summary | None:
    return None if not data else Summary(**data)


def summary_of(outcomes: Outcomes) -> Summary:
    quantiles = {name: outcomes.quantile_us(q) for name, q in QUANTILES.items()}
    return Summary(
        outcomes.requests,
        outcomes.measured,
        outcomes.count(_ERRORS),
        {str(code): count for code, count in sorted(outcomes.codes.items())},
        **{name: None if us is None else round(us / 1000, 3) for name, us in quantiles.items()},
        most={name: round(us / 1000, 3) for name, us in _upper_ends(outcomes).items()},
    )


def _upper_ends(outcomes: Outcomes) -> dict[str, float]:
    """The upper end of each quantile's interval, as a later one of the ordered latencies; the longest, where there are too
    few for one."""
    found = {}
    for name, q in QUANTILES.items():
        later = q + Z_ONE_SIDED_99 * math.sqrt(q * (1 - q) / max(1, outcomes.measured))
        us = outcomes.quantile_us(min(1.0, later))
        if us is not None:
            found[name] = us
    return found


@dataclass(frozen=True)
class Check:
    """One condition and what was found of it."""

    guard: str
    holds: bool
    observed: float | None
    """A share (0 to 1), or milliseconds; None: nothing was measured."""
    limit: float | None
    """In the same unit; None: the running deployment has nothing to compare with."""
    count: int
    """Requests that are over the limit (or, of a rate, that count)."""
    of: int
    said: str

    def to_json(self) -> dict[str, Any]:
        return vars(self).copy()


def check(guard: Sequence[Condition], new: Outcomes, old: Summary | None) -> tuple[Check, ...]:
    """Every condition of the guard; one that has nothing to compare with holds, and says so."""
    return tuple(_latency(c, new, old) if c.is_latency else _rate(c, new, old) for c in guard)


def upper_bound(count: int, of: int) -> float:
    """The largest share that `count` of `of` is compatible with (Wilson's interval, one-sided, 99 %)."""
    if of == 0:
        return 1.0
    share, z2 = count / of, Z_ONE_SIDED_99**2
    middle = share + z2 / (2 * of)
    spread = Z_ONE_SIDED_99 * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return (middle + spread) / (1 + z2 / of)


def shows_more(count: int, of: int, limit: float) -> bool:
    """Whether `count` of `of` show that more than a share `limit` (0 to 1) is so, however often that is asked while both
    grow. Of none at all (0) the first one is more."""
    if limit <= 0 or limit >= 1 or count <= limit * of:
        return limit <= 0 < count
    odds, ratio = limit / (1 - limit), 0.0
    for factor in _ODDS:
        share = odds * factor / (1 + odds * factor)
        exponent = count * math.log(share / limit) + (of - count) * math.log((1 - share) / (1 - limit))
        ratio += math.exp(min(exponent, _LARGEST_EXPONENT))
    return ratio / len(_ODDS) >= SURE


def _rate(condition: Condition, new: Outcomes, old: Summary | None) -> Check:
    count, of = new.count(condition.metric), new.requests
    limit: float | None = condition.limit
    if condition.relative:
        theirs = old.rate_at_most(condition.metric) if old is not None and old.requests else None
        limit = None if theirs is None else condition.limit * theirs
    observed = count / of if of else None
    holds = limit is None or not shows_more(count, of, limit)
    said = f"{condition.metric} {_per_cent(observed)} ({count} of {of} requests)"
    said += _beside(condition, None if limit is None else _per_cent(limit))
    return Check(condition.text, holds, observed, limit, count, of, said)


def _latency(condition: Condition, new: Outcomes, old: Summary | None) -> Check:
    q = QUANTILES[condition.metric]
    us = new.quantile_us(q)
    limit_ms: float | None = condition.limit / 1000
    if condition.relative:
        theirs = None if old is None else (old.most or {}).get(condition.metric)
        limit_ms = None if theirs is None else condition.limit * theirs
    of = new.measured
    count = 0 if limit_ms is None else new.above(limit_ms * 1000)
    holds = limit_ms is None or not shows_more(count, of, 1 - q)
    observed = None if us is None else round(us / 1000, 3)
    said = f"{condition.metric} {_ms(observed)}" + _beside(
        condition, None if limit_ms is None else _ms(limit_ms)
    )
    if limit_ms is not None:
        said += f"; {count} of {of} took longer"
    return Check(condition.text, holds, observed, limit_ms, count, of, said)


def _beside(condition: Condition, limit: str | None) -> str:
    if limit is None:
        return f", limit {condition.text}: the running deployment has nothing to compare with"
    return f", limit {limit}" + (f" ({condition.text} of what it may be there)" if condition.relative else "")


def _per_cent(share: float | None) -> str:
    return "none" if share is None else f"{share * 100:.3g} %"


def _ms(value: float | None) -> str:
    return "none" if value is None else f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"
