"""How many instances there shall be, from what was measured and what the user has asked for. Pure: no clock, no state.

Two policies with one verb: a target utilization (`scale_settings.type: target_utilization`), and the rules and
schedules of an autoscale setting. Both keep the bounds, scale up at once, and never scale down on what they have not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from moorings.autoscale.window import Points, gap_of, latest, needed, stretch
from moorings.spec.autoscale import (
    CONCURRENCY,
    DAYS,
    PER_INSTANCE,
    Aggregation,
    AutoscaleSetting,
    Change,
    Direction,
    Profile,
    Recurrence,
    Rule,
    period_text,
)
from moorings.spec.deployment import DeploymentSpec, down_after_s, zero_after_s

Measured = Mapping[str, Points]
"""Metric -> what it was."""


@dataclass(frozen=True)
class Decision:
    count: int
    reason: str
    """CamelCase, stable: `Load`, `Quiet`, `Idle`, `Bounds`, `Rule`, `Cooldown`, `Enough`, `NotMeasured`."""
    message: str
    rule: Rule | None = None
    """Which one decided."""


@dataclass(frozen=True)
class Moment:
    """When it is, and what there is now."""

    monotonic_s: float
    unix_s: float
    count: int
    """Instances that are wanted by the last decision."""
    changed_at: float | None = None
    """When the count has changed last; Unix seconds."""


class Policy(Protocol):
    @property
    def period_s(self) -> float:
        """How often to ask."""

    @property
    def memory_s(self) -> float:
        """How far back it looks."""

    @property
    def metrics(self) -> frozenset[str]:
        """The series it looks at (`series_of`)."""

    def bounds(self, unix_s: float) -> tuple[int, int]:
        """Fewest and most instances at this time."""

    def decide(self, measured: Measured, moment: Moment) -> Decision:
        """How many instances from now on."""


@dataclass(frozen=True)
class TargetPolicy:
    """As many instances as keep each busy to `utilization`, by the formula of section 9.3."""

    least: int
    most: int
    slots: int
    """Requests that an instance runs at once."""
    utilization: float
    period_s: float = 1.0
    down_after_s: float = 20.0
    """The window whose maximum an instance must not have been needed for before it goes."""
    zero_after_s: float = 300.0
    """How long there must have been no request before the last one goes."""

    @property
    def memory_s(self) -> float:
        return max(self.down_after_s, self.zero_after_s if self.least == 0 else 0.0) + gap_of(self.period_s)

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset({CONCURRENCY})

    def bounds(self, unix_s: float) -> tuple[int, int]:
        return self.least, self.most

    def wanted(self, concurrent: float) -> int:
        """Within the bounds."""
        return min(self.most, max(self.least, needed(concurrent, self.slots, self.utilization)))

    def decide(self, measured: Measured, moment: Moment) -> Decision:
        points, now = measured.get(CONCURRENCY, ()), moment.monotonic_s
        gap_s = gap_of(self.period_s)
        kept = min(self.most, max(self.least, moment.count))
        if kept != moment.count:
            return Decision(kept, "Bounds", f"{self.least} to {self.most} instances are allowed")
        current = latest(points, now, gap_s)
        if current is None:
            return Decision(kept, "NotMeasured", "the gateway has not said how many requests are in flight")
        wanted = self.wanted(current)
        if wanted > kept:
            return Decision(wanted, "Load", self._load(current, wanted))
        if wanted == kept:
            return Decision(kept, "Enough", self._load(current, wanted))
        return self._down(points, moment, wanted)

    def _down(self, points: Points, moment: Moment, wanted: int) -> Decision:
        kept, gap_s = moment.count, gap_of(self.period_s)
        recent = stretch(points, moment.monotonic_s, self.down_after_s, gap_s)
        if recent is None:
            text = f"{wanted} would do, but less than {period_text(int(self.down_after_s))} has been watched"
            return Decision(kept, "NotMeasured", text)
        peak = max(recent)
        goal = self.wanted(peak)
        if goal == 0:
            idle = stretch(points, moment.monotonic_s, self.zero_after_s, gap_s)
            if idle is not None and max(idle) <= 0:
                return Decision(0, "Idle", f"no request for {period_text(int(self.zero_after_s))}")
            goal = 1
        if goal >= kept:
            return Decision(kept, "Enough", f"{self._load(peak, self.wanted(peak))} at most lately")
        text = (
            f"at most {peak:.3g} requests in flight for {period_text(int(self.down_after_s))}: {goal} needed"
        )
        if self.least == 0 and goal == 1:
            text += f"; none after {period_text(int(self.zero_after_s))} without a request"
        return Decision(goal, "Quiet", text)

    def _load(self, concurrent: float, wanted: int) -> str:
        share = round(self.utilization * 100)
        return (
            f"{concurrent:.3g} requests in flight, {self.slots} at a time on each at {share} %: {wanted} needed "
            f"({self.least} to {self.most})"
        )


def policy_of(spec: DeploymentSpec, setting: AutoscaleSetting | None) -> Policy | None:
    """What decides on the instances of a deployment; None: its `instance_count` alone does."""
    if setting is not None and setting.enabled:
        return RulesPolicy(setting)
    scale = spec.scale_settings
    if scale.type != "target_utilization":
        return None
    return TargetPolicy(
        least=scale.min_instances,
        most=scale.max_instances,
        slots=spec.request_settings.max_concurrent_requests_per_instance,
        utilization=scale.target_utilization_percentage / 100,
        period_s=float(scale.polling_interval),
        down_after_s=float(down_after_s(spec)),
        zero_after_s=float(zero_after_s(spec)),
    )


# --- rules and schedules ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class RulesPolicy:
    """The rules of the profile that is on: out if any says so, in only if all that scale in say so."""

    setting: AutoscaleSetting

    @property
    def period_s(self) -> float:
        windows = [rule.window_s for profile in self.setting.profiles for rule in profile.rules]
        return min(max(1.0, min(windows, default=60) / 20), 15.0)

    @property
    def memory_s(self) -> float:
        windows = [rule.window_s for profile in self.setting.profiles for rule in profile.rules]
        return max(windows, default=0) + gap_of(self.period_s)

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset(series_of(rule) for profile in self.setting.profiles for rule in profile.rules)

    def bounds(self, unix_s: float) -> tuple[int, int]:
        profile = active_profile(self.setting, unix_s)
        return profile.least, profile.most

    def decide(self, measured: Measured, moment: Moment) -> Decision:
        profile = active_profile(self.setting, moment.unix_s)
        kept = min(profile.most, max(profile.least, moment.count))
        if kept != moment.count:
            text = f"profile {profile.name} allows {profile.least} to {profile.most} instances"
            return Decision(kept, "Bounds", text)
        values = {rule: self._value(rule, measured, moment) for rule in profile.rules}
        if values and all(value is None for value in values.values()):
            if self._silent(profile, measured, moment) and kept < profile.default:
                text = f"nothing is measured: the default of profile {profile.name}"
                return Decision(profile.default, "NotMeasured", text)
            return Decision(kept, "NotMeasured", "not enough has been measured yet")
        true = [rule for rule, value in values.items() if value is not None and holds(rule, value)]
        raising = [r for r in true if _goal(r, kept) > kept]
        if raising:
            best = max(raising, key=lambda rule: _goal(rule, kept))
            return self._act(best, profile, moment, values, _goal(best, kept))
        lowering = [r for r in profile.rules if _lowers(r, kept)]
        if not lowering or any(rule not in true for rule in lowering):
            return Decision(kept, "Enough", f"no rule of profile {profile.name} asks for a change")
        gentlest = max(lowering, key=lambda rule: _goal(rule, kept))
        lowest = max(profile.least, _goal(gentlest, kept))
        goal = _steady(profile, values, kept, lowest)
        if lowest < goal == kept:
            return Decision(
                kept, "Enough", "fewer instances would be too busy: a rule would ask for more at once"
            )
        return self._act(gentlest, profile, moment, values, goal)

    def _act(
        self, rule: Rule, profile: Profile, moment: Moment, values: Mapping[Rule, float | None], goal: int
    ) -> Decision:
        goal = min(profile.most, max(profile.least, goal))
        if goal == moment.count:
            bound = "maximum" if goal == profile.most else "minimum"
            text = f"{rule.condition} holds, at the {bound} of profile {profile.name} ({goal})"
            return Decision(moment.count, "Bounds", text, rule)
        # A change that lies in the future was written by a clock that has been set back since.
        waited = math.inf if moment.changed_at is None else moment.unix_s - moment.changed_at
        if 0 <= waited < rule.cooldown_s:
            left = period_text(math.ceil(rule.cooldown_s - waited))
            return Decision(
                moment.count, "Cooldown", f"{rule.condition} holds; it waits for another {left}", rule
            )
        text = f"{rule.condition} holds ({values[rule]:.4g}): {rule.action}"
        return Decision(goal, "Rule", text, rule)

    def _value(self, rule: Rule, measured: Measured, moment: Moment) -> float | None:
        points = measured.get(series_of(rule), ())
        found = stretch(points, moment.monotonic_s, rule.window_s, gap_of(self.period_s))
        return None if found is None else aggregated(rule.aggregation, found, rule.window_s)

    def _silent(self, profile: Profile, measured: Measured, moment: Moment) -> bool:
        """Whether nothing at all was measured for as long as the rules look back."""
        back = max(rule.window_s for rule in profile.rules)
        return all(
            bool(points) and moment.monotonic_s - points[-1][0] >= back
            for points in (measured.get(series_of(rule), ()) for rule in profile.rules)
        )


def of_endpoint(metric: str) -> str:
    """The series of a metric over all deployments of the endpoint."""
    return f"{metric} of the endpoint"


def series_of(rule: Rule) -> str:
    """The series that a rule looks at: of the deployment itself, or of its endpoint where the rule names that."""
    if rule.resource is None or "/deployments/" in rule.resource.lower():
        return rule.metric
    return of_endpoint(rule.metric)


def holds(rule: Rule, value: float) -> bool:
    return rule.operator.holds(value, rule.threshold)


def aggregated(how: Aggregation, values: Sequence[float], window_s: float) -> float:
    """One figure for a stretch (newest value first); a total counts minutes, as the ecosystem's metrics have them."""
    mean = sum(values) / len(values)
    return {
        Aggregation.AVERAGE: mean,
        Aggregation.MINIMUM: min(values),
        Aggregation.MAXIMUM: max(values),
        Aggregation.TOTAL: mean * window_s / 60,
        Aggregation.COUNT: float(len(values)),
        Aggregation.LAST: values[0],
    }[how]


def _goal(rule: Rule, count: int) -> int:
    """Where the rule leads from `count`, before bounds."""
    if rule.direction is Direction.TO:
        return rule.value
    step = rule.value
    if rule.change is Change.PER_CENT:
        step = max(1, math.floor(count * rule.value / 100 + 0.5))
    return count + step if rule.direction is Direction.OUT else count - step


def _lowers(rule: Rule, count: int) -> bool:
    return _goal(rule, count) < count


def _steady(profile: Profile, values: Mapping[Rule, float | None], count: int, goal: int) -> int:
    """The fewest instances, from `goal` on, with which no rule would ask for more at once."""
    rising = [rule for rule in profile.rules if rule.metric in PER_INSTANCE and _goal(rule, count) > count]
    for fewer in range(max(goal, 1), count):
        expected = [(rule, value * count / fewer) for rule in rising if (value := values[rule]) is not None]
        if not any(holds(rule, value) for rule, value in expected):
            return fewer
    return count


# --- schedules ----------------------------------------------------------------------------------------------
def active_profile(setting: AutoscaleSetting, unix_s: float) -> Profile:
    """The profile that is on: one of a fixed date, else the recurring one that has begun last, else the one without a
    schedule. A recurring profile lasts until another one begins."""
    for profile in setting.profiles:
        date = profile.fixed_date
        if date is not None:
            local = datetime.fromtimestamp(unix_s, ZoneInfo(date.timezone)).replace(tzinfo=None)
            if date.start <= local < date.end:
                return profile
    begun = [
        (started, -number, profile)
        for number, profile in enumerate(setting.profiles)
        if profile.recurrence is not None
        for started in [last_start(profile.recurrence, unix_s)]
    ]
    if begun:
        return max(begun, key=lambda one: one[:2])[2]
    return next(p for p in setting.profiles if p.recurrence is None and p.fixed_date is None)


def last_start(recurrence: Recurrence, unix_s: float) -> float:
    """When the recurrence has begun last; Unix seconds, at most a week and a day ago."""
    zone = ZoneInfo(recurrence.timezone)
    today = datetime.fromtimestamp(unix_s, zone)
    for back in range(9):
        day = today.date() - timedelta(days=back)
        if DAYS[day.weekday()] not in recurrence.days:
            continue
        start = datetime(day.year, day.month, day.day, recurrence.hour, recurrence.minute, tzinfo=zone)
        begun = start.astimezone(UTC).timestamp()
        if begun <= unix_s:
            return begun
    raise AssertionError("a week has all days")
