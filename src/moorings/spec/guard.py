"""What a rollout must keep within: `error_rate<1%,p99<1.2x` as values. Pure; knows neither figures nor where they come from.

    guard      = condition *( "," condition )
    condition  = metric ( "<" | "<=" ) limit
    metric     = error_rate | 4xx | 5xx | a status (404, 424, 429, ...) | p50 | p90 | p95 | p99
    limit      = number "%"          of the requests; for rates
               | number "ms" | "s"   for latencies
               | number "x"          times that of the running deployment, in the same time; for both

A `424` (the model failed), a `408` (it took too long) and every `5xx` are errors; a `429` (more than it may have at once)
is none: it is a metric of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

RATES = ("error_rate", "4xx", "5xx")
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
MAX_CONDITIONS = 20
EXAMPLE = "error_rate<1%,p99<1.2x"

_CONDITION = re.compile(
    r"\s*(?P<metric>[A-Za-z0-9_]*)\s*(?P<operator><=|>=|==|[<>=]?)\s*(?P<number>[0-9]*\.?[0-9]*)\s*(?P<unit>[a-zA-Z%]*)\s*"
)
_STATUS = re.compile(r"[45][0-9][0-9]")


@dataclass(frozen=True)
class Condition:
    """One condition that has to hold of the new deployment."""

    metric: str
    """One of `RATES`, a status such as `429`, or one of `QUANTILES`."""
    strict: bool
    """`<`, not `<=`."""
    limit: float
    """A share (0 to 1), microseconds, or how many times the running deployment's."""
    relative: bool
    """Whether `limit` is that last."""
    text: str
    """As it was written, without spaces."""

    @property
    def is_latency(self) -> bool:
        return self.metric in QUANTILES


def parse_guard(text: str) -> tuple[tuple[Condition, ...], list[str]]:
    """The conditions, and a sentence for every part that is none."""
    found: list[Condition] = []
    problems: list[str] = []
    parts = text.split(",")
    if not text.strip():
        return (), [f"the guard is empty; an example: {EXAMPLE}"]
    if len(parts) > MAX_CONDITIONS:
        return (), [f"the guard has {len(parts)} conditions; at most {MAX_CONDITIONS} are taken"]
    for part in parts:
        condition, problem = _condition(part)
        if condition is not None:
            found.append(condition)
        problems += problem
    twice = {
        c.text for c in found if sum(c.metric == d.metric and c.relative == d.relative for d in found) > 1
    }
    problems += [f"{text!r}: the guard has two conditions of this kind" for text in sorted(twice)]
    return tuple(found), problems


def _condition(part: str) -> tuple[Condition | None, list[str]]:
    shown = repr(part.strip()[:60])
    match = _CONDITION.fullmatch(part)
    if match is None or not part.strip():
        return None, [f"{shown}: expected `metric<limit`, such as error_rate<1% or p99<1.2x"]
    metric, operator, number, unit = (match[name] for name in ("metric", "operator", "number", "unit"))
    metric, unit = metric.lower(), unit.lower()
    latency = metric in QUANTILES
    problems = []
    if not (latency or metric in RATES or _STATUS.fullmatch(metric)):
        known = ", ".join((*RATES, *QUANTILES))
        problems.append(f"{shown}: unknown metric {metric!r}; there are {known}, and a status such as 429")
    if operator not in ("<", "<="):
        problems.append(f"{shown}: expected < or <= after the metric")
    value = None
    try:
        value = float(number)
    except ValueError:
        problems.append(f"{shown}: expected a number after the sign")
    units = ("ms", "s", "x") if latency else ("%", "x")
    known_metric = latency or metric in RATES or _STATUS.fullmatch(metric)
    if known_metric and unit not in units:
        what = "a latency is limited in ms, s or x" if latency else "a rate is limited in % or x"
        problems.append(f"{shown}: found {f'unit {unit!r}' if unit else 'no unit'}; {what}")
    if not problems and value is not None:
        if unit == "%" and value > 100:
            problems.append(f"{shown}: more than 100 % can never be reached")
        elif value <= 0 and (unit != "%" or operator == "<"):
            problems.append(f"{shown}: nothing is below {number}{unit}; write <=0% for none at all")
    if problems or value is None:
        return None, problems
    scale = {"%": 0.01, "ms": 1000.0, "s": 1_000_000.0, "x": 1.0}[unit]
    text = f"{metric}{operator}{number}{unit}"
    return Condition(metric, operator == "<", value * scale, unit == "x", text), []
