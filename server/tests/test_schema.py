"""`@input_schema` and `@output_schema` of the inference-schema package: arguments, refusals, documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

NUMPY = """
    import numpy as np
    from inference_schema.schema_decorators import input_schema, output_schema
    from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
    from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType

    def init(): pass

    @input_schema("Inputs", NumpyParameterType(np.array([[1.0, 2.0]]), enforce_shape=False))
    @input_schema("scale", StandardPythonParameterType(2))
    @output_schema(StandardPythonParameterType({"Results": [1.0]}))
    def run(Inputs, scale=3, request_headers=None):
        assert isinstance(Inputs, np.ndarray)
        return {"Results": Inputs.sum(axis=1) * scale, "who": request_headers["X-Who"]}
"""
JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def worker(start_module: Any) -> Iterator[Any]:
    yield start_module(
        NUMPY, SERVICE_NAME="iris", SERVICE_VERSION="7", SERVICE_PATH_PREFIX="/api/v1/"
    ).ready()


def test_arguments_come_from_the_keys(worker: Any) -> None:
    answer = worker.score(b'{"Inputs": [[1, 2], [3, 4]], "scale": 2, "more": 1}', JSON, "x-who: me")
    assert (answer.status, answer.json) == (200, {"Results": [6.0, 14.0], "who": "me"})


def test_a_default_is_a_default(worker: Any) -> None:
    assert worker.score(b'{"Inputs": [[1, 1]]}', JSON, "x-who: ").json["Results"] == [6.0]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"]
)
def test_media_types_that_are_json(worker: Any, kind: str) -> None:
    assert worker.score(b'{"Inputs": [[1, 1]]}', f"Content-Type: {kind}", "x-who: ").status == 200


def test_a_get_has_arguments_too(worker: Any, make_post: Any) -> None:
    request = make_post(b"", "x-who: q", method="GET", target="/score?Inputs=[[5]]&scale=1")
    assert worker.ask(request).json == {"Results": [5.0], "who": "q"}


@pytest.mark.parametrize(
    ("body", "line", "status", "message"),
    [
        (b"{}", "Content-Type: text/plain", 415, "Expects Content-Type to be application/json"),
        (b"{}", "X: no-type", 415, "Expects Content-Type to be application/json"),
        (b"", JSON, 400, "POST body is empty. Expecting a JSON dictionary."),
        (b"{", JSON, 400, "POST body could not be decoded as JSON: "),
        (b'{"a": "\xff"}', JSON, 400, "POST body could not be decoded as JSON: "),
        (b"[" * 200_000, JSON, 400, "POST body could not be decoded as JSON: "),
        (b"[1]", JSON, 400, "POST body should be a JSON dictionary."),
        (b"null", JSON, 400, "POST body should be a JSON dictionary."),
        (b'{"scale": 1}', JSON, 400, "A value is not provided for the 'Inputs' parameter."),
    ],
)
def test_refusals(worker: Any, body: bytes, line: str, status: int, message: str) -> None:
    answer = worker.score(body, line)
    assert answer.status == status
    assert answer.json["message"].startswith(message)
    assert answer.header("x-ms-run-function-failed") == "False"


def test_a_value_of_the_wrong_type_is_the_scripts(worker: Any) -> None:
    answer = worker.score(b'{"Inputs": "text"}', JSON)
    assert (answer.status, answer.header("x-ms-run-function-failed")) == (500, "True")


@pytest.mark.parametrize(
    ("version", "definitions"), [("2", "definitions"), ("3", "schemas"), ("3.1", "schemas")]
)
def test_the_documents_show_the_schema(worker: Any, make_post: Any, version: str, definitions: str) -> None:
    document = worker.ask(make_post(method="GET", target=f"/swagger.json?version={version}")).json
    schemas = document.get("definitions") or document["components"]["schemas"]
    assert set(schemas["ServiceInput"]["properties"]) >= {"Inputs", "scale"}
    assert schemas["ServiceInput"]["example"]["Inputs"] == [[1.0, 2.0]]
    assert schemas["ServiceOutput"]["example"] == {"Results": [1.0]}
    assert (document["info"]["title"], document["info"]["version"]) == ("iris", "7")
    assert set(document["paths"]) == {"/api/v1/", "/api/v1/score"}


def test_a_version_that_cannot_express_the_schema_is_left_out(start: Any, make_post: Any) -> None:
    script = """
        from inference_schema.schema_decorators import input_schema
        from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
        def init(): pass
        @input_schema("data", StandardPythonParameterType([1, "mixed"]))
        def run(data): return data
    """
    worker = start(script).ready()
    answer = worker.ask(make_post(method="GET", target="/swagger.json"))
    assert answer.status == 404
    assert answer.json == {
        "message": "Swagger version [2] is not supported for the scoring script. "
        "Supported swagger versions: [3, 3.1]."
    }
    unknown = worker.ask(make_post(method="GET", target="/swagger.json?version=9")).json["message"]
    assert unknown == "Swagger version [9] is not valid. Supported versions: [3, 3.1]."
    assert worker.ask(make_post(method="GET", target="/swagger.json?version=3.0")).status == 200


def test_pandas_frames(start: Any) -> None:
    script = """
        import pandas as pd
        from inference_schema.schema_decorators import input_schema
        from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
        def init(): pass
        @input_schema("data", PandasParameterType(pd.DataFrame({"a": [1.5], "b": [2]})))
        def run(data): return [data["a"].sum(), list(data.columns), data["b"].max()]
    """
    answer = start(script).ready().score(b'{"data": [{"a": 1, "b": 2}, {"a": 2, "b": 5}]}', JSON)
    assert answer.json == [3.0, ["a", "b"], 5]


@pytest.mark.parametrize("define", ["def", "async def"])
@pytest.mark.parametrize("limit", ["1", "4"])
def test_in_every_gate(start: Any, define: str, limit: str) -> None:
    script = f"""
        from inference_schema.schema_decorators import input_schema
        from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
        def init(): pass
        @input_schema("data", StandardPythonParameterType({{"a": 1}}))
        {define} run(data): return data["a"]
    """
    worker = start(script, MOORINGS_MAX_CONCURRENT=limit).ready()
    assert worker.score(b'{"data": {"a": 4}}', JSON).json == 4


def test_raw_and_schema_exclude_each_other(start: Any) -> None:
    script = """
        from azureml.contrib.services.aml_request import rawhttp
        from inference_schema.schema_decorators import input_schema
        from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
        def init(): pass
        @rawhttp
        @input_schema("data", StandardPythonParameterType(1))
        def run(data): return data
    """
    report = start(script).failed()
    assert report["kind"] == "bad_signature"
    assert "@rawhttp" in report["message"]
    assert "@input_schema" in report["message"]
