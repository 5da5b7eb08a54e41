"""Deployments of the failure corpus, for real: the one code, the proof, the fix. One of each code, and all that need
containers; all of them: `python tests/failures/table.py`. How fast is in the docs, not here: a machine that is busy is no
failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from corpus import CASES, Case, Outcome, client_of, diagnosis, load, run
from corpus_site import workspace_of_containers, workspace_of_processes

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "failure-corpus.md"
PROCESS, DOCKER = load("process"), load("docker")

SAMPLE = [
    case for number, case in enumerate(PROCESS) if case.code not in {each.code for each in PROCESS[:number]}
]

pytestmark = pytest.mark.timeout(900)  # the first test of a module runs all its cases


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Any, dict[str, str]]]:
    with workspace_of_processes() as made:
        yield made


@pytest.fixture(scope="module")
def workspace(site: Any) -> Any:
    return site[0]


@pytest.fixture(scope="module")
def seen(site: Any) -> dict[str, Outcome]:
    workspace, places = site
    return {o.case.name: o for o in run(workspace, SAMPLE, places=places)}


@pytest.fixture(scope="module")
def seen_in_containers(dockerd: Any) -> Iterator[dict[str, Outcome]]:
    with workspace_of_containers(dockerd) as (made, places):
        yield {o.case.name: o for o in run(made, DOCKER, places=places)}


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_a_broken_deployment_is_named_right(case: Case, seen: dict[str, Outcome]) -> None:
    outcome = seen[case.name]
    assert not outcome.problems, f"{outcome.problems}\n{outcome.verdict or outcome.told}"


@pytest.mark.parametrize("case", DOCKER, ids=lambda case: case.name)
def test_a_broken_container_is_named_right(case: Case, seen_in_containers: dict[str, Outcome]) -> None:
    outcome = seen_in_containers[case.name]
    assert not outcome.problems, f"{outcome.problems}\n{outcome.verdict or outcome.told}"


def test_the_page_of_the_docs_lists_every_case() -> None:
    """When it fails: python tests/failures/table.py --write"""
    page = PAGE.read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(PROCESS) + len(DOCKER) == len(list(CASES.iterdir()))
    for case in (*PROCESS, *DOCKER):
        assert any(f"`{case.name}`" in row and f"`{case.code}`" in row for row in rows), case.name


def test_a_failing_deployment_is_mended_and_broken_again(workspace: Any) -> None:
    bad = CASES / "init-raises" / "deployment.yml"
    spec: dict[str, Any] = yaml.safe_load(bad.read_text()) | {"name": "mended", "endpoint_name": "to-and-fro"}
    spec["environment"] = {"conda_file": str(CASES.parent / "environments" / "plain.yml")}

    def change(code: Path, verb: str) -> Any:
        spec["code_configuration"] = {"code": str(code), "scoring_script": "score.py"}
        path = workspace.files / "mended.yml"
        path.write_text(yaml.safe_dump(spec))
        return workspace.moor("online-deployment", verb, "-f", str(path), "--skip-checks", check=False)

    good = workspace.script("good", "def init(): pass\ndef run(data): return 'fine'\n")
    broken = CASES / "init-raises" / "src"
    workspace.endpoint("to-and-fro")
    header = {"azureml-model-deployment": "mended"}

    def look() -> Any:
        with client_of(workspace) as client:
            return diagnosis(client, "to-and-fro", "mended")

    for verb, code in (("create", broken), ("update", good), ("update", broken), ("update", good)):
        done, found = change(code, verb), look()
        assert found is not None
        if code is broken:
            assert done.returncode == 1
            assert "UserScriptInitFailed" in done.stderr
            assert found["verdict"]["code"] == "UserScriptInitFailed"
            assert found["provisioning_state"] == "Failed"
        else:
            assert done.returncode == 0, done.stderr
            assert found["verdict"] is None
            assert found["provisioning_state"] == "Succeeded"
        if verb == "update":  # once it has served it goes on to do so, whatever the update was
            assert workspace.score("to-and-fro", {}, headers=header).json == "fine"


def test_people_are_told_the_same(workspace: Any, seen: dict[str, Outcome]) -> None:
    file = str(CASES / "init-raises" / "deployment.yml")
    workspace.moor("online-deployment", "create", "-f", file, "--skip-checks", check=False)
    told = workspace.moor("diagnose", "-e", "inits", "-n", "init-raises").stdout
    for words in ("UserScriptInitFailed, ERR_2200", "score.py:2", "no licence for this model", "Fix: "):
        assert words in told
    shown = workspace.json("online-deployment", "show", "-e", "inits", "-n", "init-raises")
    assert shown["error"]["code"] == "UserScriptInitFailed"
    assert shown["error"]["additionalInfo"][0]["info"]["confidence"] == "certain"
