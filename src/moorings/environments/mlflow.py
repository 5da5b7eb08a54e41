"""The environment of a model folder with an `MLmodel`, read through a function so that any store will do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
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


def stored_reader(blobs: Mapping[str, str], text: Callable[[str], str]) -> Read:
    """Reads the folder of the `MLmodel` that is nearest to the top of a stored model. `blobs`: path -> digest of the
    content; `text`: digest -> the content as text."""
    found = sorted((p for p in blobs if PurePosixPath(p).name == "MLmodel"), key=lambda p: (p.count("/"), p))
    folder = PurePosixPath(found[0]).parent if found else PurePosixPath()

    def read(name: str) -> str | None:
        digest = blobs.get(str(folder / name))
        return None if digest is None else text(digest)

    return read


def mlflow_flavors(read: Read) -> dict[str, dict[str, dict[str, str]]]:
    """The flavors of an `MLmodel` as the API shows them: name -> `{"data": {key: text}}`; {} when it has none that can
    be read."""
    try:
        flavors = (_mapping(read, "MLmodel") or {}).get("flavors")
    except MooringsError:
        return {}
    if not isinstance(flavors, Mapping):
        return {}
    return {
        str(name): {
            "data": {
                str(key): str(value)
                for key, value in (facts.items() if isinstance(facts, Mapping) else ())
                if isinstance(value, str | int | float | bool)
            }
        }
        for name, facts in flavors.items()
    }


def mlflow_environment(read: Read) -> EnvironmentSpec:
    """conda.yaml (or what `MLmodel` names instead), else python_env.yaml, else requirements.txt and the Python it was
    saved with.

    Raises `EnvironmentNotTranslatable` (the user's fault) when there is no `MLmodel`, or a file is no YAML
    mapping; `MlflowFlavorMissing` when the model has no `python_function` flavor.
    """
    mlmodel = _mapping(read, "MLmodel")
    if mlmodel is None:
        raise _unusable("MLmodel", "the model folder has no MLmodel")
    flavors = mlmodel.get("flavors")
    function = flavors.get("python_function") if isinstance(flavors, Mapping) else None
    if not isinstance(function, Mapping):
        there = ", ".join(map(str, flavors)) if isinstance(flavors, Mapping) else "none"
        message = f"MLmodel has no python_function flavor (its flavors: {there})"
        raise error("MlflowFlavorMissing", message, target="MLmodel")
    python = function.get("python_version")
    env = function.get("env")
    conda = _mapping(read, _named(env, "conda") or "conda.yaml")
    lines: list[str] | None = None
    if conda is None:
        saved = _mapping(read, _named(env, "virtualenv") or "python_env.yaml") or {}
        python = saved.get("python") or python
        lines = _requirements(read, saved.get("dependencies"))
    return mlflow_recipe(conda, lines, python_version=None if python is None else str(python))


def _named(env: Any, manager: str) -> str | None:
    """`env` is the name of a conda file, or since MLflow 2 `{conda: name, virtualenv: name}`."""
    named = env.get(manager) if isinstance(env, Mapping) else env if manager == "conda" else None
    return named if isinstance(named, str) and named else None


def _requirements(read: Read, dependencies: Any) -> list[str]:
    """The lines of a python_env.yaml, its `-r file` lines replaced by those of the file; else requirements.txt."""
    listed = dependencies if isinstance(dependencies, list) else ["-r requirements.txt"]
    found: list[str] = []
    for line in map(str, listed):
        file = line[2:].strip() if line.startswith("-r") else None
        if file is None:
            found.append(line)
        else:
            found.extend(requirement_lines(read(file) or ""))
    return found


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
