"""The file of 2021: from one command to answers, through an update, and back to nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCORE = "import json\ndef init(): print('{name} is up')\ndef run(data): return '{name}'\n"


def item(workspace: Any, name: str, script: str | None = None, **more: Any) -> dict[str, Any]:
    workspace.script(name, script or SCORE.format(name=name))
    return {
        "name": name,
        "code_configuration": {"code": {"local_path": f"./{name}/"}, "scoring_script": "score.py"},
        "environment": {
            "name": "plain", "version": 1, "path": ".", "conda_file": "file:./conda.yaml",
            "docker": {"image": "local/base:1"},
        },
        "instance_type": "Standard_DS3_v2",
        "scale_settings": {"scale_type": "manual", "instance_count": 1, "min_instances": 1, "max_instances": 2},
        "request_settings": {"request_timeout_ms": 3000, "max_concurrent_requests_per_instance": 1},
        **more,
    }  # fmt: skip


def write(workspace: Any, *items: dict[str, Any], file: str = "shop.yml", **more: Any) -> Path:
    document = {"name": "shop", "type": "online", "auth_mode": "key", **more, "deployments": list(items)}
    path = Path(workspace.files) / file
    path.write_text(json.dumps(document))
    return path


def answers(workspace: Any, count: int = 30) -> set[str]:
    return {str(workspace.score("shop", []).json) for _ in range(count)}


def test_one_of_two_fails_the_other_stands_and_a_second_try_completes_it(workspace: Any) -> None:
    blue = item(workspace, "blue")
    broken = item(workspace, "green", "import nowhere_to_be_found\ndef init(): ...\ndef run(data): ...\n")
    file = write(workspace, blue, broken, traffic={"blue": 50, "green": 50})
    early = workspace.moor("endpoint", "create", "-n", "shop", "-f", str(file), check=False)
    assert early.returncode == 1
    assert "UserScriptImportError, ERR_2200" in early.stderr
    assert workspace.json("endpoint", "list") == []
    command = ("ml", "endpoint", "create", "-n", "shop", "-f", str(file), "--skip-checks")
    done = workspace.moor(*command, check=False)
    assert done.returncode == 1
    assert (
        "(DeploymentsFailed) endpoint shop is there, but green failed; blue stands; traffic was left"
        in done.stderr
    )
    assert "nowhere_to_be_found" in done.stderr
    assert "ERR_2200" in done.stderr
    assert "blue environment" in done.stderr, "every deployment shows how it goes"
    shown = workspace.json("endpoint", "show", "-n", "shop")
    assert {d["name"]: d["provisioning_state"] for d in shown["deployments"]} == {
        "blue": "Succeeded", "green": "Failed",
    }  # fmt: skip
    assert workspace.score("shop", [], headers={"azureml-model-deployment": "blue"}).json == "blue"
    assert workspace.score("shop", []).status == 404
    item(workspace, "green")
    workspace.moor("endpoint", "create", "-n", "shop", "-f", str(file))
    assert answers(workspace) == {"blue", "green"}


def test_invoke_logs_and_keys(workspace: Any) -> None:
    request = Path(workspace.files) / "request.json"
    request.write_text("[]")
    done = workspace.moor("endpoint", "invoke", "-n", "shop", "-d", "green", "-r", str(request))
    assert "green" in done.stdout
    for flags in (("-d", "blue", "-l", "100"), ("--deployment", "blue", "--tail", "100")):
        assert "blue is up" in workspace.moor("endpoint", "get-logs", "-n", "shop", *flags).stdout
    old = workspace.key("shop")
    workspace.moor("endpoint", "regenerate-keys", "-n", "shop", "--key-type", "primary")
    assert workspace.score("shop", [], key=old).status == 401
    workspace.keys.clear()
    assert workspace.json("endpoint", "list-keys", "-n", "shop")["primaryKey"] == workspace.key("shop") != old


def test_an_equal_file_restarts_nothing(workspace: Any) -> None:
    before = {p["pid"] for p in workspace.processes() if p["role"].startswith("worker")}
    assert before
    file = write(
        workspace, item(workspace, "blue"), item(workspace, "green"), traffic={"blue": 50, "green": 50}
    )
    workspace.moor("endpoint", "update", "-f", str(file))
    assert {p["pid"] for p in workspace.processes() if p["role"].startswith("worker")} == before


def test_edits_of_one_deployment(workspace: Any) -> None:
    red = Path(workspace.files) / "red.yml"
    red.write_text(json.dumps(item(workspace, "red")))
    update = ("endpoint", "update", "-n", "shop")
    workspace.moor(*update, "-d", "red", "-e", str(red), "-r", "blue:0,green:0,red:100")
    assert answers(workspace) == {"red"}
    workspace.moor(*update, "-d", "red", "-i", "2")
    workspace.moor(*update, "--set", "deployments[0].tags.edited=yes")
    shown = workspace.json("endpoint", "show", "-n", "shop")
    assert {d["name"]: (d["instance_count"], d["tags"]) for d in shown["deployments"]} == {
        "blue": (1, {"edited": "yes"}), "green": (1, {}), "red": (2, {}),
    }  # fmt: skip


def test_what_the_file_does_not_list_is_deleted_without_a_lost_request(workspace: Any) -> None:
    import threading

    seen: list[int] = []
    stop = threading.Event()
    key = workspace.key("shop")

    def ask() -> None:
        while not stop.is_set():
            seen.append(workspace.score("shop", [], key=key).status)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        file = write(workspace, item(workspace, "white"), traffic={"white": 100})
        workspace.moor("endpoint", "update", "-n", "shop", "-f", str(file))
    finally:
        stop.set()
        thread.join()
    assert set(seen) == {200}
    assert len(seen) > 20
    assert answers(workspace) == {"white"}
    shown = workspace.json("endpoint", "show", "-n", "shop")
    assert [d["name"] for d in shown["deployments"]] == ["white"]
    workspace.moor("endpoint", "delete", "-n", "shop", "-y")
    assert "shop" not in [e["name"] for e in workspace.json("endpoint", "list")]


def test_local_and_the_local_cycle_as_it_was_written(workspace: Any) -> None:
    file = write(workspace, item(workspace, "blue"), file="local.yml")
    workspace.moor("endpoint", "create", "-n", "den", "-f", str(file), "--local")
    assert workspace.score("den", [], key="").json == "blue"
    assert workspace.score("den", [], key="wrong").status == 401
    assert (
        "blue is up"
        in workspace.moor("endpoint", "get-logs", "-n", "den", "-d", "blue", "-l", "100", "--local").stdout
    )
    workspace.moor("endpoint", "delete", "-n", "den", "--local", "-y")
    done = workspace.moor("endpoint", "delete", "-n", "den", "--local", "-y", check=False)
    assert "EndpointNotFound" in done.stderr


@pytest.mark.parametrize("wait_for", ["PUT", "blue"])
def test_a_create_that_was_killed_is_completed_by_the_same_command(workspace: Any, wait_for: str) -> None:
    """Killed when the endpoint is asked for, or when a deployment is on its way."""
    items = (item(workspace, "blue"), item(workspace, "green"))
    file = write(workspace, *items, traffic={"blue": 60, "green": 40}, file="killed.yml")
    endpoint = f"k-{wait_for.lower()}"
    argv = ["endpoint", "create", "-n", endpoint, "-f", str(file)]
    begun = subprocess.Popen(
        [str(Path(sys.executable).parent / "moor"), *argv, "--debug"],
        env=workspace.env,
        cwd=workspace.files,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert begun.stderr is not None
    for line in begun.stderr:
        if ("/deployments/blue" if wait_for == "blue" else "PUT") in line:
            break
    begun.kill()
    begun.stderr.close()
    begun.wait()
    workspace.moor(*argv)
    assert {workspace.score(endpoint, []).json for _ in range(60)} == {"blue", "green"}
    shown = workspace.json("endpoint", "show", "-n", endpoint)
    assert shown["traffic"] == {"blue": 60, "green": 40}
    assert {d["provisioning_state"] for d in shown["deployments"]} == {"Succeeded"}
    workspace.moor("endpoint", "delete", "-n", endpoint, "-y")


@pytest.mark.parametrize(
    "text", ["deployments: [{name: [}]", "{", "- a", "name: shop\ndeployments: 5\n", "\x00"]
)
def test_a_damaged_file_is_told_with_its_place(workspace: Any, text: str) -> None:
    file = Path(workspace.files) / "bad.yml"
    file.write_text(text)
    done = workspace.moor("endpoint", "create", "-f", str(file), check=False)
    assert done.returncode == 1
    assert "bad.yml" in done.stderr
    assert "ERROR: (Spec" in done.stderr
