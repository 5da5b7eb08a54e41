"""MLflow models served without code: real models, in a real environment, behind the real inference server."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorings.environments.mlflow import MLFLOW_CODE, MLFLOW_SCRIPT, Read, mlflow_environment
from moorings.environments.recipe import make_recipe
from moorings.environments.venv import BuiltEnvironment, EnvironmentBuilder
from moorings.spec.assets import EnvironmentSpec

DATA = Path(__file__).parent / "data"
PACKAGES = ["mlflow", "scikit-learn==1.7.0", "cloudpickle==3.1.1", "psutil==7.0.0", "numpy==2.3.1"]
MODELS = ("columns", "tensor", "named", "params", "bare", "odd", "sklearn")


class OverSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


class Served:
    """A worker for one model each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, python: Path, code: Path, model: Path) -> None:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AML_APP_ROOT": str(code),
            "AZUREML_ENTRY_SCRIPT": MLFLOW_SCRIPT,
            "AZUREML_MODEL_DIR": str(model),
            "MOORINGS_SOCKET": str(self.folder / f"{name}.sock"),
        }
        log = (self.folder / f"{name}.log").open("wb")
        self.processes[name] = subprocess.Popen(
            [python, "-m", "moorings_server", "--worker"], env=env, cwd=code, stdout=log, stderr=log
        )
        log.close()

    def ask(self, name: str, body: Any) -> tuple[int, Any]:
        path = self.folder / f"{name}.sock"
        deadline = time.monotonic() + 120
        while not path.exists():
            assert self.processes[name].poll() is None, self.log(name)
            assert time.monotonic() < deadline, self.log(name)
            time.sleep(0.05)
        connection = OverSocket(path)
        connection.request("POST", "/score", body if isinstance(body, bytes) else json.dumps(body).encode())
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def good(self, name: str, body: Any) -> Any:
        status, found = self.ask(name, body)
        assert status == 200, (found, self.log(name)[-3000:])
        return found

    def refused(self, name: str, body: Any) -> list[str]:
        status, found = self.ask(name, body)
        assert status == 400, (status, found, self.log(name)[-3000:])
        assert found["message"]
        return list(found["problems"])


@pytest.fixture(scope="module")
def built() -> Iterator[BuiltEnvironment]:
    root = Path(tempfile.mkdtemp(prefix="moor-mlflow-"))
    builder = EnvironmentBuilder(root / "environments", uv=None, allow_python_download=False, home=root)
    spec = EnvironmentSpec(conda_file={"dependencies": ["python=3.12", {"pip": PACKAGES}]})
    yield asyncio.run(builder.ensure(spec, progress=lambda text: None))
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def models(built: BuiltEnvironment) -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="moor-models-"))
    done = subprocess.run(
        [built.python, DATA / "mlflow_models.py", root], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def served(built: BuiltEnvironment, models: Path) -> Iterator[Served]:
    folder = Path(tempfile.mkdtemp(prefix="ml-"))
    served = Served(folder)
    code = folder / "code"
    shutil.copytree(MLFLOW_CODE, code)
    for name in MODELS:
        served.start(name, built.python, code, models / name)
    yield served
    for process in served.processes.values():
        process.terminate()
        process.wait(30)
    shutil.rmtree(folder, ignore_errors=True)


ROW = {"d": 1, "n": 2, "s": "x", "b": True, "t": "2024-02-29T12:00:00"}
NAMES = list(ROW)


@pytest.mark.parametrize(
    "body",
    [
        {"input_data": {"columns": NAMES, "index": [7], "data": [list(ROW.values())]}},
        {"input_data": {"columns": NAMES[::-1], "data": [list(ROW.values())[::-1]]}},
        {"input_data": [ROW]},
        {"input_data": {name: [value] for name, value in ROW.items()}},
        {"dataframe_split": {"columns": NAMES, "data": [list(ROW.values())]}},
        {"dataframe_records": [ROW]},
        {"instances": [ROW]},
        {"inputs": {name: [value] for name, value in ROW.items()}},
    ],
)
def test_every_form_of_a_row_reaches_the_model_in_its_types(served: Served, body: dict[str, Any]) -> None:
    found = served.good("columns", body)
    rows = found if "input_data" in body else found["predictions"]
    assert rows[0]["row"][:4] == ["1.0", "2", "x", "True"]
    assert rows[0]["row"][4].startswith("2024-02-29")
    kinds = rows[0]["kinds"].split(",")
    assert (kinds[0], kinds[1], kinds[3], kinds[4]) == ("float64", "int64", "bool", "datetime64[ns]")


def test_optional_columns_may_be_left_out_or_null(served: Served) -> None:
    assert len(served.good("columns", {"input_data": [{**ROW, "o": 1.5}]})[0]["row"]) == 6
    assert served.good("columns", {"input_data": [{**ROW, "o": None}]})


def test_everything_that_does_not_fit_is_said_with_column_and_row(served: Served) -> None:
    bad = {"d": "high", "n": 1.5, "s": 3, "b": 1, "t": "no day"}
    problems = served.refused("columns", {"input_data": [ROW, bad]})
    expected = {"'d'": "double, found 'high'", "'n'": "long, found 1.5", "'s'": "string, found 3"}
    expected |= {"'b'": "boolean, found 1", "'t'": "datetime, found 'no day'"}
    assert len(problems) == 5
    for name, said in expected.items():
        assert any(f"column {name}, row 1: expected {said}" in one for one in problems), (name, problems)


def test_missing_and_unknown_columns_are_named_together(served: Served) -> None:
    row = {key: value for key, value in ROW.items() if key not in ("n", "s")}
    problems = served.refused("columns", {"input_data": [{**row, "extra": 1, "more": 2}]})
    assert problems[:2] == ["the column 'n' (long) is missing", "the column 's' (string) is missing"]
    assert problems[2].startswith("unknown columns: extra, more")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        ([1], "expected a JSON object with the key input_data"),
        ({"data": [1]}, "its keys are data"),
        ({"input_data": [], "inputs": []}, "it has input_data and inputs"),
        ({"input_data": [ROW], "parameters": {}}, "unknown keys beside input_data: parameters"),
        ({"input_data": [ROW], "params": [1]}, "params: expected an object"),
        ({"input_data": 5}, "expected a list or an object, not a number"),
        ({"input_data": {"columns": ["d"], "data": [[1, 2]]}}, "expected a row of 1 values"),
        ({"input_data": {"columns": ["d", "d"], "data": [[1, 2]]}}, "a name is there twice"),
        ({"input_data": {"columns": NAMES, "index": [1, 2], "data": [list(ROW.values())]}}, "index"),
        ({"input_data": [{"d": 1}, {"n": 1}]}, "the column 'n' is missing"),
        ({"input_data": {"d": [1], "n": [1, 2]}}, "different lengths"),
        ({"input_data": [[1, 2]]}, "expected a row of 6 values"),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(served: Served, body: Any, said: str) -> None:
    assert said in " ".join(served.refused("columns", body))


def test_tensors(served: Served) -> None:
    assert served.good("tensor", {"input_data": [[1, 2], [3, 4.5]]}) == [3.0, 7.5]
    assert served.good("tensor", {"inputs": [[1, 2]]}) == {"predictions": [3.0]}
    assert served.good("tensor", {"instances": [[1, 2]]}) == {"predictions": [3.0]}
    assert served.good("named", {"input_data": {"a": [[1, 2]], "b": [5]}}) == {"a": [3.0], "b": [5]}
    rows = {"instances": [{"a": [1, 2], "b": 5}, {"a": [3, 4], "b": 6}]}
    assert served.good("named", rows) == {"predictions": {"a": [3.0, 7.0], "b": [5, 6]}}


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ("tensor", [[1, 2, 3]], "expected the shape [-1, 2], found [1, 3]"),
        ("tensor", [["a", "b"]], "expected float32"),
        ("tensor", [[1, 2], [3]], "regular list|different kinds"),
        ("tensor", {"x": [1]}, "takes one tensor without a name"),
        ("named", [[1, 2]], "takes several tensors (a, b)"),
        ("named", {"a": [[1, 2]], "c": [1]}, "the tensor 'b' is missing"),
        ("named", {"a": [[1, 2]], "b": [1.5]}, "expected int64, found float64"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(served: Served, model: str, data: Any, said: str) -> None:
    problems = " ".join(served.refused(model, {"input_data": data}))
    assert any(part in problems for part in said.split("|")), problems


def test_params_reach_the_model_and_are_checked(served: Served) -> None:
    assert served.good("params", {"input_data": [2.0, 3.0], "params": {"factor": 10.0}}) == [20.0, 30.0]
    assert served.good("params", {"input_data": [[2.0]]}) == [2.0]
    assert "factor" in " ".join(served.refused("params", {"input_data": [2.0], "params": {"factor": "much"}}))


def test_a_model_without_a_signature_takes_what_it_is_given(served: Served) -> None:
    split = {"columns": ["a"], "data": [[1], [2]]}
    assert served.good("bare", {"input_data": split}) == ["DataFrame [2, 1]"]
    assert served.good("bare", {"input_data": [{"a": 1}]}) == ["DataFrame [1, 1]"]
    assert served.good("bare", {"input_data": [[1, 2]]}) == ["ndarray [1, 2]"]
    assert served.good("bare", {"input_data": {"a": [1]}}) == ["dict []"]


def test_answers_that_are_no_plain_json(served: Served) -> None:
    assert served.good("odd", {"input_data": [[1]]}) == [
        {"when": "2024-02-29T00:00:00", "raw": "AP8=", "n": 3}
    ]


def test_a_flavor_of_a_library(served: Served) -> None:
    found = served.good("sklearn", {"input_data": {"columns": ["x", "y"], "data": [[4, 0]]}})
    assert found == pytest.approx([9.0])
    assert "missing" in " ".join(served.refused("sklearn", {"input_data": [{"x": 1}]}))


def reader(folder: Path) -> Read:
    return lambda name: (folder / name).read_text() if (folder / name).is_file() else None


def test_the_environment_of_a_saved_model_is_read_from_its_files(models: Path) -> None:
    folder = models / "sklearn"
    recipe = make_recipe(mlflow_environment(reader(folder)))
    assert recipe.python.startswith("==3.12")
    assert any(one.startswith("scikit-learn==1.7.0") for one in recipe.requirements)
    whole = recipe.requirements
    (folder / "conda.yaml").rename(folder / "conda.away")
    assert set(make_recipe(mlflow_environment(reader(folder))).requirements) == set(whole)
    (folder / "python_env.yaml").rename(folder / "python_env.away")
    assert set(make_recipe(mlflow_environment(reader(folder))).requirements) == set(whole)


OWN = """
import os
import mlflow.pyfunc, pandas as pd, json

def init():
    global model
    model = mlflow.pyfunc.load_model(os.environ["AZUREML_MODEL_DIR"])

def run(data):
    return model.predict(pd.DataFrame(json.loads(data)))
"""


def test_a_script_of_the_users_own_refuses_what_does_not_fit_as_well(
    served: Served, built: BuiltEnvironment, models: Path
) -> None:
    code = served.folder / "own"
    code.mkdir()
    (code / "score.py").write_text(OWN)
    served.start("own", built.python, code, models / "sklearn")
    assert served.good("own", {"x": [4.0], "y": [0.0]}) == pytest.approx([9.0])
    status, body = served.ask("own", {"x": ["four"], "y": [0.0]})
    assert status == 400
    assert "x" in body["message"] and "schema" in body["message"]
