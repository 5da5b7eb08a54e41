"""Bodies of the control API: what a spec says survives the way there and back; wrong bodies name the JSON
path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorings.errors.exceptions import MooringsError, SpecInvalid
from moorings.spec import arm, arm_assets
from moorings.spec.assets import CodeConfiguration, CodeVersion, EnvironmentSpec, ModelSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAME = st.from_regex(r"[a-z][-a-z0-9]{1,10}[a-z0-9]", fullmatch=True)
OWN_KEY = TEXT.filter(lambda k: not k.startswith("moorings.") and k not in arm.SERVER_PROPERTIES)
MAP = st.dictionaries(OWN_KEY, TEXT)
COUNT = st.integers(1, 5000)
RATE = st.floats(0, 1, allow_nan=False)
SWITCH = st.sampled_from(["enabled", "disabled"])
WORKSPACE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


PROBE = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("initial_delay", "period", "timeout", "success_threshold", "failure_threshold"), COUNT
    ),
)
IDENTITY = st.fixed_dictionaries(
    {"type": st.sampled_from(["system_assigned", "user_assigned"])},
    optional={
        "user_assigned_identities": st.lists(
            st.fixed_dictionaries(
                {"resource_id": TEXT}, optional={"client_id": maybe(TEXT), "object_id": maybe(TEXT)}
            ),
            unique_by=lambda item: item["resource_id"],
            max_size=3,
        )
    },
)
ENDPOINT = st.fixed_dictionaries(
    {"name": NAME},
    optional={
        "description": maybe(TEXT),
        "tags": MAP,
        "auth_mode": st.sampled_from(["key", "aml_token", "aad_token"]),
        "compute": maybe(TEXT),
        "identity": maybe(IDENTITY),
        "traffic": st.dictionaries(NAME, st.integers(0, 100), max_size=3),
        "mirror_traffic": st.dictionaries(NAME, st.integers(0, 50), max_size=2),
        "public_network_access": SWITCH,
        "properties": st.fixed_dictionaries(
            {"enforce_access_to_default_secret_stores": SWITCH},
            optional={
                "moorings": st.fixed_dictionaries(
                    {},
                    optional={
                        "rate_limit_per_s": maybe(st.integers(1, 1_000_000)),
                        "local": st.booleans(),
                        "max_request_bytes": st.integers(1, 104_857_600),
                        "max_response_bytes": st.integers(100_000, 104_857_600),
                    },
                )
            },
        ),
    },
)
COLLECTION = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "sampling_rate": maybe(RATE),
        "data": maybe(
            st.fixed_dictionaries(
                {}, optional={"name": maybe(TEXT), "path": maybe(TEXT), "version": maybe(TEXT)}
            )
            | st.just("azureml:d:1")
        ),
    },
)
DEPLOYMENT = st.fixed_dictionaries(
    {"name": NAME, "endpoint_name": NAME},
    optional={
        "description": maybe(TEXT),
        "tags": MAP,
        "properties": MAP,
        "model": maybe(st.just("azureml:m:1")),
        "model_mount_path": maybe(TEXT),
        "code_configuration": maybe(
            st.fixed_dictionaries(
                {"code": st.just(f"{WORKSPACE}/codes/c/versions/1"), "scoring_script": TEXT}
            )
        ),
        "environment": maybe(st.just("azureml:e@latest")),
        "environment_variables": MAP,
        "instance_type": maybe(TEXT),
        "instance_count": st.integers(1, 50),
        "app_insights_enabled": st.booleans(),
        "scale_settings": st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["default", "target_utilization"]),
                "min_instances": st.integers(0, 50),
                "max_instances": st.integers(1, 50),
                "target_utilization_percentage": st.integers(1, 100),
                "polling_interval": COUNT,
            },
        ),
        "request_settings": st.fixed_dictionaries(
            {},
            optional={
                "request_timeout_ms": st.integers(1, 180_000),
                "max_concurrent_requests_per_instance": COUNT,
                "max_queue_wait_ms": st.integers(0, 10**6),
            },
        ),
        "liveness_probe": PROBE,
        "readiness_probe": PROBE,
        "egress_public_network_access": SWITCH,
        "private_network_connection": maybe(st.booleans()),
        "data_collector": maybe(
            st.fixed_dictionaries(
                {},
                optional={
                    "collections": st.dictionaries(TEXT, COLLECTION, max_size=3),
                    "sampling_rate": RATE,
                    "rolling_rate": st.sampled_from(["minute", "hour", "day", "month", "year"]),
                    "request_logging": maybe(
                        st.fixed_dictionaries({}, optional={"capture_headers": st.lists(TEXT, max_size=3)})
                    ),
                },
            )
        ),
    },
)


def over_the_wire(body: Any) -> Any:
    return json.loads(json.dumps(body))


@given(ENDPOINT)
def test_an_endpoint_survives_the_wire(plain: dict[str, Any]) -> None:
    spec = EndpointSpec.model_validate(plain)
    assert arm.endpoint_from_arm(spec.name, over_the_wire(arm.endpoint_to_arm(spec)), check=False) == spec


@given(DEPLOYMENT)
@settings(deadline=None)
def test_a_deployment_survives_the_wire(plain: dict[str, Any]) -> None:
    spec = DeploymentSpec.model_validate(plain)
    body = over_the_wire(arm.deployment_to_arm(spec))
    assert arm.deployment_from_arm(spec.endpoint_name, spec.name, body, check=False) == spec


def test_the_strategies_above_give_every_field() -> None:
    def keys(strategy: st.SearchStrategy[Any]) -> set[str]:
        found: set[str] = set()

        @given(strategy)
        @settings(max_examples=120, deadline=None, database=None)
        def collect(plain: dict[str, Any]) -> None:
            found.update(plain)

        collect()
        return found

    assert keys(ENDPOINT) == set(EndpointSpec.model_fields) - {"schema_"}
    assert keys(DEPLOYMENT) == set(DeploymentSpec.model_fields) - {"schema_", "type"}


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PATHS = [
    s.where
    for s in (
        *arm._ENDPOINT,
        *arm._DEPLOYMENT,
        *arm_assets._MODEL,
        *arm_assets._ENVIRONMENT,
        *arm_assets._CODE,
        *arm_assets._DATA,
    )
]
PREFIXES = sorted({path[:n] for path in PATHS for n in range(1, len(path) + 1)})


@given(st.lists(st.tuples(st.sampled_from(PREFIXES), JSON_VALUE), max_size=6), JSON_VALUE)
@settings(deadline=None)
def test_any_json_is_a_value_or_a_coded_failure(parts: list[tuple[tuple[str, ...], Any]], root: Any) -> None:
    body: Any = {}
    for path, value in parts:
        at = body
        for part in path[:-1]:
            at = at[part] if isinstance(at.get(part), dict) else at.setdefault(part, {})
            if not isinstance(at, dict):
                break
        if isinstance(at, dict):
            at[path[-1]] = value
    for document in (body, root):
        for read in (
            lambda d: arm.endpoint_from_arm("my-endpoint", d),
            lambda d: arm.deployment_from_arm("my-endpoint", "blue", d),
            lambda d: arm.model_version_from_arm("m", "1", d),
            lambda d: arm.code_version_from_arm("c", "1", d),
            lambda d: arm.environment_version_from_arm("e", "1", d),
            lambda d: arm.data_version_from_arm("d", "1", d, datastores=()),
        ):
            try:
                read(document)
            except SpecInvalid as refused:
                assert refused.failure.details
        if isinstance(document, dict):
            arm.endpoint_view(document)
            arm.deployment_view(document)


def sdk_deployment() -> dict[str, Any]:
    """A body as the ecosystem's client sends it: fields the user left out are absent."""
    return {
        "location": "local",
        "tags": {"stage": "probe"},
        "sku": {"name": "Default", "capacity": 2},
        "properties": {
            "endpointComputeType": "Managed",
            "model": f"{WORKSPACE}/models/435d/versions/1",
            "environmentId": f"{WORKSPACE}/environments/CliV2AnonymousEnvironment/versions/1327",
            "codeConfiguration": {
                "codeId": f"{WORKSPACE}/codes/1f1b/versions/1",
                "scoringScript": "score.py",
            },
            "environmentVariables": {"FOO": "bar"},
            "properties": {"createdAt": "2026-11-21", "hash_version": 202208},
            "appInsightsEnabled": False,
            "instanceType": "Standard_DS3_v2",
            "requestSettings": {
                "requestTimeout": "PT3S",
                "maxConcurrentRequestsPerInstance": 2,
                "maxQueueWait": "PT1.5S",
            },
            "readinessProbe": {"initialDelay": "PT1M"},
            "somethingNewer": {"a": 1},
        },
    }


def test_a_body_of_the_ecosystems_client() -> None:
    spec = arm.deployment_from_arm("my-endpoint", "blue", sdk_deployment())
    assert (spec.instance_count, spec.tags) == (2, {"stage": "probe"})
    assert spec.request_settings.request_timeout_ms == 3000
    assert spec.request_settings.max_queue_wait_ms == 1500
    assert spec.readiness_probe.initial_delay == 60
    assert spec.readiness_probe.period == 10
    assert spec.scale_settings.type == "default"
    assert spec.properties == {"hash_version": "202208"}


def test_answers_carry_what_clients_cannot_do_without() -> None:
    body = arm.deployment_to_arm(arm.deployment_from_arm("my-endpoint", "blue", sdk_deployment()))
    assert body["properties"]["scaleSettings"] == {"scaleType": "Default"}
    assert body["properties"]["endpointComputeType"] == "Managed"
    assert body["sku"] == {"name": "Default", "capacity": 2}
    assert body["properties"]["livenessProbe"]["period"] == "PT10S"
    assert arm.endpoint_to_arm(EndpointSpec(name="my-endpoint"))["properties"]["properties"] == {}
    sent = arm.model_version_to_arm(ModelSpec(path="https://x/y"))["properties"]
    assert not {"tags", "properties", "flavors", "isArchived"} & set(sent), "what is not set stays as it is"


def targets(refused: SpecInvalid) -> dict[str, str]:
    return {str(d.target): d.code for d in refused.failure.details}


def test_every_wrong_property_is_named_at_once() -> None:
    body = sdk_deployment()
    body["sku"]["capacity"] = "two"
    body["properties"]["requestSettings"]["requestTimeout"] = "3s"
    body["properties"]["requestSettings"]["maxConcurrentRequestsPerInstance"] = 0
    body["properties"]["livenessProbe"] = {"period": "PT0.5S", "successThreshold": True}
    body["properties"]["codeConfiguration"] = {"scoringScript": "score.py"}
    body["properties"]["environmentVariables"] = {"A": ["x"]}
    with pytest.raises(SpecInvalid) as refused:
        arm.deployment_from_arm("my-endpoint", "blue", body)
    assert targets(refused.value) == {
        "sku.capacity": "SpecValueInvalid",
        "properties.requestSettings.requestTimeout": "SpecValueInvalid",
        "properties.requestSettings.maxConcurrentRequestsPerInstance": "SpecValueInvalid",
        "properties.livenessProbe.period": "SpecValueInvalid",
        "properties.livenessProbe.successThreshold": "SpecValueInvalid",
        "properties.codeConfiguration.codeId": "SpecKeyMissing",
        "properties.environmentVariables": "SpecValueInvalid",
    }


@pytest.mark.parametrize(
    ("change", "target", "code"),
    [
        ({"properties": {"traffic": {"blue": 60, "green": 30}}}, "properties.traffic", "TrafficInvalid"),
        ({"properties": {"traffic": {"blue": 101}}}, "properties.traffic.blue", "SpecValueInvalid"),
        (
            {"properties": {"mirrorTraffic": {"blue": 51}}},
            "properties.mirrorTraffic.blue",
            "SpecValueInvalid",
        ),
        ({"properties": {"authMode": "password"}}, "properties.authMode", "SpecValueInvalid"),
        ({"properties": []}, "properties", "SpecValueInvalid"),
        ({"identity": {"type": "SystemAssigned, UserAssigned"}}, "identity.type", "SpecValueInvalid"),
        ({"tags": {"a": {}}}, "tags", "SpecValueInvalid"),
        ([], "$", "SpecValueInvalid"),
    ],
)
def test_wrong_endpoint_bodies(change: Any, target: str, code: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        arm.endpoint_from_arm("my-endpoint", change)
    assert targets(refused.value) == {target: code}


@pytest.mark.parametrize("spelling", ["Key", "key", "KEY"])
def test_modes_are_read_in_any_case(spelling: str) -> None:
    assert arm.endpoint_from_arm("my-endpoint", {"properties": {"authMode": spelling}}).auth_mode == "key"


@pytest.mark.parametrize("spelling", ["AMLToken", "amltoken", "aml_token"])
def test_token_mode_spellings(spelling: str) -> None:
    spec = arm.endpoint_from_arm("my-endpoint", {"properties": {"authMode": spelling}})
    assert spec.auth_mode == "aml_token"


def test_a_cluster_deployment_has_its_own_code() -> None:
    body = sdk_deployment()
    body["properties"]["endpointComputeType"] = "Kubernetes"
    with pytest.raises(SpecInvalid) as refused:
        arm.deployment_from_arm("my-endpoint", "blue", body)
    assert targets(refused.value) == {"properties.endpointComputeType": "KubernetesNotAvailable"}


@pytest.mark.parametrize(
    "inline",
    [
        {"model": ModelSpec(path="/tmp/m")},
        {"environment": EnvironmentSpec(image="x")},
        {"code_configuration": CodeConfiguration(code="/tmp/code", scoring_script="score.py")},
    ],
)
def test_inline_assets_are_not_sent(inline: dict[str, Any]) -> None:
    spec = DeploymentSpec(name="blue", endpoint_name="my-endpoint", **inline)
    with pytest.raises(MooringsError) as refused:
        arm.deployment_to_arm(spec)
    assert refused.value.failure.code == "AssetNotRegistered"


def test_values_of_environment_variables_stay_out_of_messages() -> None:
    body = sdk_deployment()
    body["properties"]["environmentVariables"] = {"PASSWORD": "hunter2\x00"}
    with pytest.raises(SpecInvalid) as refused:
        arm.deployment_from_arm("my-endpoint", "blue", body)
    assert "hunter2" not in json.dumps(refused.value.failure.to_json())


def test_assets_survive_the_wire() -> None:
    model = ModelSpec(
        name="m",
        version="3",
        path="file:///a/b",
        type="mlflow_model",
        flavors={"sklearn": {"x": [1]}},
        tags={"a": "b"},
        stage="s",
        description="d",
        datastore="azureml:x",
    )
    assert arm.model_version_from_arm("m", "3", over_the_wire(arm.model_version_to_arm(model))) == model
    code = CodeVersion(name="c", version="1", uri="file:///code", tags={"a": "b"})
    assert arm.code_version_from_arm("c", "1", over_the_wire(arm.code_version_to_arm(code))) == code
    route = {"path": "/x", "port": 80}
    environment = EnvironmentSpec.model_validate(
        {
            "name": "e",
            "version": "1",
            "image": "i",
            "conda_file": {"dependencies": ["python=3.12", {"pip": ["a", "é"]}], "name": "n"},
            "os_type": "windows",
            "inference_config": {"liveness_route": route, "readiness_route": route, "scoring_route": route},
        }
    )
    body = over_the_wire(arm.environment_version_to_arm(environment))
    assert isinstance(body["properties"]["condaFile"], str)
    assert arm.environment_version_from_arm("e", "1", body) == environment


def test_equal_conda_files_have_equal_text() -> None:
    assert arm.conda_text({"b": 1, "a": [2]}) == arm.conda_text({"a": [2], "b": 1})


def test_conda_text_that_is_not_yaml() -> None:
    with pytest.raises(SpecInvalid) as refused:
        arm.environment_version_from_arm("e", "1", {"properties": {"condaFile": "a: [", "image": "i"}})
    assert targets(refused.value) == {"properties.condaFile": "SpecValueInvalid"}


def test_the_endpoint_document_of_show() -> None:
    body = {
        "id": f"{WORKSPACE}/onlineEndpoints/my-endpoint",
        "name": "my-endpoint",
        "kind": "Managed",
        "location": "local",
        "tags": {"team": "demo"},
        "identity": {"type": "SystemAssigned", "principalId": "p", "tenantId": "t"},
        "properties": {
            "authMode": "AMLToken",
            "properties": {"azureml.onlineendpointid": "x", "moorings.y": "1"},
            "traffic": {"blue": 90, "green": 10},
            "provisioningState": "Succeeded",
            "scoringUri": "http://a/score",
            "swaggerUri": "http://a/swagger.json",
            "publicNetworkAccess": "Enabled",
            "moorings": {"conditions": [{"type": "Ready"}], "noEffectYet": {}, "error": None},
        },
    }
    view = arm.endpoint_view(body)
    assert view["auth_mode"] == "aml_token"
    assert view["identity"] == {"type": "system_assigned", "principal_id": "p", "tenant_id": "t"}
    assert view["openapi_uri"] == "http://a/swagger.json"
    assert view["public_network_access"] == "enabled"
    assert view["properties"] == {"azureml.onlineendpointid": "x"}
    assert view["conditions"] == [{"type": "Ready"}]
    assert "error" not in view
    assert "no_effect_yet" not in view


def test_the_deployment_document_of_show() -> None:
    spec = arm.deployment_from_arm("my-endpoint", "blue", sdk_deployment())
    body = arm.deployment_to_arm(spec)
    body |= {"id": f"{WORKSPACE}/onlineEndpoints/my-endpoint/deployments/blue", "name": "blue"}
    body["properties"]["moorings"] = {"noEffectYet": {"k": "why"}, "error": {"code": "X"}}
    view = arm.deployment_view(body)
    assert view["endpoint_name"] == "my-endpoint"
    assert view["request_settings"] == {
        "request_timeout_ms": 3000,
        "max_concurrent_requests_per_instance": 2,
        "max_queue_wait_ms": 1500,
    }
    assert view["readiness_probe"]["initial_delay"] == 60
    assert view["instance_count"] == 2
    assert view["no_effect_yet"] == {"k": "why"}
    assert view["error"] == {"code": "X"}


def test_limits_travel_as_text_under_flat_names_and_are_shown_nested() -> None:
    spec = EndpointSpec.model_validate(
        {"name": "shop", "properties": {"moorings": {"rate_limit_per_s": 250, "max_request_bytes": 9}}}
    )
    body = arm.endpoint_to_arm(spec)
    assert body["properties"]["properties"] == {
        "moorings.rate_limit_per_s": "250",
        "moorings.max_request_bytes": "9",
    }
    assert arm.endpoint_from_arm("shop", body) == spec
    shown = arm.endpoint_view(body)["properties"]
    assert shown == {"moorings": {"rate_limit_per_s": 250, "max_request_bytes": 9}}
    assert EndpointSpec.model_validate({"name": "shop", "properties": shown}) == spec


@pytest.mark.parametrize("value", ["true", "True", True])
def test_local_travels_as_text_and_is_a_switch(value: object) -> None:
    body = {"properties": {"properties": {"moorings.local": value}}}
    spec = arm.endpoint_from_arm("shop", body)
    assert spec.properties.moorings.local is True
    sent = arm.endpoint_to_arm(spec)
    assert sent["properties"]["properties"] == {"moorings.local": "true"}
    assert arm.endpoint_view(sent)["properties"] == {"moorings": {"local": True}}
    assert not arm.endpoint_from_arm("shop", {}).properties.moorings.local


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("local", "yes"),
        ("local", 1),
        ("rate_limit_per_s", "0"),
        ("rate_limit_per_s", "1000001"),
        ("rate_limit_per_s", "many"),
        ("max_request_bytes", 104_857_601),
        ("max_response_bytes", "99999"),
    ],
)
def test_a_limit_out_of_range_is_refused_at_its_place(key: str, value: object) -> None:
    with pytest.raises(MooringsError) as refused:
        arm.endpoint_from_arm("shop", {"properties": {"properties": {f"moorings.{key}": value}}})
    assert f"moorings.{key}" in str(refused.value.failure.to_json())


def test_batch_settings_travel_as_properties_and_are_shown() -> None:
    spec = DeploymentSpec(
        name="blue",
        endpoint_name="my-endpoint",
        properties={"moorings.batch_max_size": "16", "moorings.batch_max_wait_ms": "2", "team": "x"},
    )
    body = arm.deployment_to_arm(spec)
    assert body["properties"]["properties"] == spec.properties
    assert arm.deployment_from_arm("my-endpoint", "blue", body).properties == spec.properties
    assert arm.deployment_view({"id": "x", "name": "blue", **body})["properties"] == spec.properties
