"""YAML files to values: samples load unchanged, every problem comes at once with its place, nothing gives a traceback."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorings.errors.exceptions import Failure, MooringsError, SpecInvalid
from moorings.spec import arm
from moorings.spec.assets import EnvironmentSpec, ModelSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.loader import environment_of, examine_deployment, examine_endpoint, model_of

HERE = Path(__file__).parent
SHARED = HERE.parents[3] / "shared" / "samples"
SAMPLES = [HERE / "data", *([SHARED] if SHARED.is_dir() else [])]

GOOD = """\
name: blue
endpoint_name: my-endpoint
model: azureml:m:1
code_configuration: {code: src, scoring_script: score.py}
environment: azureml:e:1
instance_type: Standard_DS3_v2
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a code folder and a model."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "score.py").write_text("")
    (tmp_path / "model.pkl").write_text("m")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, name: str = "spec.yml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def load_endpoint(path: Path, **kwargs: Any) -> EndpointSpec:
    return examine_endpoint(path, **kwargs).valid()


def load_deployment(path: Path, **kwargs: Any) -> DeploymentSpec:
    return examine_deployment(path, **kwargs).valid()


def load_model(path: Path, *, version: str | None = None, **kwargs: Any) -> ModelSpec:
    return model_of(path, {"version": version}, **kwargs)


def load_environment(path: Path, **kwargs: Any) -> EnvironmentSpec:
    return environment_of(path, {}, **kwargs)


def problems(load: Callable[..., Any], path: Path, **kwargs: Any) -> list[Failure]:
    with pytest.raises(SpecInvalid) as refused:
        load(path, **kwargs)
    assert refused.value.failure.code == "SpecInvalid"
    assert refused.value.failure.details
    return list(refused.value.failure.details)


def told(load: Callable[..., Any], path: Path, **kwargs: Any) -> list[tuple[str | None, str]]:
    return [(p.target, p.code) for p in problems(load, path, **kwargs)]


# --- what loads -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("root", SAMPLES, ids=lambda p: p.name)
def test_the_samples_load_unchanged(root: Path) -> None:
    blue = load_deployment(root / "diabetes-blue" / "blue-deployment.yml")
    assert isinstance(blue.model, ModelSpec)
    assert isinstance(blue.environment, EnvironmentSpec)
    assert blue.code_configuration is not None
    assert blue.model.path == str(root / "diabetes-blue" / "model")
    assert blue.code_configuration.code == str(root / "diabetes-blue" / "onlinescoring")
    assert blue.environment.conda_file is not None
    assert "python=3.12" in blue.environment.conda_file["dependencies"]
    mlflow = load_deployment(root / "mlflow-sklearn" / "deployment.yml")
    assert isinstance(mlflow.model, ModelSpec)
    assert (mlflow.model.version, mlflow.model.type) == ("2", "mlflow_model")
    for sample in ("diabetes-blue", "mlflow-sklearn"):
        assert load_endpoint(root / sample / "endpoint.yml").name == "my-endpoint"


def test_text_is_kept_as_it_is_written(folder: Path) -> None:
    text = GOOD.replace("azureml:m:1", "{name: m, version: 1.10, path: model.pkl}")
    path = write(
        text + "environment_variables: {A: 1.10, B: yes, C: 2024-01-01, D: 0x1F, E: '007'}\ntags: {on: off}\n"
    )
    spec = load_deployment(path)
    assert isinstance(spec.model, ModelSpec)
    assert spec.model.version == "1.10"
    assert spec.environment_variables == {"A": "1.10", "B": "yes", "C": "2024-01-01", "D": "0x1F", "E": "007"}
    assert spec.tags == {"on": "off"}


def test_flags_and_overrides_win_over_the_file(folder: Path) -> None:
    spec = load_deployment(
        write(GOOD),
        overrides=["instance_count=3", "request_settings.request_timeout_ms=90000", "tags.a=1.10"],
        name="green",
        endpoint_name="other",
    )
    assert (spec.name, spec.endpoint_name, spec.instance_count) == ("green", "other", 3)
    assert spec.request_settings.request_timeout_ms == 90_000
    assert spec.tags == {"a": "1.10"}


def test_a_flag_may_supply_what_the_file_leaves_out(folder: Path) -> None:
    assert load_endpoint(write("auth_mode: aml_token\n"), name="my-endpoint").auth_mode == "aml_token"


@pytest.mark.parametrize(
    "text",
    [
        "properties: {moorings: {rate_limit_per_s: 250}}",
        "properties: {moorings.rate_limit_per_s: '250'}",
        "properties: {moorings.rate_limit_per_s: 250}",
    ],
)
def test_limits_of_an_endpoint_in_both_forms(folder: Path, text: str) -> None:
    spec = load_endpoint(write(f"name: my-endpoint\n{text}\n"))
    assert spec.properties.moorings.rate_limit_per_s == 250


def test_a_limit_can_be_set_from_the_command_line(folder: Path) -> None:
    spec = load_endpoint(write("name: abc\n"), overrides=["properties.moorings.max_request_bytes=77"])
    assert spec.properties.moorings.max_request_bytes == 77


def test_keys_without_a_value_are_not_given(folder: Path) -> None:
    spec = load_deployment(write(GOOD + "tags:\nrequest_settings:\nliveness_probe: {period: }\n"))
    assert spec.tags == {}
    assert spec.request_settings.request_timeout_ms == 5000
    assert spec.liveness_probe.period == 10


def test_anchors_and_merge_keys(folder: Path) -> None:
    text = "liveness_probe: &p {period: 5, timeout: 3}\nreadiness_probe: {<<: *p, period: 7}\n"
    spec = load_deployment(write(GOOD + text))
    assert (spec.readiness_probe.period, spec.readiness_probe.timeout) == (7, 3)


def test_what_show_prints_loads_again(folder: Path) -> None:
    spec = load_deployment(
        write(GOOD + "properties: {a: b}\ntags: {t: u}\n"), overrides=["code_configuration.code=azureml:c:1"]
    )
    workspace = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    body = arm.deployment_to_arm(spec)
    body |= {
        "id": f"{workspace}/onlineEndpoints/my-endpoint/deployments/blue",
        "name": "blue",
        "kind": "Managed",
        "location": "local",
        "systemData": {"createdBy": "x"},
    }
    body["properties"] |= {
        "provisioningState": "Failed",
        "moorings": {"error": {"code": "X"}, "conditions": [{}]},
    }
    assert load_deployment(write(yaml.safe_dump(arm.deployment_view(body)))) == spec
    endpoint = load_endpoint(write("name: my-endpoint\ntraffic: {Blue: 100, green: 0}\n"))
    assert endpoint.traffic == {"blue": 100}
    body = arm.endpoint_to_arm(endpoint)
    body |= {"id": "x", "name": "my-endpoint", "identity": {"type": "SystemAssigned", "principalId": "p"}}
    body["properties"]["properties"]["azureml.onlineendpointid"] = "x"
    body["properties"] |= {"scoringUri": "u", "swaggerUri": "v", "provisioningState": "Succeeded"}
    again = load_endpoint(write(yaml.safe_dump(arm.endpoint_view(body))))
    assert again.identity is not None
    assert again.model_copy(update={"identity": None}) == endpoint


def test_models_and_environments_from_files_of_their_own(folder: Path) -> None:
    write("name: m\npath: ../model.pkl\n", "assets/model.yml")
    write("name: e\nimage: i\nconda_file: conda.yml\n", "assets/env.yml")
    write("dependencies: [python=3.12, {pip: [joblib]}]\n", "assets/conda.yml")
    text = GOOD.replace("azureml:m:1", "file:assets/model.yml").replace(
        "azureml:e:1", "file:./assets/env.yml"
    )
    spec = load_deployment(write(text))
    assert isinstance(spec.model, ModelSpec)
    assert isinstance(spec.environment, EnvironmentSpec)
    assert spec.model.path == str(folder / "model.pkl")
    assert spec.environment.conda_file == {"dependencies": ["python=3.12", {"pip": ["joblib"]}]}
    assert load_model(Path("assets/model.yml"), version="7").version == "7"
    assert load_environment(Path("assets/env.yml")).conda_file == spec.environment.conda_file


@pytest.mark.parametrize(
    "path", ["azureml://datastores/d/paths/p", "https://host/x.pkl", "runs:/r/model", "azureml:m:1"]
)
def test_addresses_are_left_alone(folder: Path, path: str) -> None:
    assert load_model(write(f"name: m\npath: {path}\n")).path == path


@pytest.mark.parametrize("prefix", ["", "./", "file:", "file:./", "src/../"])
def test_local_paths_become_absolute(folder: Path, prefix: str) -> None:
    assert load_model(write(f"name: m\npath: {prefix}model.pkl\n")).path == str(folder / "model.pkl")


# --- every problem, with its place ------------------------------------------------------------------------------
def test_all_problems_of_a_file_at_once(folder: Path) -> None:
    write("dependencies:\n  - python\n  - 3.10\n", "env/conda.yml")
    path = write(
        """\
nmae: blue
endpoint_name: my_endpoint
model: {local_path: ./m, version: 1}
code_configuration:
  code: ./src
  scoring_script: ../spec.yml
environment: {image: x, conda_file: env/conda.yml}
instance_type: Standard_DS3_v2
instance_count: 0
request_settings: {request_timeout_ms: 500000, max_concurent_requests_per_instance: 3}
liveness_probe: {success_threshold: 3, period: true}
environment_variables: {C: [1]}
"""
    )
    assert told(load_deployment, path, overrides=["instance_count[0]=1", "scale_settings.type=other"]) == [
        ("spec.yml:1:1 nmae", "SpecKeyUnknown"),
        ("spec.yml:2:16 endpoint_name", "SpecValueInvalid"),
        ("spec.yml:3:1 model.path", "SpecKeyMissing"),
        ("spec.yml:3:9 model.local_path", "SpecKeyUnknown"),
        ("spec.yml:6:19 code_configuration.scoring_script", "SpecPathUnusable"),
        ("spec.yml:9:17 instance_count", "SpecValueInvalid"),
        ("spec.yml:10:40 request_settings.request_timeout_ms", "SpecValueInvalid"),
        ("spec.yml:10:48 request_settings.max_concurent_requests_per_instance", "SpecKeyUnknown"),
        ("spec.yml:11:37 liveness_probe.success_threshold", "SpecValueInvalid"),
        ("spec.yml:11:48 liveness_probe.period", "SpecValueInvalid"),
        ("spec.yml:12:28 environment_variables.C", "SpecValueInvalid"),
        ("env/conda.yml:3:5 environment.conda_file.dependencies[1]", "SpecValueInvalid"),
        ("--set instance_count[0]=1", "ChangeExpressionInvalid"),
        ("spec.yml:1:1 name", "SpecKeyMissing"),
        ("--set scale_settings.type=other scale_settings.type", "SpecValueInvalid"),
    ]


def test_a_problem_shows_its_line_what_was_found_and_what_is_expected(folder: Path) -> None:
    (problem,) = problems(load_deployment, write(GOOD + "instance_count: two\n"))
    assert problem.message == "`instance_count`: found 'two'; expected a whole number"
    assert problem.evidence == ("7 | instance_count: two", " " * 20 + "^")
    assert problem.fix.endswith("moor online-deployment create -f spec.yml")


ENDPOINT_REFUSED = [
    ("name: ab", "1:7 name", "SpecValueInvalid"),
    ("name: a" + "b" * 32, "1:7 name", "SpecValueInvalid"),
    ("name: 1ab", "1:7 name", "SpecValueInvalid"),
    ("name: ab-", "1:7 name", "SpecValueInvalid"),
    ("name: abc\nauth_mode: password", "2:12 auth_mode", "SpecValueInvalid"),
    ("name: abc\ntags: [a]", "2:7 tags", "SpecValueInvalid"),
    ("name: abc\nidentity: {user_assigned_identities: []}", "2:1 identity.type", "SpecKeyMissing"),
    (
        "name: abc\nidentity: {type: user_assigned}",
        "2:1 identity.user_assigned_identities",
        "SpecKeyMissing",
    ),
    ("name: abc\ntraffic: {blue: 60}", "2:10 traffic", "TrafficInvalid"),
    ("name: abc\ntraffic: {blue: 50, Blue: 50}", "2:10 traffic", "SpecValueInvalid"),
    ("name: abc\ntraffic: {blue: 101}", "2:17 traffic.blue", "SpecValueInvalid"),
    ("name: abc\ntraffic: {blue: true}", "2:17 traffic.blue", "SpecValueInvalid"),
    ("name: abc\nmirror_traffic: {blue: 51}", "2:24 mirror_traffic.blue", "SpecValueInvalid"),
    ("name: abc\nmirror_traffic: {blue: 5, green: 5}", "2:17 mirror_traffic", "SpecValueInvalid"),
    ("name: abc\ntraffic: {b1: 100}\nmirror_traffic: {b1: 5}", "3:18 mirror_traffic.b1", "SpecValueInvalid"),
    ("name: abc\npublic_network_access: maybe", "2:24 public_network_access", "SpecValueInvalid"),
    ("name: abc\nallow_public_access: true", "2:1 allow_public_access", "SpecKeyUnknown"),
    ("name: abc\nswagger_uri: x", "2:1 swagger_uri", "SpecKeyUnknown"),
    ("name: abc\ndeployments: []", "2:1 deployments", "SpecKeyUnknown"),
    ("name: abc\nname: abd", "2:1", "SpecKeyTwice"),
    ("name: abc\nproperties: {enforce_acess: x}", "2:14 properties.enforce_acess", "SpecKeyUnknown"),
]


@pytest.mark.parametrize(("text", "place", "code"), ENDPOINT_REFUSED)
def test_refused_keys_of_an_endpoint(folder: Path, text: str, place: str, code: str) -> None:
    assert told(load_endpoint, write(text)) == [(f"spec.yml:{place}", code)]


DEPLOYMENT_REFUSED = [
    ("instance_count: 51", "7:17 instance_count", "SpecValueInvalid"),
    ("app_insights_enabled: perhaps", "7:23 app_insights_enabled", "SpecValueInvalid"),
    ("scale_settings: {type: elastic}", "7:24 scale_settings.type", "SpecValueInvalid"),
    ("scale_settings: {min_instances: 0}", "7:33 scale_settings.min_instances", "SpecValueInvalid"),
    ("scale_settings: {max_instances: 51}", "7:33 scale_settings.max_instances", "SpecValueInvalid"),
    ("scale_settings: {scale_type: manual}", "7:18 scale_settings.scale_type", "SpecKeyUnknown"),
    (
        "request_settings: {request_timeout_ms: 180001}",
        "7:40 request_settings.request_timeout_ms",
        "SpecValueInvalid",
    ),
    (
        "request_settings: {max_queue_wait_ms: -1}",
        "7:39 request_settings.max_queue_wait_ms",
        "SpecValueInvalid",
    ),
    ("readiness_probe: {initial_delay: 0}", "7:34 readiness_probe.initial_delay", "SpecValueInvalid"),
    ("liveness_probe: {success_threshold: 2}", "7:37 liveness_probe.success_threshold", "SpecValueInvalid"),
    ("egress_public_network_access: no", "7:31 egress_public_network_access", "SpecValueInvalid"),
    ("private_network_connection: 7", "7:29 private_network_connection", "SpecValueInvalid"),
    ("model_mount_path: models", "7:19 model_mount_path", "SpecValueInvalid"),
    ("type: kubernetes\nresources: {}", "7:7 type", "KubernetesNotAvailable"),
    ("resources: {}", "7:1 resources", "SpecKeyUnknown"),
    ("image: x", "7:1 image", "SpecKeyUnknown"),
    ("data_collector: {sampling_rate: 2}", "7:33 data_collector.sampling_rate", "SpecValueInvalid"),
    ("data_collector: {rolling_rate: second}", "7:32 data_collector.rolling_rate", "SpecValueInvalid"),
    (
        "environment_variables: {A: '${{azureml://nowhere}}'}",
        "7:28 environment_variables.A",
        "SecretsInjectionError",
    ),
    ("properties: {moorings.x: y}", "7:14 properties.'moorings.x'", "SpecValueInvalid"),
]


@pytest.mark.parametrize(("text", "place", "code"), DEPLOYMENT_REFUSED)
def test_refused_keys_of_a_deployment(folder: Path, text: str, place: str, code: str) -> None:
    assert told(load_deployment, write(GOOD + text)) == [(f"spec.yml:{place}", code)]


REPLACED = [
    ("model: azureml:m:1", "model: ./model.pkl", "3:8 model", "ReferenceInvalid"),
    ("model: azureml:m:1", "model: azureml:m", "3:8 model", "ReferenceInvalid"),
    ("model: azureml:m:1", "model: azureml:m:1:2", "3:8 model", "ReferenceInvalid"),
    ("model: azureml:m:1", "model: 7", "3:8 model", "SpecValueInvalid"),
    ("model: azureml:m:1", "model: {path: no/such}", "3:15 model.path", "SpecPathNotFound"),
    ("model: azureml:m:1", 'model: {path: "a\\0b"}', "3:15 model.path", "SpecPathUnusable"),
    ("model: azureml:m:1", "model: {path: model.pkl, type: onnx}", "3:32 model.type", "SpecValueInvalid"),
    ("model: azureml:m:1", "model: {model_uri: x, path: model.pkl}", "3:9 model.model_uri", "SpecKeyUnknown"),
    ("environment: azureml:e:1", "", "1:1 environment", "SpecKeyMissing"),
    ("environment: azureml:e:1", "environment: {}", "5:14 environment", "SpecKeyMissing"),
    (
        "environment: azureml:e:1",
        "environment: {image: x, build: {path: .}}",
        "5:33 environment.build.path",
        None,
    ),
    ("environment: azureml:e:1", "environment: {image: a b}", "5:22 environment.image", "SpecValueInvalid"),
    (
        "environment: azureml:e:1",
        "environment: {image: x, context_uri: y}",
        "5:25 environment.context_uri",
        "SpecKeyUnknown",
    ),
    (
        "environment: azureml:e:1",
        "environment: {conda_file: none.yml}",
        "5:27 environment.conda_file",
        "SpecPathNotFound",
    ),
    (
        "environment: azureml:e:1",
        "environment: {conda_file: src}",
        "5:27 environment.conda_file",
        "SpecPathUnusable",
    ),
    (
        "environment: azureml:e:1",
        "environment: {conda_file: 'https://x/y'}",
        "5:27 environment.conda_file",
        "SpecPathUnusable",
    ),
    (
        "environment: azureml:e:1",
        "environment: {dependencies: [x]}",
        "5:15 environment.dependencies",
        "EnvironmentIsCondaFile",
    ),
    ("instance_type: Standard_DS3_v2", "", "1:1 instance_type", "SpecKeyMissing"),
    (
        "scoring_script: score.py",
        "scoring_script: main.py",
        "4:49 code_configuration.scoring_script",
        "SpecPathNotFound",
    ),
    (
        "scoring_script: score.py",
        "scoring_script: /etc/passwd",
        "4:49 code_configuration.scoring_script",
        "SpecPathUnusable",
    ),
    (
        "scoring_script: score.py",
        "scoring_script: .",
        "4:49 code_configuration.scoring_script",
        "SpecPathUnusable",
    ),
    ("code: src", "code: model.pkl", "4:28 code_configuration.code", "SpecPathUnusable"),
    ("code: src", "code: {local_path: src}", "4:28 code_configuration.code", "SpecValueInvalid"),
    ("name: blue", "name: [blue]", "1:7 name", "SpecValueInvalid"),
]


@pytest.mark.parametrize(("old", "new", "place", "code"), REPLACED)
def test_refused_values_of_a_deployment(
    folder: Path, old: str, new: str, place: str, code: str | None
) -> None:
    assert old in GOOD
    found = told(load_deployment, write(GOOD.replace(old, new)))
    if code is None:  # an image beside a build context: told about the key
        assert found[0][1] in ("SpecValueInvalid", "SpecPathNotFound")
    else:
        assert found == [(f"spec.yml:{place}", code)]


def test_an_image_and_a_build_context_exclude_each_other(folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM x")
    found = told(load_environment, write("name: e\nimage: x\nbuild: {path: .}\n"))
    assert found == [("spec.yml:3:1 build", "SpecValueInvalid")]


HINTS = [
    ("instance_typ: x", "did you mean `instance_type`?"),
    ("scoring_script: x", "belongs under `code_configuration`"),
    ("request_timeout_ms: 1", "belongs under `request_settings`"),
    ("auth_mode: key", "a key of an endpoint file"),
    ("zzz: 1", "known keys: "),
]


@pytest.mark.parametrize(("text", "hint"), HINTS)
def test_unknown_keys_come_with_a_hint(folder: Path, text: str, hint: str) -> None:
    (problem,) = problems(load_deployment, write(GOOD + text))
    assert hint in problem.message


def test_a_missing_path_says_what_is_there(folder: Path) -> None:
    (problem,) = problems(load_deployment, write(GOOD.replace("score.py", "scroe.py")))
    assert str(folder / "src" / "scroe.py") in problem.message
    assert f"{folder / 'src'} holds score.py" in problem.message


def test_a_script_behind_a_link_out_of_the_code_folder_is_refused(folder: Path) -> None:
    (folder / "src" / "score.py").unlink()
    (folder / "src" / "score.py").symlink_to(folder / "model.pkl")
    (problem,) = problems(load_deployment, write(GOOD))
    assert "leads out of the code folder" in problem.message


def test_a_conda_file_given_as_an_environment(folder: Path) -> None:
    path = write("name: e\nchannels: [conda-forge]\ndependencies: [python]\n", "conda.yml")
    (problem,) = problems(load_environment, path)
    assert problem.code == "EnvironmentIsCondaFile"
    assert "conda_file" in problem.fix
    found = told(load_deployment, write(GOOD.replace("azureml:e:1", "file:conda.yml")))
    assert found == [("conda.yml:3:1 dependencies", "EnvironmentIsCondaFile")]


def test_a_broken_conda_file_is_named_with_its_own_place(folder: Path) -> None:
    write("dependencies:\n  - python\n -  x\n", "conda.yml")
    found = told(load_deployment, write(GOOD.replace("azureml:e:1", "{image: i, conda_file: conda.yml}")))
    assert found == [("conda.yml:3:2 environment.conda_file", "SpecNotYaml")]


def test_secret_references_are_kept(folder: Path) -> None:
    value = "${{azureml://connections/c/credentials/k}}"
    spec = load_deployment(write(GOOD + f"environment_variables: {{A: '{value}', B: '${{plain}}'}}\n"))
    assert spec.environment_variables == {"A": value, "B": "${plain}"}


# --- files that are no specs ------------------------------------------------------------------------------------
def test_a_huge_file_is_refused_without_reading_it(folder: Path) -> None:
    path = folder / "spec.yml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    began = time.process_time()
    with pytest.raises(MooringsError) as refused:
        load_deployment(path)
    assert refused.value.failure.code == "SpecTooLarge"
    # Reading and decoding 100 MB alone takes far longer than looking at its size.
    assert time.process_time() - began < 0.5


def test_pipes_folders_and_missing_files(folder: Path) -> None:
    os.mkfifo("pipe")
    for name in ("pipe", "src", "missing.yml", "missing/spec.yml", "model.pkl/x", "a\0b"):
        with pytest.raises(MooringsError) as refused:
            load_endpoint(Path(name))
        assert refused.value.failure.code == "SpecFileUnreadable", name


@pytest.mark.parametrize("text", ["", "# nothing", "- a", "blue", "7", "null"])
def test_a_document_that_is_no_mapping(folder: Path, text: str) -> None:
    (problem,) = problems(load_endpoint, write(text))
    assert problem.code == "SpecNotYaml"
    assert problem.target is not None
    assert problem.target.startswith("spec.yml")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "name",
        "endpoint_name",
        "model",
        "path",
        "type",
        "environment",
        "image",
        "conda_file",
        "dependencies",
        "build",
        "code_configuration",
        "code",
        "scoring_script",
        "identity",
        "traffic",
        "properties",
        "user_assigned_identities",
        "tags",
        "data_collector",
        "collections",
        "request_logging",
        "capture_headers",
        "scale_settings",
        "inference_config",
        "liveness_route",
        "flavors",
        "$schema",
    ]
)
SPECISH = st.recursive(
    VALUES
    | st.sampled_from(["src", "score.py", "model.pkl", "file:spec.yml", "azureml:a:1", "../x", "~nobody/x"]),
    lambda inner: st.dictionaries(KEYS, inner, max_size=6) | st.lists(inner, max_size=2),
    max_leaves=20,
)
LOADERS = (load_endpoint, load_deployment, load_model, load_environment)
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def load_all(path: Path) -> None:
    for load in LOADERS:
        try:
            load(path)
        except MooringsError as refused:
            assert refused.failure.message.isprintable() or "\n" not in refused.failure.code
            str(refused).encode()
            for detail in refused.failure.details:
                assert detail.target
                detail.message.encode()


@given(st.binary(max_size=200))
@QUIET
def test_any_bytes_are_a_spec_or_a_coded_failure(folder: Path, data: bytes) -> None:
    path = Path("spec.yml")
    path.write_bytes(data)
    load_all(path)


@given(SPECISH)
@QUIET
def test_any_structure_is_a_spec_or_a_coded_failure(folder: Path, value: Any) -> None:
    load_all(write(yaml.safe_dump(value)))


@given(st.lists(st.text(st.characters(exclude_categories=[]), max_size=20), max_size=3))
@QUIET
def test_any_override_is_taken_or_a_coded_failure(folder: Path, overrides: list[str]) -> None:
    path = write(GOOD)
    for given_ in (overrides, [f"tags.{o}" for o in overrides], [f"model={o}" for o in overrides]):
        try:
            load_deployment(path, overrides=given_)
        except MooringsError as refused:
            for detail in refused.failure.details:
                detail.message.encode()
                assert detail.target is not None
                detail.target.encode()
