"""The life of an endpoint as a user drives it: create, call, update, scale, roll back a bad update, delete."""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from typing import Any

import pytest

ECHO = """
import json, os
def init():
    global word
    word = os.environ.get("WORD", "one")
    print("hello from init")
def run(data):
    return {"word": word, "got": json.loads(data), "pid": os.getpid()}
"""


@pytest.fixture(scope="module")
def live(workspace: Any) -> Any:
    """Endpoint `life` with deployment `blue` at 100 %."""
    workspace.endpoint("life")
    code = workspace.script("echo", ECHO)
    workspace.deploy(workspace.spec("life", "blue", code), "--all-traffic")
    return workspace


def test_endpoint_shows_what_scripts_depend_on(live: Any) -> None:
    shown = live.json("online-endpoint", "show", "-n", "life")
    assert shown["provisioning_state"] == "Succeeded"
    assert shown["scoring_uri"] == f"http://127.0.0.1:{live.port}/api/v1/endpoint/life/score"
    assert shown["traffic"] == {"blue": 100}
    assert shown["auth_mode"] == "key"
    shown = live.json("online-deployment", "show", "-e", "life", "-n", "blue")
    assert shown["provisioning_state"] == "Succeeded"
    assert shown["instance_count"] == 1


def test_a_request_with_the_key_is_answered_by_the_script(live: Any) -> None:
    answer = live.score("life", {"x": [1, 2]})
    assert answer.status == 200
    assert answer.json["got"] == {"x": [1, 2]}
    assert answer.headers["azureml-model-deployment"] == "blue"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.headers["x-request-id"])


def test_both_keys_open_and_nothing_else_does(live: Any) -> None:
    keys = live.json("online-endpoint", "get-credentials", "-n", "life")
    assert live.score("life", 1, key=keys["primaryKey"]).status == 200
    assert live.score("life", 1, key=keys["secondaryKey"]).status == 200
    for wrong in ("", "wrong", keys["primaryKey"] + "x"):
        answer = live.score("life", 1, key=wrong)
        assert answer.status == 401
        assert answer.json["error"]["code"]


def test_paths_and_deployments_that_are_not_there_say_which(live: Any) -> None:
    key = live.key("life")
    unknown = live.score("nobody", 1, key=key)
    header = live.score("life", 1, headers={"azureml-model-deployment": "green"})
    assert (unknown.status, header.status) == (404, 404)
    assert unknown.json["error"]["code"] != header.json["error"]["code"]


def test_ids_of_the_client_are_cleaned_cut_and_echoed(live: Any) -> None:
    answer = live.score(
        "life", 1, headers={"x-ms-client-request-id": "abc!" + "d" * 60, "x-request-id": "mine"}
    )
    assert answer.headers["x-ms-client-request-id"] == "abc" + "d" * 37
    assert answer.headers["x-request-id"] != "mine"


def test_the_host_form_reaches_the_same_endpoint(live: Any) -> None:
    headers = {"Host": f"life.localhost:{live.port}", "Authorization": f"Bearer {live.key('life')}"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", live.port)) as connection:
        connection.request("POST", "/score", body=b"7", headers=headers)
        assert connection.getresponse().status == 200


def test_invoke_prints_the_answer(live: Any) -> None:
    (live.files / "request.json").write_text('{"a": 1}')
    printed = live.moor("online-endpoint", "invoke", "-n", "life", "-r", "request.json").stdout
    assert '\\"got\\"' in printed or '"got"' in printed


def test_logs_hold_what_the_script_printed(live: Any) -> None:
    logs = live.moor("online-deployment", "get-logs", "-e", "life", "-n", "blue", "-l", "200").stdout
    assert "hello from init" in logs
    logs = live.moor(
        "online-deployment", "get-logs", "-e", "life", "-n", "blue", "--container", "storage-initializer"
    ).stdout
    assert "score.py" in logs


def test_regenerated_key_replaces_only_itself(live: Any) -> None:
    before = live.json("online-endpoint", "get-credentials", "-n", "life")
    live.moor("online-endpoint", "regenerate-keys", "-n", "life", "--key-type", "primary")
    live.keys.clear()
    after = live.json("online-endpoint", "get-credentials", "-n", "life")
    assert after["secondaryKey"] == before["secondaryKey"]
    assert after["primaryKey"] != before["primaryKey"]
    assert live.score("life", 1, key=before["primaryKey"]).status == 401
    assert live.score("life", 1, key=after["primaryKey"]).status == 200


def test_environment_variables_change_with_an_update(live: Any) -> None:
    live.moor(
        "online-deployment", "update", "-e", "life", "-n", "blue", "--set", "environment_variables.WORD=two"
    )
    assert live.score("life", 1).json["word"] == "two"


def test_code_changes_with_an_update_and_the_environment_is_reused(live: Any) -> None:
    before = live.json("online-deployment", "show", "-e", "life", "-n", "blue")
    code = live.script("echo", ECHO.replace('"word": word', '"word": word + "!"'))
    live.deploy(live.spec("life", "blue", code), verb="update")
    assert live.score("life", 1).json["word"].endswith("!")
    after = live.json("online-deployment", "show", "-e", "life", "-n", "blue")
    assert after["provisioning_state"] == before["provisioning_state"] == "Succeeded"


def test_the_same_files_again_change_nothing(live: Any) -> None:
    before = live.score("life", 1).json["pid"]
    spec = live.spec("life", "blue", live.script("echo", ECHO), model={"path": "conda.yaml"})
    live.deploy(spec, verb="update")
    changed = live.score("life", 1).json["pid"]
    assert changed != before
    live.deploy(spec, verb="update")
    assert live.score("life", 1).json["pid"] == changed


def test_scaling_starts_and_stops_instances_without_restarting_any(live: Any) -> None:
    before = live.score("life", 1).json["pid"]
    live.moor("online-deployment", "update", "-e", "life", "-n", "blue", "--set", "instance_count=2")
    pids = {live.score("life", 1).json["pid"] for _ in range(30)}
    assert before in pids
    assert len(pids) == 2
    live.moor("online-deployment", "update", "-e", "life", "-n", "blue", "--set", "instance_count=1")
    assert {live.score("life", 1).json["pid"] for _ in range(10)} == {before}


def test_traffic_splits_and_a_header_chooses(live: Any) -> None:
    code = live.script("green", ECHO.replace('"one"', '"green"'))
    live.deploy(live.spec("life", "green", code))
    assert live.score("life", 1, headers={"azureml-model-deployment": "green"}).json["word"] == "green"
    assert all(live.score("life", 1).headers["azureml-model-deployment"] == "blue" for _ in range(20))
    live.moor("online-endpoint", "update", "-n", "life", "--traffic", "blue=50 green=50")
    seen = {live.score("life", 1).headers["azureml-model-deployment"] for _ in range(60)}
    assert seen == {"blue", "green"}


def test_a_deployment_with_traffic_is_not_deleted_one_without_is(live: Any) -> None:
    refused = live.moor("online-deployment", "delete", "-e", "life", "-n", "green", "--yes", check=False)
    assert refused.returncode == 1
    assert "DeploymentInUse" in refused.stderr
    live.moor("online-endpoint", "update", "-n", "life", "--traffic", "blue=100 green=0")
    live.moor("online-deployment", "delete", "-e", "life", "-n", "green", "--yes")
    names = [d["name"] for d in live.json("online-deployment", "list", "-e", "life")]
    assert names == ["blue"]


def test_traffic_must_add_up_and_name_what_is_there(live: Any) -> None:
    for traffic in ("blue=50", "nobody=100"):
        refused = live.moor("online-endpoint", "update", "-n", "life", "--traffic", traffic, check=False)
        assert refused.returncode == 1
    assert live.json("online-endpoint", "show", "-n", "life")["traffic"] == {"blue": 100}


def test_a_failed_update_leaves_the_old_code_serving_and_is_mended_by_the_next(live: Any) -> None:
    bad = live.script("echo", "import not_there_at_all\ndef init(): pass\ndef run(data): return 1\n")
    failed = live.moor(
        "online-deployment", "update", "-f", str(live.spec("life", "blue", bad)), "--skip-checks", check=False
    )
    assert failed.returncode == 1
    assert "not_there_at_all" in failed.stderr
    assert live.score("life", 1).status == 200
    shown = live.json("online-deployment", "show", "-e", "life", "-n", "blue")
    assert shown["provisioning_state"] == "Failed"
    good = live.script("echo", ECHO)
    live.deploy(live.spec("life", "blue", good), verb="update")
    assert (
        live.json("online-deployment", "show", "-e", "life", "-n", "blue")["provisioning_state"]
        == "Succeeded"
    )
    assert live.score("life", 1).json["word"] in ("one", "two")


def test_run_that_raises_is_424_with_the_models_own_status(live: Any) -> None:
    answer = live.score("life", b"this is not JSON")
    assert answer.status == 424
    assert answer.headers["ms-azureml-model-error-statuscode"] == "500"


def test_status_lists_every_process(live: Any) -> None:
    roles = {p["role"] for p in live.processes()}
    assert {"daemon", "envoy", "supervisor"} <= roles
    assert any(r.startswith("worker") for r in roles)
    assert all(p["pid"] and p["rss_bytes"] > 0 and p["uptime_s"] >= 0 for p in live.processes())


def test_delete_takes_everything_along(live: Any) -> None:
    live.moor("online-endpoint", "delete", "-n", "life", "--yes")
    assert live.score("life", 1, key="x").status == 404
    assert live.json("online-endpoint", "list") == []
    deadline = time.monotonic() + 10
    while any(p["role"] == "supervisor" for p in live.processes()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    missing = live.moor("online-endpoint", "show", "-n", "life", check=False)
    assert missing.returncode == 1
    assert "EndpointNotFound" in missing.stderr
