"""Autoscale settings: profiles with bounds, rules and schedules, as values and as the document of the control API
(`Microsoft.Insights/autoscaleSettings`). Pure; knows neither deployments nor measurements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from moorings.spec.deployment import MAX_INSTANCES
from moorings.spec.durations import format_duration_s, parse_duration_s
from moorings.spec.problems import FieldPath, Located, Problem, path_text, shown, spec_invalid

MAX_PROFILES, MAX_RULES = 20, 10
MAX_WINDOW_S, MAX_COOLDOWN_S = 3600, 604_800
NAME = re.compile(r"[^<>%#&:\\?/\x00-\x1f]{1,260}")
RESEND = "moor autoscale show -n <name>"

CONCURRENCY = "Concurrency"
UTILIZATION = "ConcurrencyUtilizationPercentage"
CPU = "CpuUtilizationPercentage"
MEMORY = "CpuMemoryUtilizationPercentage"
CAPACITY = "DeploymentCapacity"
LATENCY = "RequestLatency"
RATE = "RequestsPerMinute"
REJECTED = "RejectedRequestsPerMinute"
METRICS: Mapping[str, str] = {
    CPU: "per cent of the processors that its instances may use",
    MEMORY: "per cent of the memory that its instances may use",
    UTILIZATION: "requests in flight, in per cent of what its instances run at once",
    CONCURRENCY: "requests in flight",
    CAPACITY: "instances",
    LATENCY: "milliseconds",
    RATE: "requests",
    REJECTED: "requests answered with 429",
}
"""What a rule may look at -> its unit."""
OF_ENDPOINTS = frozenset({CONCURRENCY, LATENCY, RATE, REJECTED})
"""Metrics that an endpoint has, too: those of its deployments together."""
PER_INSTANCE = frozenset({CPU, MEMORY, UTILIZATION})
"""Metrics that are spread over the instances: fewer of them have more each."""


class Operator(StrEnum):
    EQUALS = "Equals"
    NOT_EQUALS = "NotEquals"
    GREATER = "GreaterThan"
    GREATER_OR_EQUAL = "GreaterThanOrEqual"
    LESS = "LessThan"
    LESS_OR_EQUAL = "LessThanOrEqual"

    def holds(self, value: float, threshold: float) -> bool:
        return {
            Operator.EQUALS: value == threshold,
            Operator.NOT_EQUALS: value != threshold,
            Operator.GREATER: value > threshold,
            Operator.GREATER_OR_EQUAL: value >= threshold,
            Operator.LESS: value < threshold,
            Operator.LESS_OR_EQUAL: value <= threshold,
        }[self]

    @property
    def sign(self) -> str:
        return SIGNS[self]


SIGNS: Mapping[Operator, str] = {
    Operator.EQUALS: "==",
    Operator.NOT_EQUALS: "!=",
    Operator.GREATER: ">",
    Operator.GREATER_OR_EQUAL: ">=",
    Operator.LESS: "<",
    Operator.LESS_OR_EQUAL: "<=",
}


class Aggregation(StrEnum):
    AVERAGE = "Average"
    MINIMUM = "Minimum"
    MAXIMUM = "Maximum"
    TOTAL = "Total"
    COUNT = "Count"
    LAST = "Last"


class Direction(StrEnum):
    OUT = "Increase"
    IN = "Decrease"
    TO = "None"
    """To an exact count, whichever way that is."""


class Change(StrEnum):
    COUNT = "ChangeCount"
    PER_CENT = "PercentChangeCount"
    EXACT = "ExactCount"


@dataclass(frozen=True)
class Rule:
    """When what has been measured over the window holds, so much more or less."""

    metric: str
    operator: Operator
    threshold: float
    direction: Direction
    value: int
    """Instances, or per cent of those there are."""
    change: Change = Change.COUNT
    aggregation: Aggregation = Aggregation.AVERAGE
    window_s: int = 300
    cooldown_s: int = 300
    """How long after any change of the count this rule waits."""
    resource: str | None = None
    """ARM id of what is measured, where that is not the deployment itself."""

    @property
    def condition(self) -> str:
        """As `--condition` takes it."""
        word = {Aggregation.AVERAGE: "avg", Aggregation.MINIMUM: "min", Aggregation.MAXIMUM: "max"}
        how = word.get(self.aggregation, self.aggregation.lower())
        return f"{self.metric} {self.operator.sign} {self.threshold:g} {how} {period_text(self.window_s)}"

    @property
    def action(self) -> str:
        """As `--scale` takes it."""
        word = {Direction.OUT: "out", Direction.IN: "in", Direction.TO: "to"}[self.direction]
        return f"{word} {self.value}{'%' if self.change is Change.PER_CENT else ''}"


@dataclass(frozen=True)
class Recurrence:
    """From this time of these days of the week on, until another recurring profile begins."""

    timezone: str
    days: tuple[str, ...]
    hour: int
    minute: int


@dataclass(frozen=True)
class FixedDate:
    """Between two moments of local time."""

    timezone: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Profile:
    """Bounds and rules, at all times or by a schedule."""

    name: str
    least: int
    most: int
    default: int
    """The count while nothing can be measured."""
    rules: tuple[Rule, ...] = ()
    recurrence: Recurrence | None = None
    fixed_date: FixedDate | None = None


@dataclass(frozen=True)
class AutoscaleSetting:
    name: str
    target: str
    """ARM id of the deployment."""
    profiles: tuple[Profile, ...]
    enabled: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def most(self) -> int:
        """The most instances that any of its profiles allows."""
        return max(profile.most for profile in self.profiles)


DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PERIOD = re.compile(r"(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", re.ASCII | re.IGNORECASE)


def period_text(seconds: int) -> str:
    """`5m`, `1h30m`, `45s`."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    return (
        f"{hours}h" * bool(hours)
        + f"{minutes}m" * bool(minutes)
        + (f"{left}s" if left or not seconds else "")
    )


def parse_period_s(text: str) -> int | None:
    """Seconds of `5m`, `1h30m`, `45s`; None for anything else."""
    found = _PERIOD.fullmatch(text)
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def known_zone(name: str) -> bool:
    """Whether there is a time zone of that name (`UTC`, `Europe/Berlin`)."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return True


# --- the document -------------------------------------------------------------------------------------------
def setting_to_arm(setting: AutoscaleSetting, id_: str | None = None) -> dict[str, Any]:
    """The document as the ecosystem's clients read it; counts are text there."""
    return {
        **({"id": id_} if id_ else {}),
        "name": setting.name,
        "type": "Microsoft.Insights/autoscaleSettings",
        "location": "local",
        "tags": dict(setting.tags),
        "properties": {
            "name": setting.name,
            "enabled": setting.enabled,
            "targetResourceUri": setting.target,
            "profiles": [_profile_out(profile, setting.target) for profile in setting.profiles],
            "notifications": [],
        },
    }


def _profile_out(profile: Profile, target: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": profile.name,
        "capacity": {
            "minimum": str(profile.least),
            "maximum": str(profile.most),
            "default": str(profile.default),
        },
        "rules": [_rule_out(rule, target) for rule in profile.rules],
    }
    if profile.recurrence is not None:
        when = profile.recurrence
        schedule = {
            "timeZone": when.timezone,
            "days": list(when.days),
            "hours": [when.hour],
            "minutes": [when.minute],
        }
        body["recurrence"] = {"frequency": "Week", "schedule": schedule}
    if profile.fixed_date is not None:
        date = profile.fixed_date
        body["fixedDate"] = {
            "timeZone": date.timezone,
            "start": date.start.isoformat(timespec="seconds"),
            "end": date.end.isoformat(timespec="seconds"),
        }
    return body


def _rule_out(rule: Rule, target: str) -> dict[str, Any]:
    return {
        "metricTrigger": {
            "metricName": rule.metric,
            "metricResourceUri": rule.resource or target,
            "timeGrain": "PT1M",
            "statistic": "Average",
            "timeWindow": format_duration_s(rule.window_s),
            "timeAggregation": str(rule.aggregation),
            "operator": str(rule.operator),
            "threshold": rule.threshold,
        },
        "scaleAction": {
            "direction": str(rule.direction),
            "type": str(rule.change),
            "value": str(rule.value),
            "cooldown": format_duration_s(rule.cooldown_s),
        },
    }


def setting_from_arm(name: str, body: Mapping[str, Any]) -> AutoscaleSetting:
    """The value of a document. Raises SpecInvalid, each problem with its place (the user's fault)."""
    reader = _Reader()
    setting = reader.setting(name, body)
    if setting is not None and not reader.problems:
        reader.problems += _rule_problems(setting)
    if reader.problems or setting is None:
        raise spec_invalid(
            reader.problems,
            what=f"autoscale setting {name}",
            locate=lambda problem: Located(path_text(problem.path)),
            command=RESEND,
        )
    return setting


def _rule_problems(setting: AutoscaleSetting) -> Iterator[Problem]:
    """Rules across fields."""
    if not NAME.fullmatch(setting.name):
        yield Problem(
            ("name",),
            f"`name`: found {shown(setting.name)}; expected 1 to 260 characters without / and the like",
        )
    for number, profile in enumerate(setting.profiles):
        at: FieldPath = ("properties", "profiles", number)
        where = path_text((*at, "capacity"))
        if not profile.least <= profile.default <= profile.most:
            bounds = f"minimum {profile.least}, default {profile.default}, maximum {profile.most}"
            yield Problem(
                (*at, "capacity"), f"`{where}`: found {bounds}; expected minimum <= default <= maximum"
            )
        if profile.fixed_date is not None and profile.fixed_date.end <= profile.fixed_date.start:
            path = (*at, "fixedDate", "end")
            yield Problem(path, f"`{path_text(path)}` is not after the start")
        if profile.name in {other.name for other in setting.profiles[:number]}:
            path = (*at, "name")
            yield Problem(path, f"`{path_text(path)}`: there is a profile {profile.name!r} already")
    if not any(p.recurrence is None and p.fixed_date is None for p in setting.profiles):
        path = ("properties", "profiles")
        yield Problem(path, f"`{path_text(path)}`: one profile is for all other times, without a schedule")


class _Reader:
    """Walks a document and notes everything that is wrong; what cannot be read is left out."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def note(self, path: FieldPath, found: Any, expected: str) -> None:
        self.problems.append(Problem(path, f"`{path_text(path)}`: found {shown(found)}; expected {expected}"))

    def setting(self, name: str, body: Mapping[str, Any]) -> AutoscaleSetting | None:
        at: FieldPath = ("properties",)
        inner = self.mapping(body.get("properties"), at)
        target = inner.get("targetResourceUri")
        if not isinstance(target, str) or not target.strip():
            self.note((*at, "targetResourceUri"), target, "the id of a deployment")
            target = ""
        enabled = inner.get("enabled", True)
        if not isinstance(enabled, bool):
            self.note((*at, "enabled"), enabled, "true or false")
        given = inner.get("profiles")
        if not isinstance(given, list) or not 1 <= len(given) <= MAX_PROFILES:
            self.note((*at, "profiles"), given, f"1 to {MAX_PROFILES} profiles")
            given = []
        profiles = [self.profile(one, (*at, "profiles", number)) for number, one in enumerate(given)]
        tags = {str(k): str(v) for k, v in self.mapping(body.get("tags") or {}, ("tags",)).items()}
        if self.problems:
            return None
        return AutoscaleSetting(name, target, tuple(p for p in profiles if p), enabled, tags)

    def profile(self, body: Any, at: FieldPath) -> Profile | None:
        inner = self.mapping(body, at)
        name = inner.get("name")
        if not isinstance(name, str) or not name:
            self.note((*at, "name"), name, "a name")
            name = ""
        capacity = self.mapping(inner.get("capacity"), (*at, "capacity"))
        counts = [
            self.whole(capacity.get(key), (*at, "capacity", key), least, MAX_INSTANCES)
            for key, least in (("minimum", 1), ("maximum", 1), ("default", 1))
        ]
        given = inner.get("rules") or []
        if not isinstance(given, list) or len(given) > MAX_RULES:
            self.note((*at, "rules"), given, f"up to {MAX_RULES} rules")
            given = []
        rules = [self.rule(one, (*at, "rules", number)) for number, one in enumerate(given)]
        recurrence = fixed = None
        if inner.get("recurrence") is not None:
            recurrence = self.recurrence(inner["recurrence"], (*at, "recurrence"))
        if inner.get("fixedDate") is not None:
            fixed = self.fixed_date(inner["fixedDate"], (*at, "fixedDate"))
        if self.problems:
            return None
        least, most, default = counts
        return Profile(name, least, most, default, tuple(r for r in rules if r), recurrence, fixed)

    def rule(self, body: Any, at: FieldPath) -> Rule | None:
        inner = self.mapping(body, at)
        trigger_at, action_at = (*at, "metricTrigger"), (*at, "scaleAction")
        trigger = self.mapping(inner.get("metricTrigger"), trigger_at)
        action = self.mapping(inner.get("scaleAction"), action_at)
        metric = self.choice(trigger.get("metricName"), (*trigger_at, "metricName"), tuple(METRICS))
        operator = self.choice(trigger.get("operator"), (*trigger_at, "operator"), tuple(Operator))
        how = self.choice(
            trigger.get("timeAggregation", "Average"), (*trigger_at, "timeAggregation"), tuple(Aggregation)
        )
        threshold = trigger.get("threshold")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            self.note((*trigger_at, "threshold"), threshold, "a number")
            threshold = 0
        window_s = self.seconds(
            trigger.get("timeWindow", "PT5M"), (*trigger_at, "timeWindow"), 1, MAX_WINDOW_S
        )
        cooldown_s = self.seconds(action.get("cooldown", "PT5M"), (*action_at, "cooldown"), 0, MAX_COOLDOWN_S)
        direction = self.choice(action.get("direction"), (*action_at, "direction"), tuple(Direction))
        change = self.choice(action.get("type", "ChangeCount"), (*action_at, "type"), tuple(Change))
        most = 1000 if change == Change.PER_CENT else MAX_INSTANCES
        value = self.whole(action.get("value"), (*action_at, "value"), 1, most)
        resource = trigger.get("metricResourceUri")
        if resource is not None and not isinstance(resource, str):
            self.note((*trigger_at, "metricResourceUri"), resource, "the id of a deployment or an endpoint")
        if trigger.get("dimensions"):
            self.note((*trigger_at, "dimensions"), trigger["dimensions"], "none: metrics are not split here")
        if self.problems:
            return None
        return Rule(
            metric=metric,
            operator=Operator(operator),
            threshold=float(threshold),
            direction=Direction.TO if change == Change.EXACT else Direction(direction),
            value=value,
            change=Change(change),
            aggregation=Aggregation(how),
            window_s=window_s,
            cooldown_s=cooldown_s,
            resource=resource,
        )

    def recurrence(self, body: Any, at: FieldPath) -> Recurrence:
        inner = self.mapping(body, at)
        self.choice(inner.get("frequency", "Week"), (*at, "frequency"), ("Week",))
        schedule_at = (*at, "schedule")
        schedule = self.mapping(inner.get("schedule"), schedule_at)
        days = schedule.get("days")
        if not isinstance(days, list) or not days:
            self.note((*schedule_at, "days"), days, "days of the week")
            days = []
        chosen = tuple(self.choice(day, (*schedule_at, "days", n), DAYS) for n, day in enumerate(days))
        hour = self.whole(_only(schedule.get("hours")), (*schedule_at, "hours"), 0, 23)
        minute = self.whole(_only(schedule.get("minutes", [0])), (*schedule_at, "minutes"), 0, 59)
        return Recurrence(
            self.zone(schedule.get("timeZone"), (*schedule_at, "timeZone")), chosen, hour, minute
        )

    def fixed_date(self, body: Any, at: FieldPath) -> FixedDate:
        inner = self.mapping(body, at)
        moments = [self.moment(inner.get(key), (*at, key)) for key in ("start", "end")]
        return FixedDate(self.zone(inner.get("timeZone"), (*at, "timeZone")), *moments)

    # --- single values ---

    def mapping(self, value: Any, at: FieldPath) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        self.note(at, value, "an object")
        return {}

    def whole(self, value: Any, at: FieldPath, least: int, most: int) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 9:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.note(at, value, f"a whole number from {least} to {most}")
            return least
        return value

    def seconds(self, value: Any, at: FieldPath, least: int, most: int) -> int:
        try:
            found = parse_duration_s(value if isinstance(value, str) else "")
        except ValueError:
            found = -1
        if not least <= found <= most:
            low, high = format_duration_s(least), format_duration_s(most)
            self.note(at, value, f"a duration from {low} to {high}, such as PT5M")
            return least
        return found

    def choice(self, value: Any, at: FieldPath, known: Sequence[str]) -> str:
        for one in known:
            if isinstance(value, str) and value.lower() == one.lower():
                return str(one)
        self.note(at, value, f"one of {', '.join(known)}")
        return str(known[0])

    def zone(self, value: Any, at: FieldPath) -> str:
        if value is None:
            return "UTC"
        if isinstance(value, str) and known_zone(value):
            return value
        self.note(at, value, "a time zone such as UTC or Europe/Berlin")
        return "UTC"

    def moment(self, value: Any, at: FieldPath) -> datetime:
        try:
            found = datetime.fromisoformat(value if isinstance(value, str) else "")
        except ValueError:
            self.note(at, value, "a date and time such as 2026-12-24T06:00:00")
            return datetime(1970, 1, 1)  # noqa: DTZ001 - local time of the profile's zone
        return found.replace(tzinfo=None)


def _only(value: Any) -> Any:
    """The one entry of a list: a schedule has one time of day."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
