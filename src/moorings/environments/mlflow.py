"""The environment of a model folder with an `MLmodel`, read through a function so that any store will do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from moorings.environments.recipe import mlflow_recipe, requirement_lines
from moorings.errors.exceptions import MooringsError, error
from moorings.spec.assets import EnvironmentSpec
from moorings.spec.yamltext import MAX_BYTES, YamlProblem, parse_yaml

MLFLOW_CODE = Path(__file__).parent / "mlflow_code"
"""Folder with the scoring script for models that come without one; it runs in the model's environment."""
MLFLOW_SCRIPT = "score.py"
MLMODEL = "MLmodel"

Read = Callable[[str], str | None]
"""Text of a file named relative to the folder of the `MLmodel`; None when there is none."""


def stored_reader(blobs: Mapping[str, str], text: Callable[[str, int], str]) -> Read:
    """Reads the folder of the `MLmodel` that is nearest to the top of a stored model. `blobs`: path -> digest of the
    content; `text`: (digest, how many bytes at most) -> the content as text."""
    found = sorted((p for p in blobs if PurePosixPath(p).name == MLMODEL), key=lambda p: (p.count("/"), p))
    folder = PurePosixPath(found[0]).parent if found else PurePosixPath()

    def read(name: str) -> str | None:
        digest = blobs.get(str(folder / name))
        return None if digest is None else text(digest, MAX_BYTES + 1)

    return read


def mlflow_flavors(read: Read) -> dict[str, dict[str, dict[str, str]]]:
    """The flavors of an `MLmodel` as the API shows them: name -> `{"data": {key: text}}`. Raises `MlflowModelInvalid`
    (the user's fault)."""
    return {
        name: {
            "data": {
                str(key): str(value)
                for key, value in (facts.items() if isinstance(facts, Mapping) else ())
                if isinstance(value, str | int | float | bool)
            }
        }
        for name, facts in _flavors(_mlmodel(read)).items()
    }


def mlflow_environment(read: Read) -> EnvironmentSpec:
    """conda.yaml (or what `MLmodel` names instead), else python_env.yaml, else requirements.txt and the Python it was
    saved with.

    Raises (the user's fault) `MlflowModelInvalid`; `EnvironmentNotTranslatable` when a file that says what to install
    is no YAML mapping; `MlflowFlavorMissing` when the model has no `python_function` flavor.
    """
    flavors = _flavors(_mlmodel(read))
    function = flavors.get("python_function")
    if not isinstance(function, Mapping):
        there = ", ".join(flavors) or "none"
        message = f"{MLMODEL} has no python_function flavor (its flavors: {there})"
        raise error("MlflowFlavorMissing", message, target=MLMODEL)
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
            continue
        text = read(file) or ""
        if len(text) > MAX_BYTES:
            raise _not_translatable(file, f"more than {MAX_BYTES} bytes")
        found.extend(requirement_lines(text))
    return found


def _mlmodel(read: Read) -> Mapping[str, Any]:
    text = read(MLMODEL)
    if text is None:
        raise error("MlflowModelInvalid", f"the model folder has no file {MLMODEL}", target=MLMODEL)
    try:
        found = _parsed(text, MLMODEL)
    except ValueError as problem:
        raise error("MlflowModelInvalid", str(problem), target=MLMODEL) from None
    if not isinstance(found.get("flavors"), Mapping):
        message = f"{MLMODEL}: flavors is not there, or no mapping"
        raise error("MlflowModelInvalid", message, target=MLMODEL)
    return found


def _flavors(mlmodel: Mapping[str, Any]) -> Mapping[str, Any]:
    flavors: Mapping[str, Any] = mlmodel["flavors"]
    return flavors


def _mapping(read: Read, name: str) -> Mapping[str, Any] | None:
    text = read(name)
    if text is None:
        return None
    try:
        return _parsed(text, name)
    except ValueError as problem:
        raise _not_translatable(name, str(problem).removeprefix(f"{name}: ")) from None


def _parsed(text: str, name: str) -> Mapping[str, Any]:
    """A YAML mapping, read within the bounds of a spec (it comes from who knows where). Raises ValueError."""
    try:
        found = parse_yaml(text.encode("utf-8", "replace"), name).value
    except YamlProblem as wrong:
        raise ValueError(f"{wrong.place}: {wrong.problem.message}") from None
    if not isinstance(found, Mapping):
        raise ValueError(f"{name}: expected a mapping")  # noqa: TRY004 - the content is wrong, not the program
    return found


def _not_translatable(name: str, why: str) -> MooringsError:
    return error("EnvironmentNotTranslatable", f"{name}: {why}", target=name, evidence=(f"{name}: {why}",))
