"""Rules across fields that no single key shows."""

from __future__ import annotations

from typing import Any

import pytest

from moorings.spec.assets import EnvironmentSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.instance_types import INSTANCE_TYPES, lookup
from moorings.spec.own_settings import whole_numbers
from moorings.spec.problems import path_text
from moorings.spec.validate import (
    deployment_problems,
    deployment_warnings,
    endpoint_problems,
    environment_problems,
    needs_environment,
)

ROUTE = {"path": "/x", "port": 8080}
CUSTOM = {
    "image": "i",
    "inference_config": {"liveness_route": ROUTE, "readiness_route": ROUTE, "scoring_route": ROUTE},
}
CODE = {"code": "/c", "scoring_script": "s.py"}


def deployment(**fields: Any) -> DeploymentSpec:
    return DeploymentSpec.model_validate(
        {"name": "blue", "endpoint_name": "my-endpoint", "instance_type": "Standard_DS3_v2", **fields}
    )


def paths(spec: DeploymentSpec) -> list[str]:
    return [path_text(p.path) for p in deployment_problems(spec, complete=True)]


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"model": {"path": "/m", "type": "mlflow_model"}}, []),
        ({"model": {"path": "/m", "type": "triton_model"}}, []),
        ({"model": {"path": "/m", "type": "mlflow_model"}, "code_configuration": CODE}, ["environment"]),
        ({"model": {"path": "/m"}}, ["environment", "code_configuration"]),
        ({"model": {"path": "/m"}, "environment": {"image": "i"}}, ["code_configuration"]),
        ({"model": {"path": "/m"}, "environment": {"image": "i"}, "code_configuration": CODE}, []),
        ({"model": {"path": "/m"}, "environment": {"conda_file": {}}, "code_configuration": CODE}, []),
        ({"environment": CUSTOM}, []),
        ({"model": "azureml:m:1"}, []),
        ({"model": "azureml:m:1", "code_configuration": CODE}, ["environment"]),
        ({}, ["environment", "code_configuration"]),
    ],
)
def test_what_a_deployment_needs(fields: dict[str, Any], missing: list[str]) -> None:
    spec = deployment(**fields)
    assert paths(spec) == missing
    assert needs_environment(spec) == ("environment" in missing)
    assert deployment_problems(spec) == []


@pytest.mark.parametrize(
    "secret",
    [
        "${{azureml://connections/c}}",
        "${{azureml://connections/c/target}}",
        "${{azureml://connections/c/metadata/k}}",
        "${{azureml://connections/c/credentials/k}}",
        "${{keyvault:https://v.example/secrets/s}}",
        "${{keyvault:https://v.example/secrets/s/1}}",
        "plain",
        "${HOME}",
    ],
)
def test_secret_references_that_are_known(secret: str) -> None:
    assert deployment_problems(deployment(environment_variables={"A": secret})) == []


@pytest.mark.parametrize(
    "secret", ["${{}}", "${{x}}", "${{keyvault:http://v/secrets/s}}", "${{azureml://connections/}}"]
)
def test_secret_references_that_are_not(secret: str) -> None:
    found = deployment_problems(deployment(environment_variables={"A": secret}))
    assert [(path_text(p.path), p.code) for p in found] == [
        ("environment_variables.A", "SecretsInjectionError")
    ]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, [""]),
        ({"image": "i"}, []),
        ({"conda_file": {"dependencies": []}}, []),
        ({"build": {"path": "/b"}}, []),
        ({"image": "i", "build": {"path": "/b"}}, ["build"]),
        ({"conda_file": {}, "build": {"path": "/b"}}, ["conda_file"]),
        ({"image": "i", "version": "a b"}, ["version"]),
    ],
)
def test_environments(fields: dict[str, Any], wrong: list[str]) -> None:
    assert [path_text(p.path) for p in environment_problems(EnvironmentSpec.model_validate(fields))] == wrong


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"compute": "azureml:k", "auth_mode": "aad_token"}, ["auth_mode"]),
        ({"compute": "azureml:k", "mirror_traffic": {"b": 5}}, ["mirror_traffic"]),
        ({"traffic": {"b": 100}, "mirror_traffic": {"B": 5}}, ["mirror_traffic.b"]),
        ({"traffic": {"b": 0}, "mirror_traffic": {"b": 5}}, []),
        ({"traffic": {"b": 30, "c": 70}}, []),
        ({"traffic": {}}, []),
        (
            {"identity": {"type": "system_assigned", "user_assigned_identities": [{"resource_id": "x"}]}},
            ["identity.user_assigned_identities"],
        ),
        (
            {
                "identity": {"type": "user_assigned", "user_assigned_identities": [{"resource_id": "x"}]},
                "properties": {"enforce_access_to_default_secret_stores": "enabled"},
            },
            ["properties.enforce_access_to_default_secret_stores"],
        ),
    ],
)
def test_endpoints(fields: dict[str, Any], wrong: list[str]) -> None:
    spec = EndpointSpec.model_validate({"name": "my-endpoint", **fields})
    assert [path_text(p.path) for p in endpoint_problems(spec)] == wrong


def test_warnings_for_what_is_seldom_meant() -> None:
    assert deployment_warnings(deployment()) == []
    assert "small" in deployment_warnings(deployment(instance_type="standard_ds1_V2"))[0]
    settings = {"max_queue_wait_ms": 6000}
    assert "max_queue_wait_ms (6000)" in deployment_warnings(deployment(request_settings=settings))[0]


def test_sizes_are_found_in_any_case() -> None:
    size = lookup("STANDARD_ds3_V2")
    assert size is not None
    assert (size.vcpus, size.memory_bytes, size.disk_bytes) == (4, 14 * 2**30, 28 * 2**30)
    assert lookup("Standard_Unheard_of") is None
    assert len({t.name.lower() for t in INSTANCE_TYPES}) == len(INSTANCE_TYPES)


@pytest.mark.parametrize("name", ["A\x01", "A B", "1A", "", "A=B", "Ä"])
def test_names_of_environment_variables_are_plain(name: str) -> None:
    found = deployment_problems(deployment(environment_variables={name: "x"}))
    assert [p.code for p in found] == ["SpecValueInvalid"]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("moorings.batch_max_size", "many", "a whole number from 0 to 10000"),
        ("moorings.batch_max_size", "10001", "a whole number from 0 to 10000"),
        ("moorings.batch_max_wait_ms", "-1", "a whole number from 0 to 10000"),
        ("moorings.batch_max_sise", "8", "`moorings.batch_max_size`"),
    ],
)
def test_settings_below_properties_are_checked(key: str, value: str, says: str) -> None:
    (problem,) = deployment_problems(deployment(properties={key: value, "team": "blue"}))
    assert problem.path == ("properties", key)
    assert says in problem.message


def test_a_batch_setting_is_a_property() -> None:
    spec = deployment(properties={"moorings.batch_max_size": "16", "team": "blue"})
    assert not deployment_problems(spec)
    assert whole_numbers(spec.properties, "moorings.batch_max_size") == {"moorings.batch_max_size": 16}
