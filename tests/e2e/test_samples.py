"""Specs that nobody here wrote deploy unchanged and give the answers recorded with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"

EXPECTED = {
    "diabetes-blue": ("blue", "blue-deployment.yml", [11055.977245525679, 4503.079536107787]),
    "mlflow-sklearn": ("sklearn-deployment", "deployment.yml", [11633.100167144927, 8522.117402885002]),
}


@pytest.mark.parametrize("sample", list(EXPECTED))
def test_a_sample_from_outside_answers_as_recorded(workspace: Any, sample: str) -> None:
    deployment, file, expected = EXPECTED[sample]
    folder = SAMPLES / sample
    workspace.keys.clear()
    workspace.moor("online-endpoint", "create", "-f", str(folder / "endpoint.yml"))
    workspace.moor("online-deployment", "create", "-f", str(folder / file), "--all-traffic", timeout_s=600)
    request = json.loads((folder / "sample-request.json").read_text())
    answer = workspace.score("my-endpoint", request)
    assert answer.status == 200, answer.body
    assert answer.json == pytest.approx(expected, rel=1e-6)
    assert answer.headers["azureml-model-deployment"] == deployment
    if sample == "mlflow-sklearn":
        request["input_data"]["data"][1][2] = "nine"
        refused = workspace.score("my-endpoint", request)
        assert (refused.status, refused.headers["ms-azureml-model-error-statuscode"]) == (424, "400")
        assert refused.json["problems"] == ["column 'bmi', row 1: expected double, found 'nine'"]
    workspace.moor("online-endpoint", "delete", "-n", "my-endpoint", "--yes")
