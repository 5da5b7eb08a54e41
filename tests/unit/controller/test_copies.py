"""Originals and copies are matched by their ids, whichever is answered first; what is not matched is let go of."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from moorings.contract import KEPT_AT_ONCE
from moorings.controller.copies import LATE_S, MOST_PENDING, Copies, Pending, answers_of
from moorings.observe.pairs import Comparison

LIVE, NEW = "/run/live.sock", "/run/new.sock"


class Workers:
    """What two workers have kept: they hand it out once."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, list[Any]]] = {LIVE: {}, NEW: {}}
        self.asked: list[tuple[str, str]] = []

    def answer(self, worker: str, id_: str, body: bytes, status: int = 200) -> None:
        text = base64.b64encode(body).decode()
        self.kept[worker][id_] = [id_, status, 1.0, len(body), f"digest {text}", text]

    async def ask(self, address: str, wanted: str) -> bytes | None:
        self.asked.append((address, wanted))
        kept = self.kept[address]
        ids = list(reversed(kept)) if wanted == "*" else wanted.split(",")
        assert wanted == "*" or len(ids) <= KEPT_AT_ONCE
        found = [kept.pop(id_) for id_ in ids[:KEPT_AT_ONCE] if id_ in kept]
        skipped = len(kept) if wanted == "*" else 0
        if wanted == "*":
            kept.clear()
        return json.dumps({"answers": found, "skipped": skipped}).encode()


class Matching:
    def __init__(self) -> None:
        self.workers, self.pending, self.found = Workers(), Pending(), Comparison()
        addresses = {"shop/blue": (LIVE, "10.0.0.1:80"), "shop/green": (NEW, "10.0.0.2:80")}
        self.copies = Copies(addresses.__getitem__, self.workers.ask)

    def look(self, now: float = 0.0) -> Comparison:
        self.found = asyncio.run(
            self.copies.look("shop/blue", "shop/green", self.found, self.pending, tolerance=0.0, now=now)
        )
        return self.found


def test_a_copy_waits_for_its_original() -> None:
    match = Matching()
    match.workers.answer(NEW, "a", b"[1]")
    assert match.look().pairs == 0
    match.workers.answer(LIVE, "a", b"[1]")
    match.workers.answer(LIVE, "nobody-has-copied-this", b"[1]")
    assert match.look(1.0).kinds == {"identical": 1}
    assert not match.pending.answers
    assert list(match.workers.kept[LIVE]) == ["nobody-has-copied-this"], "only what has a copy is asked for"


def test_a_copy_without_an_original_is_counted_and_forgotten() -> None:
    match = Matching()
    match.workers.answer(NEW, "a", b"[1]")
    match.look(0.0)
    assert match.look(LATE_S).unmatched == 0
    assert match.look(LATE_S + 1).unmatched == 1
    assert not match.pending.answers


def test_more_than_can_be_looked_at_is_counted() -> None:
    match = Matching()
    total = 0
    for now in range(2 * MOST_PENDING // KEPT_AT_ONCE):
        for n in range(40):
            match.workers.answer(NEW, f"{now}-{n}", b"[1]")
            total += 1
        match.look(now / 100)
    assert len(match.pending.answers) == MOST_PENDING
    assert match.found.skipped == total - MOST_PENDING
    assert min(match.pending.answers.values(), key=lambda each: each[1])[1] > 0.0, "the oldest went"


def test_a_worker_that_cannot_be_asked_is_none() -> None:
    match = Matching()

    async def silent(address: str, wanted: str) -> bytes | None:
        return None

    match.copies = Copies(match.copies.workers, silent)
    assert match.look() == Comparison()


@pytest.mark.parametrize(
    "document",
    [
        None,
        b"",
        b"[]",
        b"{}",
        b"<html>",
        b'{"answers": 3}',
        b'{"answers": [[1]]}',
        b'{"answers": [["a", 200, NaN, 1, "d", null]]}',
        b'{"answers": [["a", 200, 1e999, 1, "d", null]]}',
        b'{"answers": [["a,b", 200, 1, 1, "d", null]]}',
        b'{"answers": [["a\\r\\nx: y", 200, 1, 1, "d", null]]}',
        b'{"answers": [["a", 2000, 1, 1, "d", null]]}',
        b'{"answers": [["a", 200, 1, 1, "d", "no base 64"]]}',
        b'{"answers": [[["a"], 200, 1, 1, "d", null]]}',
        b'{"answers": [], "skipped": "many"}',
        b"[" * 100_000,
    ],
)
def test_what_a_worker_says_may_be_anything(document: bytes | None) -> None:
    assert answers_of(document) == ([], 0)
