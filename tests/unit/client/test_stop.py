"""Stopping a workspace whose folder cannot be written."""

from __future__ import annotations

from pathlib import Path

from moorings.client.daemon_control import stop
from moorings.settings import Settings


def test_a_workspace_is_stopped_though_that_cannot_be_written_down(tmp_path: Path) -> None:
    (tmp_path / "stopped" / "in-the-way").mkdir(parents=True)
    said: list[str] = []
    assert stop(Settings(tmp_path, tmp_path), said.append) == []
    assert "cannot be written down" in said[0]
