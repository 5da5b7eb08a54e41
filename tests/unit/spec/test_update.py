"""Updates: what is kept, merged, replaced and removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moorings.errors.exceptions import SpecInvalid
from moorings.spec.assets import ModelSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.update import (
    examine_updated,
    plain,
    update_endpoint,
)

BLUE = DeploymentSpec.model_validate(
    {
        "name": "blue",
        "endpoint_name": "my-endpoint",
        "model": "azureml:m:1",
        "environment": "azureml:e:1",
        "code_configuration": {"code": "azureml:c:1", "scoring_script": "score.py"},
        "instance_type": "Standard_DS3_v2",
        "instance_count": 3,
        "tags": {"a": "1", "b": "2"},
        "environment_variables": {"X": "1"},
        "app_insights_enabled": True,
        "liveness_probe": {"period": 5},
        "data_collector": {"collections": {"request": {"enabled": True}}},
    }
)
ENDPOINT = EndpointSpec.model_validate(
    {"name": "my-endpoint", "traffic": {"blue": 90, "green": 10}, "tags": {"a": "1"}, "description": "d"}
)


def codes(refused: pytest.ExceptionInfo[SpecInvalid]) -> list[tuple[str, str | None]]:
    return [(d.code, d.target) for d in refused.value.failure.details]


def update_deployment(existing: DeploymentSpec, **changes: Any) -> DeploymentSpec:
    return examine_updated(existing, **changes).valid()


def test_nothing_changes_without_changes() -> None:
    assert update_deployment(BLUE, changes={}) == BLUE
    assert update_endpoint(ENDPOINT, changes={}) == ENDPOINT
    assert DeploymentSpec.model_validate(plain(BLUE)) == BLUE


def test_mappings_are_merged_and_scalars_replaced() -> None:
    changes: dict[str, Any] = {
        "tags": {"b": "3", "c": "4"},
        "environment_variables": {"Y": "2"},
        "instance_count": 1,
        "description": None,
        "app_insights_enabled": False,
        "liveness_probe": {"timeout": 4},
    }
    changed = update_deployment(BLUE, changes=changes)
    assert changed.tags == {"a": "1", "b": "3", "c": "4"}
    assert changed.environment_variables == {"X": "1", "Y": "2"}
    assert changed.instance_count == 1
    assert changed.app_insights_enabled is False
    assert (changed.liveness_probe.period, changed.liveness_probe.timeout) == (5, 4)
    assert changed.model == BLUE.model


def test_traffic_is_merged_by_name() -> None:
    assert update_endpoint(ENDPOINT, changes={"traffic": {"blue": 0, "green": 100}}).traffic == {"green": 100}
    with pytest.raises(SpecInvalid) as refused:
        update_endpoint(ENDPOINT, changes={"traffic": {"green": 100}})
    assert [code for code, _ in codes(refused)] == ["TrafficInvalid"]


def test_an_inline_model_replaces_the_old_one_whole(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_text("")
    (tmp_path / "blue.yml").write_text("model: {path: m.pkl}\n")
    changed = update_deployment(BLUE, path=tmp_path / "blue.yml")
    assert changed.model == ModelSpec(path=str(tmp_path / "m.pkl"))
    assert changed.instance_count == 3
    (tmp_path / "blue.yml").write_text("name: blue\nmodel: azureml:m:2\n")
    assert update_deployment(changed, path=tmp_path / "blue.yml").model == "azureml:m:2"


def test_expressions_come_after_the_file(tmp_path: Path) -> None:
    (tmp_path / "blue.yml").write_text("instance_count: 5\ntags: {c: 3}\n")
    changed = update_deployment(
        BLUE, path=tmp_path / "blue.yml", set_=["instance_count=7", "tags.d=1.10"], remove=["tags.a"]
    )
    assert changed.instance_count == 7
    assert changed.tags == {"b": "2", "c": "3", "d": "1.10"}


def test_only_remove_takes_a_key_away() -> None:
    changed = update_endpoint(ENDPOINT, remove=["description", "tags.a"])
    assert changed.description is None
    assert changed.tags == {}


def test_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blue.yml").write_text("name: green\nendpoint_name: other\n")
    with pytest.raises(SpecInvalid) as refused:
        update_deployment(BLUE, path=tmp_path / "blue.yml")
    file = tmp_path / "blue.yml"
    assert codes(refused) == [
        ("NameMismatch", f"{file}:1:7 name"),
        ("NameMismatch", f"{file}:2:16 endpoint_name"),
    ]


def test_problems_name_the_expression() -> None:
    with pytest.raises(SpecInvalid) as refused:
        update_deployment(BLUE, set_=["instance_count=many", "instnce_type=x"], remove=["tags.z"])
    assert sorted(codes(refused)) == [
        ("ChangeExpressionInvalid", "--remove tags.z"),
        ("SpecKeyUnknown", "--set instnce_type=x instnce_type"),
        ("SpecValueInvalid", "--set instance_count=many instance_count"),
    ]


def test_what_a_removal_breaks_is_told() -> None:
    with pytest.raises(SpecInvalid) as refused:
        update_deployment(BLUE, remove=["instance_type"])
    assert [code for code, _ in codes(refused)] == ["SpecKeyMissing"]
