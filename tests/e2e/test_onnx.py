"""A model repository of ONNX files, deployed without code and environment, spoken to over the protocol of its kind."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import struct
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorings.environments.venv import EnvironmentBuilder
from moorings.spec.assets import EnvironmentSpec

DATA = Path(__file__).parent / "data"
MAKER = {"dependencies": ["python=3.11", {"pip": ["onnx", "numpy", "tritonclient[http]"]}]}


@pytest.fixture(scope="module")
def maker() -> Iterator[Path]:
    """The interpreter of an environment that makes models and has the protocol's own client."""
    root = Path(tempfile.mkdtemp(prefix="moor-maker-"))
    builder = EnvironmentBuilder(root / "environments", uv=None, allow_python_download=False, home=root)
    built = asyncio.run(builder.ensure(EnvironmentSpec(conda_file=MAKER), progress=lambda text: None))
    yield built.python
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def served(workspace: Any, maker: Path) -> Any:
    """A workspace with the endpoint `port`, whose deployment serves the repository."""
    models = workspace.files / "models"
    subprocess.run([maker, DATA / "onnx_models.py", models], check=True, capture_output=True)
    workspace.endpoint("port")
    spec = {
        "name": "onnx",
        "endpoint_name": "port",
        "model": {"path": str(models), "type": "triton_model"},
        "instance_type": "Standard_DS3_v2",
        "request_settings": {"max_concurrent_requests_per_instance": 4},
    }
    path = workspace.files / "onnx.yml"
    path.write_text(json.dumps(spec))
    workspace.deploy(path, "--all-traffic")
    return workspace


def get(served: Any, path: str) -> Any:
    url = f"http://127.0.0.1:{served.port}/api/v1/endpoint/port/{path}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {served.key('port')}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code, problem.read()


def tensor(data: Any, shape: list[int], name: str = "x", datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def infer(served: Any, model: str, *inputs: dict[str, Any], **more: Any) -> Any:
    return served.score("port", {"inputs": list(inputs), **more}, path=f"v2/models/{model}/infer")


def refused(answer: Any, status: int = 400) -> str:
    """What a refusal says; the gateway gives the model's own status in a header."""
    assert (answer.status, answer.headers["ms-azureml-model-error-statuscode"]) == (424, str(status))
    return str(answer.json["error"])


def test_health_metadata_and_readiness(served: Any) -> None:
    assert get(served, "v2/health/live") == (200, b"")
    assert get(served, "v2/health/ready") == (200, b"")
    assert get(served, "v2/models/pair/ready") == (200, b"")
    status, body = get(served, "v2")
    assert status == 200 and "binary_tensor_data" in json.loads(body)["extensions"]
    assert json.loads(get(served, "v2/models/linear")[1]) == {
        "name": "linear",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }
    pair = json.loads(get(served, "v2/models/pair/versions/1")[1])
    assert pair["inputs"][1] == {"name": "b", "datatype": "INT64", "shape": [-1, 2]}


def test_the_newest_version_answers_unless_one_is_named(served: Any) -> None:
    x = tensor([1, 2, 3.5, 0, 0, 0], [2, 3])
    newest = infer(served, "linear", x, id="a")
    assert newest.status == 200, newest.body
    assert newest.json == {
        "model_name": "linear",
        "model_version": "2",
        "id": "a",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [13.0, 14.0, 0.0, 1.0]}],
    }
    older = infer(served, "linear/versions/1", tensor([[1, 2, 3.5]], [1, 3]))
    assert older.json["outputs"][0]["data"] == [6.5, 7.5]
    assert "'3'" in refused(infer(served, "linear/versions/3", x), 404)
    assert "linear, pair" in refused(infer(served, "lineal", x), 404)


def test_several_tensors_and_chosen_outputs(served: Any) -> None:
    inputs = [tensor([[1, 2]], [1, 2], name, "INT64") for name in ("a", "b")]
    assert [o["name"] for o in infer(served, "pair", *inputs).json["outputs"]] == ["sum", "difference"]
    chosen = infer(served, "pair", *inputs, outputs=[{"name": "difference"}]).json["outputs"]
    assert chosen == [{"name": "difference", "datatype": "INT64", "shape": [1, 2], "data": [0, 0]}]


def test_every_problem_of_a_request_is_said_at_once(served: Any) -> None:
    a = tensor([[1.5, 2]], [1, 2], "a", "INT64")
    said = refused(infer(served, "pair", a, tensor([], [0], "c"), outputs=[]))
    for part in ("'a': INT64 data is whole numbers", "unknown input 'c'", "a, b", "'b' is missing"):
        assert part in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (tensor([1, 2], [1, 2]), "the model takes [-1, 3]"),
        (tensor([1, 2], [1, 3]), "has 3 elements, and data has 2"),
        (tensor([[1, 2], [3]], [1, 3]), "not a regular list"),
        (tensor([1, 2, 3], [1, 3], datatype="FP64"), "datatype is 'FP64', and the model takes FP32"),
        (tensor(["a", "b", "c"], [1, 3]), "FP32 data is numbers"),
        (tensor([1, 2, None], [1, 3]), "FP32 data is numbers"),
        (tensor({"a": 1}, [1, 3]), "data is a list"),
        (tensor([1, 2, 3], [-1, 3]), "whole numbers of 0 or more"),
        (tensor([[1], [2], [3]], [1, 3]), "nested as [3, 1]"),
        ({"name": "x", "shape": [1, 3], "datatype": "FP32"}, "data is missing"),
        ({"name": "x", "datatype": "FP32", "data": [1]}, "shape is a list"),
    ],
)
def test_a_tensor_that_does_not_fit_says_why(served: Any, given: dict[str, Any], said: str) -> None:
    assert said in refused(infer(served, "linear", given))


def test_a_batch_is_bounded_by_the_configuration(served: Any) -> None:
    five = [tensor([[0, 0]] * 5, [5, 2], name, "INT64") for name in ("a", "b")]
    assert "takes 1 to 4 (max_batch_size)" in refused(infer(served, "pair", *five))
    uneven = [tensor([[0, 0]] * n, [n, 2], name, "INT64") for n, name in ((1, "a"), (2, "b"))]
    assert "batches of different sizes: [1, 2]" in refused(infer(served, "pair", *uneven))


def test_texts_and_booleans(served: Any) -> None:
    words = infer(served, "words", tensor(["ahoi", "\u00e4"], [2], "text", "BYTES"))
    assert words.json["outputs"][0]["data"] == ["ahoi", "\u00e4"]
    flag = tensor([True], [1], "flag", "BOOL")
    assert infer(served, "flags", flag).json["outputs"][0]["data"] == [1.0]
    nan = infer(served, "flags", {**flag, "data": [False]})
    assert "ask for it as binary data" in refused(nan)


def test_binary_data_that_is_cut_off_is_refused(served: Any) -> None:
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
            ]
        }
    ).encode()
    path = "v2/models/linear/infer"
    length = {"Inference-Header-Content-Length": str(len(head))}
    whole = served.score("port", head + struct.pack("<3f", 1, 2, 3), headers=length, path=path)
    assert whole.json["outputs"][0]["data"] == [12.0, 13.0]
    cut = served.score("port", head + b"\0" * 11, headers=length, path=path)
    assert "binary_data_size is 12, and 11 bytes are left" in refused(cut)
    for wrong in ("9999", "-1", "1_0", "9" * 5000):
        beyond = {"Inference-Header-Content-Length": wrong}
        assert "at most the" in refused(served.score("port", head, headers=beyond, path=path))
    assert "not valid JSON" in refused(served.score("port", b"\xff{", path=path))
    plain = json.dumps({"inputs": [tensor([1, 2, 3], [1, 3])]}).encode()
    stray = {"Inference-Header-Content-Length": str(len(plain))}
    assert "2 bytes behind the JSON belong to no input" in refused(
        served.score("port", plain + b"xx", headers=stray, path=path)
    )


def test_a_body_that_unpacks_to_more_than_is_allowed_is_refused(served: Any) -> None:
    packed = {"Content-Encoding": "gzip"}
    path = "v2/models/linear/infer"
    bomb = gzip.compress(b"[" + b" " * (101 << 20), 1)
    assert "unpacked" in refused(served.score("port", bomb, headers=packed, path=path), 413)
    assert "cannot be unpacked" in refused(served.score("port", b"{}", headers=packed, path=path))
    unknown = {"Content-Encoding": "br"}
    assert "gzip and deflate" in refused(served.score("port", b"{}", headers=unknown, path=path), 415)


def test_the_protocols_own_client(served: Any, maker: Path) -> None:
    base = f"127.0.0.1:{served.port}/api/v1/endpoint/port"
    done = subprocess.run(
        [maker, DATA / "triton_client.py", base, served.key("port")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["live"], said["ready"], said["model"], said["id"]) == (True, True, True, "7")
    assert said["binary"] == said["json"] == [[3.0, 4.0], [12.0, 13.0]]
    assert said["gzip"] == said["deflate"] == [[6.0, 7.0], [24.0, 25.0]]
    assert said["words"] == ["ahoi", "\u00e4"]
    assert {"name": "linear", "version": "2", "state": "READY"} in said["index"]
    assert said["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]


def test_invoke_without_a_path_names_the_models(served: Any) -> None:
    assert "/v2/models/linear/infer" in refused(served.score("port", {"inputs": []}))


@pytest.mark.parametrize(
    ("files", "code", "said"),
    [
        (
            {"m/1/model.plan": "x", "m/config.pbtxt": 'platform: "tensorrt_plan"'},
            "TritonModelNotServable",
            "no ONNX",
        ),
        ({"m/1/model.onnx": "no model"}, "", "cannot be loaded"),
        ({"m/1/model.onnx": "x", "m/config.pbtxt": "max_batch_size: ["}, "", "config.pbtxt"),
    ],
)
def test_a_repository_that_cannot_be_served_says_why(
    served: Any, files: dict[str, str], code: str, said: str
) -> None:
    root = Path(tempfile.mkdtemp(dir=served.files))
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    spec = {
        "name": "bad",
        "endpoint_name": "port",
        "model": {"path": str(root), "type": "triton_model"},
        "instance_type": "Standard_DS3_v2",
    }
    (root / "bad.yml").write_text(json.dumps(spec))
    done = served.moor("online-deployment", "create", "-f", str(root / "bad.yml"), check=False)
    assert done.returncode != 0
    assert said in done.stderr and code in done.stderr, done.stderr
    served.moor("online-deployment", "delete", "-e", "port", "-n", "bad", "--yes")
