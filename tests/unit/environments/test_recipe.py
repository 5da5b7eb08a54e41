from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from moorings.environments.mlflow import mlflow_environment, mlflow_flavors, stored_reader
from moorings.environments.onnx import onnx_environment
from moorings.environments.recipe import Recipe, conda_recipe, make_recipe, recipe_key, stays_below
from moorings.errors.exceptions import MooringsError
from moorings.spec.assets import BuildContext, EnvironmentSpec


def recipe(*dependencies: Any, **more: Any) -> Recipe:
    return make_recipe(EnvironmentSpec(conda_file={"dependencies": list(dependencies)}, **more))


def key(one: Recipe) -> str:
    return recipe_key(one, server_wheel_sha256="0" * 64, platform="linux-x86_64")


def test_a_conda_file_with_pip_packages() -> None:
    made = recipe(
        "python=3.12",
        "numpy=2.3.1",
        {"pip": ["azureml-inference-server-http==1.4.1", "inference-schema[numpy-support]", "joblib"]},
        image="registry.example/base:1",
    )
    assert made.python == "==3.12.*"
    assert made.requirements == (
        "azureml-inference-server-http==1.4.1",
        "inference-schema[numpy-support]",
        "joblib",
        "numpy==2.3.1.*",
    )
    assert any("registry.example/base:1" in note for note in made.notes)


def test_an_image_alone_is_an_environment_with_python_and_a_note() -> None:
    made = make_recipe(EnvironmentSpec(image="registry.example/base:1"))
    assert (made.python, made.requirements) == ("", ())
    assert "registry.example/base:1" in made.notes[0]


def test_spelling_and_order_do_not_change_the_key() -> None:
    one = recipe("python=3.12", "NumPy>=1.2,<2", {"pip": ["Scikit_Learn == 1.5.0", "a[y,x]"]})
    two = recipe({"pip": ["a[x,y]", "scikit-learn==1.5.0"]}, "numpy<2,>=1.2", "numpy<2,>=1.2", "python=3.12")
    assert key(one) == key(two)
    assert len(key(one)) == 16


@pytest.mark.parametrize(
    "other",
    [
        recipe("python=3.12", "six==1.16"),
        recipe("python=3.11", "six"),
        recipe("python=3.12", "six", "joblib"),
    ],
)
def test_what_is_asked_for_is_in_the_key(other: Recipe) -> None:
    assert key(recipe("python=3.12", "six")) != key(other)


def test_server_and_platform_are_in_the_key() -> None:
    one = recipe("six")
    keys = {
        recipe_key(one, server_wheel_sha256=sha, platform=platform)
        for sha in ("0" * 64, "1" * 64)
        for platform in ("linux-x86_64", "linux-aarch64")
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    "dependencies",
    [
        ("scikit-learn=1.2.2", "numpy"),
        ("scikit-learn=1.2.2",),
        ("scikit-learn<1.4", "numpy>=1.20"),
        ({"pip": ["pandas==1.5.3"]},),
        ("pytorch=2.2",),
        ("scipy~=1.10.0",),
        ("scipy<=1.12",),
    ],
)
def test_numpy_2_is_kept_away_from_packages_that_were_compiled_before_it(
    dependencies: tuple[Any, ...],
) -> None:
    made = recipe(*dependencies)
    assert "numpy<2" in made.requirements
    assert any("numpy<2" in note for note in made.notes)


@pytest.mark.parametrize(
    "dependencies",
    [
        ("scikit-learn=1.2.2", "numpy=1.26"),
        ("scikit-learn=1.2.2", "numpy>=2"),
        ("scikit-learn=1.2.2", {"pip": ["numpy==2.0.0"]}),
        ("scikit-learn=1.2.2", "numpy<3"),
        ("scikit-learn=1.4.2",),
        ("scikit-learn=1.4",),
        ("scikit-learn>=1.2",),
        ("scikit-learn",),
        ("joblib=1.0",),
    ],
)
def test_numpy_is_left_alone_where_the_user_chose_or_nothing_is_old(dependencies: tuple[Any, ...]) -> None:
    assert "numpy<2" not in recipe(*dependencies).requirements


specifiers = st.lists(
    st.tuples(
        st.sampled_from(["==", "<", "<=", ">", ">=", "~=", "!="]), st.integers(0, 4), st.integers(0, 4)
    ).map(lambda parts: f"{parts[0]}{parts[1]}.{parts[2]}")
    | st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda parts: f"=={parts[0]}.{parts[1]}.*"),
    max_size=3,
).map(",".join)
versions = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)).map(
    lambda p: ".".join(map(str, p))
)


@given(specifiers, versions, versions)
def test_staying_below_means_that_nothing_at_or_above_fits(text: str, bound: str, version: str) -> None:
    if stays_below(SpecifierSet(text), Version(bound)) and Version(version) >= Version(bound):
        assert not SpecifierSet(text).contains(version)


def test_our_server_in_the_list_is_not_asked_of_the_index() -> None:
    made = recipe({"pip": ["moorings_server==0.0.1", "six"]})
    assert made.requirements == ("six",)
    assert any("moorings-server" in note for note in made.notes)


def test_every_problem_is_in_one_error() -> None:
    with pytest.raises(MooringsError) as caught:
        make_recipe(
            EnvironmentSpec(
                conda_file={"channels": ["own"], "dependencies": ["r-base", "six", {"pip": ["-e .", "six"]}]}
            )
        )
    failure = caught.value.failure
    assert failure.code == "EnvironmentNotTranslatable"
    assert [line.split(" ")[0] for line in failure.evidence] == [
        "channels[0]",
        "dependencies[0]",
        "dependencies[2].pip[0]",
    ]


def test_a_build_context_needs_a_container() -> None:
    with pytest.raises(MooringsError) as caught:
        make_recipe(EnvironmentSpec(build=BuildContext(path="/context")))
    assert caught.value.failure.code == "EnvironmentNeedsContainer"
    assert "environment.build" in caught.value.failure.message


MLMODEL = "flavors:\n  python_function:\n    env: {env}\n    python_version: 3.9.7\n"


def of_model(**files: str) -> Recipe:
    texts = {name.replace("_", "."): text for name, text in files.items()}
    return make_recipe(mlflow_environment(lambda name: texts.get(name)))


def test_mlflow_takes_the_conda_file_first() -> None:
    made = of_model(
        MLmodel=MLMODEL.format(env="conda.yaml"),
        conda_yaml="channels: [conda-forge]\ndependencies: [python=3.12, pip, pip: [mlflow==2.9, psutil==7.0.0]]",
        requirements_txt="cloudpickle",
    )
    assert (made.python, made.requirements) == ("==3.12.*", ("mlflow==2.9", "psutil==7.0.0"))


def test_mlflow_2_names_its_conda_file_in_a_mapping() -> None:
    made = of_model(
        MLmodel=MLMODEL.format(env="{conda: other.yaml, virtualenv: python_env.yaml}"),
        other_yaml="dependencies: [pip: [mlflow-skinny]]",
    )
    assert (made.python, made.requirements) == ("==3.9.7.*", ("mlflow-skinny",))


def test_mlflow_falls_back_to_requirements_and_adds_mlflow() -> None:
    made = of_model(
        MLmodel=MLMODEL.format(env="conda.yaml"),
        requirements_txt="# saved\nscikit-learn==1.5.0 \\\n  ; sys_platform\
 == 'linux'\n\n",
    )
    assert made.python == "==3.9.7.*"
    assert made.requirements == ("mlflow", 'scikit-learn==1.5.0; sys_platform == "linux"')


@pytest.mark.parametrize("files", [{}, {"MLmodel": "- list"}, {"MLmodel": "a: [", "conda_yaml": ""}])
def test_a_model_without_a_usable_mlmodel_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(MooringsError) as caught:
        of_model(**files)
    assert caught.value.failure.code == "MlflowModelInvalid"
    assert caught.value.failure.target == "MLmodel"


@pytest.mark.parametrize("text", ["- list", "a: [", "dependencies: " + "[" * 100])
def test_a_conda_file_of_a_model_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(MooringsError) as caught:
        of_model(MLmodel=MLMODEL.format(env="conda.yaml"), conda_yaml=text)
    failure = caught.value.failure
    assert (failure.code, failure.target) == ("EnvironmentNotTranslatable", "conda.yaml")


def test_requirements_of_a_model_are_not_read_without_end() -> None:
    with pytest.raises(MooringsError) as caught:
        of_model(MLmodel=MLMODEL.format(env="conda.yaml"), requirements_txt="six\n" * 400_000)
    assert caught.value.failure.target == "requirements.txt"


def test_mlflow_reads_python_env_where_there_is_no_conda_file() -> None:
    files = {
        "MLmodel": MLMODEL.format(env="{conda: conda.yaml, virtualenv: python_env.yaml}"),
        "python_env.yaml": "python: 3.11.4\nbuild_dependencies: [pip==24]\n"
        "dependencies: ['-r requirements.txt', 'six==1.16.0']\n",
        "requirements.txt": "mlflow==2.9\n",
    }
    made = make_recipe(mlflow_environment(files.get))
    assert (made.python, made.requirements) == ("==3.11.4.*", ("mlflow==2.9", "six==1.16.0"))


def test_a_model_without_a_python_function_is_refused_with_the_flavors_it_has() -> None:
    with pytest.raises(MooringsError) as caught:
        of_model(MLmodel="flavors:\n  crate:\n    version: 0.3\n")
    assert caught.value.failure.code == "MlflowFlavorMissing"
    assert "crate" in caught.value.failure.message


CONDA: dict[str, Any] = {
    "name": "any",
    "channels": ["https://host/own/", "defaults", "nodefaults"],
    "dependencies": [
        "numpy>=1.20,<2  # why",
        "other::tool=1",
        "moorings-server",
        {"pip": ["Six==1.16.0", "moorings-server"]},
    ],
}


def test_what_conda_is_asked_for() -> None:
    asked = conda_recipe(EnvironmentSpec(conda_file=CONDA)).conda
    assert asked is not None
    assert asked.channels == ("https://host/own", "main", "r", "other")
    assert asked.specs == ("numpy>=1.20,<2", "other::tool=1", "python >=3.8")
    assert asked.pip == ("six==1.16.0",)


def test_what_conda_can_be_asked_for_need_not_be_translatable() -> None:
    spec = EnvironmentSpec(conda_file={"channels": ["mine"], "dependencies": ["r-base", "python=3.11"]})
    made = conda_recipe(spec)
    assert made.conda is not None and made.untranslatable is not None
    assert any("r-base" in line for line in made.untranslatable.evidence)
    with pytest.raises(MooringsError):
        make_recipe(spec)


@pytest.mark.parametrize(
    "file",
    [
        {"dependencies": ["six"]},
        {"channels": ["nodefaults"], "dependencies": ["six"]},
        {"channels": ["conda-forge"], "dependencies": None},
    ],
)
def test_a_file_without_channels_or_packages_is_translated(file: dict[str, Any]) -> None:
    assert conda_recipe(EnvironmentSpec(conda_file=file)).conda is None


def test_problems_under_pip_are_said_before_anything_is_solved() -> None:
    file = {"channels": ["mine"], "dependencies": ["python=3.11", {"pip": ["-r other.txt", "./local"]}]}
    with pytest.raises(MooringsError) as caught:
        conda_recipe(EnvironmentSpec(conda_file=file))
    said = " ".join(caught.value.failure.evidence)
    assert "-r other.txt" in said and "./local" in said


def test_the_key_of_a_conda_recipe_holds_what_conda_is_asked_for() -> None:
    def key(**changes: Any) -> str:
        made = conda_recipe(EnvironmentSpec(conda_file={**CONDA, **changes}))
        return recipe_key(made, server_wheel_sha256="0", platform="linux")

    assert key() == key(name="other", dependencies=[*reversed(CONDA["dependencies"])])
    assert len({key(), key(channels=["https://host/own"]), key(dependencies=["numpy>=1.20,<2"])}) == 3


def test_onnx_models_get_an_environment_and_others_are_refused() -> None:
    made = make_recipe(onnx_environment(["m/1/model.onnx", "m/config.pbtxt"]))
    assert [one.split(">")[0] for one in made.requirements] == ["numpy", "onnxruntime"]
    with pytest.raises(MooringsError) as caught:
        onnx_environment([f"m/1/part-{n:02}" for n in range(12)])
    assert caught.value.failure.code == "TritonModelNotServable"
    assert caught.value.failure.evidence[-1] == "... and 4 more"


def test_the_model_nearest_to_the_top_is_read_from_the_store() -> None:
    blobs = {"m/a/b/MLmodel": "deep", "m/z/MLmodel": "near", "m/z/conda.yaml": "conda", "conda.yaml": "other"}
    read = stored_reader(blobs, lambda digest, most_bytes: f"text of {digest}")
    assert (read("MLmodel"), read("conda.yaml"), read("x")) == ("text of near", "text of conda", None)
    assert stored_reader({"x": "1"}, lambda digest, most_bytes: digest)("MLmodel") is None


def test_flavors_are_told_as_the_api_has_them() -> None:
    text = "flavors:\n  sklearn: {sklearn_version: 1.7.0, code: null, nested: {a: 1}}\n  other:\n"
    assert mlflow_flavors(lambda name: text) == {
        "sklearn": {"data": {"sklearn_version": "1.7.0"}},
        "other": {"data": {}},
    }
