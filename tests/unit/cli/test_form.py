"""`moor endpoint ...`: the commands of 2021 as they were written, what is sent in which order, what stands when a
part fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EP = "/onlineEndpoints/shop"
FAILURE = {
    "code": "ScriptImportFailed",
    "message": "score.py cannot be imported: no module named sklearn",
    "additionalInfo": [
        {"type": "moorings", "info": {"title": "T", "cause": "C", "fix": "Add it.", "evidence": ["line 1"]}}
    ],
}
REQUEST = '{"data": [1]}'


def item(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "model": {"local_path": "./model"},
        "code_configuration": {"code": {"local_path": "./src"}, "scoring_script": "score.py"},
        "environment": {"path": ".", "conda_file": "file:conda.yml", "docker": {"image": "base:1"}},
        "instance_type": "Standard_DS3_v2",
        "scale_settings": {"scale_type": "manual", "instance_count": 1},
        **more,
    }


@pytest.fixture
def write(project: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`write(blue, green, traffic=...)` makes the endpoint file; commands run beside it."""
    monkeypatch.chdir(project)

    def written(*names: str, file: str = "shop.yml", **more: Any) -> str:
        document: dict[str, Any] = {"name": "shop", "type": "online", "auth_mode": "key", **more}
        document.setdefault("deployments", [item(name) for name in names])
        Path(file).write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
        return file

    (project / "request.json").write_text(REQUEST)
    return written


@pytest.fixture
def shop(moor: Any, workspace: Any, write: Any) -> Any:
    """An endpoint with blue (all traffic) and green."""
    moor.json("endpoint", "create", "-f", write("blue", "green", traffic={"blue": 100}))
    workspace.requests.clear()
    return workspace


def puts(workspace: Any) -> list[str]:
    return [
        path.removeprefix(EP)
        for method, path, _ in workspace.requests
        if method == "PUT" and path.startswith(EP)
    ]


def changes(workspace: Any) -> list[tuple[str, str]]:
    return [
        (m, p.removeprefix(EP))
        for m, p, _ in workspace.requests
        if m in ("PUT", "DELETE") and p.startswith(EP)
    ]


def traffic_of(workspace: Any) -> dict[str, int]:
    return dict(workspace.resources[EP]["properties"].get("traffic") or {})


# --- create -----------------------------------------------------------------------------------------------------
def test_create_makes_endpoint_deployments_and_then_traffic(moor: Any, workspace: Any, write: Any) -> None:
    code, out, err = moor(
        "endpoint", "create", "-f", write("blue", "green", traffic={"blue": 90, "green": 10})
    )
    assert code == 0, err
    assert puts(workspace) == ["", "/deployments/blue", "/deployments/green", ""]
    assert [b["properties"]["traffic"] for m, p, b in workspace.requests if (m, p) == ("PUT", EP)] == [
        {}, {"blue": 90, "green": 10},
    ]  # fmt: skip
    shown = json.loads(out)
    assert shown["traffic"] == {"blue": 90, "green": 10}
    assert [(d["name"], d["provisioning_state"]) for d in shown["deployments"]] == [
        ("blue", "Succeeded"), ("green", "Succeeded"),
    ]  # fmt: skip
    assert "blue environment done 2.5 s" in err
    assert "green environment done" in err


def test_the_query_of_published_scripts(moor: Any, shop: Any) -> None:
    query = "deployments[?name=='green'].provisioning_state"
    assert moor("ml", "endpoint", "show", "-n", "shop", "--query", query, "-o", "tsv")[1] == "Succeeded\n"
    assert moor.json("endpoint", "show", "-n", "shop", "--query", "scoring_uri").endswith("/shop/score")


def test_nothing_is_sent_when_the_file_is_wrong(moor: Any, workspace: Any, write: Any) -> None:
    file = write("blue", traffic={"green": 100}, trafic={})
    code, _, err = moor("endpoint", "create", "-f", file)
    assert code == 1
    assert "(SpecInvalid) shop.yml has 2 problems" in err
    assert not workspace.requests


def test_all_bad_scripts_are_told_and_nothing_is_sent(
    moor: Any, workspace: Any, write: Any, project: Path
) -> None:
    (project / "src" / "score.py").write_text("def run(:\n")
    code, _, err = moor("endpoint", "create", "-f", write("blue", "green"))
    assert (code, err.count("score.py:1: ")) == (1, 1), "both deployments have the one script"
    assert not workspace.changes


def test_when_one_deployment_fails_the_rest_stands_and_it_is_named(
    moor: Any, workspace: Any, write: Any
) -> None:
    workspace.failing["green"] = FAILURE
    file = write("blue", "green", traffic={"blue": 50, "green": 50})
    code, out, err = moor("endpoint", "create", "-n", "shop", "-f", file)
    assert (code, out) == (1, "")
    assert (
        "ERROR: (DeploymentsFailed) endpoint shop is there, but green failed; blue stands; traffic was left"
        in err
    )
    assert "deployment green: score.py cannot be imported: no module named sklearn (ScriptImportFailed" in err
    assert "line 1" in err
    assert f"moor endpoint create -n shop -f {file}" in err
    assert traffic_of(workspace) == {}
    assert f"{EP}/deployments/blue" in workspace.resources
    workspace.failing.clear()
    assert moor("endpoint", "create", "-n", "shop", "-f", file)[0] == 0
    assert traffic_of(workspace) == {"blue": 50, "green": 50}


def test_traffic_goes_to_what_is_ready_although_another_one_failed(
    moor: Any, workspace: Any, write: Any
) -> None:
    workspace.failing["green"] = FAILURE
    code, _, err = moor("endpoint", "create", "-f", write("blue", "green", traffic={"blue": 100, "green": 0}))
    assert code == 1
    assert "green failed; blue stands\n" in err
    assert traffic_of(workspace) == {"blue": 100}


def test_what_is_refused_of_one_keeps_no_other_back(moor: Any, workspace: Any, write: Any) -> None:
    from moorings.client.transport import Answer

    body = json.dumps({"error": {"code": "EndpointQuotaReached", "message": "no more"}}).encode()
    workspace.answers[("PUT", f"{EP}/deployments/blue")] = Answer(409, {}, body)
    code, _, err = moor("endpoint", "create", "-f", write("blue", "green"))
    assert code == 1
    assert "blue failed; green stands" in err
    assert "no more (EndpointQuotaReached" in err
    assert f"{EP}/deployments/green" in workspace.resources


def test_several_failures_are_all_told(moor: Any, workspace: Any, write: Any) -> None:
    workspace.failing |= {"blue": FAILURE, "green": FAILURE}
    _, _, err = moor("endpoint", "create", "-f", write("blue", "green", "red"))
    assert "but blue and green failed; red stands" in err
    assert err.count("no module named sklearn") == 2


def test_create_again_takes_no_live_endpoint_off_the_air(moor: Any, shop: Any, write: Any) -> None:
    code, _, err = moor("endpoint", "create", "-f", write("green", description="new"))
    assert code == 0, err
    assert traffic_of(shop) == {"blue": 100}
    assert f"{EP}/deployments/blue" in shop.resources
    assert "also has blue" in err


def test_no_wait_sets_the_traffic_of_a_new_endpoint_at_once(moor: Any, workspace: Any, write: Any) -> None:
    code, _, err = moor("endpoint", "create", "-f", write("blue", traffic={"blue": 100}), "--no-wait")
    assert code == 0, err
    assert traffic_of(workspace) == {"blue": 100}
    assert not [p for _, p, _ in workspace.requests if p.startswith("/operations/")]


def test_no_wait_leaves_live_traffic_where_it_is(moor: Any, shop: Any, write: Any) -> None:
    code, _, err = moor("endpoint", "create", "-f", write("green", traffic={"green": 100}), "--no-wait")
    assert code == 0, err
    assert traffic_of(shop) == {"blue": 100}
    assert 'moor endpoint update -n shop --traffic "green=100"' in err


def test_set_reaches_into_the_deployments(moor: Any, workspace: Any, write: Any) -> None:
    file = write("blue")
    moor("endpoint", "create", "-f", file, "--set", "deployments[0].environment_variables.MODE=x", "tags.a=b")
    sent = workspace.sent("PUT", "/deployments/blue")["properties"]
    assert sent["environmentVariables"] == {"MODE": "x"}
    assert workspace.resources[EP]["tags"] == {"a": "b"}


def test_batch_is_named(moor: Any, workspace: Any, write: Any) -> None:
    for argv in (
        ("create", "-f", write("blue", type="batch")),
        ("list", "--type", "batch"),
        ("list-jobs", "-n", "x"),
    ):
        code, _, err = moor("endpoint", *argv)
        assert (code, "BatchNotServed" in err) == (1, True)
    assert not workspace.requests


# --- local ------------------------------------------------------------------------------------------------------
def own(workspace: Any) -> dict[str, str]:
    return dict(workspace.resources[EP]["properties"]["properties"])


def test_create_local_marks_the_endpoint_and_sends_traffic_to_an_only_deployment(
    moor: Any, workspace: Any, write: Any
) -> None:
    code, out, err = moor("endpoint", "create", "-n", "shop", "-f", write("blue"), "--local")
    assert code == 0, err
    assert own(workspace) == {"moorings.local": "true"}
    assert traffic_of(workspace) == {"blue": 100}
    assert json.loads(out)["properties"]["moorings"] == {"local": True}


def test_several_local_deployments_get_no_traffic_unasked(moor: Any, workspace: Any, write: Any) -> None:
    moor("endpoint", "create", "-f", write("blue", "green"), "--local")
    assert traffic_of(workspace) == {}


def test_the_file_has_the_last_word_on_local(moor: Any, workspace: Any, write: Any) -> None:
    moor("endpoint", "create", "-f", write("blue", properties={"moorings": {"local": False}}), "--local")
    assert own(workspace) == {}


def test_an_update_keeps_how_the_endpoint_was_made(moor: Any, workspace: Any, write: Any) -> None:
    moor("endpoint", "create", "-f", write("blue"), "--local")
    file = write("blue", properties={"moorings": {"rate_limit_per_s": 7}})
    assert moor("endpoint", "update", "-f", file)[0] == 0
    assert own(workspace) == {"moorings.local": "true", "moorings.rate_limit_per_s": "7"}
    moor("endpoint", "update", "-n", "shop", "--set", "properties.moorings.local=false")
    assert own(workspace) == {"moorings.rate_limit_per_s": "7"}


# --- update -----------------------------------------------------------------------------------------------------
def test_what_the_file_no_longer_lists_is_deleted_last(moor: Any, shop: Any, write: Any) -> None:
    file = write("green", "red", traffic={"green": 100}, description="next")
    code, out, err = moor("endpoint", "update", "-n", "shop", "-f", file)
    assert code == 0, err
    assert changes(shop) == [
        ("PUT", ""), ("PUT", "/deployments/green"), ("PUT", "/deployments/red"), ("PUT", ""),
        ("DELETE", "/deployments/blue"),
    ]  # fmt: skip
    assert [d["name"] for d in json.loads(out)["deployments"]] == ["green", "red"]
    assert traffic_of(shop) == {"green": 100}


def test_nothing_is_deleted_when_something_failed(moor: Any, shop: Any, write: Any) -> None:
    shop.failing["red"] = FAILURE
    code, _, err = moor("endpoint", "update", "-f", write("red", traffic={"red": 100}))
    assert code == 1
    assert "red failed; traffic was left as it was" in err
    assert "not deleted: blue and green" in err
    assert traffic_of(shop) == {"blue": 100}
    assert f"{EP}/deployments/blue" in shop.resources


def test_traffic_of_a_deployment_that_goes_must_be_given_to_another(moor: Any, shop: Any, write: Any) -> None:
    code, _, err = moor("endpoint", "update", "-f", write("green"))
    assert code == 1
    assert "(TrafficInvalid)" in err
    assert "blue=100" in err
    assert not puts(shop)
    assert moor("endpoint", "update", "-f", write("green"), "-r", "green:100")[0] == 0


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("-r", "blue:50"), "adds up to 50"),
        (("-r", "blu:100"), "did you mean blue?"),
        (("-d", "red", "-e", "red.yml", "-r", "red:40"), "adds up to 40"),
        (("-d", "red", "-e", "red.yml", "-r", "rad:100"), "did you mean red?"),
        (("--remove", "deployments[0]"), "blue"),
        (("-f", "plain.yml", "-r", "green:90"), "adds up to 90"),
    ],
)
def test_traffic_that_cannot_be_set_is_told_before_anything_is_done(
    moor: Any, shop: Any, write: Any, argv: tuple[str, ...], text: str
) -> None:
    Path("red.yml").write_text(json.dumps(item("red")))
    write("green", file="plain.yml")
    code, _, err = moor("endpoint", "update", "-n", "shop", *argv)
    assert (code, "TrafficInvalid" in err, text in err) == (1, True, True), err
    assert not [path for method, path, _ in shop.requests if method in ("PUT", "DELETE")]


def test_traffic_of_a_file_without_deployments_needs_them(moor: Any, workspace: Any, write: Any) -> None:
    code, _, err = moor("endpoint", "create", "-f", write(deployments=None, traffic={"blue": 100}))
    assert (code, "(TrafficInvalid)" in err) == (1, True)
    assert not puts(workspace)


def test_a_file_without_the_key_deployments_deletes_none(moor: Any, shop: Any, write: Any) -> None:
    code, _, err = moor("endpoint", "update", "-f", write(deployments=None, description="only this"))
    assert code == 0, err
    assert changes(shop) == [("PUT", "")]
    assert shop.resources[EP]["properties"]["description"] == "only this"
    assert traffic_of(shop) == {"blue": 100}


def test_keys_of_the_file_replace_and_others_stay(moor: Any, shop: Any, write: Any) -> None:
    moor("endpoint", "update", "-f", write(deployments=None, tags={"a": "1", "b": "2"}, description="x"))
    moor("endpoint", "update", "-f", write(deployments=None, tags={"b": "3"}))
    assert shop.resources[EP]["tags"] == {"b": "3"}
    assert shop.resources[EP]["properties"]["description"] == "x"


def test_traffic_alone(moor: Any, shop: Any) -> None:
    assert moor("endpoint", "update", "-n", "shop", "--traffic", "blue:90,green:10")[0] == 0
    assert changes(shop) == [("PUT", "")]
    assert traffic_of(shop) == {"blue": 90, "green": 10}
    assert moor("endpoint", "update", "-n", "shop", "-r", "blue=10 green=90")[0] == 0
    assert traffic_of(shop) == {"blue": 10, "green": 90}


def test_one_deployment_from_its_own_file_with_traffic(moor: Any, shop: Any, write: Any) -> None:
    Path("red.yml").write_text(json.dumps(item("red")))
    argv = ("--deployment", "red", "--deployment-file", "red.yml", "--traffic", "blue:0,red:100")
    code, _, err = moor("endpoint", "update", "-n", "shop", *argv)
    assert code == 0, err
    assert changes(shop) == [("PUT", "/deployments/red"), ("PUT", "")]
    assert traffic_of(shop) == {"red": 100}


def test_an_update_is_checked_with_the_lines_of_its_file(
    moor: Any, shop: Any, write: Any, project: Path
) -> None:
    (project / "src" / "score.py").write_text("def run(:\n")
    (project / "conda.yml").write_text("dependencies:\n- python=2.7\n")
    file = write("blue", deployments=[{**item("blue"), "instance_tipe": "x"}])
    Path("red.yml").write_text("# the first line\n" + json.dumps(item("red")))
    of_one = ("-d", "red", "--deployment-file", "red.yml")
    for argv, line, further in (
        (("-f", file), "shop.yml:1:", "instance_tipe"),
        (of_one, "conda.yml:2:", "python=2.7"),
    ):
        code, _, err = moor("endpoint", "update", "-n", "shop", *argv)
        assert code == 1
        assert "score.py:1:9" in err and line in err and further in err, err
        code, _, err = moor("endpoint", "update", "-n", "shop", *argv, "--skip-script-validation")
        assert (code, "score.py" in err) == (1, False)
    assert changes(shop) == []
    assert moor("endpoint", "update", "-n", "shop", *of_one, "--skip-checks")[0] == 0


def test_scale_alone(moor: Any, shop: Any) -> None:
    assert moor("endpoint", "update", "-n", "shop", "-d", "green", "-i", "3")[0] == 0
    assert changes(shop) == [("PUT", "/deployments/green")]
    assert shop.sent("PUT", "/deployments/green")["sku"]["capacity"] == 3
    code, _, err = moor("endpoint", "update", "-n", "shop", "-d", "nobody", "-i", "3")
    assert (code, "(DeploymentNotFound)" in err) == (1, True)


def test_an_expression_reaches_what_is_there(moor: Any, shop: Any) -> None:
    edit = ("--set", "deployments[1].environment_variables.MODE=x", "--add", "tags.a=1")
    assert moor("endpoint", "update", "-n", "shop", *edit)[0] == 0
    assert changes(shop) == [("PUT", ""), ("PUT", "/deployments/green")]
    assert moor("endpoint", "update", "-n", "shop", "-d", "blue", "--set", "description=that one")[0] == 0
    assert shop.sent("PUT", "/deployments/blue")["properties"]["description"] == "that one"
    assert moor("endpoint", "update", "-n", "shop", "--remove", "deployments[1]")[0] == 0
    assert f"{EP}/deployments/green" not in shop.resources


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        ((), 1, "NothingToUpdate"),
        (("-d", "blue"), 1, "NothingToUpdate"),
        (("-i", "2"), 2, "--instance-count needs --deployment"),
        (("-e", "x.yml"), 2, "--deployment-file needs --deployment"),
        (("-f", "x.yml", "-d", "blue"), 1, "FlagsExclusive"),
        (("-d", "blue", "-e", "x.yml", "--remove", "tags"), 1, "FlagsExclusive"),
        (("-d", "blue", "-i", "51"), 2, "51"),
        (("-d", "blue", "-i", "0"), 2, "0"),
        (("-r", "blue"), 1, "TrafficTextInvalid"),
        (("-f", "missing.yml"), 1, "SpecFileUnreadable"),
    ],
)
def test_flags_that_do_not_go_together(
    moor: Any, shop: Any, argv: tuple[str, ...], code: int, text: str
) -> None:
    found, _, err = moor("endpoint", "update", "-n", "shop", *argv)
    assert (found, text in err) == (code, True), err
    assert not changes(shop)


def test_an_update_needs_the_endpoint(moor: Any, workspace: Any, write: Any) -> None:
    code, _, err = moor("endpoint", "update", "-f", write("blue"))
    assert (code, "(EndpointNotFound)" in err) == (1, True)
    assert not puts(workspace)


# --- the commands as they were written ----------------------------------------------------------------------------
VERBATIM = [
    "endpoint create -n shop -f shop.yml --local",
    "endpoint create --type online --name shop --file shop.yml --set description=x",
    "endpoint create -n shop -f shop.yml --no-wait -g group -w workspace",
    "endpoint get-logs -n shop -d blue -l 100",
    "endpoint get-logs --name shop --deployment blue --lines 100",
    "endpoint get-logs -n shop --deployment blue --tail 100",
    "endpoint get-logs -n shop -d blue -l 100 --container storage-initializer --local",
    "endpoint get-logs -h",
    "endpoint show -n shop",
    "endpoint show -n shop --local --query provisioning_state",
    "endpoint list --type online",
    "endpoint list --local",
    "endpoint get-credentials -n shop",
    "endpoint list-keys -n shop",
    "endpoint regenerate-keys -n shop --key-type secondary",
    "endpoint update -n shop --traffic blue:90,green:10",
    "endpoint update -n shop -r blue:0,green:100",
    "endpoint update -n shop --deployment blue --instance-count 2",
    "endpoint update -n shop --deployment green --deployment-file green.yml --traffic blue:0,green:100",
    "endpoint update -n shop -f shop.yml --no-wait",
    "endpoint delete -n shop -d green -y",
    "endpoint delete -n shop --yes --no-wait",
    "endpoint delete -n shop --local -y",
]


@pytest.mark.parametrize("tree", ["", "ml "])
@pytest.mark.parametrize("command", VERBATIM)
def test_a_command_of_2021_works_as_written(
    moor: Any, shop: Any, write: Any, tree: str, command: str
) -> None:
    write("blue", "green", traffic={"blue": 100})
    Path("green.yml").write_text(json.dumps(item("green")))
    code, out, err = moor(*(tree + command).split())
    assert code == 0, err
    if "-l 100" in command or "--lines" in command or "--tail" in command:
        part = "StorageInitializer" if "storage" in command else "All"
        assert out.endswith(f"last 100 of {part}\n")
    if "list-keys" in command or "get-credentials" in command:
        assert json.loads(out) == {"primaryKey": "first-key", "secondaryKey": "second-key"}


def test_the_bare_form_says_what_is_missing(moor: Any, shop: Any) -> None:
    code, _, err = moor("endpoint", "get-logs")
    assert (code, "--deployment" in err) == (2, True)
    code, _, err = moor("endpoint", "get-logs", "-d", "blue")
    assert (code, "(NameMissing)" in err) == (1, True)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.text(max_size=6) | st.sampled_from(["blue", "./src", "score.py"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["name", "type", "traffic", "blue", "deployments", "model", "local_path", "code_configuration", "code",
             "scoring_script", "environment", "docker", "path", "scale_settings", "instance_count", "tags", "target"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=15,
)  # fmt: skip


@given(st.binary(max_size=80) | ANYTHING.map(lambda value: json.dumps(value).encode()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_any_file_is_taken_or_refused_with_a_code(moor: Any, workspace: Any, write: Any, data: bytes) -> None:
    Path("any.yml").write_bytes(data)
    for argv in (
        ("create",),
        ("update", "-n", "shop"),
        ("update", "-n", "shop", "-d", "blue", "-e", "any.yml"),
    ):
        file = () if "-e" in argv else ("-f", "any.yml")
        code, _, err = moor("endpoint", *argv, *file)
        assert code in (0, 1)
        assert "InternalError" not in err
        assert code == 0 or "ERROR: (" in err


def test_invoke_by_both_names_of_the_deployment_flag(
    moor: Any, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moorings.client import scoring
    from moorings.client.transport import Answer

    seen = []

    def post(url: str, headers: Any, body: bytes, timeout_s: float) -> Answer:
        seen.append((url, headers.get(scoring.DEPLOYMENT_HEADER), json.loads(body)))
        return Answer(200, {}, b'{"ok": 1}')

    monkeypatch.setattr(scoring, "post_http", post)
    for argv in ((), ("-d", "green"), ("--deployment", "green", "--local")):
        code, out, err = moor("endpoint", "invoke", "-n", "shop", "-r", "request.json", *argv)
        assert (code, out) == (0, '{"ok": 1}\n'), err
    assert [deployment for _, deployment, _ in seen] == [None, "green", "green"]
