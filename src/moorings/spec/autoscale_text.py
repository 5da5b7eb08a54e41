"""Rules and schedules as they are written on a command line -> values. Pure; every problem of a line is told."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime

from moorings.errors.exceptions import MooringsError, error
from moorings.spec.autoscale import (
    DAYS,
    MAX_COOLDOWN_S,
    MAX_WINDOW_S,
    METRICS,
    SIGNS,
    Aggregation,
    Change,
    Direction,
    FixedDate,
    Operator,
    Profile,
    Recurrence,
    Rule,
    known_zone,
    parse_period_s,
)
from moorings.spec.deployment import MAX_INSTANCES

_CONDITION = re.compile(
    r"\s*(?:\[[^\]]*\]\s*)?(?P<metric>[^<>=!]+?)\s*(?P<sign>==|!=|>=|<=|>|<)\s*(?P<number>\S+)"
    r"(?:\s+(?P<how>\S+))?(?:\s+(?P<period>\S+))?(?P<rest>\s+.*)?\s*",
    re.DOTALL,
)
_WORDS = {
    "avg": Aggregation.AVERAGE,
    "min": Aggregation.MINIMUM,
    "max": Aggregation.MAXIMUM,
    "total": Aggregation.TOTAL,
    "count": Aggregation.COUNT,
}
_DIRECTIONS = {"out": Direction.OUT, "in": Direction.IN, "to": Direction.TO}
_AMOUNT = re.compile(r"(?P<number>[1-9][0-9]{0,3})(?P<share>%)?")
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
EXAMPLE = "CpuUtilizationPercentage > 70 avg 5m"


def parse_rule(
    setting: str, condition: str, scale: Sequence[str], cooldown_min: int, resource: str | None
) -> Rule:
    """A rule of `--condition`, `--scale` and `--cooldown` (minutes). Raises AutoscaleRuleInvalid."""
    wrong: list[str] = []
    metric, operator, threshold, how, window_s = _condition(condition, wrong)
    direction, value, change = _action(scale, wrong)
    if not 0 <= cooldown_min * 60 <= MAX_COOLDOWN_S:
        wrong.append(f"--cooldown: found {cooldown_min}; expected 0 to {MAX_COOLDOWN_S // 60} minutes")
    _raise(wrong, setting)
    return Rule(
        metric, operator, threshold, direction, value, change, how, window_s, cooldown_min * 60, resource
    )


def _condition(text: str, wrong: list[str]) -> tuple[str, Operator, float, Aggregation, int]:
    nothing = "", Operator.GREATER, 0.0, Aggregation.AVERAGE, 300
    found = _CONDITION.fullmatch(text)
    if found is None:
        wrong.append(f"--condition: found {text[:60]!r}; expected {EXAMPLE!r}")
        return nothing
    metric = next((name for name in METRICS if name.lower() == found["metric"].strip().lower()), "")
    if not metric:
        wrong.append(
            f"--condition: there is no metric {found['metric'][:60]!r}; there are: {', '.join(METRICS)}"
        )
    operator = next(one for one, sign in SIGNS.items() if sign == found["sign"])
    try:
        threshold = float(found["number"])
    except ValueError:
        wrong.append(f"--condition: found {found['number'][:20]!r} after {found['sign']}; expected a number")
        threshold = 0.0
    how = _WORDS.get((found["how"] or "avg").lower())
    if how is None:
        wrong.append(f"--condition: found {found['how'][:20]!r}; expected one of {', '.join(_WORDS)}")
    window_s = parse_period_s(found["period"] or "5m")
    if window_s is None or not 1 <= window_s <= MAX_WINDOW_S:
        wrong.append(
            f"--condition: found {(found['period'] or '')[:20]!r}; expected a period up to 1h, such as 5m"
        )
    if found["rest"] and found["rest"].strip():
        wrong.append(
            f"--condition: found {found['rest'].strip()[:40]!r} at its end; metrics are not split here"
        )
    return metric, operator, threshold, how or Aggregation.AVERAGE, window_s or 300


def _action(words: Sequence[str], wrong: list[str]) -> tuple[Direction, int, Change]:
    parts = [part for word in words for part in word.split()]
    amount = _AMOUNT.fullmatch(parts[1]) if len(parts) == 2 else None
    direction = _DIRECTIONS.get(parts[0].lower()) if parts else None
    if amount is None or direction is None or (amount["share"] and direction is Direction.TO):
        found = " ".join(parts)[:40]
        wrong.append(
            f"--scale: found {found!r}; expected out or in with a number or per cent (out 2, in 50%), or to 3"
        )
        return Direction.OUT, 1, Change.COUNT
    value = int(amount["number"])
    if amount["share"]:
        return direction, value, Change.PER_CENT
    if value > MAX_INSTANCES:
        wrong.append(f"--scale: found {value}; a deployment has {MAX_INSTANCES} instances at most")
    return direction, value, Change.EXACT if direction is Direction.TO else Change.COUNT


def parse_profiles(
    setting: str,
    base: Profile,
    recurrence: Sequence[str],
    start: str | None,
    end: str | None,
    timezone: str,
    always: Profile,
) -> list[Profile]:
    """The profile `base` with its schedule: recurring (`week sat sun`, from --start to --end of these days), or between two
    dates. A recurring one comes with a second one that begins at its end and has what `always` has.

    Raises AutoscaleRuleInvalid.
    """
    wrong: list[str] = []
    if not known_zone(timezone):
        wrong.append(
            f"--timezone: found {timezone[:60]!r}; expected a time zone such as UTC or Europe/Berlin"
        )
    words = [word.lower() for given in recurrence for word in given.split()]
    if not words:
        date = _dates(start, end, timezone, wrong)
        _raise(wrong, setting)
        return [_scheduled(base, None, date)]
    chosen: list[str] = []
    if words[0] != "week" or len(words) < 2:
        wrong.append(
            f"--recurrence: found {' '.join(words)[:40]!r}; expected week and days, such as week sat sun"
        )
    for word in words[1:]:
        day = next((day for day in DAYS if len(word) >= 2 and day.lower().startswith(word)), None)
        if day is None:
            wrong.append(f"--recurrence: found {word[:20]!r}; expected days such as mon tue sat")
        elif day not in chosen:
            chosen.append(day)
    begins = _time_of_day("--start", start or "00:00", wrong)
    ends = _time_of_day("--end", end or "23:59", wrong)
    if not wrong and ends <= begins:
        wrong.append(f"--end: {end or '23:59'} is not after --start {start or '00:00'}")
    _raise(wrong, setting)
    back = json.dumps({"name": always.name, "for": base.name}, separators=(",", ":"))
    closing = Profile(back, always.least, always.most, always.default, always.rules)
    return [
        _scheduled(base, Recurrence(timezone, tuple(chosen), *begins), None),
        _scheduled(closing, Recurrence(timezone, tuple(chosen), *ends), None),
    ]


def returns_to(name: str) -> str | None:
    """The profile that one of this name goes back to when a recurring one ends; None for all others."""
    try:
        found = json.loads(name)
    except (ValueError, RecursionError):
        return None
    back = found.get("name") if isinstance(found, dict) and "for" in found else None
    return back if isinstance(back, str) else None


def _scheduled(profile: Profile, recurrence: Recurrence | None, date: FixedDate | None) -> Profile:
    return Profile(
        profile.name, profile.least, profile.most, profile.default, profile.rules, recurrence, date
    )


def _dates(start: str | None, end: str | None, timezone: str, wrong: list[str]) -> FixedDate | None:
    moments: list[datetime] = []
    for flag, text in (("--start", start), ("--end", end)):
        try:
            moments.append(datetime.fromisoformat(text or "").replace(tzinfo=None))
        except ValueError:
            found = "nothing" if text is None else repr(text[:40])
            wrong.append(f"{flag}: found {found}; expected a date such as 2026-12-24, or give --recurrence")
    if len(moments) < 2:
        return None
    if moments[1] <= moments[0]:
        wrong.append(f"--end: {end} is not after --start {start}")
    return FixedDate(timezone, moments[0], moments[1])


def _time_of_day(flag: str, text: str, wrong: list[str]) -> tuple[int, int]:
    found = _TIME.fullmatch(text)
    if found is None:
        wrong.append(f"{flag}: found {text[:20]!r}; expected a time of day such as 06:30")
        return 0, 0
    return int(found[1]), int(found[2])


def _raise(wrong: Sequence[str], setting: str) -> None:
    if wrong:
        raise _invalid(wrong, setting)


def _invalid(wrong: Sequence[str], setting: str) -> MooringsError:
    message = wrong[0] if len(wrong) == 1 else f"{len(wrong)} flags cannot be read"
    return error("AutoscaleRuleInvalid", message, target=setting, evidence=wrong, fields={"name": setting})
