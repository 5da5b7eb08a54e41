"""A rollout as users ask for it: whose traffic goes where, in which steps, and what has to hold meanwhile; and how far one
can be. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from moorings.spec.guard import Condition, parse_guard

ROLLBACK, PAUSE = "rollback", "pause"
ON_BREACH = (ROLLBACK, PAUSE)
RUN, PAUSED, ABORT = "run", "pause", "abort"
"""What is wished of a rollout."""
DEFAULT_STEPS = (1, 10, 50, 100)
DEFAULT_EVERY_S = 120.0
DEFAULT_GUARD = "error_rate<1%,p99<1.2x"
DEFAULT_MIN_REQUESTS = 50
DEFAULT_PATIENCE_S = 3600.0
MOST_STEPS = 50
LONGEST_S = 30 * 86_400.0
DEFAULT_TOLERANCE = 1e-6
MIRROR_MOST_PER_CENT = 50

_DURATION = re.compile(
    r"(?:(?P<h>\d{1,4})h)?(?:(?P<m>\d{1,6})m(?!s))?(?:(?P<s>\d{1,8}(?:\.\d{1,3})?)s)?(?:(?P<ms>\d{1,9})ms)?"
)
_STEP = re.compile(r"(\d{1,3})%?")
_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?")
_MIRROR = re.compile(r"(?P<share>\d{1,3})%?:(?P<for>[0-9a-z.]+)")


class Phase(StrEnum):
    PENDING = "Pending"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    SUCCEEDED = "Succeeded"
    ROLLED_BACK = "RolledBack"
    """The guard was broken."""
    ABORTED = "Aborted"
    """Somebody asked for it; the traffic is back."""
    SUPERSEDED = "Superseded"
    """Somebody else has set the traffic; it stays as they did."""
    FAILED = "Failed"
    """A deployment of it is gone."""


ENDED = (Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED, Phase.FAILED)


def goes_on(status: Mapping[str, Any]) -> bool:
    """Whether there is still something to decide for a rollout with this stored status."""
    return status.get("phase") not in ENDED


@dataclass(frozen=True)
class Mirror:
    """Before the first step: a share of the live requests is copied to the new deployment. Callers never see its answers;
    the rates of the guard have to hold of them."""

    per_cent: int
    for_s: float


@dataclass(frozen=True)
class RolloutSpec:
    """JSON-safe through `to_json` / `rollout_from`."""

    endpoint: str
    source: str
    """The deployment that serves now (`--from`)."""
    target: str
    """The one that shall (`--to`)."""
    steps: tuple[int, ...] = DEFAULT_STEPS
    """Per cent of what both have together, ascending."""
    every_s: float = DEFAULT_EVERY_S
    """How long each step lasts at least."""
    guard: str = DEFAULT_GUARD
    min_requests: int = DEFAULT_MIN_REQUESTS
    """Fewer answers of the new deployment in a step decide nothing."""
    patience_s: float = DEFAULT_PATIENCE_S
    """How much longer than `every_s` a step waits for them."""
    on_breach: str = ROLLBACK
    mirror: Mirror | None = None
    tolerance: float = DEFAULT_TOLERANCE
    """How far numbers in answers to copies may be from the originals' (a part of the larger one, where that is above 1)."""
    begins_at: int = 100
    """Per cent that the serving deployment had when the rollout was accepted; the new one had none."""
    wish: str = RUN
    resumed: int = 0
    """How often it was told to go on."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return parse_guard(self.guard)[0]

    def to_json(self) -> dict[str, Any]:
        mirror = self.mirror
        return {
            "endpoint": self.endpoint,
            "from": self.source,
            "to": self.target,
            "steps": list(self.steps),
            "everySeconds": self.every_s,
            "guard": self.guard,
            "minRequests": self.min_requests,
            "patienceSeconds": self.patience_s,
            "onBreach": self.on_breach,
            "mirrorFirst": None if mirror is None else {"perCent": mirror.per_cent, "seconds": mirror.for_s},
            "tolerance": self.tolerance,
            "beginsAt": self.begins_at,
            "wish": self.wish,
            "resumed": self.resumed,
        }

    def wished(self, wish: str) -> RolloutSpec:
        """The same with another wish; `run` of one that is to run is told apart from none."""
        return replace(self, wish=wish, resumed=self.resumed + (wish == RUN))


def rollout_from(data: Mapping[str, Any]) -> RolloutSpec:
    """The inverse of `to_json`, for what was checked before."""
    mirror = data.get("mirrorFirst")
    return RolloutSpec(
        endpoint=data["endpoint"],
        source=data["from"],
        target=data["to"],
        steps=tuple(data["steps"]),
        every_s=float(data["everySeconds"]),
        guard=data["guard"],
        min_requests=int(data["minRequests"]),
        patience_s=float(data["patienceSeconds"]),
        on_breach=data["onBreach"],
        mirror=None if mirror is None else Mirror(int(mirror["perCent"]), float(mirror["seconds"])),
        tolerance=float(data["tolerance"]),
        begins_at=int(data["beginsAt"]),
        wish=data.get("wish", RUN),
        resumed=int(data.get("resumed", 0)),
    )


def check_rollout(endpoint: str, body: Mapping[str, Any]) -> tuple[RolloutSpec | None, list[tuple[str, str]]]:
    """The rollout that a request's body asks for, and every problem of it: (key, sentence).

    `steps` and times may be text, as they are written on the command line, or numbers.
    """
    problems: list[tuple[str, str]] = []

    def note(key: str, wrong: str) -> None:
        problems.append((key, wrong))

    unknown = sorted(set(body) - _KEYS)
    for key in unknown:
        note(key, f"unknown key; known are {', '.join(sorted(_KEYS))}")
    source, target = (_deployment(body.get(key), key, note) for key in ("from", "to"))
    if source and source.lower() == target.lower():
        note("to", "from and to are the same deployment")
    steps = _steps(body.get("steps", list(DEFAULT_STEPS)), note)
    every_s = _seconds(body.get("every", DEFAULT_EVERY_S), "every", note, least=1.0)
    patience_s = _seconds(body.get("patience", DEFAULT_PATIENCE_S), "patience", note, least=0.0)
    guard = body.get("guard", DEFAULT_GUARD)
    if isinstance(guard, str):
        for wrong in parse_guard(guard)[1]:
            note("guard", wrong)
    else:
        note("guard", "expected text")
    fewest = body.get("minRequests", DEFAULT_MIN_REQUESTS)
    if isinstance(fewest, bool) or not isinstance(fewest, int) or not 0 <= fewest <= 1_000_000:
        note("minRequests", f"found {fewest!r}; expected a whole number from 0 to 1000000")
    breach = body.get("onBreach", ROLLBACK)
    if breach not in ON_BREACH:
        note("onBreach", f"found {breach!r}; expected {' or '.join(ON_BREACH)}")
    mirror = _mirror(body.get("mirrorFirst"), note)
    tolerance = body.get("tolerance", DEFAULT_TOLERANCE)
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance <= 1:
        note("tolerance", f"found {tolerance!r}; expected a number from 0 to 1")
    if problems:
        return None, problems
    found = RolloutSpec(
        endpoint, source, target, steps, every_s, ",".join(c.text for c in parse_guard(str(guard))[0]),
        int(fewest), patience_s, str(breach), mirror, float(tolerance),
    )  # fmt: skip
    return found, []


_KEYS = frozenset(
    {
        "from",
        "to",
        "steps",
        "every",
        "guard",
        "minRequests",
        "patience",
        "onBreach",
        "mirrorFirst",
        "tolerance",
    }
)


def parse_seconds(text: str) -> float | None:
    """Seconds of `2m`, `30s`, `1h30m`, `500ms`; None for what is no duration."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or not any(match.groups()):
        return None
    scale = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(match[unit]) * factor for unit, factor in scale.items() if match[unit])


def is_rollout_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name))


def _deployment(value: Any, key: str, note: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        note(key, "the name of a deployment is missing")
        return ""
    return value.strip()


def _steps(value: Any, note: Any) -> tuple[int, ...]:
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(parts, list) or not parts:
        note("steps", "expected shares such as 1,10,50,100")
        return ()
    found = []
    for part in parts:
        match = _STEP.fullmatch(str(part)) if not isinstance(part, bool) else None
        if match is None or not 1 <= int(match[1]) <= 100:
            note("steps", f"found {part!r}; expected a whole number of per cent from 1 to 100")
        else:
            found.append(int(match[1]))
    if len(found) == len(parts) and found != sorted(set(found)):
        note("steps", f"found {','.join(map(str, found))}; each step has to be larger than the one before")
    if len(parts) > MOST_STEPS:
        note("steps", f"found {len(parts)} steps; at most {MOST_STEPS} are taken")
    return tuple(found)


def _seconds(value: Any, key: str, note: Any, *, least: float) -> float:
    found = parse_seconds(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= LONGEST_S:
        note(key, f"found {value!r}; expected a time such as 30s, 2m or 1h, from {least:g} s to 30 days")
        return 0.0
    return float(found)


def _mirror(value: Any, note: Any) -> Mirror | None:
    if value is None:
        return None
    match = _MIRROR.fullmatch(str(value).strip().lower())
    seconds = parse_seconds(match["for"]) if match else None
    if match is None or seconds is None or not 1 <= seconds <= LONGEST_S:
        note("mirrorFirst", f"found {value!r}; expected a share and a time such as 10%:5m")
        return None
    if not 1 <= int(match["share"]) <= MIRROR_MOST_PER_CENT:
        note("mirrorFirst", f"found {match['share']} %; from 1 to {MIRROR_MOST_PER_CENT} % can be mirrored")
        return None
    return Mirror(int(match["share"]), seconds)
