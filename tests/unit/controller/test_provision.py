"""What runs a model that comes without a script or an environment: chosen by its type and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moorings.assets.store import AssetStore
from moorings.controller.provision import Provisioner
from moorings.controller.resolve import Content
from moorings.controller.templates import template_of
from moorings.engines.base import ModelMount
from moorings.environments.venv import BuiltEnvironment
from moorings.errors.exceptions import MooringsError
from moorings.spec.assets import EnvironmentSpec
from moorings.spec.deployment import DeploymentSpec

ACTIVE = {"CONDA_PREFIX": "/p", "PROJ_NETWORK": "ON"}
CONDA: dict[str, Any] = {"dependencies": ["python=3.12"]}


class Builder:
    """Keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[EnvironmentSpec] = []

    async def ensure(self, spec: EnvironmentSpec, *, progress: Any, said: Any) -> BuiltEnvironment:
        self.asked.append(spec)
        return BuiltEnvironment(
            "k", "r", Path("/p"), "3.12.1", {"a": "1"}, True, 0.0, (), "conda", "why", ACTIVE
        )


class Yard:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = AssetStore(folder / "home" / "assets", home=folder / "home")
        self.builder = Builder()
        self.provisioner = Provisioner(self.builder, self.store)  # type: ignore[arg-type]

    async def ensure(
        self,
        model_type: str,
        files: dict[str, str],
        spec: EnvironmentSpec | None = None,
        code: str = "",
    ) -> Content:
        for name, text in files.items():
            path = self.folder / "m" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        tree = self.store.ingest(self.folder / "m", keep_name=True, use_ignore=False)
        mount = ModelMount(tree.digest, "m", "1")
        content = Content(code, "own", "own.py" if code else "", mount, model_type, spec)
        found, built = await self.provisioner.ensure(spec, content, lambda text: None, lambda line: None)
        assert (built.solver, built.solver_reason, built.packages) == ("conda", "why", 1)
        return found

    def script(self, content: Content) -> str:
        """The text of the script that will run."""
        tree = self.store.tree(content.code_digest)
        assert tree is not None
        (sha256,) = (file.sha256 for file in tree.files if file.path == content.scoring_script)
        return self.store.blob(sha256).read_text()


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    (tmp_path / "m").mkdir()
    return Yard(tmp_path)


MLMODEL = "flavors:\n  python_function:\n    env: conda.yaml\n    python_version: 3.12.1\n"


async def test_an_mlflow_model_gets_its_own_environment_and_our_script(yard: Yard) -> None:
    files = {"deep/MLmodel": MLMODEL, "deep/conda.yaml": "dependencies: [python=3.11, pip: [mlflow==3.1]]"}
    found = await yard.ensure("mlflow_model", files)
    assert (found.code_folder, found.scoring_script) == ("mlflow", "score.py")
    assert "mlflow.pyfunc" in yard.script(found)
    (asked,) = yard.builder.asked
    assert asked.conda_file is not None and "python=3.11" in asked.conda_file["dependencies"]


async def test_onnx_files_get_onnxruntime_and_our_script(yard: Yard) -> None:
    found = await yard.ensure("triton_model", {"a/1/model.onnx": "x"})
    assert found.code_folder == "onnx"
    assert "Open Inference Protocol" in yard.script(found)
    (asked,) = yard.builder.asked
    assert "onnxruntime" in str(asked.conda_file)


@pytest.mark.parametrize("model_type", ["mlflow_model", "triton_model"])
async def test_what_the_user_gives_is_taken(yard: Yard, model_type: str) -> None:
    spec = EnvironmentSpec(conda_file=CONDA)
    mine = await yard.ensure(model_type, {"MLmodel": MLMODEL, "m.onnx": ""}, spec, code="mine")
    assert (mine.code_digest, mine.code_folder) == ("mine", "own")
    ours = await yard.ensure(model_type, {}, spec)
    assert ours.code_folder in ("mlflow", "onnx")
    assert yard.builder.asked == [spec, spec]


async def test_the_variables_of_a_conda_file_come_with_the_environment(yard: Yard) -> None:
    spec = EnvironmentSpec(conda_file={**CONDA, "variables": {"PROJ_NETWORK": "OFF", "N": 4}})
    found = await yard.ensure("custom_model", {"x": ""}, spec, code="mine")
    expected = {"CONDA_PREFIX": "/p", "PROJ_NETWORK": "OFF", "N": "4"}
    assert found.variables == expected, "those of the file win over those of its packages"
    deployment = DeploymentSpec(name="blue", endpoint_name="shop", environment_variables={"N": "5"})
    made = template_of(deployment, found, python="/p", environment_key="k")
    assert made.environment_variables == {**expected, "N": "5"}, "those of the deployment win"


@pytest.mark.parametrize(
    ("model_type", "files", "spec", "code"),
    [
        ("custom_model", {"x": ""}, None, "EnvironmentNeedsContainer"),
        ("custom_model", {"x": ""}, EnvironmentSpec(conda_file=CONDA), "EnvironmentNeedsContainer"),
        ("triton_model", {"m/1/model.onnx": ""}, EnvironmentSpec(image="t:1"), "EnvironmentNeedsContainer"),
        ("triton_model", {"m/1/model.plan": ""}, None, "TritonModelNotServable"),
        ("mlflow_model", {"x": ""}, None, "MlflowModelInvalid"),
        ("mlflow_model", {"MLmodel": "flavors: {h2o: {}}"}, None, "MlflowFlavorMissing"),
    ],
)
async def test_what_cannot_be_served_is_refused_before_anything_is_built(
    yard: Yard, model_type: str, files: dict[str, str], spec: EnvironmentSpec | None, code: str
) -> None:
    with pytest.raises(MooringsError) as caught:
        await yard.ensure(model_type, files, spec)
    assert caught.value.failure.code == code
    assert yard.builder.asked == []
