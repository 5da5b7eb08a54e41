"""A whole working session of the client, timed; what it leaves behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

Client = Any


def test_a_session_of_the_unmodified_client(client: Client) -> None:
    session(client)


def test_the_same_session_with_containers(docker_client: Client) -> None:
    session(docker_client)


def session(client: Client) -> None:
    done = client.run(Path(__file__).parent / "session.py", check=False, timeout_s=280)
    result = json.loads((client.folder / "result.json").read_text())
    print(f"\nsteps of the client: {len(result['passed'])} of {result['total']} in {result['seconds']} s")
    assert not result["failed"], "\n".join(result["failed"].values())
    assert len(result["passed"]) == result["total"] >= 30
    assert done.returncode == 0
    assert [e["name"] for e in client.workspace.json("online-endpoint", "list")] == []


def test_the_script_of_the_page_for_users(client: Client) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "azure-ai-ml.md"
    (script,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    folder = client.folder / "page"
    (folder / "model").mkdir(parents=True)
    (folder / "code").mkdir()
    (folder / "model" / "w.txt").write_text("weights")
    (folder / "code" / "score.py").write_text("def init(): ...\ndef run(data): return 'hello'\n")
    (folder / "conda.yaml").write_text("dependencies:\n  - python=3.11\n")
    (folder / "deploy.py").write_text(script)
    client.run(folder / "deploy.py", folder=folder)
    client.workspace.moor("online-endpoint", "update", "-n", "hello", "--traffic", "blue=100")
    assert client.workspace.score("hello", {}).json == "hello"
    client.workspace.moor("online-endpoint", "delete", "-n", "hello", "--yes")


def test_what_the_client_registered_is_there_for_the_command_line(client: Client) -> None:
    """Runs after the session, in the same workspace."""
    found = client.workspace.json("model", "show", "-n", "weights", "-v", "1")
    assert found["path"].startswith("azureml://") and "/paths/moorings/" in found["path"]
    client.workspace.moor("model", "download", "-n", "weights", "-v", "1", "--download-path", "here")
    base = Path(client.workspace.files) / "here" / "weights"
    assert (base / "weights" / "w.txt").read_text() == "one"
    assert (base / "weights" / "sub dir" / "ü #1 %41+&.txt").read_text() == "odd name"


def test_nothing_of_the_session_is_stored_twice(client: Client) -> None:
    """An upload that was registered is the stored content itself, under a second name."""
    home = Path(client.workspace.home)
    large = [
        p for p in (home / "uploads" / "data").rglob("*") if p.is_file() and p.stat().st_size > 50_000_000
    ]
    assert len(large) == 1
    assert large[0].stat().st_nlink >= 2
    assert not list((home / "uploads").glob("incoming/*")) and not list((home / "uploads").glob("blocks/*"))
