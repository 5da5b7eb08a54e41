"""The published JSON Schemas are those of the code."""

from __future__ import annotations

import json
from pathlib import Path

from moorings.spec.schema import schemas, write_schemas

PUBLISHED = Path(__file__).parents[3] / "docs" / "reference" / "schemas"


def test_published_schemas_are_current() -> None:
    """To renew them: python -m moorings.spec.schema docs/reference/schemas"""
    published = {file.name: json.loads(file.read_text()) for file in PUBLISHED.glob("*.json")}
    assert published == json.loads(json.dumps(schemas()))


def test_editors_learn_keys_limits_and_descriptions() -> None:
    deployment = schemas()["managedOnlineDeployment.schema.json"]
    assert deployment["properties"]["instance_count"]["maximum"] == 50
    assert set(deployment["required"]) == {"name", "endpoint_name"}
    assert deployment["properties"]["id"]["readOnly"] is True
    conda = deployment["$defs"]["EnvironmentSpec"]["properties"]["conda_file"]
    assert {"string", "object"} <= {option.get("type") for option in conda["anyOf"]}


def test_schemas_are_written_to_a_new_folder(tmp_path: Path) -> None:
    files = write_schemas(tmp_path / "a" / "b")
    assert sorted(f.name for f in files) == sorted(schemas())
