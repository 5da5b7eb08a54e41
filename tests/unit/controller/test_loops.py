"""The tasks of the loops that look after nothing in particular."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from moorings.controller import loops
from moorings.controller.loops import Loops
from moorings.gateway.state import GatewayState

World = Any


async def test_what_time_alone_changes_is_published_although_nobody_looks_and_one_failure_is_said_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loops, "SCAN_PERIOD_S", 0.0)
    world.put_endpoint("shop")
    await world.settle()
    published = len(world.gateway.states)
    asked: list[GatewayState] = []
    original = world.gateway.publish

    def publish(state: GatewayState) -> Any:
        asked.append(state)
        return original(state)

    world.gateway.publish = publish
    world.gateway.unwritable = True
    world.publisher._due_at = world.clock.now()
    with caplog.at_level(logging.ERROR):
        task = asyncio.create_task(Loops(world.database, world.marks, world.publisher, {}).publish())
        while len(asked) < 5:
            await asyncio.sleep(0)
        world.gateway.unwritable = False
        while world.publisher.view().published is None or world.publisher._dirty:
            await asyncio.sleep(0)
        task.cancel()
    assert [record.message for record in caplog.records] == ["publishing failed"]
    assert len(world.gateway.states) == published, "and nothing had changed"
