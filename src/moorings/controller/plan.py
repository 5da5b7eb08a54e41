"""The rollout decision: what is desired and what is seen go in, what to do next comes out. Pure: no clock, no side effect.

Create, scale, rolling update, repair and the way back from a failed update are this one function. Its promises: the
instances that take traffic never fall below what served before until a new one serves (and after that by no more than
the deployment allows, which is nothing where it says nothing), and nothing is stopped before the gateway has accepted a
version without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from moorings.engines.base import Phase
from moorings.spec.own_settings import USUAL_PACE, Pace

CRASH_LOOP_RESTARTS = 3
"""Restarts of an instance that has never been ready after which its rollout has failed."""

_ALIVE = (Phase.STARTING, Phase.RUNNING, Phase.BACKOFF)


@dataclass(frozen=True)
class Seen:
    """One instance as the engine, the prober and the gateway see it."""

    id: str
    revision: str
    ordinal: int
    phase: Phase
    ready: bool
    """The prober's word; and where there is a sample request, it was answered."""
    in_gateway: bool
    """Envoy itself has all its addresses and holds them healthy, whatever was published since."""
    gone_from_gateway: bool
    """The version Envoy has accepted names none of its addresses."""
    restarts: int = 0


@dataclass(frozen=True)
class Good:
    """What served, whole, before this generation: where a failed one goes back to."""

    revision: str
    count: int


@dataclass(frozen=True)
class Desired:
    revision: str
    count: int
    started: bool
    """Whether this generation has begun before; failed leftovers of an earlier try are cleared first."""
    gave_up: bool = False
    """This generation has failed: back to what served before."""
    overdue: bool = False
    """The progress deadline has passed."""
    settled: bool = True
    """Envoy has accepted all that was published for the endpoint."""
    scales: bool = False
    """The count follows the load: what serves follows it up also when this generation has failed."""
    pace: Pace = USUAL_PACE
    good: Good | None = None


@dataclass(frozen=True)
class Plan:
    apply: Mapping[str, int] = field(default_factory=dict)
    """Revision -> count to ask the engine for."""
    remove: tuple[str, ...] = ()
    """Revisions to end."""
    routed: frozenset[str] = frozenset()
    """Ids of the instances that may take traffic."""
    failed: str | None = None
    """Id of the instance that ends this rollout (the deadline counts against the first that is not ready)."""
    serving: int = 0
    """Current instances that take traffic now."""
    complete: bool = False
    """The desired instances serve and no older one is routed."""
    clearing: bool = False
    """This generation has not begun: leftovers of an earlier try have to end first."""
    waiting_for: str = ""


def plan(desired: Desired, seen: Sequence[Seen]) -> Plan:
    """The next step towards `desired`; asked again after every change until nothing is left to do."""
    current = sorted((s for s in seen if s.revision == desired.revision), key=lambda s: s.ordinal)
    old = [s for s in seen if s.revision != desired.revision]
    if not desired.started and any(s.phase is Phase.FAILED for s in current):
        clearing = _clear(desired, current, old)
        if clearing is not None:
            return clearing
    if desired.gave_up:
        return _back(desired, seen, current, old)
    failed = _failed(desired, current)
    serving = [s for s in current if s.ready and s.in_gateway and s.ordinal < desired.count]
    keep = _keep(old, max(0, desired.count - len(serving) - _room(desired, len(serving))))
    routed = [s for s in current if s.ready and s.ordinal < desired.count]
    routed += [s for s in old if s.ready and s.ordinal < keep.get(s.revision, 0)]
    apply: dict[str, int] = {}
    remove: list[str] = []
    target = _target(desired, current, old)
    leaving = [s for s in current if s.ordinal >= desired.count]
    if leaving and not all(s.gone_from_gateway for s in leaving):
        target = max(target, 1 + max(s.ordinal for s in leaving))
    if _differs(current, target):
        apply[desired.revision] = target
    _shrink_old(old, keep, apply, remove)
    complete = desired.settled and len(serving) >= desired.count and all(s.gone_from_gateway for s in old)
    return Plan(
        apply=apply,
        remove=tuple(remove),
        routed=_ids(routed),
        failed=None if complete or failed is None else failed.id,
        serving=len(serving),
        complete=complete,
        waiting_for=_waiting_for(desired, current, old, len(serving)),
    )


def _clear(desired: Desired, current: Sequence[Seen], old: Sequence[Seen]) -> Plan | None:
    """Have failed leftovers of an earlier try end; None where that would end instances that serve, too."""
    lowest = min(s.ordinal for s in current if s.phase is Phase.FAILED)
    firm = [s for s in current if s.ready]
    if any(s.ordinal > lowest for s in firm):
        return None
    return Plan(
        apply={desired.revision: lowest} if firm else {},
        remove=() if firm else (desired.revision,),
        routed=_ids([*firm, *(s for s in old if s.ready)]),
        clearing=True,
        waiting_for="an earlier failed try to be cleared",
    )


def _back(desired: Desired, seen: Sequence[Seen], current: Sequence[Seen], old: Sequence[Seen]) -> Plan:
    """After a failed rollout: a rollout to what served before, by the same rules, so that what is there of the failed
    generation and serves does so until the older one is whole again. With nothing before, what there is stays to be
    looked at."""
    good = desired.good or _standing(old)
    if good is None:
        return Plan(routed=_ids(s for s in current if s.ready), serving=sum(s.ready for s in current))
    before = replace(
        desired,
        revision=good.revision,
        count=max(good.count, desired.count) if desired.scales else good.count,
        started=True,
        gave_up=False,
        overdue=False,
        good=None,
    )
    return replace(plan(before, seen), failed=None, complete=False)


def _standing(old: Sequence[Seen]) -> Good | None:
    """What seems to have served before, where nothing is written down about it: the revision with the most ready."""
    standing = [s for s in old if s.phase in (*_ALIVE, Phase.GONE)]
    if not standing:
        return None
    groups = {s.revision: [each for each in standing if each.revision == s.revision] for s in standing}
    best = max(sorted(groups), key=lambda revision: sum(s.ready for s in groups[revision]))
    return Good(best, 1 + max(s.ordinal for s in groups[best]))


def _room(desired: Desired, serving: int) -> int:
    """How many older instances may go before others serve in their place. None before the first new one does, unless
    nothing may be added: then only this makes a beginning."""
    if serving == 0 and desired.pace.surge(desired.count) > 0:
        return 0
    return desired.pace.unavailable(desired.count)


def _failed(desired: Desired, current: Sequence[Seen]) -> Seen | None:
    for s in current:
        looping = s.phase is Phase.BACKOFF and s.restarts >= CRASH_LOOP_RESTARTS
        if s.phase is Phase.FAILED or looping:
            return s
    if desired.overdue:
        return next((s for s in current if not s.ready), None)
    return None


def _target(desired: Desired, current: Sequence[Seen], old: Sequence[Seen]) -> int:
    """How many of the current revision are begun. Others count until they have ended, as do its own on their way out (it
    may be the one a failed update goes back to): quota and machine have room for the surge once, not for each step of a
    rollout whose instances end slowly."""
    begun = 1 + max((s.ordinal for s in current if s.phase is not Phase.STOPPING), default=-1)
    others = sum(s.phase is Phase.STOPPING or s.phase in _ALIVE for s in old)
    leaving = [s.ordinal for s in current if s.phase is Phase.STOPPING]
    room = desired.count + desired.pace.surge(desired.count) - others
    fits = (n for n in range(desired.count, 0, -1) if n + sum(o >= n for o in leaving) <= room)
    return min(desired.count, max(next(fits, 0), begun))


def _keep(old: Sequence[Seen], need: int) -> dict[str, int]:
    """How many ordinals of each older revision stay, so that `need` ready ones do."""
    keep: dict[str, int] = {}
    ready = sorted((s for s in old if s.ready), key=lambda s: (s.ordinal, s.revision))
    for s in ready[:need]:
        keep[s.revision] = max(keep.get(s.revision, 0), s.ordinal + 1)
    return keep


def _shrink_old(
    old: Sequence[Seen], keep: Mapping[str, int], apply: dict[str, int], remove: list[str]
) -> None:
    for revision in sorted({s.revision for s in old}):
        group = [s for s in old if s.revision == revision]
        stay = keep.get(revision, 0)
        leaving = [s for s in group if s.ordinal >= stay]
        out = all(s.gone_from_gateway for s in leaving)
        if stay == 0:
            if out and any(s.phase is not Phase.STOPPING for s in group):
                remove.append(revision)
        elif leaving and out:
            if any(s.phase is not Phase.STOPPING for s in leaving):
                apply[revision] = stay
        elif not leaving and _differs(group, stay):
            apply[revision] = stay


def _differs(group: Sequence[Seen], count: int) -> bool:
    """Whether the engine has something to do to have ordinals 0..count-1 of this group living."""
    living = {s.ordinal for s in group if s.phase in (*_ALIVE, Phase.FAILED)}
    return living != set(range(count))


def _waiting_for(desired: Desired, current: Sequence[Seen], old: Sequence[Seen], serving: int) -> str:
    if serving < desired.count:
        slow = next(
            (s for s in current if s.ordinal < desired.count and not (s.ready and s.in_gateway)), None
        )
        ready = f"{serving} of {desired.count} instances serve"
        if slow is None:
            return f"{ready}; the next one to start"
        state = "the gateway to take it in" if slow.ready else f"{slow.phase}"
        return f"{ready}; {slow.id}: {state}"
    if any(not s.gone_from_gateway for s in old):
        return "the gateway to let go of the older instances"
    return "" if desired.settled else "the gateway to accept the routes"


def _ids(seen: Iterable[Seen]) -> frozenset[str]:
    return frozenset(s.id for s in seen)
