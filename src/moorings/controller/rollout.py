"""Carries rollouts on: looks at the figures, asks `shifting.py`, and writes its decision and the endpoint's traffic in one
transaction, so that a kill at any instant leaves both or neither. It sets traffic as a user would, and knows no gateway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from moorings.controller.copies import Copies, Pending
from moorings.controller.shifting import MIRRORING, Look, Progress, Share, decide, progress_from
from moorings.lib.timing import Clock
from moorings.observe.access_tail import AccessTail
from moorings.observe.outcomes import GOOD, MODEL_FAILED, Outcomes
from moorings.observe.pairs import Comparison, comparison_from
from moorings.spec.rollout import ENDED, Phase, RolloutSpec, rollout_from
from moorings.spec.status import READY, Condition, Truth
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, ROLLOUT, Resource, Transaction

logger = logging.getLogger(__name__)

LOOK_PERIOD_S = 0.5
WAIT_PERIOD_S = 0.1
"""While Envoy takes the traffic of a step in."""
FIGURES_PERIOD_S = 2.0
"""Figures alone are written at most this often."""
LOG_PATIENCE_S = 1.5
"""Envoy writes its access log at least this often: a step's figures are whole so long after its time."""


@dataclass
class _Memory:
    """What may be lost at a restart: the figures are read again from the log, and the time from the wall clock."""

    tail: AccessTail | None = None
    before: Mapping[int, int] | None = None
    """Answers of the new deployment when copies began to be counted."""
    copies: Outcomes = field(default_factory=Outcomes)
    comparison: Comparison = field(default_factory=Comparison)
    pending: Pending = field(default_factory=Pending)
    began: float = 0.0
    """Monotonic, of the running step."""
    written_at: float = 0.0


@dataclass(frozen=True)
class Seen:
    """What the state says at one moment."""

    row: Resource
    endpoint: Resource | None
    there: frozenset[str]
    revision: str
    share: Share | None
    accepted: bool


@dataclass
class RolloutReconciler:
    database: Database
    clock: Clock
    access_log: Path
    hint: Callable[[str, str], None]
    """Wakes the loop of `(kind, name)`."""
    answered: Callable[[str], Awaitable[Mapping[int, int]]]
    """`<endpoint>~<deployment>` -> how often its workers answered with which status, copies of requests included; counts
    that only grow, until the gateway starts anew. Raises OSError while nobody can tell."""
    matcher: Copies
    _memories: dict[str, _Memory] = field(default_factory=dict)

    async def reconcile(self, key: str) -> float | None:
        """Look at `<endpoint>/<rollout>` and do the next step."""
        seen = await asyncio.to_thread(self._load, key)
        if seen is None:
            self._forget(key)
            return None
        spec, at = rollout_from(seen.row.spec), progress_from(seen.row.status)
        if at.phase in ENDED:
            self._forget(key)
            return None
        memory = self._memories.setdefault(key, _Memory())
        now = self.clock.now()
        complete = await self._figures(spec, at, memory)
        look = self._look(spec, at, seen, memory, now, complete)
        then = decide(spec, at, look)
        if then.since != at.since or then.step != at.step:
            self._restart(memory, then, at)
        await self._store(key, seen, spec, at, then, memory)
        if then.phase in ENDED:
            return WAIT_PERIOD_S  # once more: has it been written?
        waits = then.since is None and then.phase is Phase.PROGRESSING
        return WAIT_PERIOD_S if waits else LOOK_PERIOD_S

    def close(self) -> None:
        """Let go of the log; where rollouts stand is in the state."""
        for key in list(self._memories):
            self._forget(key)

    def _forget(self, key: str) -> None:
        memory = self._memories.pop(key, None)
        if memory is not None and memory.tail is not None:
            memory.tail.close()

    async def _figures(self, spec: RolloutSpec, at: Progress, memory: _Memory) -> bool:
        """Bring the figures of the running step up to date; whether all that was logged is in them."""
        if at.since is None:
            return True
        if memory.tail is None or memory.tail.since != at.since:
            self._restart(memory, at, None)
            memory.tail = AccessTail(self.access_log, spec.endpoint, at.since)
        if at.step == MIRRORING:
            await self._count_copies(spec, memory)
            memory.comparison = await self.matcher.look(
                f"{spec.endpoint}/{spec.source}",
                f"{spec.endpoint}/{spec.target}",
                memory.comparison,
                memory.pending,
                tolerance=spec.tolerance,
                now=self.clock.monotonic(),
            )
        return await asyncio.to_thread(memory.tail.read)

    async def _count_copies(self, spec: RolloutSpec, memory: _Memory) -> None:
        """Copies are in no access log, for nobody waits for their answers; the gateway counts their statuses."""
        try:
            now = await self.answered(f"{spec.endpoint}~{spec.target}")
        except OSError as problem:
            logger.warning("copies of requests to %s cannot be counted: %s", spec.target, problem)
            return
        before = memory.before
        if before is None or any(now.get(code, 0) < count for code, count in before.items()):
            memory.before = before = now
        # What is no 200 is what callers would get as 424.
        codes = {True: GOOD, False: MODEL_FAILED}
        memory.copies = Outcomes()
        for code, count in now.items():
            shown = codes[code == GOOD]
            memory.copies.codes[shown] = memory.copies.codes.get(shown, 0) + count - before.get(code, 0)

    def _restart(self, memory: _Memory, then: Progress, before: Progress | None) -> None:
        """Another stretch of time. One that a daemon before us began has lasted what the wall clock says, as far as that
        can be believed."""
        if memory.tail is not None:
            memory.tail.close()
        memory.tail = memory.before = None
        memory.copies, memory.comparison, memory.pending = Outcomes(), Comparison(), Pending()
        passed_s = 0.0
        if before is None and then.since is not None:
            passed_s = max(0.0, self.clock.now() - then.since)
            memory.comparison = comparison_from(then.steps[-1].get("comparison"))
        memory.began = self.clock.monotonic() - passed_s

    def _look(
        self,
        spec: RolloutSpec,
        at: Progress,
        seen: Seen,
        memory: _Memory,
        now: float,
        complete: bool,
    ) -> Look:
        outcomes = memory.tail.outcomes if memory.tail is not None else {}
        elapsed_s = self.clock.monotonic() - memory.began if at.since is not None else 0.0
        return Look(
            now=now,
            # What the log still holds back belongs to the step.
            elapsed_s=max(0.0, elapsed_s - LOG_PATIENCE_S) if spec.min_requests else elapsed_s,
            share=seen.share,
            there=seen.there,
            revision=seen.revision,
            accepted=seen.accepted,
            old=outcomes.get(spec.source, Outcomes()),
            new=memory.copies if at.step == MIRRORING else outcomes.get(spec.target, Outcomes()),
            complete=complete,
            comparison=memory.comparison if at.step == MIRRORING else None,
        )

    # --- state ---

    def _load(self, key: str) -> Seen | None:
        with self.database.read() as tx:
            row = tx.resource(ROLLOUT, key)
            return None if row is None else _seen(tx, row)

    async def _store(
        self, key: str, seen: Seen, spec: RolloutSpec, at: Progress, then: Progress, memory: _Memory
    ) -> None:
        if then == at:
            return
        monotonic = self.clock.monotonic()
        figures_alone = replace(then, steps=at.steps, baseline=at.baseline, waiting_for=at.waiting_for) == at
        if (
            figures_alone
            and len(then.steps) == len(at.steps)
            and monotonic - memory.written_at < FIGURES_PERIOD_S
        ):
            return
        memory.written_at = monotonic
        moved = then.set_to is not None and then.set_to != seen.share and then.phase is not Phase.SUPERSEDED
        if await asyncio.to_thread(self._write, seen, spec, at, then) and moved:
            self.hint(ENDPOINT, spec.endpoint)

    def _write(self, seen: Seen, spec: RolloutSpec, at: Progress, then: Progress) -> bool:
        """The decision and the traffic together, unless what was decided on has changed meanwhile."""
        with self.database.write() as tx:
            row = tx.resource(ROLLOUT, seen.row.name)
            if row is None or row.generation != seen.row.generation:
                return False
            now = _seen(tx, row)
            if now.share != seen.share:
                return False  # somebody has just changed the traffic: to be looked at first
            if then.phase not in (Phase.SUPERSEDED, Phase.FAILED) and then.set_to not in (None, now.share):
                assert then.set_to is not None and now.endpoint is not None
                tx.put(ENDPOINT, spec.endpoint, _with_share(now.endpoint.spec, spec, then.set_to))
            tx.set_status(row, then.to_json())
            if then.phase is not at.phase or then.step != at.step:
                message = then.failed.message if then.failed else _said(spec, then)
                tx.add_event(ENDPOINT, spec.endpoint, f"Rollout{then.phase}", message)
                logger.info("rollout %s: %s, %s", row.name, then.phase, message)
        return True


def _said(spec: RolloutSpec, at: Progress) -> str:
    share = at.set_to
    if share is None:
        return f"{spec.source} -> {spec.target}"
    mirrored = f", {share.mirror} % mirrored to {spec.target}" if share.mirror else ""
    return f"{spec.source}={share.source} {spec.target}={share.target}{mirrored}"


def _seen(tx: Transaction, row: Resource) -> Seen:
    spec = rollout_from(row.spec)
    endpoint = tx.resource(ENDPOINT, spec.endpoint)
    if endpoint is not None and endpoint.deleting:
        endpoint = None
    found = {name: tx.resource(DEPLOYMENT, f"{spec.endpoint}/{name}") for name in (spec.source, spec.target)}
    there = frozenset(name for name, each in found.items() if each is not None and not each.deleting)
    target = found[spec.target]
    served = (target.status.get("served") or {}) if target is not None else {}
    return Seen(
        row,
        endpoint,
        there,
        str(served.get("revision") or ""),
        None if endpoint is None else share_of(endpoint, spec.source, spec.target),
        endpoint is not None and _accepted(endpoint),
    )


def share_of(endpoint: Resource, source: str, target: str) -> Share:
    """What both get of the endpoint's desired traffic. Tables hold names in lower case."""
    traffic, mirror = endpoint.spec.get("traffic") or {}, endpoint.spec.get("mirror_traffic") or {}
    return Share(
        int(traffic.get(source.lower(), 0)),
        int(traffic.get(target.lower(), 0)),
        int(mirror.get(target.lower(), 0)),
    )


def _with_share(stored: object, spec: RolloutSpec, share: Share) -> dict[str, object]:
    """The endpoint's spec (plain) with the traffic of both; zeros are left out, as everywhere."""
    assert isinstance(stored, dict)
    source, target = spec.source.lower(), spec.target.lower()
    traffic = {**(stored.get("traffic") or {}), source: share.source, target: share.target}
    mirror = {**(stored.get("mirror_traffic") or {}), target: share.mirror}
    return {
        **stored,
        "traffic": {name: much for name, much in traffic.items() if much},
        "mirror_traffic": {name: much for name, much in mirror.items() if much},
    }


def _accepted(endpoint: Resource) -> bool:
    stored = endpoint.status.get("conditions", {}).get(READY)
    if stored is None:
        return False
    ready = Condition.from_json(stored)
    return ready.truth is Truth.TRUE and ready.generation == endpoint.generation
