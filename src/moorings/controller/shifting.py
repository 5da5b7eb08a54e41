"""The decision on a rollout's traffic: what is asked for, where it stands and what is seen go in; where it stands next and
which traffic to set come out. Pure: no clock, no side effect.

Its promises: the traffic of `to` never grows but by the next step, after the one before has lasted its time, with enough
requests, while the guard holds; a broken guard is answered at the look that sees it; and what somebody else has set stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from moorings.errors.exceptions import Failure, failure
from moorings.errors.sentence import sentence
from moorings.observe.comparing import Check, Summary, check, summary_of
from moorings.observe.outcomes import Outcomes
from moorings.observe.pairs import Comparison
from moorings.spec.rollout import ABORT, ENDED, PAUSED, ROLLBACK, RUN, Phase, RolloutSpec

MIRRORING = -1
"""The step before the first."""


@dataclass(frozen=True)
class Share:
    """What both deployments get of the endpoint's traffic, in per cent, and what is mirrored to `to`."""

    source: int
    target: int
    mirror: int = 0

    def to_json(self) -> dict[str, int]:
        return {"from": self.source, "to": self.target, "mirror": self.mirror}


def share_from(data: Mapping[str, int] | None) -> Share | None:
    return None if data is None else Share(data["from"], data["to"], data["mirror"])


@dataclass(frozen=True)
class Progress:
    """Where a rollout stands; JSON-safe through `to_json` / `progress_from`."""

    phase: Phase = Phase.PENDING
    step: int = 0
    """Index of the step; `MIRRORING` before the first."""
    set_to: Share | None = None
    """What it has set; None: nothing yet."""
    base: Share | None = None
    """What it found, and goes back to."""
    since: float | None = None
    """When the step began: Envoy had accepted its traffic. Unix seconds; None: not yet."""
    resumed: int = 0
    """The wish to go on that was answered last."""
    revision: str = ""
    """Of the new deployment when it began."""
    baseline: Summary | None = None
    """The last figures of the running deployment that were enough to compare with."""
    waiting_for: str = ""
    failed: Failure | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    """What each step was decided on; the last one is going on."""
    ended_at: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "phase": str(self.phase),
            "step": self.step,
            "setTo": self.set_to.to_json() if self.set_to else None,
            "base": self.base.to_json() if self.base else None,
            "since": self.since,
            "resumed": self.resumed,
            "revision": self.revision,
            "baseline": self.baseline.to_json() if self.baseline else None,
            "waitingFor": self.waiting_for,
            "failed": self.failed.to_json() if self.failed else None,
            "steps": [dict(step) for step in self.steps],
            "endedAt": self.ended_at,
        }


def progress_from(data: Mapping[str, Any]) -> Progress:
    if not data:
        return Progress()
    baseline = data.get("baseline")
    return Progress(
        Phase(data["phase"]),
        data["step"],
        share_from(data["setTo"]),
        share_from(data["base"]),
        data["since"],
        data["resumed"],
        data["revision"],
        Summary(**baseline) if baseline else None,
        data["waitingFor"],
        Failure.from_json(data["failed"]) if data["failed"] else None,
        tuple(data["steps"]),
        data["endedAt"],
    )


@dataclass(frozen=True)
class Look:
    """What is seen at one moment."""

    now: float
    """Unix seconds."""
    elapsed_s: float
    """Since the step began, by a clock that does not jump where there is one."""
    share: Share | None
    """What the endpoint's desired state gives both now; None: the endpoint is gone."""
    there: frozenset[str]
    """Which of both deployments exist and are not being deleted."""
    revision: str
    """What serves of the new deployment."""
    accepted: bool
    """Envoy has accepted what is desired of the endpoint."""
    old: Outcomes = field(default_factory=Outcomes)
    """Since the step began."""
    new: Outcomes = field(default_factory=Outcomes)
    complete: bool = True
    """All requests that were logged are in the figures."""
    comparison: Comparison | None = None
    """Answers to copies beside the originals', while copies are made."""


def decide(spec: RolloutSpec, at: Progress, look: Look) -> Progress:
    """Where the rollout stands next. When its `set_to` differs from before, that traffic is to be set with it."""
    if at.phase in ENDED:
        return at
    lost = sorted({spec.source, spec.target} - look.there)
    if look.share is None or lost:
        return _lost(spec, at, look, lost)
    if at.base is None:
        base = Share(spec.begins_at, 0)
        at = replace(at, base=base, set_to=base, revision=look.revision, resumed=spec.resumed)
    if look.share != at.set_to:
        return _superseded(spec, at, look)
    if spec.wish == ABORT:
        return _back(at, look, Phase.ABORTED, "aborted", None)
    if at.phase is Phase.PAUSED or not at.steps:
        return _rest(spec, at, look)
    if spec.wish == PAUSED:
        return _pause(_noted(spec, at, look, (), "paused by hand"), "told to pause", None)
    if look.revision != at.revision:
        text = f"{spec.target} has been updated since the rollout began"
        return _pause(_noted(spec, at, look, (), "paused"), text, _conflict(spec, text))
    if at.since is not None:
        return _judge(spec, at, look)
    if look.accepted:
        return replace(at, since=look.now, waiting_for="requests")
    return replace(at, waiting_for="the gateway to accept the traffic of this step")


def _rest(spec: RolloutSpec, at: Progress, look: Look) -> Progress:
    """It has not begun, or is paused: does it go on?"""
    if not at.steps:
        return at if spec.wish == PAUSED else _begin(spec, at, MIRRORING if spec.mirror else 0, look)
    if spec.wish == RUN and spec.resumed != at.resumed:
        return _resume(spec, at, look)
    return at


def _judge(spec: RolloutSpec, at: Progress, look: Look) -> Progress:
    """The step goes on: does the guard hold, and has it lasted long enough?"""
    old = summary_of(look.old)
    enough_old = old.requests >= max(1, spec.min_requests)
    baseline = old if enough_old else at.baseline
    at = replace(at, baseline=baseline)
    mirroring = spec.mirror if at.step == MIRRORING else None
    # Of copies only the statuses are known: nobody waits for their answers.
    guard = [c for c in spec.conditions if not (mirroring and c.is_latency)]
    checks = check(guard, look.new, baseline)
    requests, relative = look.new.requests, any(c.relative for c in guard)
    broken = [c for c in checks if not c.holds]
    if broken and requests >= spec.min_requests:
        return _broken(spec, at, look, checks, broken)
    # Of answers that have no latency none can be too late: they are no reason to go on.
    counted = min(requests, look.new.measured) if any(c.is_latency for c in guard) else requests
    missing = spec.min_requests - counted
    left_s = (mirroring.for_s if mirroring else spec.every_s) - look.elapsed_s
    at = _noted(spec, at, look, checks, "holds" if missing <= 0 else "going on")
    if missing > 0 or (relative and baseline is None and spec.min_requests > 0):
        whose = f"{missing} more answers of {spec.target}" if missing > 0 else f"requests to {spec.source}"
        if left_s + spec.patience_s <= 0:
            return _pause(at, f"waited for {whose}", _without_traffic(spec, at, counted))
        return replace(at, waiting_for=whose if left_s <= 0 else f"{left_s:.0f} s, {whose}")
    if left_s > 0 or not look.complete:
        return replace(at, waiting_for=f"{max(0.0, left_s):.0f} s of this step")
    if not look.accepted:
        return replace(at, waiting_for="the gateway to accept what is desired of the endpoint")
    if at.step + 1 < len(spec.steps):
        return _begin(spec, at, at.step + 1, look)
    return replace(_closed(at, look, "held"), phase=Phase.SUCCEEDED, waiting_for="", ended_at=look.now)


def _begin(spec: RolloutSpec, at: Progress, step: int, look: Look) -> Progress:
    """The next step: its traffic is set, its time begins when that is accepted."""
    at = _closed(at, look, "held") if at.steps else at
    assert at.base is not None
    both = at.base.source + at.base.target
    if step == MIRRORING:
        assert spec.mirror is not None
        share, shown = Share(at.base.source, at.base.target, spec.mirror.per_cent), None
    else:
        # Whole per cent: a step is never rounded to nothing, and only the last to everything.
        shown = spec.steps[step]
        target = both if shown == 100 else max(1, min(both - 1, round(both * shown / 100)))
        share = Share(both - target, target)
    record = {
        "step": step,
        "share": shown,
        "mirror": share.mirror,
        "setAt": look.now,
        "endedAt": None,
        "outcome": "going on",
    }
    return replace(
        at,
        phase=Phase.PROGRESSING,
        step=step,
        set_to=share,
        since=None,
        failed=None,
        steps=(*at.steps, record),
        waiting_for="the gateway to accept the traffic of this step",
    )


def _resume(spec: RolloutSpec, at: Progress, look: Look) -> Progress:
    """The step again, with figures of its own."""
    again = replace(at, resumed=spec.resumed, revision=look.revision)
    return _begin(spec, _closed(again, look, str(at.steps[-1]["outcome"])), at.step, look)


def _noted(spec: RolloutSpec, at: Progress, look: Look, checks: tuple[Check, ...], outcome: str) -> Progress:
    """The figures of this look in the record of the step."""
    if not at.steps:
        return at
    record = {
        **at.steps[-1],
        "since": at.since,
        "seconds": round(look.elapsed_s, 1) if at.since is not None else 0.0,
        "outcome": outcome,
        "figures": {"from": summary_of(look.old).to_json(), "to": summary_of(look.new).to_json()},
        "checks": [c.to_json() for c in checks],
        **({} if look.comparison is None else {"comparison": look.comparison.to_json()}),
    }
    return replace(at, steps=(*at.steps[:-1], record))


def _closed(at: Progress, look: Look, outcome: str) -> Progress:
    last = at.steps[-1]
    if last["endedAt"] is not None:
        return at
    return replace(at, steps=(*at.steps[:-1], {**last, "endedAt": look.now, "outcome": outcome}))


def _broken(
    spec: RolloutSpec, at: Progress, look: Look, checks: tuple[Check, ...], broken: list[Check]
) -> Progress:
    at = _noted(spec, at, look, checks, "broken")
    said = "; ".join(c.said for c in broken)
    failed = failure(
        "GuardBreached",
        f"{_where(spec, at)}: {said}",
        target=f"{spec.endpoint}/{spec.target}",
        evidence=tuple(c.said for c in checks),
        fields={"endpoint": spec.endpoint, "deployment": spec.target},
    )
    if spec.on_breach == ROLLBACK:
        return _back(at, look, Phase.ROLLED_BACK, "broken", failed)
    return _pause(at, "somebody to look: the guard is broken", failed)


def _where(spec: RolloutSpec, at: Progress) -> str:
    if at.step == MIRRORING:
        return f"copies of requests to {spec.target}"
    return f"{spec.target} at {spec.steps[at.step]} %"


def _pause(at: Progress, waiting_for: str, failed: Failure | None) -> Progress:
    """The traffic stays as it is."""
    return replace(at, phase=Phase.PAUSED, since=None, waiting_for=waiting_for, failed=failed)


def _back(at: Progress, look: Look, phase: Phase, outcome: str, failed: Failure | None) -> Progress:
    closed = _closed(at, look, outcome) if at.steps else at
    back = at.base if at.base is not None else at.set_to
    return replace(
        closed, phase=phase, set_to=back, since=None, failed=failed, waiting_for="", ended_at=look.now
    )


def _lost(spec: RolloutSpec, at: Progress, look: Look, lost: list[str]) -> Progress:
    gone = f"deployment {', '.join(lost)} is gone" if lost else f"endpoint {spec.endpoint} is gone"
    failed = failure("RolloutDeploymentLost", gone, target=spec.endpoint, fields={"endpoint": spec.endpoint})
    closed = _closed(at, look, "ended") if at.steps else at
    return replace(closed, phase=Phase.FAILED, failed=failed, waiting_for="", ended_at=look.now)


def _superseded(spec: RolloutSpec, at: Progress, look: Look) -> Progress:
    assert at.set_to is not None and look.share is not None
    text = (
        f"the traffic is {spec.source}={look.share.source} {spec.target}={look.share.target}, not "
        f"{spec.source}={at.set_to.source} {spec.target}={at.set_to.target} as the rollout had set it"
    )
    if look.share.mirror != at.set_to.mirror:
        text += f"; {look.share.mirror} % are mirrored, not {at.set_to.mirror} %"
    failed = failure("RolloutSuperseded", text, target=spec.endpoint, fields={"endpoint": spec.endpoint})
    closed = _closed(at, look, "ended") if at.steps else at
    return replace(closed, phase=Phase.SUPERSEDED, failed=failed, waiting_for="", ended_at=look.now)


def _without_traffic(spec: RolloutSpec, at: Progress, answers: int) -> Failure:
    text = f"{_where(spec, at)}: {answers} answers came that count, {spec.min_requests} are wanted"
    return failure("RolloutWithoutTraffic", text, target=spec.endpoint, fields={"endpoint": spec.endpoint})


def _conflict(spec: RolloutSpec, text: str) -> Failure:
    remedy = sentence(
        "Go on with it as it is now: moor rollout resume -e {endpoint}   (or: moor rollout abort -e {endpoint})",
        endpoint=spec.endpoint,
    )
    return failure(
        "RolloutConflict", text, target=spec.endpoint, fields={"remedy": remedy, "endpoint": spec.endpoint}
    )
