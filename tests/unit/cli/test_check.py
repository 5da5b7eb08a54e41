"""`moor check`: what it prints, its exit code, and which files it takes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from moorings.cli import preflight
from moorings.cli.commands.check import DEPLOYMENT, ENDPOINT, FORM, kind_of
from moorings.cli.main import run
from moorings.cli.session import Session
from moorings.errors.exceptions import error
from moorings.preflight.index import Answer, Index

REAL_ASK = Index.ask

BROKEN = "import os\ndef init():\n    open(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'weights.bin'))\n"


def test_a_good_file_ends_with_the_command_that_deploys_it(moor: Any, workspace: Any, project: Path) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    file = str(project / "blue.yml")
    code, out, err = moor("check", "-f", file)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith(f"{file}: ")
    assert out.splitlines()[-1] == f"Next: moor online-deployment create -f {file}"


def test_a_deployment_that_is_there_is_to_be_updated(moor: Any, workspace: Any, project: Path) -> None:
    file = str(project / "blue.yml")
    assert (
        moor("check", "-f", file)[1]
        .splitlines()[-1]
        .startswith("Next: moor online-endpoint create -n shop && ")
    )
    moor("online-endpoint", "create", "-n", "shop")
    moor("online-deployment", "create", "-f", file)
    out = moor("check", "-f", file)[1]
    assert out.splitlines()[-1] == f"Next: moor online-deployment update -f {file} -n blue -e shop"


def test_what_is_to_be_typed_next_has_the_flags_of_the_check(
    moor: Any, workspace: Any, project: Path
) -> None:
    moor("online-endpoint", "create", "-n", "other")
    argv = ("-f", str(project / "blue.yml"), "-n", "green", "-e", "other", "--set", "tags.a=b c")
    said = f"-f {project / 'blue.yml'} -n green -e other --set 'tags.a=b c'"
    assert moor("check", *argv)[1].splitlines()[-1] == f"Next: moor online-deployment create {said}"
    (project / "src" / "score.py").write_text(BROKEN)
    assert f"moor check {said}\n" in moor("check", *argv)[1]
    code, _, err = moor("online-deployment", "create", *argv)
    assert code == 1 and f"then: moor online-deployment create {said}\n" in err


def test_errors_end_with_the_check_itself_and_exit_code_1(moor: Any, workspace: Any, project: Path) -> None:
    (project / "src" / "score.py").write_text(BROKEN)
    text = (project / "blue.yml").read_text()
    (project / "blue.yml").write_text(text.replace("instance_count: 1", "instance_cuont: 1"))
    file = str(project / "blue.yml")
    code, out, _ = moor("check", "-f", file, "--set", "tags.a=b c")
    assert code == 1
    assert workspace.changes == []
    assert "3 errors" in out.splitlines()[0]
    for words in (
        "(SpecKeyUnknown)",
        "(UserScriptFunctionNotFound, ERR_2200)",
        "(ModelPathNotFound, ERR_2200)",
    ):
        assert words in out
    assert "score.py:3:5" in out
    assert "did you mean $AZUREML_MODEL_DIR/model/weights.bin?" in out
    assert out.splitlines()[-1].endswith(f"moor check -f {file} --set 'tags.a=b c'")


def test_findings_as_json(moor: Any, project: Path) -> None:
    (project / "src" / "score.py").write_text(BROKEN)
    code, out, _ = moor("check", "-f", str(project / "blue.yml"), "-o", "json")
    assert code == 1
    document = json.loads(out)
    assert (document["kind"], document["errors"], document["seconds"] >= 0) == ("deployment", 2, True)
    found = {one["code"]: one for one in document["findings"]}["ModelPathNotFound"]
    assert found["severity"] == "error"
    assert (Path(found["file"]).name, found["line"], found["column"]) == ("score.py", 3, 5)
    assert found["fix"] and found["evidence"]
    assert document["next"].startswith("moor check -f ")
    query = ("--query", "findings[?severity=='error'].code", "-o", "tsv")
    assert "ModelPathNotFound" in moor("check", "-f", str(project / "blue.yml"), *query)[1]


def test_create_tells_the_same_at_once_and_sends_nothing(moor: Any, workspace: Any, project: Path) -> None:
    (project / "src" / "score.py").write_text(BROKEN)
    code, _, err = moor("online-deployment", "create", "-f", str(project / "blue.yml"))
    assert code == 1
    assert "(PreflightFailed) 3 problems were found before anything was sent" in err
    assert "ModelPathNotFound" in err and "UserScriptFunctionNotFound" in err and "EndpointNotFound" in err
    assert workspace.changes == []
    moor("online-endpoint", "create", "-n", "shop")
    assert moor("online-deployment", "create", "-f", str(project / "blue.yml"), "--skip-checks")[0] == 0
    code, _, err = moor("online-deployment", "update", "-f", str(project / "blue.yml"))
    assert code == 1 and "(PreflightFailed)" in err
    code, _, err = moor(
        "online-deployment", "update", "-f", str(project / "blue.yml"), "--skip-script-validation"
    )
    assert code == 0, err


def test_spec_problems_and_script_problems_come_together(moor: Any, workspace: Any, project: Path) -> None:
    (project / "src" / "score.py").write_text("def init(:\n")
    code, _, err = moor(
        "online-deployment", "create", "-f", str(project / "blue.yml"), "--set", "instance_count=0"
    )
    assert code == 1
    assert "UserScriptSyntaxError" in err and "instance_count" in err
    assert workspace.changes == []


def test_the_time_of_a_check_begins_when_it_is_typed(
    moor: Any, workspace: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    monkeypatch.setattr(
        preflight, "Index", lambda *_, until_s: given.append(until_s) or Index({}, project, until_s=until_s)
    )
    for ago_s in (0.5, 100.0):
        now_s = time.monotonic()
        session = Session(environ={"MOORINGS_HOME": str(project)}, transport=workspace, typed_s=now_s - ago_s)
        assert run(["check", "-f", str(project / "blue.yml")], session) == 0
        assert given.pop() >= now_s + max(preflight.CHECK_LIMIT_S - ago_s, preflight.LEAST_S)


def test_a_workspace_that_does_not_answer_is_asked_once(
    moor: Any, workspace: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def send(method: str, path: str, **_: Any) -> Any:
        asked.append(path)
        raise error("WorkspaceUnreachable", "no answer within 0.5 s")

    monkeypatch.setattr(workspace, "send", send)
    code, out, _ = moor("check", "-f", str(project / "blue.yml"))
    assert (code, len(asked)) == (0, 1)
    assert "the workspace did not answer in time" in out


def test_all_deployments_of_a_file_share_what_is_asked(
    moor: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(Index, "_answer", lambda self, key, *_: asked.append(key) or Answer(whole=True))
    monkeypatch.setattr(Index, "ask", REAL_ASK)
    items = [
        {
            "name": f"dep{number}",
            "environment": {"conda_file": "conda.yml"},
            "code_configuration": {"code": "./src", "scoring_script": "score.py"},
            "instance_type": "Standard_DS3_v2",
        }
        for number in range(9)
    ]
    file = project / "shop.yml"
    file.write_text(json.dumps({"name": "shop", "deployments": items}))
    assert moor("check", "-f", str(file))[0] == 0
    assert len(asked) == 1


def test_an_endpoint_file(moor: Any, tmp_path: Path) -> None:
    file = tmp_path / "endpoint.yml"
    file.write_text("name: shop\nauth_mode: key\n")
    code, out, _ = moor("check", "-f", str(file))
    assert (code, out.splitlines()[-1]) == (0, f"Next: moor online-endpoint create -f {file}")
    file.write_text("name: shop\nauth_mode: keys\ntrafic: {}\n")
    code, out, _ = moor("check", "-f", str(file))
    assert code == 1 and "2 errors" in out


def test_a_file_of_2021(moor: Any, project: Path) -> None:
    item = {
        "name": "blue",
        "model": {"path": "./model"},
        "code_configuration": {"code": {"local_path": "./src"}, "scoring_script": "score.py"},
        "environment": {"conda_file": "file:./conda.yml", "docker": {"image": "base"}},
        "instance_type": "Standard_DS3_v2",
        "scale_settings": {"scale_type": "manual", "instance_count": 1},
    }
    file = project / "shop.yml"
    file.write_text(json.dumps({"name": "shop", "type": "online", "deployments": [item]}))
    code, out, _ = moor("check", "-f", str(file))
    assert (code, out.splitlines()[-1]) == (0, f"Next: moor endpoint create -f {file}")
    (project / "src" / "score.py").write_text(BROKEN)
    file.write_text(file.read_text().replace('"instance_type"', '"instance_tipe"'))
    code, out, _ = moor("check", "-f", str(file))
    assert code == 1
    assert "ModelPathNotFound" in out and "deployments[0].instance_tipe" in out


@pytest.mark.parametrize("text", ["name: [x\n", "", "just text", "- a\n- b\n", "\0"])
def test_a_file_that_is_no_spec_is_one_finding(moor: Any, tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.yml"
    file.write_text(text)
    code, out, err = moor("check", "-f", str(file))
    assert (code, err) == (1, "")
    assert "ERROR (Spec" in out
    code, out, _ = moor("check", "-f", str(tmp_path / "absent.yml"))
    assert code == 1 and "SpecFileUnreadable" in out


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"$schema": "https://x/managedOnlineDeployment.schema.json", "name": "a"}, DEPLOYMENT),
        ({"$schema": "https://x/managedOnlineEndpoint.schema.json", "name": "a"}, ENDPOINT),
        ({"name": "a", "instance_count": 2}, DEPLOYMENT),
        ({"name": "a", "auth_mode": "key"}, ENDPOINT),
        ({"name": "a", "deployments": []}, FORM),
        ("text", DEPLOYMENT),
    ],
)
def test_what_a_file_describes(document: Any, kind: str) -> None:
    assert kind_of(document) == kind
