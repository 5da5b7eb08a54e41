"""Commands against a workspace in memory: what they send, print and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moorings.client.transport import Answer
from moorings.errors.exceptions import error

EP = "/onlineEndpoints/shop"
BLUE = f"{EP}/deployments/blue"


def test_create_endpoint_without_file_takes_the_defaults(moor: Any, workspace: Any) -> None:
    shown = moor.json("online-endpoint", "create", "-n", "shop")
    assert workspace.sent("PUT", EP)["properties"]["authMode"] == "Key"
    assert shown["name"] == "shop"
    assert shown["provisioning_state"] == "Succeeded"


def test_create_endpoint_flags_beat_the_file(moor: Any, workspace: Any, tmp_path: Path) -> None:
    spec = tmp_path / "endpoint.yml"
    spec.write_text("name: other\nauth_mode: key\ntags:\n  a: b\n")
    moor.json("online-endpoint", "create", "-f", str(spec), "-n", "shop", "--set", "tags.c=d", "tags.e=f")
    assert workspace.sent("PUT", EP)["tags"] == {"a": "b", "c": "d", "e": "f"}


def test_create_endpoint_needs_a_name(moor: Any) -> None:
    code, out, err = moor("online-endpoint", "create")
    assert (code, out) == (1, "")
    assert "(NameMissing)" in err
    assert "Fix: Give it with --name" in err
    assert "configure --defaults" not in err, "a new endpoint has no default name"
    err = moor("online-endpoint", "show")[2]
    assert "Fix: Give it with --name, or set a default: moor configure --defaults endpoint=<name>" in err


def test_create_over_a_live_endpoint_says_that_its_traffic_goes(moor: Any, workspace: Any) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    workspace.resources[EP]["properties"]["traffic"] = {"blue": 100}
    _, _, err = moor("online-endpoint", "create", "-n", "shop")
    assert "WARNING" in err
    assert '--traffic "blue=100"' in err


def test_show_endpoint_lists_deployments_without_traffic(moor: Any, workspace: Any, project: Path) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    moor("online-deployment", "create", "-f", str(project / "blue.yml"))
    assert moor.json("online-endpoint", "show", "-n", "shop")["traffic"] == {"blue": 0}


def test_unknown_endpoint_shows_the_servers_words(moor: Any) -> None:
    code, out, err = moor("online-endpoint", "show", "-n", "nope")
    assert code == 1
    assert out == ""
    assert err.startswith("ERROR: (EndpointNotFound) onlineEndpoints nope does not exist\n")
    assert "Fix: Create it first: moor nope" in err


def test_deployment_create_registers_inline_assets_first(moor: Any, workspace: Any, project: Path) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    code, out, err = moor("online-deployment", "create", "-f", str(project / "blue.yml"))
    assert code == 0, err
    sent = workspace.sent("PUT", BLUE)["properties"]
    code_id, model_id, env_id = sent["codeConfiguration"]["codeId"], sent["model"], sent["environmentId"]
    uris = {k: v["properties"] for k, v in workspace.resources.items()}
    assert uris[code_id[code_id.index("/codes") :]]["codeUri"] == (project / "src").as_uri()
    assert uris[model_id[model_id.index("/models") :]]["modelUri"] == (project / "model").as_uri()
    environment = uris[env_id[env_id.index("/environments") :]]
    assert env_id.split("/")[-3] == "CliV2AnonymousEnvironment"
    assert "six" in environment["condaFile"]
    assert json.loads(out)["endpoint_name"] == "shop"
    assert "environment  done 2.5 s" in err
    assert "moor online-endpoint invoke -n shop -d blue" in err
    assert '--traffic "blue=100"' in err


def test_equal_environments_are_one_version(moor: Any, workspace: Any, project: Path) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    moor("online-deployment", "create", "-f", str(project / "blue.yml"))
    moor("online-deployment", "create", "-f", str(project / "blue.yml"), "-n", "green")
    (project / "conda.yml").write_text("dependencies:\n- python=3.11\n")
    moor("online-deployment", "create", "-f", str(project / "blue.yml"), "-n", "red")
    ids = [
        workspace.sent("PUT", f"{EP}/deployments/{n}")["properties"]["environmentId"]
        for n in ("blue", "green", "red")
    ]
    assert ids[0] == ids[1] != ids[2]


def test_deployment_create_needs_the_endpoint(moor: Any, workspace: Any, project: Path) -> None:
    code, _, err = moor("online-deployment", "create", "-f", str(project / "blue.yml"))
    assert code == 1
    assert "(EndpointNotFound)" in err
    assert not [p for m, p, _ in workspace.requests if m == "PUT"]


def test_local_creates_a_missing_endpoint(moor: Any, workspace: Any, project: Path) -> None:
    code, _, err = moor("online-deployment", "create", "--local", "-f", str(project / "blue.yml"))
    assert code == 0, err
    assert EP in workspace.resources


def test_all_traffic_is_set_after_the_deployment_is_ready(moor: Any, workspace: Any, project: Path) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    code, _, err = moor("online-deployment", "create", "-f", str(project / "blue.yml"), "--all-traffic")
    assert code == 0, err
    assert workspace.sent("PUT", EP)["properties"]["traffic"] == {"blue": 100}
    order = [p for m, p, _ in workspace.requests if m in ("PUT", "GET")]
    last_poll = max(i for i, p in enumerate(order) if p == BLUE)
    assert max(i for i, p in enumerate(order) if p == EP) > last_poll


def test_all_traffic_is_not_set_when_the_deployment_fails(moor: Any, workspace: Any, project: Path) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    workspace.operation_error = {
        "code": "CodeFromTheFuture",
        "message": "it broke",
        "additionalInfo": [
            {
                "type": "moorings",
                "info": {
                    "numericCode": "ERR_9999",
                    "title": "A new failure",
                    "cause": "Nobody knew it.",
                    "fix": "Do this: moor do-this",
                    "evidence": ["line one", "line two"],
                },
            }
        ],
    }
    puts = len([1 for m, p, _ in workspace.requests if (m, p) == ("PUT", EP)])
    code, out, err = moor("online-deployment", "create", "-f", str(project / "blue.yml"), "--all-traffic")
    assert (code, out) == (1, "")
    assert "ERROR: (CodeFromTheFuture, ERR_9999) it broke" in err
    assert "    line one\n    line two\n" in err
    assert "Fix: Do this: moor do-this" in err
    assert len([1 for m, p, _ in workspace.requests if (m, p) == ("PUT", EP)]) == puts


def test_all_traffic_does_not_go_with_no_wait(moor: Any, workspace: Any, project: Path) -> None:
    code, _, err = moor(
        "online-deployment", "create", "-f", str(project / "blue.yml"), "--all-traffic", "--no-wait"
    )
    assert code == 1
    assert "(FlagsExclusive)" in err
    assert workspace.requests == []


def test_create_does_not_replace_a_deployment(moor: Any, workspace: Any, project: Path) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    moor("online-deployment", "create", "-f", str(project / "blue.yml"))
    code, _, err = moor("online-deployment", "create", "-f", str(project / "blue.yml"))
    assert code == 1
    assert "(DeploymentExists)" in err
    assert "moor online-deployment update -n blue -e shop -f" in err


def test_a_broken_script_is_found_before_anything_is_sent(moor: Any, workspace: Any, project: Path) -> None:
    (project / "src" / "score.py").write_text("def init():\n    x = (1,\n\ndef run(data)\n    return 1\n")
    code, _, err = moor("online-deployment", "create", "-f", str(project / "blue.yml"))
    assert code == 1
    assert "(UserScriptSyntaxError, ERR_2200)" in err
    assert "score.py:2" in err
    assert "--skip-script-validation" in err
    assert workspace.changes == []


def test_script_validation_can_be_skipped(moor: Any, workspace: Any, project: Path) -> None:
    (project / "src" / "score.py").write_text("def init(:\n")
    moor("online-endpoint", "create", "-n", "shop")
    code, _, err = moor(
        "online-deployment", "create", "-f", str(project / "blue.yml"), "--skip-script-validation"
    )
    assert code == 0, err


def test_the_configured_endpoint_is_used_when_nothing_names_one(
    moor: Any, workspace: Any, project: Path
) -> None:
    text = (project / "blue.yml").read_text().replace("endpoint_name: shop\n", "")
    (project / "blue.yml").write_text(text)
    moor("configure", "--defaults", "endpoint=shop")
    moor("online-endpoint", "create", "-n", "shop")
    code, _, err = moor("online-deployment", "create", "-f", str(project / "blue.yml"))
    assert code == 0, err
    code, out, _ = moor("online-deployment", "show", "-h")
    assert "configured default: shop" in " ".join(out.split())


def test_update_scales_and_keeps_the_rest(moor: Any, workspace: Any, project: Path) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    moor("online-deployment", "create", "-f", str(project / "blue.yml"))
    before = workspace.sent("PUT", BLUE)
    moor.json("online-deployment", "update", "-n", "blue", "-e", "shop", "--set", "instance_count=3")
    after = workspace.sent("PUT", BLUE)
    assert after["sku"]["capacity"] == 3
    assert after["properties"]["model"] == before["properties"]["model"]
    assert after["properties"]["codeConfiguration"] == before["properties"]["codeConfiguration"]


def test_update_from_a_file_takes_the_names_of_the_flags(moor: Any, workspace: Any, project: Path) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    moor("online-deployment", "create", "-f", str(project / "blue.yml"))
    text = (project / "blue.yml").read_text().replace("endpoint_name: shop", "endpoint_name: elsewhere")
    (project / "blue.yml").write_text(text + "environment_variables:\n  A: b\n")
    moor.json("online-deployment", "update", "-e", "shop", "-f", str(project / "blue.yml"))
    assert workspace.sent("PUT", BLUE)["properties"]["environmentVariables"] == {"A": "b"}


def test_update_needs_something_to_change(moor: Any, workspace: Any) -> None:
    code, _, err = moor("online-deployment", "update", "-n", "blue", "-e", "shop")
    assert code == 1
    assert "(NothingToUpdate)" in err
    assert workspace.requests == []


@pytest.mark.parametrize(
    "typed", [("blue=90 green=10",), ("blue:90,green:10",), ("blue=90", "green=10"), ("Blue=90%, green=10",)]
)
def test_update_traffic_in_every_spelling(moor: Any, workspace: Any, typed: tuple[str, ...]) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    moor.json("online-endpoint", "update", "-n", "shop", "--traffic", *typed)
    assert workspace.sent("PUT", EP)["properties"]["traffic"] == {"blue": 90, "green": 10}


def test_update_resets_the_mirror(moor: Any, workspace: Any) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    workspace.resources[EP]["properties"] |= {"traffic": {"blue": 100}, "mirrorTraffic": {"green": 10}}
    moor.json("online-endpoint", "update", "-n", "shop", "--mirror-traffic", "green=0")
    sent = workspace.sent("PUT", EP)["properties"]
    assert (sent["traffic"], sent["mirrorTraffic"]) == ({"blue": 100}, {})


def test_delete_asks_and_without_a_terminal_refuses(moor: Any, workspace: Any) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    code, _, err = moor("online-endpoint", "delete", "-n", "shop")
    assert code == 1
    assert "(ConfirmationNeeded)" in err
    assert "moor online-endpoint delete -n shop --yes" in err
    assert EP in workspace.resources
    code, _, _ = moor("online-endpoint", "delete", "-n", "shop", "--yes")
    assert code == 0
    assert EP not in workspace.resources


def test_delete_of_what_is_not_there_is_no_failure(moor: Any) -> None:
    code, _, err = moor("online-deployment", "delete", "-n", "blue", "-e", "shop", "-y")
    assert code == 0
    assert "has no deployment blue" in err


def test_keys_are_printed_on_stdout_only(moor: Any) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    code, out, err = moor(
        "online-endpoint", "get-credentials", "-n", "shop", "--query", "primaryKey", "-o", "tsv"
    )
    assert (code, out) == (0, "first-key\n")
    assert "first-key" not in err


def test_regenerate_keys_is_refused_for_tokens(moor: Any, workspace: Any) -> None:
    moor("online-endpoint", "create", "-n", "shop", "--auth-mode", "aml_token")
    code, _, err = moor("online-endpoint", "regenerate-keys", "-n", "shop")
    assert code == 1
    assert "does not use keys for authentication" in err


def test_regenerate_keys_names_the_key(moor: Any, workspace: Any) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    code, _, _ = moor("online-endpoint", "regenerate-keys", "-n", "shop", "--key-type", "Secondary")
    assert code == 0
    assert workspace.sent("POST", "/regenerateKeys") == {"keyType": "Secondary"}


@pytest.mark.parametrize("flag", ["-l", "--lines", "--tail"])
def test_get_logs_prints_raw_text(moor: Any, flag: str) -> None:
    code, out, _ = moor("online-deployment", "get-logs", "-n", "blue", "-e", "shop", flag, "7")
    assert (code, out) == (0, "2026-11-25T16:46:52.123 serve      abc-0 | last 7 of All\n")


def test_get_logs_of_one_container_are_as_it_wrote_them(moor: Any) -> None:
    code, out, _ = moor("online-deployment", "get-logs", "-n", "blue", "-e", "shop", "-c", "inference-server")
    assert (code, out) == (0, "last 5000 of InferenceServer\n")


def test_get_logs_asks_for_less_and_gives_structured_lines(moor: Any, workspace: Any) -> None:
    flags = ("--since", "10m", "--request-id", "r1", "--instance", "abc-0", "--deleted", "-o", "json")
    code, out, _ = moor("online-deployment", "get-logs", "-n", "blue", "-e", "shop", *flags)
    assert code == 0
    assert workspace.sent("POST", "/getLogs") == {
        "containerType": "All",
        "tail": 5000,
        "since": "10m",
        "requestId": "r1",
        "instance": "abc-0",
        "deleted": True,
        "structured": True,
    }
    assert [line["phase"] for line in json.loads(out)] == ["serve"]


GONE = Answer(
    404, {}, json.dumps({"error": {"code": "DeploymentNotFound", "message": "there is no blue"}}).encode()
)


def a_line(second: int, text: str) -> dict[str, str]:
    at = f"2026-11-25T16:46:{second:02}.000000Z"
    return {
        "time": at,
        "phase": "serve",
        "container": "inference-server",
        "instance": "s-b-a-0",
        "text": text,
    }


def test_following_goes_on_after_a_break_with_no_line_twice(
    moor: Any, workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorings.client.following.PAUSE_S", 0)
    broken = error("WorkspaceUnreachable", "the connection broke")
    one, two, twin, three = a_line(1, "one"), a_line(2, "two"), a_line(2, "two"), a_line(3, "three")
    workspace.streams = [
        [None, one, two, twin, broken],
        [broken],
        [error("DaemonStartFailed", "it ended while it was starting")],
        [None, two],
        [None, two, twin, three, {"end": "deleted"}],
    ]
    argv = ("online-deployment", "get-logs", "-n", "blue", "-e", "shop", "-c", "inference-server", "--follow")
    code, out, err = moor(*argv)
    assert (code, out) == (0, "one\ntwo\ntwo\nthree\n")
    assert "is deleted" in err
    asked = [body for verb, path, body in workspace.requests if path.endswith("/followLogs")]
    assert [body.get("since") for body in asked] == [None, *[one["time"]] * 4]


def test_following_misses_no_line_of_a_log_that_lags_behind(
    moor: Any, workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of several instances come a little out of order; what a break kept back is older than the last line."""
    monkeypatch.setattr("moorings.client.following.PAUSE_S", 0)
    broken = error("WorkspaceUnreachable", "the connection broke")
    old, early, late, after = a_line(1, "old"), a_line(20, "early"), a_line(21, "late"), a_line(22, "after")
    other = {**late, "phase": "boot"}  # which is told from the lines around it
    workspace.streams = [[old, late, broken], [early, other, after, {"end": "deleted"}]]
    argv = ("online-deployment", "get-logs", "-n", "blue", "-e", "shop", "-c", "inference-server", "--follow")
    code, out, _ = moor(*argv)
    assert (code, out) == (0, "old\nlate\nearly\nafter\n")
    asked = [body for verb, path, body in workspace.requests if path.endswith("/followLogs")]
    assert asked[1]["since"] == "2026-11-25T16:46:11.000000Z"


def test_following_ends_when_the_deployment_went_while_nothing_was_heard(
    moor: Any, workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorings.client.following.PAUSE_S", 0)
    broken = error("WorkspaceUnreachable", "the connection broke")
    workspace.streams = [[a_line(1, "one"), broken], [GONE]]
    code, out, err = moor(
        "online-deployment", "get-logs", "-n", "blue", "-e", "shop", "-c", "inference-server", "--follow"
    )
    assert (code, out) == (0, "one\n")
    assert "is deleted" in err
    workspace.streams = [[GONE]]
    code, _, err = moor("online-deployment", "get-logs", "-n", "blue", "-e", "shop", "--follow")
    assert code == 1 and "DeploymentNotFound" in err


def test_following_gives_up_when_nothing_answers_any_more(
    moor: Any, workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorings.client.following.PAUSE_S", 0)
    workspace.streams = [[error("WorkspaceUnreachable", "the connection broke")] for _ in range(20)]
    code, _, err = moor("online-deployment", "get-logs", "-n", "blue", "-e", "shop", "--follow", "-o", "json")
    assert code == 1
    assert "WorkspaceUnreachable" in err


def test_a_deleted_deployment_is_not_followed(moor: Any) -> None:
    code, _, err = moor("online-deployment", "get-logs", "-n", "blue", "-e", "shop", "--follow", "--deleted")
    assert code == 1
    assert "FlagNotServed" in err


def test_get_logs_of_the_other_container(moor: Any) -> None:
    argv = (
        "online-deployment",
        "get-logs",
        "-n",
        "blue",
        "--endpoint",
        "shop",
        "\u2013-container",
        "storage-initializer",
    )
    assert moor(*argv) == (0, "last 5000 of StorageInitializer\n", "")


def test_get_logs_knows_two_containers(moor: Any) -> None:
    code, _, err = moor("online-deployment", "get-logs", "-n", "b", "-e", "s", "-c", "sidecar")
    assert code == 2
    assert "inference-server" in err


def test_invoke_wants_json(moor: Any, workspace: Any, tmp_path: Path) -> None:
    request = tmp_path / "r.json"
    request.write_text('{"data": [1,\n 2,, 3]}')
    code, _, err = moor("online-endpoint", "invoke", "-n", "shop", "-r", str(request))
    assert code == 1
    assert "(RequestNotJson)" in err
    assert "r.json:2:4" in err
    assert workspace.requests == []


def test_invoke_without_deployments_says_how_to_make_one(moor: Any, tmp_path: Path) -> None:
    request = tmp_path / "r.json"
    request.write_text("{}")
    moor("online-endpoint", "create", "-n", "shop")
    code, _, err = moor("online-endpoint", "invoke", "-n", "shop", "-r", str(request))
    assert code == 1
    assert "(NoDeploymentToInvoke)" in err
    assert "moor online-deployment create -e shop" in err


def test_list_as_a_table(moor: Any) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    code, out, _ = moor("online-endpoint", "list", "-o", "table")
    assert code == 0
    assert out.splitlines()[0].split() == ["Name", "State", "Auth", "Traffic", "Scoring", "URI"]
    assert out.splitlines()[2].split()[:3] == ["shop", "Succeeded", "key"]


def test_ml_is_the_same_tree(moor: Any) -> None:
    assert (
        moor.json("ml", "online-endpoint", "create", "-n", "shop", "-g", "mine", "-w", "ws")["name"] == "shop"
    )


def test_query_and_its_mistakes(moor: Any) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    argv = ("online-endpoint", "show", "-n", "shop")
    assert moor(*argv, "--query", "provisioning_state", "-o", "tsv")[1] == "Succeeded\n"
    code, out, err = moor(*argv, "--query", "name[")
    assert (code, out) == (1, "")
    assert "(QueryInvalid)" in err


def test_only_show_errors_is_silent(moor: Any) -> None:
    code, _, err = moor("online-endpoint", "create", "-n", "shop", "--only-show-errors")
    assert (code, err) == (0, "")


def test_no_wait_returns_at_once(moor: Any, workspace: Any) -> None:
    moor.json("online-endpoint", "create", "-n", "shop", "--no-wait")
    assert not [p for _, p, _ in workspace.requests if "/operations/" in p]


def test_flags_that_would_do_nothing_are_refused(moor: Any, project: Path) -> None:
    code, _, err = moor("online-deployment", "create", "-f", str(project / "blue.yml"), "--vscode-debug")
    assert code == 1
    assert "(FlagNotServed)" in err


def test_a_defect_of_ours_is_a_coded_failure_with_a_private_log(
    moor: Any, workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Answer:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(workspace, "send", broken)
    code, out, err = moor("online-endpoint", "update", "-n", "shop", "--set", "tags.secret=hunter2")
    assert (code, out) == (1, "")
    assert "(InternalError) ZeroDivisionError: boom" in err
    assert "Traceback" not in err
    log = next((moor.home / "logs").glob("cli-crash-*.log"))
    assert log.stat().st_mode & 0o777 == 0o600
    assert "ZeroDivisionError" in log.read_text()
    assert "hunter2" not in log.read_text()


def test_ctrl_c_leaves_the_operation_alone(
    moor: Any, workspace: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    good = workspace.send

    def interrupted(method: str, path: str, **rest: Any) -> Answer:
        if "/operations/" in path:
            raise KeyboardInterrupt
        answer: Answer = good(method, path, **rest)
        return answer

    monkeypatch.setattr(workspace, "send", interrupted)
    code, out, err = moor("online-deployment", "create", "-f", str(project / "blue.yml"))
    assert (code, out) == (130, "")
    assert "moor online-deployment show -n blue -e shop" in err


def test_build_log_is_found_by_key_and_by_name(moor: Any, workspace: Any) -> None:
    log = Answer(200, {}, json.dumps({"content": "resolved 3\n", "key": "abc"}).encode())
    workspace.answers["GET", "/environmentBuilds/abc/log"] = log
    workspace.answers["GET", "/environments/env/versions/2/buildLog"] = log
    assert moor("environment", "build-log", "--key", "abc")[1] == "resolved 3\n"
    assert moor("environment", "build-log", "-n", "env", "-v", "2")[1] == "resolved 3\n"
    code, _, err = moor("environment", "build-log", "--key", "nope")
    assert code == 1
    assert "(BuildLogMissing)" in err


def test_configure_keeps_lists_and_takes_away(moor: Any) -> None:
    assert moor("configure", "--defaults", "endpoint=shop", "output=yaml")[0] == 0
    assert moor("configure", "-l")[1].startswith("- name: endpoint\n")
    assert (moor.home / "defaults.json").stat().st_mode & 0o777 == 0o600
    moor("configure", "--defaults", "output=", "endpoint=")
    assert moor("configure", "-l", "-o", "json")[1] == "[]\n"


def test_configure_warns_of_what_changes_nothing(moor: Any) -> None:
    code, _, err = moor("configure", "--defaults", "group=g", "workspace=w")
    assert code == 0
    assert "group" in err
    assert moor("configure", "--defaults", "nonsense")[0] == 1
    assert moor("configure", "--defaults", "output=html")[0] == 1


def test_a_damaged_defaults_file_is_named(moor: Any) -> None:
    moor.home.mkdir(mode=0o700)
    (moor.home / "defaults.json").write_text("{")
    code, _, err = moor("online-endpoint", "show")
    assert code == 1
    assert "(DefaultsInvalid)" in err
    assert "defaults.json" in err
