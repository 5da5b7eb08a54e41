"""All checks of a deployment together, with a package index that is only said to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from moorings.environments.interpreters import Interpreter, Interpreters
from moorings.errors.exceptions import Failure, MooringsError, failure
from moorings.errors.sentence import verbatim
from moorings.preflight import machine
from moorings.preflight.check import Report, Surroundings, check_deployment
from moorings.preflight.findings import Severity
from moorings.preflight.index import Answer, Index, Unmet
from moorings.preflight.machine import Load, MachineFacts, machine_findings
from moorings.spec.assets import EnvironmentSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.instance_types import GIB
from moorings.spec.loader import examine_deployment
from moorings.spec.problems import Located, path_text

SCORE = "import os, joblib\ndef init():\n    joblib.load(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'model/m.pkl'))\n"
RUN = "def run(data):\n    return data\n"
PLENTY = MachineFacts(10**13, "/home")
BROUGHT = {"httptools": "0.6", "uvloop": "0.2", "joblib": "1.5.1", "numpy": "2.3.1"}


class Silent:
    """What the index and the machine are said to answer."""

    def __init__(self) -> None:
        self.answer = Answer(BROUGHT, whole=True)
        self.unreachable: str | None = "no route"
        self.pythons = ["3.12.1"]
        self.asked: list[tuple[list[str], str]] = []


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Silent:
    silent = Silent()

    def ask(_: Index, requirements: Any, python: str) -> Answer:
        silent.asked.append((list(requirements), python))
        return silent.answer

    monkeypatch.setattr(Index, "ask", ask)
    monkeypatch.setattr(Index, "channels_problem", lambda _, channels: silent.unreachable)
    monkeypatch.setattr(
        Interpreters, "find", lambda _: [Interpreter(Path("/python"), each) for each in silent.pythons]
    )
    monkeypatch.setattr("moorings.preflight.check.facts_of", lambda home: PLENTY)
    return silent


class Known:
    """A workspace that knows what it is given, and nothing else."""

    def __init__(
        self, environment: EnvironmentSpec | None = None, refused: Failure | None = None, missing: str = ""
    ) -> None:
        self._environment, self._refused, self._missing = environment, refused, missing

    def environment(self, reference: str) -> EnvironmentSpec | None:
        self._look(reference, "AssetNotFound")
        return self._environment

    def model(self, reference: str) -> object | None:
        self._look(reference, "AssetNotFound")
        return {}

    def endpoint(self, name: str) -> object | None:
        self._look(name, "EndpointNotFound")
        return {}

    def refusal(self, spec: DeploymentSpec, beside: Sequence[DeploymentSpec]) -> Failure | None:
        return self._refused if spec.instance_count == 1 else None

    def _look(self, name: str, code: str) -> None:
        if name == self._missing:
            raise MooringsError(failure(code, f"no {name}", fields={"reference": name, "endpoint": name}))


class Project:
    """A deployment's files; good unless a test makes them otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys: dict[str, str] = {
            "name": "blue",
            "endpoint_name": "shop",
            "model": "{path: ./model}",
            "code_configuration": "{code: ./src, scoring_script: score.py}",
            "environment": "{image: base, conda_file: conda.yml}",
            "instance_type": "Standard_DS3_v2",
        }
        self.write("src/score.py", SCORE + RUN)
        self.write("model/m.pkl", "x")
        self.conda("python=3.12", "numpy=2.3.1", pip=("joblib==1.5.1",))

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def conda(self, *entries: str, pip: tuple[str, ...] = (), channels: str = "") -> None:
        lines = [f"channels: [{channels}]"] if channels else []
        lines += ["dependencies:", *(f"  - {entry}" for entry in entries)]
        lines += ["  - pip:", *(f"    - {line}" for line in pip)] if pip else []
        self.write("conda.yml", "\n".join(lines) + "\n")

    def check(self, **around: Any) -> Report:
        self.write("blue.yml", "".join(f"{key}: {value}\n" for key, value in self.keys.items()))
        examined = examine_deployment(self.folder / "blue.yml")
        assert examined.invalid is None, examined.invalid.failure
        assert examined.partial is not None
        given: Mapping[str, Any] = {
            "home": self.folder,
            "index": Index({}, self.folder, until_s=0.0),
            "interpreters": Interpreters({}),
            "conda_solver": "auto",
            "download_python": True,
            "in_image": False,
            **around,
        }
        return check_deployment(examined.partial, examined.locate, Surroundings(**given), again="again")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def codes(report: Report) -> list[tuple[str, str]]:
    return [(one.severity.value, one.failure.code) for one in report.findings]


def test_a_python_that_may_be_there_is_not_said_to_be_missing(
    project: Project, index: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.pythons = ["3.9.1"]
    (one,) = project.check(download_python=False).errors
    assert one.failure.code == "PythonNotFound"
    interpreters = Interpreters({})
    interpreters.silent.add(Path("/slow/python3"))
    report = project.check(download_python=False, interpreters=interpreters)
    assert report.findings == ()
    assert "in time" in report.notes[0]


def test_a_good_deployment_has_no_findings(project: Project, index: Silent) -> None:
    assert project.check() == Report()
    assert index.asked == [(["joblib==1.5.1", "numpy==2.3.1.*"], "3.12")]


def test_everything_is_told_at_once_with_its_place(project: Project, index: Silent) -> None:
    project.write("src/score.py", "import lightgbm\nimport helper\n" + SCORE.replace("m.pkl", "n.pkl"))
    project.write("src/helper.py", "from sklearn import svm\n")
    unmet = Unmet("numpy", failure("PackageVersionNotFound", "no version of numpy is 9", target="numpy"))
    index.answer = Answer(BROUGHT, unmet=(unmet,), whole=True)
    project.keys["instance_type"] = "Standard_DS3v2"
    report = project.check()
    places = {
        (one.failure.code, Path(one.place.file).name, one.place.line) for one in report.findings if one.place
    }
    assert places == {
        ("UserScriptFunctionNotFound", "score.py", 1),
        ("UserScriptImportError", "score.py", 1),
        ("UserScriptImportError", "helper.py", 1),
        ("ModelPathNotFound", "score.py", 5),
        ("PackageVersionNotFound", "conda.yml", 3),
        ("SpecValueInvalid", "blue.yml", 6),
    }
    assert len(report.errors) == 5
    fixes = " ".join(one.failure.fix for one in report.findings)
    assert (
        "Add lightgbm to " in fixes and "Add scikit-learn to " in fixes and "conda.yml, then: again" in fixes
    )
    assert all(one.failure.fix.endswith("then: again") for one in report.findings)


def test_an_import_is_doubtful_while_the_index_is_silent(project: Project, index: Silent) -> None:
    project.write("src/score.py", "import lightgbm\n" + SCORE + RUN)
    index.answer = Answer({"numpy": "", "joblib": ""}, note="the package index had not answered")
    report = project.check()
    assert codes(report) == [("warning", "UserScriptImportError")]
    assert report.notes == ("the package index had not answered",)


def test_an_import_in_a_function_is_doubtful_and_a_guarded_one_is_none(
    project: Project, index: Silent
) -> None:
    late = "def run(data):\n    import lightgbm\n    try:\n        import torch\n    except ImportError:\n        pass\n"
    project.write("src/score.py", SCORE + late)
    (one,) = project.check().findings
    assert one.severity is Severity.WARNING
    assert "imported in run()" in one.failure.message


def test_a_channel_that_answers_may_have_what_the_index_has_not(project: Project, index: Silent) -> None:
    project.conda("python=3.12", "numpy=9", pip=("joblib==9",), channels="conda-forge")
    project.write("src/score.py", "import lightgbm\n" + SCORE + RUN)
    index.answer = Answer(
        BROUGHT,
        unmet=tuple(
            Unmet(name, failure("PackageVersionNotFound", name, target=name)) for name in ("numpy", "joblib")
        ),
    )
    index.unreachable = None
    found = {(one.severity.value, one.failure.code, one.failure.message) for one in project.check().findings}
    assert ("error", "PackageVersionNotFound", "joblib") in found, "pip: lines come from the index anyway"
    assert any(s == "warning" and m.startswith("numpy (a channel") for s, _, m in found)
    assert all(s == "warning" for s, c, _ in found if c == "UserScriptImportError")
    index.unreachable = "no route"
    assert [s for s, c in codes(project.check()) if c == "PackageVersionNotFound"] == ["error", "error"]


def test_what_would_have_to_be_compiled_may_work(project: Project, index: Silent) -> None:
    unmet = Unmet("joblib", failure("NoWheelForPython", "no", target="joblib"), compiled=True)
    index.answer = Answer(BROUGHT, unmet=(unmet,))
    (one,) = project.check().findings
    assert (one.severity, one.failure.code) == (Severity.WARNING, "NoWheelForPython")
    assert "would have to be compiled" in one.failure.message


@pytest.mark.parametrize(
    ("python", "download", "found"),
    [
        ("python=2.7", True, [("error", "PythonUnsupported")]),
        ("python=3.14", True, [("warning", "PythonNotFound")]),
        ("python=3.14", False, [("error", "PythonNotFound")]),
    ],
)
def test_pythons_that_are_not_there(
    project: Project, index: Silent, python: str, download: bool, found: list[tuple[str, str]]
) -> None:
    project.conda(python, pip=("joblib==1.5.1",))
    report = project.check(download_python=download)
    assert codes(report) == found
    (one,) = report.findings
    assert one.place is not None and (Path(one.place.file).name, one.place.line) == ("conda.yml", 2)


def test_entries_that_cannot_be_translated(project: Project, index: Silent) -> None:
    project.conda("python=3.12", "openjdk", "nodejs=20", pip=("joblib==1.5.1", "-e ."))
    report = project.check()
    assert {(one.failure.code, one.place.line) for one in report.findings if one.place} == {
        ("EnvironmentNotTranslatable", 3),
        ("EnvironmentNotTranslatable", 4),
        ("EnvironmentNotTranslatable", 7),
    }


def test_an_ignore_file_that_leaves_the_script_out(project: Project, index: Silent) -> None:
    project.write("src/.amlignore", "score.py\n")
    assert codes(project.check()) == [("error", "ScriptMissing")]
    project.write("src/.amlignore", "helper.py\n")
    project.write("src/helper.py", "")
    project.write("src/score.py", "import helper\n" + SCORE + RUN)
    assert codes(project.check()) in (
        [("error", "UserScriptImportError")],
        [("warning", "UserScriptImportError")],
    )


def test_the_script_can_be_left_out(project: Project, index: Silent) -> None:
    project.write("src/score.py", "def init(:\n")
    assert codes(project.check()) == [("error", "UserScriptSyntaxError")]
    assert project.check(script=False) == Report()


def test_what_is_registered_is_said_not_to_be_looked_at(project: Project, index: Silent) -> None:
    project.keys |= {"model": "azureml:m:1", "environment": "azureml:e:1"}
    project.keys["code_configuration"] = "{code: azureml:c:1, scoring_script: score.py}"
    report = project.check()
    assert report.findings == ()
    assert [note.split(" is ")[0] for note in report.notes] == [
        "azureml:m:1",
        "azureml:e:1",
        "the script in azureml:c:1",
    ]


@pytest.mark.parametrize(
    ("key", "missing", "code"),
    [
        ("model", "azureml:m:1", "AssetNotFound"),
        ("environment", "azureml:e:1", "AssetNotFound"),
        ("endpoint_name", "shop", "EndpointNotFound"),
    ],
)
def test_what_the_workspace_does_not_have_is_told_at_its_line(
    project: Project, index: Silent, key: str, missing: str, code: str
) -> None:
    project.keys |= {"model": "azureml:m:1", "environment": "azureml:e:1"}
    report = project.check(workspace=Known(missing=missing), endpoint=Severity.WARNING)
    (one,) = report.findings
    assert one.failure.code == code
    assert one.place is not None and one.place.line == list(project.keys).index(key) + 1
    assert one.severity is (Severity.WARNING if key == "endpoint_name" else Severity.ERROR)
    assert project.check(workspace=Known(missing="shop")).findings == (), (
        "only whoever needs it asks for the endpoint"
    )


def test_a_python_that_nobody_has(project: Project, index: Silent) -> None:
    project.conda("python=3.99", pip=("joblib",))
    (one,) = project.check().findings
    assert (one.severity, one.failure.code) == (Severity.ERROR, "PythonNotFound")
    assert "3.99" in one.failure.message and str(one.place).split(":")[1:2] == ["2"]


def test_a_registered_environment_is_looked_at_where_the_workspace_tells(
    project: Project, index: Silent
) -> None:
    project.keys["environment"] = "azureml:e:1"
    project.write("src/score.py", "import lightgbm\n" + SCORE + RUN)
    registered = EnvironmentSpec(conda_file={"dependencies": ["python=3.12", {"pip": ["joblib"]}]})
    report = project.check(workspace=Known(registered))
    assert codes(report) == [("error", "UserScriptImportError")]
    assert "Add lightgbm to a new version of azureml:e:1, then" in report.findings[0].failure.fix


def test_a_deployment_without_a_model_whose_script_wants_one(project: Project, index: Silent) -> None:
    del project.keys["model"]
    (one,) = project.check().findings
    assert one.failure.code == "ModelPathNotFound"


def test_the_environment_of_an_mlflow_model(project: Project, index: Silent) -> None:
    project.write("mlmodel/MLmodel", "flavors:\n  python_function:\n    env: conda.yaml\n")
    project.write("mlmodel/conda.yaml", "dependencies:\n- python=3.12\n- pip: [mlflow==9.9]\n")
    project.keys["model"] = "{path: ./mlmodel, type: mlflow_model}"
    del project.keys["environment"], project.keys["code_configuration"]
    unmet = Unmet("mlflow", failure("PackageVersionNotFound", "no mlflow 9.9", target="mlflow"))
    index.answer = Answer({}, unmet=(unmet,))
    (one,) = project.check().findings
    assert one.failure.code == "PackageVersionNotFound"
    assert one.place is not None and one.place.field == "model.path"
    project.write("mlmodel/MLmodel", "flavors: {}\n")
    assert codes(project.check()) == [("error", "MlflowFlavorMissing")]


def test_images_are_not_looked_into(project: Project, index: Silent) -> None:
    project.keys["environment"] = "{image: base}"
    project.write("src/score.py", "import lightgbm\n" + SCORE + RUN)
    report = project.check(in_image=True)
    assert report.findings == () and report.notes == ("the packages of the image base are not looked at",)
    assert ("error", "UserScriptImportError") in codes(project.check()), (
        "a process has not the image's packages"
    )


def test_links_that_lead_out_of_the_model(project: Project, index: Silent) -> None:
    (project.folder / "model" / "out").symlink_to("/etc/hostname")
    assert ("error", "AssetLinkEscapes") in codes(project.check())


# --- the machine ---
def spec_of(**more: Any) -> DeploymentSpec:
    return DeploymentSpec(name="blue", endpoint_name="shop", **more)


def found(spec: DeploymentSpec, facts: MachineFacts = PLENTY, **load: int) -> list[tuple[str, str]]:
    listed = machine_findings(spec, Load(**load), facts, lambda path: Located(path_text(path)), again="again")
    return [(one.severity.value, one.failure.code) for one in listed]


def test_want_of_quota_is_told_at_the_instance_type(project: Project, index: Silent) -> None:
    refused = failure("OutOfQuota", "needs 8 vCPUs", evidence=["need: 8"], fix=verbatim("raise it"))
    (one,) = project.check(workspace=Known(refused=refused)).findings
    assert (one.severity, one.failure.code, one.failure.fix) == (Severity.ERROR, "OutOfQuota", "raise it")
    assert one.place is not None and one.place.field == "instance_type"


def test_models_that_do_not_fit() -> None:
    spec = spec_of(instance_type="Standard_DS3_v2")
    assert found(spec, model_bytes=20 * GIB) == [("warning", "OutOfMemory")]
    assert found(spec, model_bytes=40 * GIB) == [("warning", "OutOfMemory"), ("warning", "ArtifactsNoSpace")]
    full = MachineFacts(10**9, "/home")
    assert found(spec, full, model_bytes=2 * 10**9) == [("error", "AssetStoreFull")]
    assert found(spec, full, model_bytes=8 * 10**8) == [("warning", "EnvironmentDiskFull")]


def test_facts_of_this_machine(tmp_path: Path) -> None:
    facts = machine.facts_of(tmp_path / "not" / "there")
    assert facts.free_disk_bytes is not None and facts.free_disk_bytes > 0


def test_a_model_of_a_package_that_the_environment_lacks(project: Project, index: Silent) -> None:
    project.write("model/m.pkl", "cxgboost.sklearn\nXGBClassifier\n.")
    (one,) = project.check().findings
    assert (one.severity, one.failure.code) == (Severity.ERROR, "UserScriptImportError")
    assert "$AZUREML_MODEL_DIR/model/m.pkl holds objects of xgboost.sklearn" in one.failure.message
    assert "Add xgboost to" in one.failure.fix
    project.write("model/m.pkl", "cjoblib.numpy_pickle\nNumpyArrayWrapper\n.")
    assert project.check() == Report()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("def init():\n    raise NotImplementedError\n", "UserScriptInitFailed"),
        ("import sys\ndef init():\n    print(1)\n    sys.exit('no')\n", "UserScriptInitFailed"),
        ("def stop():\n    raise ValueError('x')\ndef init():\n    stop()\n", "UserScriptInitFailed"),
        ("def init():\n    pass\nraise SystemExit\n", "ScriptRaised"),
        ("def init():\n    for x in (1, 2):\n        raise ValueError\n", ""),
        ("def init():\n    while busy():\n        pass\n    raise ValueError\n", ""),
        ("def init():\n    try:\n        raise ValueError\n    except ValueError:\n        pass\n", ""),
        ("def init():\n    with pytest.raises(ValueError):\n        raise ValueError\n", ""),
        ("def init():\n    if unknown():\n        return\n    raise ValueError\n", ""),
        (
            "def stop():\n    raise ValueError('x')\ndef init():\n    try:\n        stop()\n    except ValueError: pass\n",
            "",
        ),
        ("@retry\ndef init():\n    raise ValueError\n", ""),
        ("def run(data):\n    raise ValueError\ndef init(): pass\n", ""),
    ],
)
def test_a_script_that_cannot_start(project: Project, index: Silent, script: str, code: str) -> None:
    project.write("src/score.py", script + RUN)
    assert [each for _, each in codes(project.check())] == ([code] if code else [])
