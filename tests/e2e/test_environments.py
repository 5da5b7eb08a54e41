"""Environments from a user's seat: which way they were built, what is told of them, and pruning beside a create."""

from __future__ import annotations

import importlib.util
import json
import threading
from pathlib import Path
from typing import Any

import pytest

SCRIPT = "def init(): pass\ndef run(data): return 'ok'\n"
VARIABLES = "import os\ndef init(): pass\ndef run(data): return os.environ['TIDE']\n"
HARBOUR = """
import os, harbour
def init(): pass
def run(data): return [harbour.berths(int(data)), os.environ["CONDA_PREFIX"], os.environ["HARBOUR_DATA"]]
"""
CHANNEL = Path(__file__).parents[1] / "integration" / "environments" / "conda_channel.py"


def conda_file(workspace: Any, name: str, *dependencies: str, channel: str) -> str:
    file = {"channels": [channel], "dependencies": dependencies, "variables": {"TIDE": "high"}}
    (workspace.files / name).write_text(json.dumps(file))
    return name


def deploy(workspace: Any, name: str, conda: str, code: Path) -> None:
    environment = {"image": "local/base", "conda_file": conda}
    workspace.deploy(workspace.spec("yard", name, code, environment=environment))


def deployment(workspace: Any, name: str) -> Any:
    return workspace.json("online-deployment", "show", "-e", "yard", "-n", name)


@pytest.fixture(scope="module", autouse=True)
def own_cache(workspace: Any) -> None:
    """A cache of conda packages that goes with the workspace, and the usual one of Python packages."""
    usual = workspace.env.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    workspace.env.setdefault("UV_CACHE_DIR", f"{usual}/uv")
    workspace.env["XDG_CACHE_HOME"] = str(workspace.home.parent / "cache")


def test_a_conda_file_is_solved_from_its_channel_and_says_so(workspace: Any) -> None:
    spec = importlib.util.spec_from_file_location("conda_channel", CHANNEL)
    assert spec is not None and spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    (workspace.files / "work").mkdir()
    channel = maker.make_channel(workspace.files / "channel", workspace.files / "work").as_uri()
    workspace.endpoint("yard")
    conda = conda_file(workspace, "harbour.yml", "python=3.11", "harbour", channel=channel)
    deploy(workspace, "conda", conda, workspace.script("harbour", HARBOUR))
    answer = workspace.score("yard", b"5", headers={"azureml-model-deployment": "conda"})
    shown = deployment(workspace, "conda")["environment_build"]
    prefix = str(workspace.home / "environments" / shown["key"])
    assert (answer.status, answer.json) == (200, [15, prefix, f"{prefix}/share/harbour"])
    assert (shown["solver"], shown["solver_reason"]) == ("conda", f"solved from {channel}")

    (build,) = workspace.json("environment", "list-builds")
    whole = workspace.json("environment", "show", "--key", build["key"][:6])
    assert (whole["solver"], whole["usedBy"]) == ("conda", ["yard/conda"])
    assert "libharbour-1.2-0" in whole["locks"]["conda-lock.yml"]
    assert "moorings-server" in whole["locks"]["requirements.lock"]
    assert whole["sizeBytes"] > 1_000_000 and whole["buildSeconds"] > 0
    assert Path(whole["buildLog"]).is_file() and Path(whole["location"]).is_dir()
    log = workspace.moor("environment", "build-log", "--key", whole["key"]).stdout
    assert "solver: conda" in log and "solved: libharbour 1.2" in log


def test_a_channel_that_is_not_there_is_told_and_the_file_translated(workspace: Any) -> None:
    conda = conda_file(workspace, "six.yml", "python=3.11", "six", channel="https://127.0.0.1:9/conda-forge")
    deploy(workspace, "index", conda, workspace.script("plain", SCRIPT))
    shown = deployment(workspace, "index")
    assert shown["environment_build"]["solver"] == "index"
    assert "the channels cannot be reached (conda-forge" in shown["environment_build"]["solver_reason"]
    (ready,) = (one for one in shown["conditions"] if one["type"] == "EnvironmentReady")
    assert "so the conda file was translated" in ready["message"]


def test_a_registered_environment_shows_what_was_built_of_it(workspace: Any) -> None:
    path = workspace.files / "registered.json"
    path.write_text(json.dumps({"name": "six", "image": "local/base", "conda_file": "six.yml"}))
    made = workspace.json("environment", "create", "-f", str(path))
    assert "built" not in made
    spec = workspace.spec(
        "yard",
        "index",
        workspace.script("variables", VARIABLES),
        environment=f"azureml:six:{made['version']}",
    )
    workspace.deploy(spec, verb="update")
    answer = workspace.score("yard", b"", headers={"azureml-model-deployment": "index"})
    assert (answer.status, answer.json) == (200, "high")
    shown = workspace.json("environment", "show", "-n", "six")
    assert shown["built"]["usedBy"] == ["yard/index"]
    assert shown["built"]["key"] == deployment(workspace, "index")["environment_build"]["key"]
    assert "six==" in shown["built"]["locks"]["requirements.lock"]


def test_pruning_keeps_what_is_used_and_loses_no_race(workspace: Any) -> None:
    kept = workspace.json("environment", "prune", "--yes")
    assert kept["removed"] == [] and len(kept["kept"]) == 2

    workspace.moor("online-deployment", "delete", "-e", "yard", "-n", "index", "--yes")
    dry = workspace.json("environment", "prune")
    (key,) = (one["key"] for one in dry["removed"])
    assert len(workspace.json("environment", "list-builds")) == 2, "a dry run removes nothing"

    stop, problems = threading.Event(), []

    def prune() -> None:
        while not stop.is_set():
            done = workspace.moor("environment", "prune", "--yes", "-o", "json", check=False)
            if done.returncode != 0:
                problems.append(done.stderr)

    thread = threading.Thread(target=prune)
    thread.start()
    try:
        for _ in range(3):
            deploy(workspace, "index", "six.yml", workspace.script("plain", SCRIPT))
            answer = workspace.score("yard", b"", headers={"azureml-model-deployment": "index"})
            assert (answer.status, answer.json) == (200, "ok")
            workspace.moor("online-deployment", "delete", "-e", "yard", "-n", "index", "--yes")
    finally:
        stop.set()
        thread.join()
    assert problems == []
    done = workspace.moor("environment", "prune", "--yes", "-o", "table")
    assert "kept: used by yard/conda" in done.stdout
    assert not (workspace.home / "environments" / key).exists()
