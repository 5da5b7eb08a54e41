"""The endpoint of 2021: what loads, under which place its problems are told, and what an update makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorings.errors.exceptions import Failure, MooringsError, SpecInvalid
from moorings.spec.assets import EnvironmentSpec, ModelSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.form2021 import EndpointForm, change_form, examine_form, examine_item
from moorings.spec.older import DEPLOYMENT_KEYS, ENDPOINT_KEYS
from moorings.spec.schema import FORM_2021, schemas

SAMPLE = """\
# yaml-language-server: $schema=https://azuremlschemas.azureedge.net/latest/managedOnlineEndpoint.schema.json
$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineEndpoint.schema.json
name: my-endpoint
type: online
auth_mode: key
app_insights_enabled: true
traffic:
  blue: 90
  green: 10
tags: {team: demo}
deployments:
  - name: blue
    model:
      name: regression
      version: 1.10
      local_path: ./model/m.pkl
    code_configuration:
      code:
        local_path: ./src/
      scoring_script: score.py
    environment:
      name: sklearn-env
      version: 1
      path: .
      conda_file: file:./env/conda.yml
      docker:
        image: registry.example/base:1
    instance_type: Standard_F2s_v2
    scale_settings:
      scale_type: manual
      instance_count: 2
      min_instances: 1
      max_instances: 3
    request_settings:
      request_timeout_ms: 3000
      max_concurrent_requests_per_instance: 4
      max_queue_wait_ms: 100
    liveness_probe: {initial_delay: 5, period: 7}
    environment_variables: {MODE: on}
  - name: green
    model: azureml:regression:1
    code_configuration:
      code: azureml:scripts:1
      scoring_script: score.py
    environment: azureml:sklearn-env:1
    instance_type: Standard_F2s_v2
    scale_settings: {scale_type: manual, instance_count: 1}
"""
ITEM = """\
name: green
model: {local_path: ./model/m.pkl}
code_configuration: {code: {local_path: src}, scoring_script: score.py}
environment: azureml:sklearn-env:1
instance_type: Standard_F2s_v2
scale_settings: {scale_type: manual, instance_count: 3}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("src", "model", "env"):
        (tmp_path / name).mkdir()
    (tmp_path / "src" / "score.py").write_text("")
    (tmp_path / "model" / "m.pkl").write_text("m")
    (tmp_path / "env" / "conda.yml").write_text("dependencies: [python=3.11]\n")
    (tmp_path / "env" / "Dockerfile").write_text("FROM base\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, name: str = "endpoint.yml") -> Path:
    Path(name).write_text(text)
    return Path(name)


def with_environment(text: str) -> Path:
    return write(f"name: my-endpoint\ndeployments:\n- {ITEM.replace(chr(10), chr(10) + '  ')}\n".replace(
        "environment: azureml:sklearn-env:1", f"environment: {text}"
    ))  # fmt: skip


def environment_of(path: Path) -> EnvironmentSpec:
    found = load_form(path).deployments[0].environment
    assert isinstance(found, EnvironmentSpec)
    return found


def load_form(path: Path, **more: Any) -> EndpointForm:
    return examine_form(path, **more).valid()


def load_item(path: Path, **more: Any) -> DeploymentSpec:
    return examine_item(path, endpoint_name="my-endpoint", **more).valid()


def problems(path: Path, **more: Any) -> list[Failure]:
    with pytest.raises(SpecInvalid) as refused:
        load_form(path, **more)
    return list(refused.value.failure.details)


def only(path: Path, **more: Any) -> Failure:
    found = problems(path, **more)
    assert len(found) == 1, [p.message for p in found]
    return found[0]


# --- what loads -------------------------------------------------------------------------------------------------
def test_the_form_becomes_an_endpoint_and_todays_deployments(folder: Path) -> None:
    form = load_form(write(SAMPLE))
    assert form.endpoint.name == "my-endpoint"
    assert form.endpoint.traffic == {"blue": 90, "green": 10}
    assert form.lists_deployments
    blue, green = form.deployments
    assert isinstance(blue.model, ModelSpec)
    assert (blue.model.version, blue.model.path) == ("1.10", str(folder / "model" / "m.pkl"))
    assert blue.code_configuration is not None
    assert blue.code_configuration.code == str(folder / "src")
    assert isinstance(blue.environment, EnvironmentSpec)
    assert blue.environment.image == "registry.example/base:1"
    assert blue.environment.conda_file == {"dependencies": ["python=3.11"]}
    assert blue.environment.build is None
    assert (blue.instance_count, blue.scale_settings.max_instances) == (2, 3)
    assert blue.request_settings.max_queue_wait_ms == 100
    assert (blue.liveness_probe.initial_delay, blue.liveness_probe.period) == (5, 7)
    assert blue.environment_variables == {"MODE": "on"}
    assert (green.endpoint_name, green.model, green.instance_count) == (
        "my-endpoint",
        "azureml:regression:1",
        1,
    )
    assert [each.app_insights_enabled for each in form.deployments] == [True, True]


def test_todays_keys_are_taken_in_it_as_well(folder: Path) -> None:
    text = SAMPLE.replace("local_path: ./model", "path: ./model").replace("docker:\n        image", "image")
    text = text.replace("code:\n        local_path: ./src/", "code: ./src/")
    text = text.replace("scale_settings: {scale_type: manual, instance_count: 1}", "instance_count: 1")
    assert load_form(write(text)) == load_form(write(SAMPLE))


def test_an_endpoint_file_of_today_is_a_form_without_deployments(folder: Path) -> None:
    form = load_form(write("name: my-endpoint\nauth_mode: aml_token\ntraffic: {blue: 100}\n"))
    assert form.deployments == ()
    assert not form.lists_deployments
    assert load_form(write("name: my-endpoint\ndeployments: []\n")).lists_deployments


def test_what_show_prints_of_it_can_be_read_again(folder: Path) -> None:
    shown = yaml.safe_load(SAMPLE) | {
        "id": "/x", "kind": "Managed", "location": "local", "provisioning_state": "Succeeded",
        "scoring_uri": "http://x", "swagger_uri": "http://x", "limits": {},
    }  # fmt: skip
    shown["deployments"][0] |= {"id": "/y", "provisioning_state": "Succeeded", "endpoint_name": "my-endpoint"}
    assert load_form(write(json.dumps(shown))).endpoint == load_form(write(SAMPLE)).endpoint


SHARED = """\
name: my-endpoint
deployments:
  - name: blue
    model: &model {name: m, version: 1, local_path: ./model/m.pkl}
    code_configuration: &code {code: {local_path: src}, scoring_script: score.py}
    environment: &environment {path: env, conda_file: 'file:conda.yml', docker: {image: x}}
    instance_type: Standard_F2s_v2
    scale_settings: &scale {scale_type: Manual, instance_count: 2}
  - name: green
    model: *model
    code_configuration: *code
    environment: *environment
    instance_type: Standard_F2s_v2
    scale_settings: *scale
"""


def test_what_two_deployments_share_by_an_anchor_is_read_for_each(folder: Path) -> None:
    blue, green = load_form(write(SHARED)).deployments
    assert green == blue.model_copy(update={"name": "green"})
    edited = load_form(write(SHARED), overrides=["deployments[0].model.version=2"]).deployments
    assert [each.model.version for each in edited if isinstance(each.model, ModelSpec)] == ["2", "1"]
    told = [p.target for p in problems(write(SHARED.replace("local_path: src", "local_path: gone")))]
    assert [str(t).split(" ")[1] for t in told] == [
        f"deployments[{i}].code_configuration.code.local_path" for i in (0, 1)
    ]


def test_a_custom_container_as_it_was_written(folder: Path) -> None:
    route = {"port": 8501, "path": "/v1/models/half"}
    environment = {"name": "serving", "version": 1, "docker": {"image": "registry.example/serving:8501"}}
    environment["inference_config"] = {
        f"{kind}_route": route for kind in ("liveness", "readiness", "scoring")
    }
    item = {"name": "serving", "model": {"local_path": "./model"}, "environment": environment}
    item |= {
        "instance_type": "Standard_F2s_v2",
        "scale_settings": {"scale_type": "manual", "instance_count": 1},
    }
    path = write(yaml.safe_dump({"type": "online", "traffic": {"serving": 100}, "deployments": [item]}))
    (spec,) = load_form(path, name="half-plus-two").deployments
    assert isinstance(spec.environment, EnvironmentSpec)
    assert spec.environment.image == "registry.example/serving:8501"
    assert spec.environment.inference_config is not None


def test_allow_public_access_is_the_switch_of_today(folder: Path) -> None:
    found = load_form(write("name: my-endpoint\nallow_public_access: false\n"))
    assert found.endpoint.public_network_access == "disabled"


def test_flags_and_overrides_win(folder: Path) -> None:
    form = load_form(
        write(SAMPLE),
        name="other",
        overrides=[
            "deployments[0].environment_variables.LEVEL=2",
            "deployments[1].scale_settings.instance_count=5",
            "traffic.blue=100",
            "traffic.green=0",
        ],
    )
    assert {spec.endpoint_name for spec in form.deployments} == {"other"} == {form.endpoint.name}
    assert form.deployments[0].environment_variables == {"MODE": "on", "LEVEL": "2"}
    assert form.deployments[1].instance_count == 5
    assert form.endpoint.traffic == {"blue": 100}


# --- the environment of 2021 ------------------------------------------------------------------------------------
def test_a_conda_file_may_lie_below_the_context_folder(folder: Path) -> None:
    found = environment_of(with_environment("{path: env, conda_file: 'file:conda.yml', docker: {image: b}}"))
    assert found.conda_file == {"dependencies": ["python=3.11"]}
    (folder / "conda.yml").write_text("dependencies: [python=3.12]\n")
    found = environment_of(with_environment("{path: env, conda_file: conda.yml, docker: {image: b}}"))
    assert found.conda_file == {"dependencies": ["python=3.12"]}, "the folder of the file comes first"


@pytest.mark.parametrize(
    "text",
    [
        "{path: env}",
        "{path: env, docker: {build: {dockerfile: Dockerfile}}}",
        "{path: env, docker: {build: {dockerfile: 'file:Dockerfile'}}}",
        "{path: env, docker: {build: {dockerfile: 'file:env/Dockerfile'}}}",
        "{path: ./env, docker: {build: {dockerfile: ./env/Dockerfile}}}",
    ],
)
def test_a_context_folder_with_a_dockerfile_is_a_build(folder: Path, text: str) -> None:
    found = environment_of(with_environment(text))
    assert found.build is not None
    assert found.build.path == str(folder / "env")
    assert (folder / "env" / found.build.dockerfile_path).samefile(folder / "env" / "Dockerfile")
    assert found.image is None


def test_a_dockerfile_without_a_folder_is_built_in_the_folder_of_the_file(folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM base\n")
    found = environment_of(with_environment("{docker: {build: {dockerfile: Dockerfile}}}"))
    assert found.build is not None
    assert found.build.path == str(folder)


def test_least_instances_alone_raise_the_most(folder: Path) -> None:
    text = SAMPLE.replace("min_instances: 1\n      max_instances: 3", "min_instances: 2")
    scale = load_form(write(text)).deployments[0].scale_settings
    assert (scale.min_instances, scale.max_instances) == (2, 2)


# --- what is told -----------------------------------------------------------------------------------------------
BAD = """\
name: my_endpoint
type: online
trafic: {}
traffic: {bleu: 50, green: 50}
deployments:
  - name: blue
    model:
      local_pat: ./model/m.pkl
    code_configuration:
      code: {local_path: ./srcc/}
      scoring_script: score.py
    environment:
      conda_file: file:env/conda.yml
      docker: {imag: x}
    instance_type: Standard_F2s_v2
    scale_settings: {scale_type: auto, instance_count: many}
    request_timeout_ms: 5
  - 5
  - name: b
    model: {local_path: nope, path: model}
    liveness_probe: {success_threshold: 3}
    environment: azureml:x:1
  - name: Blue
    scale_settings: {instance_count: 99}
"""


def test_every_problem_at_once_under_the_key_that_was_written(folder: Path) -> None:
    told = [(p.target or "").removeprefix("endpoint.yml:") for p in problems(write(BAD))]
    assert told == [
        "1:7 name",
        "3:1 trafic",
        "4:11 traffic.bleu",
        "4:21 traffic.green",
        "8:7 deployments[0].model.local_pat",
        "10:26 deployments[0].code_configuration.code.local_path",
        "14:16 deployments[0].environment.docker.imag",
        "16:34 deployments[0].scale_settings.scale_type",
        "16:56 deployments[0].scale_settings.instance_count",
        "17:5 deployments[0].request_timeout_ms",
        "18:5 deployments[1]",
        "19:5 deployments[2].instance_type",
        "19:11 deployments[2].name",
        "20:13 deployments[2].model.local_path",
        "21:41 deployments[2].liveness_probe.success_threshold",
        "23:5 deployments[3].instance_type",
        "23:5 deployments[3].environment",
        "23:5 deployments[3].code_configuration",
        "23:11 deployments[3].name",
        "24:38 deployments[3].scale_settings.instance_count",
    ]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("trafic: {}", "did you mean `traffic`"),
        ("deployment: []", "did you mean `deployments`"),
        ("targets: x", "did you mean `target`"),
        ("deployments: [{name: blue, instance_typ: x}]", "did you mean `instance_type`"),
        ("deployments: [{name: blue, model: {localpath: x}}]", "did you mean `local_path`"),
        ("deployments: [{name: blue, scale_settings: {scale_typ: manual}}]", "did you mean `scale_type`"),
        ("deployments: [{name: blue, environment: {dockr: {}}}]", "did you mean `docker`"),
        ("deployments: [{name: blue, environment: {docker: {imge: b}}}]", "did you mean `image`"),
        ("deployments: [{name: blue, request_timeout_ms: 1}]", "it belongs under `request_settings`"),
        (
            "deployments: [{name: blue, request_settings: {instance_type: x}}]",
            "directly under `deployments[0]`",
        ),
        ("deployments: [{name: blue, resource_requirements: {cpu: 1}}]", "for clusters only"),
        ("traffic: {blu: 100}\ndeployments: [{name: blue}]", "did you mean `blue`"),
    ],
)
def test_what_was_probably_meant(folder: Path, wrong: str, hint: str) -> None:
    texts = [p.message for p in problems(write(f"name: my-endpoint\n{wrong}\n"))]
    assert sum(hint in text for text in texts) == 1, texts


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("type: batch", "BatchNotServed", "type"),
        ("type: offline", "SpecValueInvalid", "type"),
        ("target: azureml:aks", "KubernetesNotAvailable", "target"),
        ("app_insights_enabled: maybe", "SpecValueInvalid", "app_insights_enabled"),
        ("allow_public_access: 7", "SpecValueInvalid", "allow_public_access"),
        ("auth_mode: none", "SpecValueInvalid", "auth_mode"),
        ("deployments: {blue: {}}", "SpecValueInvalid", "deployments"),
        ("deployments: [[]]", "SpecValueInvalid", "deployments[0]"),
        ("traffic: {blue: 60}", "TrafficInvalid", "traffic"),
    ],
)
def test_one_problem_and_its_code(folder: Path, text: str, code: str, where: str) -> None:
    found = only(write(f"name: my-endpoint\n{text}\n"))
    assert (found.code, str(found.target).split(" ")[1]) == (code, where)


def test_two_spellings_of_one_thing_are_not_guessed_between(folder: Path) -> None:
    found = only(write(SAMPLE.replace("instance_type: Standard_F2s_v2\n    scale_settings:\n", (
        "instance_type: Standard_F2s_v2\n    instance_count: 1\n    scale_settings:\n"
    ), 1)))  # fmt: skip
    assert (
        "`deployments[0].scale_settings.instance_count` and `deployments[0].instance_count`" in found.message
    )


def test_more_deployments_than_an_endpoint_may_have(folder: Path) -> None:
    many = "".join(f"- {{name: dep{i}}}\n" for i in range(21))
    assert only(write(f"name: my-endpoint\ndeployments:\n{many}")).message.startswith(
        "`deployments`: found 21"
    )


def test_no_name_at_all(folder: Path) -> None:
    found = only(write(SAMPLE.replace("name: my-endpoint\n", "")))
    assert found.code == "SpecKeyMissing"


# --- one deployment in a file of its own ------------------------------------------------------------------------
def test_a_deployment_file_has_the_keys_of_an_item(folder: Path) -> None:
    spec = load_item(write(ITEM), name="green")
    assert (spec.name, spec.endpoint_name, spec.instance_count) == ("green", "my-endpoint", 3)
    nameless = write(ITEM.replace("name: green\n", ""))
    assert load_item(nameless, name="green") == spec
    assert (
        load_item(write(ITEM), overrides=["scale_settings.instance_count=4"], instance_count=5).instance_count
        == 5
    )


def test_a_deployment_file_of_another_name_is_refused(folder: Path) -> None:
    with pytest.raises(SpecInvalid) as refused:
        load_item(write(ITEM), name="blue")
    assert [p.code for p in refused.value.failure.details] == ["NameMismatch"]


# --- what there is, edited --------------------------------------------------------------------------------------
def test_an_edit_changes_what_it_names_and_nothing_else(folder: Path) -> None:
    now = load_form(write(SAMPLE.replace("local_path: ./src/", "local_path: ./src/")))
    sent = [
        each.model_copy(update={"model": "azureml:m:1", "environment": "azureml:e:1"})
        for each in now.deployments
    ]
    edit = ["deployments[1].scale_settings.instance_count=4", "tags.more=1"]
    after = change_form(now.endpoint, sent, set_=edit, remove=["tags.team"]).valid()
    assert after.deployments[0] == sent[0]
    assert after.deployments[1] == sent[1].model_copy(update={"instance_count": 4})
    assert after.endpoint.tags == {"more": "1"}
    gone = change_form(
        now.endpoint, sent, remove=["deployments[1]", "traffic.green"], set_=["traffic.blue=100"]
    ).valid()
    assert [each.name for each in gone.deployments] == ["blue"]
    with pytest.raises(SpecInvalid):
        change_form(now.endpoint, sent, remove=["deployments[1]"]).valid()
    with pytest.raises(SpecInvalid) as refused:
        change_form(now.endpoint, sent, set_=["name=other"]).valid()
    assert refused.value.failure.details[0].code == "NameMismatch"


# --- the schema -------------------------------------------------------------------------------------------------
def test_the_schema_knows_every_key_of_2021_and_of_the_sample() -> None:
    schema = schemas()[FORM_2021]
    for key in ENDPOINT_KEYS:
        assert key in schema["properties"]
    assert unknown(schema, schema, yaml.safe_load(SAMPLE)) == []
    for parent, keys in DEPLOYMENT_KEYS.items():
        for key in keys:
            document: Any = {key: {}}
            for part in reversed(parent):
                document = {part: document}
            assert unknown(schema, schema, {"deployments": [document]}) == [], (parent, key)
    assert unknown(schema, schema, {"deployments": [{"scale_settings": {"scale_typ": 1}}]})
    assert "endpoint_name" not in schema["$defs"]["DeploymentSpec"]["properties"]


def unknown(root: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    """Keys of `value` that `schema` does not know."""
    choices = [resolved(root, each) for each in schema.get("anyOf", schema.get("oneOf", [schema]))]
    if isinstance(value, list):
        return [
            key
            for each in choices
            for item in value
            for key in unknown(root, resolved(root, each.get("items", {})), item)
        ]
    if not isinstance(value, dict):
        return []
    found = [each for each in choices if each.get("type") == "object"]
    best: list[str] | None = None
    for each in found:
        free = each.get("additionalProperties", True) is not False
        missing = []
        for key, inner in value.items():
            known = each.get("properties", {}).get(key)
            if known is None and not free:
                missing.append(key)
            elif known is not None:
                missing += unknown(root, resolved(root, known), inner)
        best = missing if best is None or len(missing) < len(best) else best
    return best or []


def resolved(root: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


# --- anything ---------------------------------------------------------------------------------------------------
WORDS = st.sampled_from(
    ["name", "blue", "type", "online", "target", "traffic", "deployments", "model", "local_path", "path", "version",
     "code_configuration", "code", "scoring_script", "score.py", "environment", "docker", "image", "build", "dockerfile",
     "conda_file", "file:env/conda.yml", "env", "src", ".", "scale_settings", "scale_type", "manual", "instance_count",
     "min_instances", "max_instances", "request_settings", "liveness_probe", "success_threshold", "instance_type",
     "endpoint_name", "app_insights_enabled", "allow_public_access", "tags", "properties", "moorings", "local",
     "dependencies", "$schema", "auth_mode", "identity", "inference_config", "azureml:a:1", "~nobody", "../.."]
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 200) | st.floats() | st.text(max_size=6) | WORDS
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=12,
)
FORMS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("my-endpoint") | SCALARS,
        "type": st.just("online") | SCALARS,
        "traffic": st.dictionaries(WORDS, st.integers(0, 100), max_size=3) | VALUES,
        "deployments": st.lists(st.dictionaries(WORDS, VALUES, max_size=8) | VALUES, max_size=3) | VALUES,
        "target": SCALARS,
        "app_insights_enabled": SCALARS,
        "allow_public_access": SCALARS,
        "properties": VALUES,
        "tags": VALUES,
    },
)
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def load_whatever(path: Path, **more: Any) -> None:
    """A form, or a coded failure whose every detail has a place."""
    for load in (load_form, load_item):
        try:
            load(path, **more)
        except MooringsError as refused:
            str(refused).encode()
            for detail in refused.failure.details:
                assert detail.target
                detail.message.encode()


@given(st.binary(max_size=200))
@QUIET
def test_any_bytes_give_a_form_or_a_coded_failure(folder: Path, data: bytes) -> None:
    Path("endpoint.yml").write_bytes(data)
    load_whatever(Path("endpoint.yml"))


@given(FORMS | VALUES)
@QUIET
def test_any_document_gives_a_form_or_a_coded_failure(folder: Path, value: Any) -> None:
    load_whatever(write(yaml.safe_dump(value)))


@given(st.lists(st.tuples(WORDS, WORDS, st.text(max_size=5) | WORDS), max_size=3), st.integers(-2, 3))
@QUIET
def test_any_override_is_taken_or_a_coded_failure(
    folder: Path, parts: list[tuple[str, str, str]], at: int
) -> None:
    path = write(SAMPLE)
    load_whatever(path, overrides=[f"deployments[{at}].{a}.{b}={c}" for a, b, c in parts])
    load_whatever(path, overrides=[f"{a}.{b}={c}" for a, b, c in parts])
    load_whatever(path, overrides=[f"{a}={{{b}: {c}}}" for a, b, c in parts])


@given(st.permutations(range(2)), st.booleans())
@QUIET
def test_the_order_of_deployments_is_kept(folder: Path, order: list[int], todays: bool) -> None:
    document = yaml.safe_load(SAMPLE)
    document["deployments"] = [document["deployments"][i] for i in order]
    found: EndpointForm = load_form(write(yaml.safe_dump(document)))
    assert [spec.name for spec in found.deployments] == [("blue", "green")[i] for i in order]
