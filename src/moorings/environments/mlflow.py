"""The environment of a model folder with an `MLmodel`, read through a function so that any store will do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from moorings.environments.recipe import mlflow_recipe, requirement_lines
from moorings.errors.exceptions import MooringsError, error
from moorings.spec.assets import EnvironmentSpec

MLFLOW_CODE = Path(__file__).parent / "mlflow_code"
"""Folder with the scoring script for models that come without one; it runs in the model's environment."""
MLFLOW_SCRIPT = "score.py"

Read = Callable[[str], str | None]
"""Text of a file named relative to the folder of the `MLmodel`; None when there is none."""


def folder_reader(folder: Path) -> Read:
    """Reads below `folder` (the one that holds `MLmodel`), and nothing outside of it."""
    root = folder.resolve()

    def read(name: str) -> str | None:
        path = (root / name).resolve()
        if root not in path.parents or not path.is_file():
            return None
        return path.read_text(encoding="utf-8", errors="replace")

    return read


def mlflow_environment(read: Read) -> EnvironmentSpec:
    """conda.yaml (or what `MLmodel` names instead), else requirements.txt and the Python it was saved with.

    Raises `EnvironmentNotTranslatable` (the user's fault) when there is no `MLmodel`, or a file is no YAML
    mapping.
    """
    mlmodel = _mapping(read, "MLmodel")
    if mlmodel is None:
        raise _unusable("MLmodel", "the model folder has no MLmodel")
    flavors = mlmodel.get("flavors")
    function = flavors.get("python_function") if isinstance(flavors, Mapping) else None
    function = function if isinstance(function, Mapping) else {}
    python = function.get("python_version")
    conda = _mapping(read, _conda_name(function.get("env")))
    text = read("requirements.txt")
    lines = None if text is None else requirement_lines(text)
    return mlflow_recipe(conda, lines, python_version=None if python is None else str(python))


def _conda_name(env: Any) -> str:
    """`env` is a file name, or since MLflow 2 `{conda: name, virtualenv: name}`."""
    named = env.get("conda") if isinstance(env, Mapping) else env
    return named if isinstance(named, str) and named else "conda.yaml"


def _mapping(read: Read, name: str) -> Mapping[str, Any] | None:
    text = read(name)
    if text is None:
        return None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise _unusable(name, f"not valid YAML: {' '.join(str(problem).split())}") from None
    if not isinstance(data, Mapping):
        raise _unusable(name, "expected a mapping")
    return data


def _unusable(name: str, why: str) -> MooringsError:
    return error("EnvironmentNotTranslatable", f"{name}: {why}", target=name, evidence=(f"{name}: {why}",))
