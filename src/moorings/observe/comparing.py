"""Whether figures of a new deployment are within a guard, beside those of the running one. Pure.

A condition counts as broken when the figures show it and chance does not explain it: a share of the requests is over a limit
only when the lower end of its confidence interval (Wilson's, one-sided, 99 %) is. One failed request of fifty is 2 %, and
does not show that a deployment fails more than 1 % of them; three of fifty do. For a quantile the share is that of the
requests which took longer than the limit. So a bad deployment is found out with few requests and a good one is not taken
back for bad luck, however often one looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moorings.observe.outcomes import Outcomes
from moorings.spec.guard import QUANTILES, RATES, Condition

Z_ONE_SIDED_99 = 2.3263
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

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "measured": self.measured,
            "errors": self.errors,
            "codes": dict(self.codes or {}),
            **{name: getattr(self, name) for name in QUANTILES},
        }

    def rate(self, metric: str) -> float:
        """A rate of the guard, 0 to 1; 0 without requests."""
        counts = {int(code): count for code, count in (self.codes or {}).items()}
        return Outcomes(codes=counts).count(metric) / self.requests if self.requests else 0.0


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
    )


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


def lower_bound(count: int, of: int) -> float:
    """The least share that `count` of `of` is compatible with."""
    if of == 0 or count == 0:
        return 0.0
    share, z2 = count / of, Z_ONE_SIDED_99**2
    middle = share + z2 / (2 * of)
    spread = Z_ONE_SIDED_99 * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return (middle - spread) / (1 + z2 / of)


def _rate(condition: Condition, new: Outcomes, old: Summary | None) -> Check:
    count, of = new.count(condition.metric), new.requests
    limit: float | None = condition.limit
    if condition.relative:
        limit = None if old is None or not old.requests else condition.limit * old.rate(condition.metric)
    observed = count / of if of else None
    least = lower_bound(count, of)
    holds = limit is None or not _over(least, limit, strict=condition.strict and limit > 0)
    said = f"{condition.metric} {_per_cent(observed)} ({count} of {of} requests)"
    said += _beside(condition, None if limit is None else _per_cent(limit))
    return Check(condition.text, holds, observed, limit, count, of, said)


def _latency(condition: Condition, new: Outcomes, old: Summary | None) -> Check:
    q = QUANTILES[condition.metric]
    us = new.quantile_us(q)
    limit_ms: float | None = condition.limit / 1000
    if condition.relative:
        theirs = None if old is None else getattr(old, condition.metric)
        limit_ms = None if theirs is None else condition.limit * theirs
    of = new.measured
    count = 0 if limit_ms is None else new.above(limit_ms * 1000)
    holds = limit_ms is None or not _over(lower_bound(count, of), 1 - q, strict=False)
    observed = None if us is None else round(us / 1000, 3)
    said = f"{condition.metric} {_ms(observed)}" + _beside(
        condition, None if limit_ms is None else _ms(limit_ms)
    )
    if limit_ms is not None:
        said += f"; {count} of {of} took longer"
    return Check(condition.text, holds, observed, limit_ms, count, of, said)


def _over(least: float, limit: float, *, strict: bool) -> bool:
    return least >= limit if strict else least > limit


def _beside(condition: Condition, limit: str | None) -> str:
    if limit is None:
        return f", limit {condition.text}: the running deployment has nothing to compare with"
    return f", limit {limit}" + (f" ({condition.text})" if condition.relative else "")


def _per_cent(share: float | None) -> str:
    return "none" if share is None else f"{share * 100:.3g} %"


def _ms(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g} ms"
