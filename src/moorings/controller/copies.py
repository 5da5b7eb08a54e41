"""Puts answers to copies of requests beside the answers that callers got: asks the workers of both deployments for what they
have kept, and matches it by request id. What is not matched yet is held in memory, for seconds; of what is, only figures.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moorings.contract import HEADER_COLLECT, KEPT_AT_ONCE, ROUTE_KEPT
from moorings.observe.likeness import Body
from moorings.observe.pairs import Answered, Comparison

ASK_TIMEOUT_S = 1.0
LATE_S = 5.0
"""An original may be answered so much later than its copy."""
MOST_PENDING = 8 * KEPT_AT_ONCE
"""Copies that wait for their original; the oldest of more are not looked at."""
MOST_READ_BYTES = 1024 * 1024
EVERYTHING = "*"
_ID = re.compile(r"[0-9A-Za-z-]{1,100}")

Ask = Callable[[str, str], Awaitable[bytes | None]]
"""(address of a worker, what is wanted: ids with commas, or `EVERYTHING`) -> its document; None: no answer."""


@dataclass
class Pending:
    """Answers to copies whose original has not been found yet: request id -> (answer, since when)."""

    answers: dict[str, tuple[Answered, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Copies:
    """Matches for all rollouts; what it remembers is handed in."""

    workers: Callable[[str], Collection[str]]
    """`<endpoint>/<deployment>` -> addresses of its workers."""
    ask: Ask | None = None

    async def look(
        self, source: str, target: str, found: Comparison, pending: Pending, *, tolerance: float, now: float
    ) -> Comparison:
        """`found` with the pairs that have become known. `source`, `target`: `<endpoint>/<deployment>`; `now`: monotonic.
        Takes at most two time-outs, however many workers there are."""
        answers, skipped = await self._ask_all(target, [EVERYTHING])
        waiting = {each.id: (each, now) for each in answers} | pending.answers
        late = [id_ for id_, (_, since) in waiting.items() if now - since > LATE_S]
        skipped += max(0, len(waiting) - len(late) - MOST_PENDING)
        for id_ in late:
            del waiting[id_]
        waiting = dict(sorted(waiting.items(), key=lambda item: -item[1][1])[:MOST_PENDING])
        ids = list(waiting)
        parts = [ids[n : n + KEPT_AT_ONCE] for n in range(0, len(ids), KEPT_AT_ONCE)]
        originals, _ = await self._ask_all(source, [",".join(part) for part in parts])
        for live in originals:
            known = waiting.pop(live.id, None)
            if known is not None:
                found = found.with_pair(live, known[0], tolerance)
        pending.answers = waiting
        return replace(found, unmatched=found.unmatched + len(late), skipped=found.skipped + skipped)

    async def _ask_all(self, owner: str, wanted: Sequence[str]) -> tuple[list[Answered], int]:
        """From all workers that can be asked: those of the inference server, on its unix sockets."""
        ask = self.ask or ask_worker
        addresses = [each for each in self.workers(owner) if each.startswith("/")]
        said = await asyncio.gather(*(ask(address, each) for each in wanted for address in addresses))
        answers: list[Answered] = []
        skipped = 0
        for document in said:
            more, left = answers_of(document)
            answers += more
            skipped += left
        return answers, skipped


def answers_of(document: bytes | None) -> tuple[list[Answered], int]:
    """The answers in a worker's document, and how many it has not sent. A worker is user code's process: what is not
    well formed is nothing."""
    try:
        data: Any = json.loads(document or b"{}")
        found = [_answered(each) for each in data.get("answers", ())[:KEPT_AT_ONCE]]
        return found, min(1_000_000, max(0, int(data.get("skipped", 0))))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, binascii.Error):
        return [], 0


def _answered(each: Sequence[Any]) -> Answered:
    id_, status, ms, length, digest, text = each
    if not _ID.fullmatch(id_) or not 0.0 <= float(ms) < math.inf or not 100 <= int(status) < 1000:
        raise ValueError(id_)
    content = None if text is None else base64.b64decode(text, validate=True)
    whole = None if length is None else int(length)
    return Answered(id_, int(status), float(ms), whole, Body(str(digest)[:64], content))


async def ask_worker(address: str, wanted: str) -> bytes | None:
    """What a worker of the inference server has kept; see `Ask`."""
    import httpx

    transport = httpx.AsyncHTTPTransport(uds=address)
    try:
        async with (
            asyncio.timeout(ASK_TIMEOUT_S),
            httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client,  # noqa: S113 - above
            client.stream("GET", f"http://worker{ROUTE_KEPT}", headers={HEADER_COLLECT: wanted}) as answer,
        ):
            if answer.status_code != 200:
                return None
            read = bytearray()
            async for chunk in answer.aiter_bytes():
                read += chunk
                if len(read) > MOST_READ_BYTES:
                    return None
            return bytes(read)
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, OSError):
        return None
