"""From an environment as users write it to a recipe: the Python and the requirements to install. Pure.

It must not know how, where or with what a recipe is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from moorings.environments.conda import Translation, translate
from moorings.environments.conda_names import NUMPY_2_SINCE
from moorings.environments.conda_request import CondaRequest, conda_request, pip_part
from moorings.errors.exceptions import Failure, MooringsError, error
from moorings.spec.assets import EnvironmentSpec

SERVER = "moorings-server"
RECIPE_VERSION = 1
"""Goes into every recipe key: raised when the same recipe has to be built in another way."""
LAST_NUMPY_1 = "1.26.4"
MLFLOW = ("mlflow", "mlflow-skinny")


@dataclass(frozen=True)
class Recipe:
    """What to install. Equal recipes give equal environments for the same state of the package index."""

    python: str
    """Version specifiers of the interpreter (PEP 440), for instance `==3.12.*`; empty where none was
    named.
    """
    requirements: tuple[str, ...]
    """PEP 508, canonical names, sorted, without the inference server."""
    image: str | None = None
    notes: tuple[str, ...] = ()
    """What was decided on the way, for the build log. Not part of the key."""
    conda: CondaRequest | None = None
    """What is asked of conda, which is tried first; the rest is the translation, for where no channel can be
    reached."""
    untranslatable: Failure | None = None
    """Why there is no translation. Only with `conda`."""


def make_recipe(spec: EnvironmentSpec) -> Recipe:
    """Translate an environment.

    Raises `EnvironmentNeedsContainer` or `EnvironmentNotTranslatable` (which names every entry that cannot
    be used and its place): the user's fault.
    """
    if spec.build is not None or spec.inference_config is not None or spec.os_type != "linux":
        key = (
            "build" if spec.build is not None else "inference_config" if spec.inference_config else "os_type"
        )
        message = f"environment.{key}: this environment can only run as a container"
        raise error("EnvironmentNeedsContainer", message, target=f"environment.{key}")
    if spec.conda_file is None:
        note = "no conda_file: an environment with Python and the inference server alone"
        if spec.image:
            note += f" (the packages of the image {spec.image} are not available to processes)"
        return Recipe("", (), spec.image, (note,))
    found = translate(spec.conda_file)
    if found.problems:
        count = "1 entry" if len(found.problems) == 1 else f"{len(found.problems)} entries"
        raise error(
            "EnvironmentNotTranslatable",
            f"{count} of the conda file cannot be used: {found.problems[0]}",
            target="environment.conda_file",
            evidence=found.problems,
        )
    notes = list(found.notes)
    if spec.image:
        notes.append(f"the image {spec.image} is not used by processes: everything comes from the conda file")
    requirements = _without_server(found, notes)
    requirements.extend(_numpy_bound(requirements, notes))
    return Recipe(
        python=str(SpecifierSet(",".join(found.python))),
        requirements=tuple(sorted({normalised(requirement) for requirement in requirements})),
        image=spec.image,
        notes=tuple(notes),
    )


def conda_recipe(spec: EnvironmentSpec) -> Recipe:
    """The same with what is asked of conda, where the conda file names channels. Then it need not be translatable.

    Raises what `make_recipe` raises.
    """
    if spec.conda_file is None:
        return make_recipe(spec)
    lines = pip_part(spec.conda_file)
    kept = _without_server(lines, [])
    request = conda_request(spec.conda_file, tuple(sorted({normalised(one) for one in kept})))
    if request is None or lines.problems:
        return make_recipe(spec)
    try:
        return replace(make_recipe(spec), conda=request)
    except MooringsError as problem:
        if problem.failure.code != "EnvironmentNotTranslatable":
            raise
        return Recipe("", (), spec.image, (), request, problem.failure)


def recipe_key(recipe: Recipe, *, server_wheel_sha256: str, platform: str) -> str:
    """16 hex digits that name what is asked for (what comes out depends on the package index too).

    `platform`: what tells machines apart that cannot share an environment, for instance `linux-x86_64`.
    """
    asked = [recipe.python, recipe.requirements] if recipe.conda is None else astuple(recipe.conda)
    content = [RECIPE_VERSION, *asked, recipe.image, server_wheel_sha256, platform]
    text = json.dumps(content, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def mlflow_recipe(
    conda: Mapping[str, Any] | None, requirements: Sequence[str] | None, *, python_version: str | None
) -> EnvironmentSpec:
    """The environment of an MLflow model that came without one.

    `conda`: its parsed conda.yaml, which wins; else `requirements`: the lines of its requirements.txt.
    `python_version`: what the model was saved with (`3.12.1`), used where the conda file names none.
    MLflow itself is added where it is not listed: the model is loaded with it.
    """
    if conda is not None:
        listed = conda.get("dependencies")
        dependencies: list[Any] = list(listed) if isinstance(listed, list) else []
        channels = conda.get("channels")
    else:
        dependencies, channels = [{"pip": list(requirements or ())}], None
    found = translate({"dependencies": dependencies})
    if not found.python and python_version:
        dependencies = [f"python={python_version}", *dependencies]
    names = {canonicalize_name(requirement.name) for requirement in found.requirements}
    if not found.problems and not names & set(MLFLOW):
        dependencies = [*dependencies, {"pip": ["mlflow"]}]
    file: dict[str, Any] = {"dependencies": dependencies}
    if channels is not None:
        file["channels"] = channels
    return EnvironmentSpec(conda_file=file)


def requirement_lines(text: str) -> list[str]:
    """The lines of a requirements.txt, with `\\` continuations joined and comments left out."""
    lines = (line.strip() for line in text.replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def normalised(requirement: Requirement) -> str:
    """One spelling for each requirement: canonical name, sorted extras and specifiers."""
    copy = Requirement(str(requirement))
    copy.name = canonicalize_name(copy.name)
    return str(copy)


def stays_below(specifiers: SpecifierSet, bound: Version) -> bool:
    """Whether the specifiers admit only versions below `bound`."""
    return any(_upper_is_below(one.operator, one.version, bound) for one in specifiers)


def _upper_is_below(operator: str, text: str, bound: Version) -> bool:
    if operator in ("==", "~=") and (text.endswith(".*") or operator == "~="):
        release = Version(text.removesuffix(".*")).release
        prefix = release[:-1] if operator == "~=" else release
        return Version(".".join(str(part) for part in (*prefix[:-1], prefix[-1] + 1))) <= bound
    if operator in ("==", "<=", "==="):
        try:
            return Version(text) < bound
        except ValueError:
            return False
    return operator == "<" and Version(text) <= bound


def _without_server(found: Translation, notes: list[str]) -> list[Requirement]:
    kept = [one for one in found.requirements if canonicalize_name(one.name) != SERVER]
    if len(kept) != len(found.requirements):
        notes.append(f"{SERVER} is always installed, in the version of this workspace: the entry is left out")
    return kept


def _numpy_bound(requirements: Sequence[Requirement], notes: list[str]) -> list[Requirement]:
    """`numpy<2` where a package needs it, nobody says otherwise and its metadata does not tell."""
    for one in requirements:
        if canonicalize_name(one.name) == "numpy" and (
            one.url is not None
            or any(spec.operator in ("==", "===", "<", "<=", "~=") for spec in one.specifier)
            or not one.specifier.contains(LAST_NUMPY_1)
        ):
            return []
    for one in requirements:
        name = canonicalize_name(one.name)
        since = NUMPY_2_SINCE.get(name)
        if since is not None and stays_below(one.specifier, Version(since)):
            notes.append(
                f"numpy<2 is added: {name} works with numpy 2 since {since}, and {one.specifier} is asked for"
            )
            return [Requirement("numpy<2")]
    return []
