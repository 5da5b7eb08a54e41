"""Settings below `properties`: what each may hold, and a sample request that is a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moorings.errors.exceptions import SpecInvalid
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.loader import examine_deployment
from moorings.spec.quota import Capacity, Carried, holding
from moorings.spec.validate import deployment_problems


def problems(**properties: str) -> list[str]:
    given = {f"moorings.{name}": value for name, value in properties.items()}
    return [
        p.message
        for p in deployment_problems(DeploymentSpec(name="blue", endpoint_name="shop", properties=given))
    ]


@pytest.mark.parametrize(
    "properties",
    [
        {"max_surge": "2", "max_unavailable": "0"},
        {"max_surge": "50%", "max_unavailable": "25%"},
        {"max_surge": "0", "max_unavailable": "1"},
        {"progress_deadline_s": "600"},
        {"sample_request": '{"data": [[1, 2]]}'},
        {"sample_request": "[1]"},
    ],
)
def test_good_ones(properties: dict[str, str]) -> None:
    assert problems(**properties) == []


@pytest.mark.parametrize(
    "properties, says",
    [
        ({"max_surge": "lots"}, "expected a number of instances"),
        ({"max_surge": "101%"}, "0% to 100%"),
        ({"max_surge": "51"}, "0 to 50"),
        ({"max_unavailable": "-1"}, "expected a number of instances"),
        ({"max_surge": "0", "max_unavailable": "0%"}, "are both 0"),
        ({"progress_deadline_s": "0"}, "from 1 to"),
        ({"sample_request": "{"}, "no JSON"),
        ({"sample_request": "sample.json"}, "no JSON"),
        ({"sample_request": "[" * 100_000}, "at most"),
        ({"surge": "1"}, "`moorings.max_surge`"),
    ],
)
def test_wrong_ones_say_what_is_expected(properties: dict[str, str], says: str) -> None:
    (message,) = problems(**properties)
    assert says in message


def test_all_problems_come_at_once() -> None:
    assert len(problems(max_surge="x", max_unavailable="y", progress_deadline_s="z")) == 3


def write(folder: Path, sample: str) -> Path:
    (folder / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    document: dict[str, Any] = {
        "name": "blue",
        "endpoint_name": "shop",
        "code_configuration": {"code": ".", "scoring_script": "score.py"},
        "instance_type": "Standard_DS3_v2",
        "environment": {"image": "x", "conda_file": {"dependencies": ["python=3.11"]}},
        "properties": {"moorings.sample_request": sample},
    }
    (folder / "blue.yml").write_text(json.dumps(document))
    return folder / "blue.yml"


def test_a_file_beside_the_spec_is_sent_as_its_text(tmp_path: Path) -> None:
    (tmp_path / "sample-request.json").write_text('{"data": [1]}\n')
    spec = examine_deployment(write(tmp_path, "sample-request.json")).valid()
    assert spec.properties["moorings.sample_request"] == '{"data": [1]}\n'


@pytest.mark.parametrize("content, says", [(None, "not"), ("{", "no JSON"), ("x" * 70_000, "at most 65536")])
def test_a_file_that_cannot_be_sent(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "sample-request.json").write_text(content)
    with pytest.raises(SpecInvalid) as caught:
        examine_deployment(write(tmp_path, "sample-request.json")).valid()
    (problem,) = caught.value.failure.details
    assert says in problem.message
    assert "blue.yml" in str(problem.target)


def test_what_show_prints_of_generations_can_be_loaded_again(tmp_path: Path) -> None:
    path = write(tmp_path, '"text alone is JSON, too"')
    document = json.loads(path.read_text())
    document |= {"serving": {"generation": 1}, "failed": {"generation": 2, "code": "SampleRequestFailed"}}
    path.write_text(json.dumps(document))
    assert examine_deployment(path).valid().properties == document["properties"]


def test_the_quota_of_updates_follows_the_surge() -> None:
    capacity = Capacity(64, 1 << 40, 0)

    def counted(**properties: str) -> int:
        spec = {"instance_type": "Standard_DS3_v2", "instance_count": 4, "properties": properties}
        return holding("e/d", spec, Carried(), capacity).parts[0].counted

    assert counted() == 5
    assert counted(**{"moorings.max_surge": "100%"}) == 8
    assert counted(**{"moorings.max_surge": "0", "moorings.max_unavailable": "1"}) == 4
