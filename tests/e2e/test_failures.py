"""What goes wrong first, for real: each ends in a named error with evidence and a next command, and can be mended."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

GOOD = "def init(): pass\ndef run(data): return 'fine'\n"

SCRIPTS = {
    "syntax": ("def init(:\n    pass\n", "UserScriptSyntaxError", "score.py"),
    "import": (
        "import not_there\ndef init(): pass\ndef run(d): return 1\n",
        "UserScriptImportError",
        "not_there",
    ),
    "no-run": ("def init(): pass\n", "UserScriptFunctionNotFound", "run"),
    "no-init": ("def run(d): return 1\n", "UserScriptFunctionNotFound", "init"),
    "init-raises": (
        "def init():\n    raise RuntimeError('no licence')\ndef run(d): return 1\n",
        "UserScriptInitFailed",
        "no licence",
    ),
    "model-path": (
        "import os\ndef init():\n    open(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'wrong.pkl'))\n"
        "def run(d): return 1\n",
        "ModelPathNotFound",
        "wrong.pkl",
    ),
}


@pytest.fixture(scope="module")
def broken(workspace: Any) -> Any:
    workspace.endpoint("broken")
    model = workspace.files / "model"
    model.mkdir()
    (model / "right.pkl").write_bytes(b"weights")
    return workspace


@pytest.mark.parametrize("name", list(SCRIPTS))
def test_a_script_that_cannot_start_is_named_with_its_evidence(broken: Any, name: str) -> None:
    text, code, evidence = SCRIPTS[name]
    folder = broken.script(f"code-{name}", text)
    spec = broken.spec("broken", name, folder, model={"path": "model"})
    failed = broken.moor("online-deployment", "create", "-f", str(spec), "--skip-checks", check=False)
    assert failed.returncode == 1
    assert code in failed.stderr
    assert evidence in failed.stderr
    assert "moor " in failed.stderr, "no next command"
    shown = broken.json("online-deployment", "show", "-e", "broken", "-n", name)
    assert shown["provisioning_state"] == "Failed"
    logs = broken.moor("online-deployment", "get-logs", "-e", "broken", "-n", name).stdout
    assert evidence in logs


def test_a_failed_deployment_is_mended_by_an_update(broken: Any) -> None:
    folder = broken.script("code-import", GOOD)
    broken.deploy(broken.spec("broken", "import", folder, model={"path": "model"}), verb="update")
    broken.moor("online-endpoint", "update", "-n", "broken", "--traffic", "import=100")
    assert broken.score("broken", {}).json == "fine"


def test_a_failed_deployment_can_be_deleted(broken: Any) -> None:
    broken.moor("online-deployment", "delete", "-e", "broken", "-n", "syntax", "--yes")
    gone = broken.moor("online-deployment", "show", "-e", "broken", "-n", "syntax", check=False)
    assert "DeploymentNotFound" in gone.stderr


def test_a_syntax_error_is_found_before_anything_is_sent(broken: Any) -> None:
    folder = broken.script("code-early", SCRIPTS["syntax"][0])
    failed = broken.moor(
        "online-deployment", "create", "-f", str(broken.spec("broken", "early", folder)), check=False
    )
    assert failed.returncode == 1
    assert "score.py" in failed.stderr
    assert "early" not in [d["name"] for d in broken.json("online-deployment", "list", "-e", "broken")]


def test_a_package_that_does_not_exist_is_named(broken: Any) -> None:
    conda = {"dependencies": ["python=3.11", {"pip": ["no-such-package-by-moorings==1.0"]}]}
    spec = broken.spec("broken", "package", broken.script("good", GOOD), environment={"conda_file": conda})
    checked = broken.moor("online-deployment", "create", "-f", str(spec), check=False)
    assert checked.returncode == 1
    assert "PackageNotFound" in checked.stderr
    assert "--skip-checks" in checked.stderr
    failed = broken.moor("online-deployment", "create", "-f", str(spec), "--skip-checks", check=False)
    assert failed.returncode == 1
    assert "no-such-package-by-moorings" in failed.stderr
    log = broken.moor("online-deployment", "show", "-e", "broken", "-n", "package")
    assert "Failed" in log.stdout


def test_bad_files_are_told_all_at_once_with_their_places(broken: Any) -> None:
    (broken.files / "bad.yml").write_text(
        "name: x\nendpoint_name: broken\ninstance_cuont: 1\nmodel:\n  path: ./nowhere\n"
    )
    failed = broken.moor("online-deployment", "create", "-f", "bad.yml", check=False)
    assert failed.returncode == 1
    for expected in ("bad.yml:1", "bad.yml:3", "instance_count", "nowhere"):
        assert expected in failed.stderr
    missing = broken.moor("online-deployment", "create", "-f", "absent.yml", check=False)
    assert missing.returncode == 1
    assert "absent.yml" in missing.stderr
    (broken.files / "torn.yml").write_text("name: [x\n")
    torn = broken.moor("online-deployment", "create", "-f", "torn.yml", check=False)
    assert torn.returncode == 1
    assert "torn.yml" in torn.stderr


def test_an_endpoint_that_is_not_there_comes_with_the_command_that_makes_it(broken: Any) -> None:
    spec = broken.spec("nobody", "blue", broken.script("good", GOOD))
    failed = broken.moor("online-deployment", "create", "-f", str(spec), check=False)
    assert failed.returncode == 1
    assert "EndpointNotFound" in failed.stderr
    assert "moor online-endpoint create -n nobody" in failed.stderr


def test_a_port_that_is_taken_is_told_and_heals(new_workspace: Any) -> None:
    workspace = new_workspace()
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", workspace.port))
        squatter.listen()
        failed = workspace.moor("workspace", "start", check=False)
        assert failed.returncode == 1
        assert "GatewayPortInUse" in failed.stderr
        assert str(workspace.port) in failed.stderr
        waiting = workspace.moor("online-endpoint", "create", "-n", "before", check=False)
        assert waiting.returncode == 1
        assert "GatewayPortInUse" in waiting.stderr
        facts = json.loads(workspace.moor("workspace", "status", "-o", "json", check=False).stdout)
        assert str(workspace.port) in json.dumps(facts)
    workspace.moor("workspace", "start")
    assert workspace.json("online-endpoint", "show", "-n", "before")["provisioning_state"] == "Succeeded"
    workspace.endpoint("after")
    assert workspace.score("after", {}).status == 404
