"""What the environment of a deployment will hold, and what is wrong with what it asks for. Asks the package index through
`index`; builds nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from moorings.environments.index_way import INDEX
from moorings.environments.interpreters import OLDEST, Interpreter, Interpreters, choose, minor_of
from moorings.environments.recipe import Recipe, stays_below
from moorings.environments.solving import Solving
from moorings.errors.exceptions import MooringsError
from moorings.errors.sentence import Sentence, sentence
from moorings.preflight.build_context import copy_findings
from moorings.preflight.findings import Finding, Place, Severity, finding, of_failure
from moorings.preflight.index import Index
from moorings.preflight.pins import entries_of, pin_findings, translation_findings
from moorings.spec.assets import EnvironmentSpec
from moorings.spec.problems import FieldPath, Located
from moorings.spec.references import is_local_path

Locate = Callable[[FieldPath], Located]


@dataclass(frozen=True)
class Contents:
    """What an environment will hold, as far as that is known."""

    python: str = ""
    """`3.12`; empty where it is not known."""
    packages: Mapping[str, str] | None = None
    """Canonical name -> version (empty: not known); None where nothing is known."""
    whole: bool = False
    """Whether `packages` is all there will be, when they come from the package index."""
    channels: tuple[str, ...] = ()
    """Conda channels that they come from instead where these can be reached."""
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be looked at, and why."""


@dataclass(frozen=True)
class Means:
    """What environments are looked at with. `in_image`: they become images."""

    index: Index
    interpreters: Interpreters
    solver: str
    in_image: bool = False
    download_python: bool = True


@dataclass
class _Look:
    spec: EnvironmentSpec
    means: Means
    locate: Locate
    at: FieldPath
    again: str
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def contents_of(
    spec: EnvironmentSpec, means: Means, locate: Locate, *, at: FieldPath, again: str
) -> Contents:
    """`at`: where the environment stands in the deployment, for the places of the findings."""
    look = _Look(spec, means, locate, at, again)
    if spec.build is not None or (spec.inference_config is not None and means.in_image):
        note = "the packages of an image with a build of its own are not looked at"
        return Contents(notes=(note,), findings=_of_build(look)) if means.in_image else _refused(look)
    if spec.conda_file is None and spec.image is not None and means.in_image:
        return Contents(notes=(f"the packages of the image {spec.image} are not looked at",))
    recipe = _recipe(look)
    if recipe is None:
        return Contents(findings=tuple(look.findings), notes=tuple(look.notes))
    return _resolved(look, recipe)


def _of_build(look: _Look) -> tuple[Finding, ...]:
    build = look.spec.build
    if build is None or not is_local_path(build.path):
        return ()
    return tuple(copy_findings(Path(build.path), build.dockerfile_path, again=look.again))


def _refused(look: _Look) -> Contents:
    _recipe(look)
    return Contents(findings=tuple(look.findings))


def _recipe(look: _Look) -> Recipe | None:
    """What is to be installed; None after a finding that says why that is not known."""
    try:
        recipe = Solving(look.means.solver).recipe(look.spec, in_image=look.means.in_image)
    except MooringsError as problem:
        failed = problem.failure
        if failed.code == "EnvironmentNotTranslatable":
            look.findings += translation_findings(
                failed, look.locate, at=_conda_at(look), again=look.again, severity=Severity.ERROR
            )
        else:
            place = Place.parse(look.locate(look.at).target)
            look.findings += [Finding(each.severity, each.failure, place) for each in of_failure(failed)]
        return None
    if recipe.untranslatable is not None and recipe.conda is not None:
        why = look.means.index.channels_problem(recipe.conda.channels)
        if why is None:
            look.notes.append("packages that only a conda channel has are not looked at")
            return None
        look.notes.append(f"a conda channel cannot be reached: {why}")
        look.findings += translation_findings(
            recipe.untranslatable, look.locate, at=_conda_at(look), again=look.again, severity=Severity.ERROR
        )
        return None
    return recipe


def _resolved(look: _Look, recipe: Recipe) -> Contents:
    named: dict[str, str] = {canonicalize_name(Requirement(text).name): "" for text in recipe.requirements}
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="interpreters") as pool:
        there = pool.submit(look.means.interpreters.find)
        # Which patch release it is makes no difference to a package.
        pinned = minor_of(recipe.python)
        early = pinned if pinned is not None and Version(pinned) >= OLDEST else ""
        python = early or _python(look, recipe, there)
        answer = look.means.index.ask(recipe.requirements, python) if python else None
        python = _python(look, recipe, there)
    if not python or answer is None:
        return Contents("", named, whole=False, findings=tuple(look.findings), notes=tuple(look.notes))
    channels = False
    if recipe.conda is not None and answer.unmet:
        why = look.means.index.channels_problem(recipe.conda.channels)
        channels = why is None
        if why is not None:
            look.notes.append(f"a conda channel cannot be reached, so packages come from the index: {why}")
    if answer.note:
        look.notes.append(answer.note)
    look.findings += pin_findings(
        answer.unmet,
        entries_of(look.spec.conda_file or {}, _conda_at(look)),
        look.locate,
        at=_conda_at(look),
        again=look.again,
        channels=channels,
    )
    return Contents(
        python,
        {**named, **answer.packages},
        whole=answer.whole,
        channels=recipe.conda.channels if recipe.conda is not None else (),
        findings=tuple(look.findings),
        notes=tuple(dict.fromkeys(look.notes)),
    )


def _python(look: _Look, recipe: Recipe, there: Future[list[Interpreter]]) -> str:
    """The version that the environment will get; empty where that cannot be told, or after a finding that says why."""
    wanted = recipe.python
    if stays_below(SpecifierSet(wanted), OLDEST):
        message = f"Python {wanted} is asked for, and the inference server needs {OLDEST} or newer"
        fix = sentence("Ask for python={oldest} or newer, then: {again}", oldest=OLDEST, again=look.again)
        look.findings.append(_at_python(look, Severity.ERROR, "PythonUnsupported", message, fix))
        return ""
    if look.means.in_image:
        return minor_of(wanted) or ""
    if recipe.conda is not None and look.means.solver != INDEX and not wanted:
        return ""
    found = there.result()
    chosen = choose(wanted, found)
    if chosen is not None:
        return chosen[0].minor
    if look.means.interpreters.silent:
        look.notes.append("not every Python of this machine said in time which it is")
        return minor_of(wanted) or ""
    if recipe.conda is not None:
        return minor_of(wanted) or ""  # a channel brings its own
    versions = ", ".join(sorted({one.minor for one in found}, key=_numbers)) or "none"
    message = f"no Python on this machine is {wanted} (there is {versions})"
    fetched = look.means.download_python and look.means.index.fetchable(wanted)
    if fetched:
        message += ": it is to be fetched when the environment is built"
    elif look.means.download_python:
        message += ", and there is none to fetch"
    fix = sentence(
        "Install it (uv python install {version}) or ask for another, then: {again}",
        version=minor_of(wanted) or wanted,
        again=look.again,
    )
    severity = Severity.WARNING if fetched else Severity.ERROR
    look.findings.append(_at_python(look, severity, "PythonNotFound", message, fix))
    return (minor_of(wanted) or "") if fetched else ""


def _at_python(look: _Look, severity: Severity, code: str, message: str, fix: Sentence) -> Finding:
    entry = entries_of(look.spec.conda_file or {}, _conda_at(look)).get("python")
    located = look.locate(_conda_at(look) if entry is None else entry.path)
    place = Place.parse(located.target)
    return finding(severity, code, message, place=place, evidence=located.evidence, fix=fix)


def _conda_at(look: _Look) -> FieldPath:
    return (*look.at, "conda_file")


def _numbers(minor: str) -> tuple[int, ...]:
    return tuple(int(part) for part in minor.split(".") if part.isdigit())
