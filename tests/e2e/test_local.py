"""Local endpoints as published scripts use them: no key from this machine, everything else as ever."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

import pytest

SCORE = "import json\ndef init(): print('{name} is up')\ndef run(data): return '{name}'\n"


@pytest.fixture(scope="module")
def home(workspace: Any) -> Any:
    """The local endpoint `home` with one deployment, made as published scripts make it."""
    code = workspace.script("blue", SCORE.format(name="blue"))
    workspace.moor("online-endpoint", "create", "--local", "-n", "home")
    workspace.deploy(workspace.spec("home", "blue", code), "--local")
    return workspace


def keyless(workspace: Any, body: object = (), **more: Any) -> int:
    return int(workspace.score("home", body, key="", **more).status)


def test_the_address_that_show_prints_answers_without_a_key(home: Any) -> None:
    uri = home.moor(
        "online-endpoint", "show", "-n", "home", "--local", "--query", "scoring_uri", "-o", "tsv"
    ).stdout
    with urllib.request.urlopen(urllib.request.Request(uri.strip(), data=b"[]"), timeout=30) as answer:
        assert json.loads(answer.read()) == "blue"
    assert uri.startswith(f"http://127.0.0.1:{home.port}/")


def test_a_wrong_key_is_refused_and_a_right_one_is_not(home: Any) -> None:
    assert home.score("home", [], key="wrong").status == 401
    assert home.score("home", []).status == 200
    assert home.score("home", [], key="", headers={"X-Forwarded-For": "203.0.113.1"}).status == 401


def test_every_verb(home: Any) -> None:
    request = home.files / "request.json"
    request.write_text("[]")
    assert (
        "blue" in home.moor("online-endpoint", "invoke", "--local", "-n", "home", "-r", str(request)).stdout
    )
    logs = home.moor(
        "online-deployment", "get-logs", "--local", "-n", "blue", "--endpoint", "home", "-l", "100"
    )
    assert "blue is up" in logs.stdout
    assert "home" in [e["name"] for e in home.json("online-endpoint", "list", "--local")]
    update = ("online-deployment", "update", "--local", "-n", "blue", "-e", "home", "--set", "tags.tried=yes")
    home.moor(*update)
    assert home.json("online-deployment", "show", "--local", "-n", "blue", "-e", "home")["tags"] == {
        "tried": "yes"
    }
    code = home.script("blue", SCORE.format(name="azure"))
    home.deploy(home.spec("home", "blue", code), "--local")
    assert home.score("home", [], key="").json == "azure"


def test_several_deployments_traffic_and_the_header(home: Any) -> None:
    code = home.script("green", SCORE.format(name="green"))
    home.deploy(home.spec("home", "green", code), "--local")
    assert {home.score("home", [], key="").headers["azureml-model-deployment"] for _ in range(20)} == {"blue"}
    assert home.score("home", [], key="", headers={"azureml-model-deployment": "green"}).json == "green"
    home.moor("online-endpoint", "update", "--local", "-n", "home", "--traffic", "green=100")
    assert home.score("home", [], key="").json == "green"
    done = home.moor(
        "online-deployment", "delete", "--local", "-n", "green", "-e", "home", "--yes", check=False
    )
    assert "DeploymentInUse" in done.stderr, "traffic that somebody set is nobody's to take away"


def test_limits_hold_for_callers_without_a_key(home: Any) -> None:
    update = ("online-endpoint", "update", "-n", "home", "--set")
    home.moor(*update, "properties.moorings.max_request_bytes=50")
    assert keyless(home, b"[1]" + b" " * 60) == 413
    home.moor(*update, "properties.moorings.rate_limit_per_s=2")
    assert 429 in {keyless(home) for _ in range(8)}
    home.moor(*update, "properties.moorings.rate_limit_per_s=100000")
    assert home.json("online-endpoint", "show", "-n", "home")["properties"]["moorings"]["local"] is True


def test_it_outlives_the_daemon_and_a_start_of_it(home: Any) -> None:
    home.kill("daemon")
    assert keyless(home) == 200
    home.moor("online-endpoint", "show", "-n", "home")
    for _ in range(10):
        assert keyless(home) == 200
        time.sleep(0.1)


def test_the_mark_is_taken_off_and_put_back(home: Any) -> None:
    update = ("online-endpoint", "update", "-n", "home", "--set")
    home.moor(*update, "properties.moorings.local=false")
    assert keyless(home) == 401
    home.moor(*update, "properties.moorings.local=true")
    assert keyless(home) == 200


def test_the_setting_makes_the_key_mandatory_and_show_says_so(home: Any) -> None:
    file = home.home / "settings.json"
    before = file.read_text()
    given = json.loads(before)
    given["gateway"]["local_requires_key"] = True
    file.write_text(json.dumps(given))
    home.moor("workspace", "stop")
    home.moor("workspace", "start")
    shown = home.json("online-endpoint", "show", "-n", "home")
    assert shown["properties"]["moorings"]["local"] is True
    assert "local_requires_key" in shown["no_effect_yet"]["properties.moorings.local"]
    assert until_status(home, home.key("home"), 200)
    assert keyless(home) == 401
    file.write_text(before)
    home.moor("workspace", "stop")
    home.moor("workspace", "start")
    assert until_status(home, "", 200)


def until_status(workspace: Any, key: str, wanted: int) -> bool:
    """Instances start anew after a stop of the workspace."""
    deadline = time.monotonic() + 30
    while workspace.score("home", [], key=key).status != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(workspace.score("home", [], key=key).status == wanted)


def test_delete_and_what_is_not_there_any_more(home: Any) -> None:
    home.moor("online-endpoint", "delete", "--local", "-n", "home", "--yes")
    done = home.moor("online-endpoint", "delete", "--local", "-n", "home", "--yes", check=False)
    assert (done.returncode, "EndpointNotFound" in done.stderr) == (1, True)
    assert keyless(home) == 404
