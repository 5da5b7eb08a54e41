"""What a rollout's copies of requests came to, read from the logs of both deployments when it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorings.api.rollouts import Rollouts
from moorings.errors.exceptions import error
from moorings.lib.timing import Clock, rfc3339
from moorings.observe.pairs import Answered, answers_of, compare
from moorings.observe.query import SERVER
from moorings.observe.stream import Logs

MOST_LINES = 500_000
"""Of one instance's log that are looked at."""
LATE_S = 5.0
"""An answer may come so long after its step has ended."""


@dataclass(frozen=True)
class RolloutReports:
    rollouts: Rollouts
    engine: Logs
    clock: Clock

    async def of(self, endpoint: str, name: str) -> dict[str, Any]:
        """Raises RolloutNotFound, also for one that did not begin with copies."""
        row = await asyncio.to_thread(self.rollouts.rollout, endpoint, name)
        step = next((s for s in row.status.get("steps", ()) if s.get("mirror")), None)
        if step is None:
            short = row.name.partition("/")[2]
            text = f"rollout {short} of endpoint {endpoint} has made no copies of requests"
            fix = f"Start one that does: moor rollout start -e {endpoint} ... --mirror-first 10%:5m"
            raise error("RolloutNotFound", text, target=row.name, fix=fix)
        end = step["endedAt"] or self.clock.now()
        source, target = row.spec["from"], row.spec["to"]
        live = await self._answers(f"{endpoint}/{source}", step["setAt"], end + LATE_S)
        copies = await self._answers(f"{endpoint}/{target}", step["setAt"], end + LATE_S)
        return {
            "rollout": row.name.partition("/")[2],
            "from": source,
            "to": target,
            "mirror": step["mirror"],
            "since": rfc3339(step["setAt"]),
            "until": rfc3339(end),
            **compare(live, copies),
        }

    async def _answers(self, owner: str, begin: float, end: float) -> Mapping[str, Answered]:
        found: dict[str, Answered] = {}
        for source in await self.engine.log_sources(owner):
            if source.container == SERVER:
                lines = await self.engine.log_lines(owner, source, most=MOST_LINES)
                found |= await asyncio.to_thread(answers_of, lines, rfc3339(begin), rfc3339(end))
        return found
