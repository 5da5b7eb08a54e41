"""A whole working session with the ecosystem's own client, as a user writes it: nothing in here is about Moorings.

Run in the client's environment (`client.lock`), with the variables of `moor workspace env`, in a folder of its own:
`python session.py`. Prints one line per step, and leaves `result.json`.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
import traceback
from pathlib import Path

from azure.ai.ml import MLClient, load_online_deployment
from azure.ai.ml.entities import (
    BuildContext,
    CodeConfiguration,
    Data,
    DataCollector,
    DeploymentCollection,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    OnlineRequestSettings,
    ProbeSettings,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential

SCORE = """
import json, os

def init():
    global text
    root = os.environ["AZUREML_MODEL_DIR"]
    path = os.path.join(root, "weights", "w.txt")
    if not os.path.exists(path):
        path = os.path.join(root, "w.txt")
    text = open(path).read()
    print("model loaded from", path)

def run(data):
    return {"model": text, "sum": sum(json.loads(data)["data"]), "who": os.environ.get("WHO", "nobody")}
"""
CONDA = "channels: [conda-forge]\ndependencies:\n  - python={}.{}\n".format(*sys.version_info)
NAME = "compat"
YAML = f"""
$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json
name: yellow
endpoint_name: {NAME}
model:
  path: ./w.txt
code_configuration:
  code: ./code
  scoring_script: score.py
environment:
  conda_file: ./conda.yaml
  image: local/base
environment_variables:
  WHO: yellow
instance_type: Standard_DS3_v2
instance_count: 1
"""

ml_client = MLClient(DefaultAzureCredential(), "3f4a", "my-resources", "my-workspace")


def files() -> None:
    for folder in ("code/helpers", "weights/sub dir", "context"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path("code/score.py").write_text(SCORE)
    Path("code/helpers/__init__.py").write_text("")
    Path("code/notes.tmp").write_text("left out")
    Path("code/.amlignore").write_text("*.tmp\n")
    Path("weights/w.txt").write_text("one")
    Path("weights/sub dir/ü #1 %41+&.txt").write_text("odd name")
    Path("weights/empty").write_bytes(b"")
    Path("w.txt").write_text("two")
    Path("conda.yaml").write_text(CONDA)
    Path("request.json").write_text('{"data": [1, 2, 3]}')
    Path("context/Dockerfile").write_text("FROM local/base\nRUN true\n")
    with Path("large.bin").open("wb") as handle:
        for n in range(70):
            handle.write(bytes([n]) * (1 << 20))


def workspace() -> None:
    found = ml_client.workspaces.get("my-workspace")
    assert found.location


def default_datastore() -> None:
    assert ml_client.datastores.get_default().name == "workspaceblobstore"
    assert ml_client.datastores.get("workspaceblobstore").account_name


def create_endpoint() -> None:
    endpoint = ManagedOnlineEndpoint(name=NAME, auth_mode="key", tags={"team": "demo"}, description="a test")
    made = ml_client.online_endpoints.begin_create_or_update(endpoint).result()
    assert (made.name, made.provisioning_state, made.tags) == (NAME, "Succeeded", {"team": "demo"})


def get_and_list_endpoints() -> None:
    assert ml_client.online_endpoints.get(NAME).scoring_uri.startswith("http")
    assert NAME in [e.name for e in ml_client.online_endpoints.list()]


def missing_endpoint() -> None:
    try:
        ml_client.online_endpoints.get("nothing-here")
    except ResourceNotFoundError as problem:
        assert "nothing-here" in str(problem)
    else:
        raise AssertionError("no error")


def register_model_folder() -> None:
    made = ml_client.models.create_or_update(Model(name="weights", path="weights", description="first"))
    assert (made.name, made.version) == ("weights", "1")


def register_model_again() -> None:
    made = ml_client.models.create_or_update(Model(name="weights", version="1", path="weights"))
    assert made.version == "1"


def register_model_file() -> None:
    made = ml_client.models.create_or_update(Model(name="weights", path="w.txt"))
    assert made.version == "2"
    assert ml_client.models.get("weights", label="latest").version == "2"


def other_bytes_for_a_version() -> None:
    Path("other.txt").write_text("three")
    try:
        ml_client.models.create_or_update(Model(name="weights", version="1", path="other.txt"))
    except Exception as problem:
        assert "Asset paths cannot be updated" in str(problem), problem
    else:
        raise AssertionError("no error")


def same_files_under_another_name() -> None:
    made = ml_client.models.create_or_update(Model(name="copy", version="7", path="weights"))
    assert (made.name, made.version) == ("copy", "7")


def list_models() -> None:
    assert {"weights", "copy"} <= {m.name for m in ml_client.models.list()}
    assert [m.version for m in ml_client.models.list(name="weights")] == ["2", "1"]


def register_large_model() -> None:
    made = ml_client.models.create_or_update(Model(name="large", version="1", path="large.bin"))
    ml_client.models.download("large", "1", download_path="down-large")
    (found,) = (p for p in Path("down-large").rglob("*") if p.is_file())
    assert found.read_bytes() == Path("large.bin").read_bytes(), made.path


def download_models() -> None:
    ml_client.models.download("weights", "1", download_path="down")
    base = Path("down/weights/weights")
    names = {str(p.relative_to(base)) for p in base.rglob("*") if p.is_file()}
    assert names == {"w.txt", "empty", "sub dir/ü #1 %41+&.txt"}, names
    assert (base / "w.txt").read_text() == "one"
    ml_client.models.download("weights", "2", download_path="down2")
    (found,) = (p for p in Path("down2").rglob("*") if p.is_file())
    assert (found.name, found.read_text()) == ("w.txt", "two")


def register_mlflow_model() -> None:
    saved = Path("saved")
    saved.mkdir()
    (saved / "MLmodel").write_text("flavors:\n  python_function: {loader_module: mlflow.sklearn}\n")
    ml_client.models.create_or_update(Model(name="saved", path="saved", type="mlflow_model"))
    assert ml_client.models.get("saved", "1").flavors == {
        "python_function": {"loader_module": "mlflow.sklearn"}
    }
    try:
        ml_client.models.create_or_update(Model(name="unsaved", path="weights", type="mlflow_model"))
    except HttpResponseError as problem:
        assert "the model folder has no file MLmodel" in str(problem), problem
    else:
        raise AssertionError("no error")


def archive_and_restore() -> None:
    ml_client.models.archive("weights", version="2")
    assert [m.version for m in ml_client.models.list(name="weights")] == ["1"]
    ml_client.models.restore("weights", version="2")
    assert [m.version for m in ml_client.models.list(name="weights")] == ["2", "1"]
    ml_client.models.archive("copy")
    assert "copy" not in {m.name for m in ml_client.models.list()}
    ml_client.models.restore("copy")


def register_environment() -> None:
    made = ml_client.environments.create_or_update(
        Environment(name="small", image="local/base", conda_file="conda.yaml")
    )
    assert made.version == "1"


def environment_versions() -> None:
    same = ml_client.environments.create_or_update(
        Environment(name="small", image="local/base", conda_file="conda.yaml")
    )
    assert same.version == "1", same.version
    Path("conda2.yaml").write_text(CONDA + "  - pip\n")
    other = ml_client.environments.create_or_update(
        Environment(name="small", image="local/base", conda_file="conda2.yaml")
    )
    assert other.version == "2", other.version
    assert ml_client.environments.get("small", label="latest").version == "2"
    assert [e.version for e in ml_client.environments.list(name="small")] == ["2", "1"]


def environment_from_build_context() -> None:
    made = ml_client.environments.create_or_update(
        Environment(name="built", version="1", build=BuildContext(path="context"))
    )
    assert made.build.dockerfile_path == "Dockerfile"
    again = ml_client.environments.create_or_update(
        Environment(name="built", version="1", build=BuildContext(path="context"))
    )
    assert again.build.path == made.build.path


def deployment(name: str, **more: object) -> ManagedOnlineDeployment:
    values: dict = {
        "model": Model(path="weights"),
        "environment": Environment(image="local/base", conda_file="conda.yaml"),
        "code_configuration": CodeConfiguration(code="code", scoring_script="score.py"),
        "instance_type": "Standard_DS3_v2",
        "instance_count": 1,
        **more,
    }
    return ManagedOnlineDeployment(name=name, endpoint_name=NAME, **values)


def deploy(wanted: ManagedOnlineDeployment) -> ManagedOnlineDeployment:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a dot for each look
        return ml_client.online_deployments.begin_create_or_update(wanted).result()


def deploy_inline() -> None:
    made = deploy(
        deployment(
            "blue",
            environment_variables={"WHO": "blue"},
            request_settings=OnlineRequestSettings(
                request_timeout_ms=3000, max_concurrent_requests_per_instance=2
            ),
            liveness_probe=ProbeSettings(initial_delay=10, period=10),
        )
    )
    assert (made.name, made.provisioning_state) == ("blue", "Succeeded")


def deploy_registered() -> None:
    made = deploy(deployment("green", model="azureml:weights:2", environment="azureml:small:1"))
    assert made.provisioning_state == "Succeeded"
    assert made.model.endswith("/models/weights/versions/2")


def deploy_objects_that_were_got() -> None:
    made = deploy(
        deployment(
            "green",
            model=ml_client.models.get("weights", "2"),
            environment=ml_client.environments.get("small", "1"),
        )
    )
    assert made.model.endswith("/models/weights/versions/2")


def change_a_deployment_that_was_got() -> None:
    found = ml_client.online_deployments.get("green", NAME)
    found.instance_count = 2
    found.tags = {"stage": "test"}
    made = deploy(found)
    assert (made.instance_count, made.tags["stage"]) == (2, "test")


def deploy_from_yaml() -> None:
    Path("yellow.yml").write_text(YAML)
    made = deploy(load_online_deployment("yellow.yml"))
    assert made.provisioning_state == "Succeeded"
    answer = json.loads(
        ml_client.online_endpoints.invoke(NAME, request_file="request.json", deployment_name="yellow")
    )
    assert answer == {"model": "two", "sum": 6, "who": "yellow"}, answer
    ml_client.online_deployments.begin_delete("yellow", NAME).result()


def same_deployment_again() -> None:
    code = ml_client.online_deployments.get("blue", NAME).code_configuration.code
    made = deploy(deployment("blue", environment_variables={"WHO": "blue"}))
    assert made.code_configuration.code == code, "the code was uploaded again"


def get_and_list_deployments() -> None:
    assert ml_client.online_deployments.get("blue", NAME).instance_count == 1
    assert {d.name for d in ml_client.online_deployments.list(NAME)} == {"blue", "green"}


def sizes_and_usage() -> None:
    assert "Standard_DS3_v2" in [size.name for size in ml_client.compute.list_sizes()]
    (family,) = (use for use in ml_client.compute.list_usage() if use.name["value"] == "standardDSv2Family")
    assert family.limit >= 16, "two deployments, which count as two instances each"


def set_traffic() -> None:
    endpoint = ml_client.online_endpoints.get(NAME)
    endpoint.traffic = {"blue": 100}
    made = ml_client.online_endpoints.begin_create_or_update(endpoint).result()
    assert made.traffic == {"blue": 100}


def invoke() -> None:
    answer = json.loads(ml_client.online_endpoints.invoke(NAME, request_file="request.json"))
    assert answer == {"model": "one", "sum": 6, "who": "blue"}, answer


def split_and_mirror_traffic() -> None:
    endpoint = ml_client.online_endpoints.get(NAME)
    endpoint.traffic = {"blue": 50, "green": 50}
    ml_client.online_endpoints.begin_create_or_update(endpoint).result()
    seen = {
        json.loads(ml_client.online_endpoints.invoke(NAME, request_file="request.json"))["model"]
        for _ in range(30)
    }
    assert seen == {"one", "two"}
    endpoint = ml_client.online_endpoints.get(NAME)
    endpoint.traffic, endpoint.mirror_traffic = {"blue": 100}, {"green": 10}
    made = ml_client.online_endpoints.begin_create_or_update(endpoint).result()
    assert made.mirror_traffic == {"green": 10}


def traffic_that_does_not_add_up() -> None:
    endpoint = ml_client.online_endpoints.get(NAME)
    endpoint.traffic, endpoint.mirror_traffic = {"blue": 70}, {}
    try:
        ml_client.online_endpoints.begin_create_or_update(endpoint).result()
    except HttpResponseError as problem:
        assert "100" in str(problem)
    else:
        raise AssertionError("no error")


def invoke_a_deployment() -> None:
    answer = json.loads(
        ml_client.online_endpoints.invoke(NAME, request_file="request.json", deployment_name="green")
    )
    assert answer["model"] == "two"


def register_data() -> None:
    address = "azureml://datastores/workspaceblobstore/paths/elsewhere"
    made = ml_client.data.create_or_update(Data(name="rows", path=address, tags={"a": "b"}))
    assert (made.name, made.version, made.type, made.path) == ("rows", "1", "uri_folder", address)
    assert ml_client.data.create_or_update(Data(name="rows", version="1", path=address)).version == "1"
    try:
        ml_client.data.create_or_update(Data(name="rows", version="1", path=f"{address}/2"))
    except HttpResponseError as problem:
        assert "already exists" in str(problem), problem
    else:
        raise AssertionError("no error")
    uploaded = ml_client.data.create_or_update(Data(name="rows", path="w.txt", type="uri_file"))
    assert uploaded.version == "2" and "LocalUpload" in uploaded.path, uploaded.path
    assert ml_client.data.get("rows", label="latest").path == uploaded.path
    assert "rows" in {d.name for d in ml_client.data.list()}
    assert [d.version for d in ml_client.data.list(name="rows")] == ["2", "1"]
    ml_client.data.archive("rows", version="2")
    assert [d.version for d in ml_client.data.list(name="rows")] == ["1"]
    ml_client.data.restore("rows", version="2")


def deploy_with_a_data_collector() -> None:
    """Twice: the second time its data assets are there, one of them with an address of the user's own."""
    own = "azureml://datastores/workspaceblobstore/paths/mine"
    ml_client.data.create_or_update(Data(name=f"{NAME}-gatherer-model_outputs", version="1", path=own))
    for rate in (0.5, 0.25):
        collections = {
            name: DeploymentCollection(enabled="true") for name in ("model_inputs", "model_outputs")
        }
        collector = DataCollector(collections=collections, sampling_rate=rate, rolling_rate="hour")
        made = deploy(
            deployment(
                "gatherer", model="weights@latest", environment="small@latest", data_collector=collector
            )
        )
        assert made.provisioning_state == "Succeeded"
        found = ml_client.online_deployments.get("gatherer", NAME).data_collector
        assert found.sampling_rate == rate and set(found.collections) == set(collections)
        for name, collection in found.collections.items():
            assert collection.enabled == "true"
            assert collection.data.startswith("/subscriptions/"), collection.data
            assert collection.data.endswith(f"/data/{NAME}-gatherer-{name}/versions/1"), collection.data
    inputs = ml_client.data.get(f"{NAME}-gatherer-model_inputs", version="1")
    path = f"azureml://datastores/workspaceblobstore/paths/modelDataCollector/{NAME}/gatherer/model_inputs"
    assert inputs.path == path, inputs.path
    assert ml_client.data.get(f"{NAME}-gatherer-model_outputs", version="1").path == own
    ml_client.online_deployments.begin_delete("gatherer", NAME).result()
    assert "gatherer" not in [d.name for d in ml_client.online_deployments.list(NAME)]


def logs() -> None:
    assert "model loaded from" in ml_client.online_deployments.get_logs("blue", NAME, lines=50)
    found = ml_client.online_deployments.get_logs(
        "blue", NAME, lines=50, container_type="storage-initializer"
    )
    assert "w.txt" in found, found


def keys() -> None:
    before = ml_client.online_endpoints.get_keys(NAME)
    assert before.primary_key != before.secondary_key
    ml_client.online_endpoints.begin_regenerate_keys(NAME, key_type="primary").result()
    after = ml_client.online_endpoints.get_keys(NAME)
    assert after.primary_key != before.primary_key
    assert after.secondary_key == before.secondary_key
    ml_client.online_endpoints.invoke(NAME, request_file="request.json")


def update_code() -> None:
    Path("code/score.py").write_text(SCORE.replace('"nobody"', '"somebody"'))
    made = deploy(deployment("green", model="weights@latest", environment="azureml:small:1"))
    assert made.provisioning_state == "Succeeded"
    answer = json.loads(
        ml_client.online_endpoints.invoke(NAME, request_file="request.json", deployment_name="green")
    )
    assert answer["who"] == "somebody", answer


def deployment_that_fails() -> None:
    Path("bad").mkdir(exist_ok=True)
    Path("bad/score.py").write_text(
        "def init():\n    raise ValueError('no such weights')\ndef run(data): ...\n"
    )
    try:
        deploy(deployment("red", code_configuration=CodeConfiguration(code="bad", scoring_script="score.py")))
    except HttpResponseError as problem:
        assert "no such weights" in str(problem), problem
    else:
        raise AssertionError("no error")
    ml_client.online_deployments.begin_delete("red", NAME).result()


def deployment_in_use_is_not_deleted() -> None:
    try:
        ml_client.online_deployments.begin_delete("blue", NAME).result()
    except HttpResponseError as problem:
        assert "traffic" in str(problem)
    else:
        raise AssertionError("no error")


def token_endpoint() -> None:
    endpoint = ManagedOnlineEndpoint(name="compat-token", auth_mode="aml_token")
    ml_client.online_endpoints.begin_create_or_update(endpoint).result()
    assert ml_client.online_endpoints.get_keys("compat-token").access_token
    ml_client.online_endpoints.begin_delete("compat-token").result()


def delete_deployment() -> None:
    endpoint = ml_client.online_endpoints.get(NAME)
    endpoint.traffic, endpoint.mirror_traffic = {"blue": 100}, {}
    ml_client.online_endpoints.begin_create_or_update(endpoint).result()
    ml_client.online_deployments.begin_delete("green", NAME).result()
    assert [d.name for d in ml_client.online_deployments.list(NAME)] == ["blue"]


def delete_endpoint() -> None:
    ml_client.online_endpoints.begin_delete(NAME).result()
    assert NAME not in [e.name for e in ml_client.online_endpoints.list()]


STEPS = [
    workspace, default_datastore, create_endpoint, get_and_list_endpoints, missing_endpoint, register_model_folder,
    register_model_again, register_model_file, other_bytes_for_a_version, same_files_under_another_name, list_models,
    register_large_model, download_models, register_mlflow_model, archive_and_restore, register_environment,
    environment_versions, environment_from_build_context, deploy_inline, deploy_registered, deploy_objects_that_were_got,
    change_a_deployment_that_was_got, same_deployment_again, get_and_list_deployments, sizes_and_usage,
    set_traffic, invoke, split_and_mirror_traffic, traffic_that_does_not_add_up, logs, keys, invoke_a_deployment,
    deploy_from_yaml, update_code, register_data, deploy_with_a_data_collector, deployment_that_fails,
    deployment_in_use_is_not_deleted, token_endpoint, delete_deployment,
    delete_endpoint,
]  # fmt: skip


def main() -> int:
    files()
    began = time.perf_counter()
    passed: dict[str, float] = {}
    failed: dict[str, str] = {}
    for step in STEPS:
        at = time.perf_counter()
        try:
            step()
        except Exception:
            failed[step.__name__] = traceback.format_exc()
            print(f"FAILED {step.__name__}\n{failed[step.__name__]}", file=sys.stderr)
        else:
            passed[step.__name__] = round(time.perf_counter() - at, 2)
            print(f"passed {step.__name__} in {passed[step.__name__]:.2f} s", file=sys.stderr)
    seconds = round(time.perf_counter() - began, 1)
    result = {"passed": passed, "failed": failed, "total": len(STEPS), "seconds": seconds}
    Path("result.json").write_text(json.dumps(result))
    print(f"{len(passed)} of {len(STEPS)} steps passed in {seconds} s", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
