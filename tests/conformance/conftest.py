"""The table's targets on a workspace of their own: four endpoints, four instances, the real gateway."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
# The table and its runner also work without pytest, so they are plain scripts beside each other.
sys.path.insert(0, str(HERE))

from case import SMALL, TIMEOUT_MS, Target  # noqa: E402


def _workspaces() -> ModuleType:
    """The workspaces of the end-to-end tests (test folders are no packages)."""
    path = HERE.parent / "e2e" / "conftest.py"
    spec = importlib.util.spec_from_file_location("moorings_test_workspaces", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class Site:
    """Where the table runs here."""

    target: Target
    address: tuple[str, int]
    workspace: Any

    @property
    def access_log(self) -> Path:
        return Path(self.workspace.home) / "gateway" / "access.log"


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    workspaces = _workspaces()
    base = Path(tempfile.mkdtemp(prefix="moor-conf-"))
    workspace = workspaces.make_workspace(base)
    try:
        yield _deployed(workspace)
        workspaces.end(workspace)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _deployed(workspace: Any) -> Site:
    code = workspace.script("model", (HERE / "score.py").read_text())
    many = {"max_concurrent_requests_per_instance": 4}
    workspace.endpoint("conf")
    workspace.endpoint("idle")
    workspace.moor(
        "online-endpoint", "create", "-n", "strict", "--auth-mode", "aml_token",
        "--set", f"properties.moorings.max_request_bytes={SMALL}",
    )  # fmt: skip
    all_traffic = "--all-traffic"
    workspace.deploy(workspace.spec("conf", "echo", code, request_settings=many), all_traffic)
    short = {**many, "request_timeout_ms": TIMEOUT_MS}
    workspace.deploy(workspace.spec("conf", "short", code, request_settings=short))
    workspace.deploy(workspace.spec("strict", "echo", code, request_settings=many), all_traffic)
    workspace.deploy(workspace.spec("home", "echo", code, request_settings=many), "--local")
    token = workspace.json("online-endpoint", "get-credentials", "-n", "strict")["accessToken"]
    host = f"127.0.0.1:{workspace.port}"
    target = Target(
        host, "/api/v1/endpoint", workspace.key("conf"), token, workspace.key("idle"), workspace.key("home")
    )
    return Site(target, ("127.0.0.1", workspace.port), workspace)
