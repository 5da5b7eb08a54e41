"""YAML files -> spec values: overrides applied, local paths checked and made absolute, every problem with its
place.

Knows the four kinds of files; how a document is read and checked is `documents`, what a rule says is
`validate`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from moorings.errors.exceptions import MooringsError
from moorings.spec.assets import DataSpec, EnvironmentSpec, ModelSpec
from moorings.spec.base import Spec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.documents import Draft, Examined, display
from moorings.spec.endpoint import OWN, EndpointSpec
from moorings.spec.own_settings import MAX_SAMPLE_CHARS, SAMPLE_REQUEST, is_request_body
from moorings.spec.paths import PathChecker, strip_file_prefix
from moorings.spec.problems import FieldPath, Located, Problem, path_text, shown
from moorings.spec.references import is_local_path
from moorings.spec.validate import (
    data_problems,
    deployment_problems,
    endpoint_problems,
    environment_problems,
    model_problems,
)

ENDPOINT_READ_ONLY = (
    "id",
    "kind",
    "location",
    "scoring_uri",
    "openapi_uri",
    "provisioning_state",
    "creation_context",
    "limits",
    "conditions",
    "no_effect_yet",
    "error",
)
DEPLOYMENT_READ_ONLY = (
    "id",
    "kind",
    "location",
    "provisioning_state",
    "creation_context",
    "environment_build",
    "serving",
    "failed",
    *ENDPOINT_READ_ONLY[-3:],
)
_ASSET_READ_ONLY = ("id", "creation_context", "latest_version", "next_version", "archived", "content")
MODEL_READ_ONLY = (*_ASSET_READ_ONLY, "job_name", "utc_time_created")
ENVIRONMENT_READ_ONLY = (*_ASSET_READ_ONLY, "built")
DATA_READ_ONLY = _ASSET_READ_ONLY

_CONDA_KEYS = ("dependencies", "channels")


def examine_endpoint(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    name: str | None = None,
    command: str = "moor online-endpoint create",
) -> Examined[EndpointSpec]:
    """The endpoint in the file `path` and every problem of it, each with its place (`file:line:column field.path`).
    `overrides` are `--set` expressions, `name` is that of `-n`, `command` what is to be typed again, for the fixes.

    Raises SpecInvalid for a file that is no mapping, SpecFileUnreadable, SpecTooLarge: the user's fault all of them.
    """
    draft = Draft.of_file(path, EndpointSpec, command=f"{command} -f {display(path)}")
    draft.apply(set_=overrides)
    if name is not None:
        draft.put("name", name, "-n")
    prepare_endpoint(draft)
    return draft.examine(endpoint_problems, EndpointSpec)


def examine_deployment(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    name: str | None = None,
    endpoint_name: str | None = None,
    command: str = "moor online-deployment create",
) -> Examined[DeploymentSpec]:
    """The deployment in the file `path`, with everything it needs to start; see `examine_endpoint`.

    Local paths of the result are absolute and exist; `conda_file` is the parsed mapping.
    """
    draft = Draft.of_file(path, DeploymentSpec, command=f"{command} -f {display(path)}")
    draft.apply(set_=overrides)
    for key, value, flag in (("name", name, "-n"), ("endpoint_name", endpoint_name, "-e")):
        if value is not None:
            draft.put(key, value, flag)
    prepare_deployment(draft)
    return draft.examine(lambda spec: deployment_problems(spec, complete=True), DeploymentSpec)


def model_of(
    path: Path | None, given: Mapping[str, Any], *, overrides: Sequence[str] = (), tags: Sequence[str] = ()
) -> ModelSpec:
    """The model of a file, of flags, or of both: `given` holds the values of flags by spec key, which win; None
    is a flag that is not there. Paths of flags start at the current folder. Raises SpecInvalid with every
    problem, and as `examine_endpoint`."""
    draft = _draft(path, ModelSpec, "moor model create", given)
    _override(draft, overrides, given, tags)
    draft.drop_read_only(MODEL_READ_ONLY)
    draft.drop_nulls()
    prepare_model(draft, ())
    return draft.build(_named(model_problems), ModelSpec)


def environment_of(
    path: Path | None, given: Mapping[str, Any], *, overrides: Sequence[str] = (), tags: Sequence[str] = ()
) -> EnvironmentSpec:
    """The environment of a file, of flags, or of both; see `model_of`."""
    draft = _draft(path, EnvironmentSpec, "moor environment create", given)
    if _is_conda(draft.value):
        draft.note(_conda_problem(draft, (), draft.name))
        draft.raise_problems()
    _override(draft, overrides, given, tags)
    draft.drop_read_only(ENVIRONMENT_READ_ONLY)
    draft.drop_nulls()
    prepare_environment(draft, ())
    return draft.build(_named(environment_problems), EnvironmentSpec)


def data_of(
    path: Path | None, given: Mapping[str, Any], *, overrides: Sequence[str] = (), tags: Sequence[str] = ()
) -> DataSpec:
    """The data asset of a file, of flags, or of both; see `model_of`. Whether the workspace has the datastore is not
    known here."""
    draft = _draft(path, DataSpec, "moor data create", given)
    _override(draft, overrides, given, tags)
    draft.drop_read_only(DATA_READ_ONLY)
    draft.drop_nulls()
    return draft.build(_named(data_problems), DataSpec)


def _draft(path: Path | None, model: type[Spec], command: str, given: Mapping[str, Any]) -> Draft:
    if path is not None:
        return Draft.of_file(path, model, command=f"{command} -f {display(path)}")
    name = shlex.quote(str(given["name"])) if given.get("name") else "<name>"
    return Draft.of_value({}, model, command=f"{command} -n {name} ...")


def _override(
    draft: Draft, overrides: Sequence[str], given: Mapping[str, Any], tags: Sequence[str] = ()
) -> None:
    draft.apply(set_=[*overrides, *(f"tags.{tag}" for tag in tags)])
    for key, value in given.items():
        if value is not None:
            draft.put(key, value, f"--{key.replace('_', '-')}")


def _named(check: Callable[[Any], list[Problem]]) -> Callable[[Any], list[Problem]]:
    """A file of its own registers under a name; inline objects need none."""

    def checked(spec: Any) -> list[Problem]:
        missing = [Problem(("name",), "`name` is required", "SpecKeyMissing")] if spec.name is None else []
        return [*missing, *check(spec)]

    return checked


# --- what each kind of document needs before its fields are checked -----------------------------------------
def prepare_endpoint(draft: Draft) -> None:
    draft.drop_read_only(ENDPOINT_READ_ONLY)
    identity = draft.value.get("identity")
    if isinstance(identity, dict):
        for key in ("principal_id", "tenant_id"):
            identity.pop(key, None)
        if identity.get("type") == "none":
            del draft.value["identity"]
        elif isinstance(identity.get("user_assigned_identities"), list):
            _plain_identities(identity["user_assigned_identities"])
    properties = draft.value.get("properties")
    if isinstance(properties, dict):
        # Answers put facts of their own here, such as azureml.onlineendpointid and createdBy.
        for key in [k for k in properties if _is_fact(k)]:
            del properties[key]
    draft.drop_nulls()


def _is_fact(key: str) -> bool:
    return ("." in key and not key.startswith(f"{OWN}.")) or key in (
        "createdBy",
        "createdAt",
        "lastModifiedAt",
    )


def _plain_identities(items: list[Any]) -> None:
    """A plain list of ids is taken as well."""
    items[:] = [{"resource_id": item} if isinstance(item, str) else item for item in items]


def prepare_deployment(draft: Draft) -> None:
    draft.drop_read_only(DEPLOYMENT_READ_ONLY)
    draft.drop_nulls()
    value = draft.value
    if str(value.get("type")).lower() == "kubernetes":
        message = (
            "`type: kubernetes`: no cluster is attached to this workspace; deployments run on this machine"
        )
        draft.note(Problem(("type",), message, "KubernetesNotAvailable"))
        draft.hidden += [("resources",), ("scale_settings", "type")]
    if isinstance(value.get("model"), dict):
        prepare_model(draft, ("model",))
    else:
        _take_in(draft, "model", ModelSpec)
    if isinstance(value.get("environment"), dict):
        prepare_environment(draft, ("environment",))
    else:
        _take_in(draft, "environment", EnvironmentSpec)
    _prepare_code(draft)
    _read_sample(draft)


def prepare_model(draft: Draft, at: FieldPath) -> None:
    checker = PathChecker(draft.folder)
    _resolve(draft, checker, (*at, "path"), want="any")
    _tell(draft, checker)


def prepare_environment(draft: Draft, at: FieldPath) -> None:
    value = _at(draft.value, at)
    if _is_conda(value):
        draft.note(_conda_problem(draft, at, draft.name))
        draft.hidden.append(at)
        return
    checker = PathChecker(draft.folder)
    if isinstance(value.get("conda_file"), str):
        _read_conda(draft, checker, (*at, "conda_file"))
    elif isinstance(value.get("conda_file"), dict):
        _check_conda(draft, (*at, "conda_file"))
    build = value.get("build")
    if isinstance(build, dict) and isinstance(build.get("path"), str):
        _resolve(draft, checker, (*at, "build", "path"), want="folder")
        if is_local_path(build["path"]):
            dockerfile = build.get("dockerfile_path", "Dockerfile")
            checker.script(build["path"], dockerfile, (*at, "build", "dockerfile_path"))
    _tell(draft, checker)


def _prepare_code(draft: Draft) -> None:
    configuration = draft.value.get("code_configuration")
    if not isinstance(configuration, dict):
        return
    at: FieldPath = ("code_configuration", "code")
    code = configuration.get("code")
    if isinstance(code, dict) and set(code) == {"local_path"}:
        hint = f"write the folder itself: `code: {code['local_path']}`"
        draft.note(Problem(at, f"`code_configuration.code`: found a mapping with `local_path`; {hint}"))
        return
    checker = PathChecker(draft.folder)
    good = _resolve(draft, checker, at, want="folder")
    if good:
        checker.script(
            configuration["code"],
            configuration.get("scoring_script"),
            ("code_configuration", "scoring_script"),
        )
    _tell(draft, checker)


def _read_sample(draft: Draft) -> None:
    """The file that `properties.moorings.sample_request` names, in the place of its name: what is sent is the text."""
    properties = draft.value.get("properties")
    if not isinstance(properties, dict):
        return
    given = properties.get(SAMPLE_REQUEST)
    if not isinstance(given, str) or is_request_body(given):
        return
    at: FieldPath = ("properties", SAMPLE_REQUEST)
    checker = PathChecker(draft.folder)
    file = checker.local(given, at, want="file")
    _tell(draft, checker)
    if file is None:
        draft.hidden.append(at)
        return
    try:
        with file.open("rb") as handle:
            text = handle.read(4 * MAX_SAMPLE_CHARS + 1).decode()
    except (OSError, UnicodeDecodeError) as wrong:
        draft.note(Problem(at, f"`{path_text(at)}`: {file} cannot be read as text: {wrong}"))
        return
    properties[SAMPLE_REQUEST] = text


def _take_in(draft: Draft, key: str, model: type[Spec]) -> None:
    """`model: file:model.yml` and `environment: file:env.yml` stand for the content of that file."""
    value = draft.value.get(key)
    if not isinstance(value, str) or not value.startswith("file:"):
        return
    checker = PathChecker(draft.folder)
    file = checker.local(value, (key,), want="file")
    _tell(draft, checker)
    if file is None:
        return
    inner = _read_inner(draft, (key,), file, value)
    if inner is None:
        return
    inner.model = model
    inner.drop_read_only((*MODEL_READ_ONLY, *ENVIRONMENT_READ_ONLY))
    inner.drop_nulls()
    if model is ModelSpec:
        prepare_model(inner, ())
    else:
        prepare_environment(inner, ())
    draft.problems += inner.problems
    draft.hidden += [(key, *path) for path in inner.hidden]
    if any(p.code == "EnvironmentIsCondaFile" for p, _ in inner.problems):
        draft.hidden.append((key,))
    draft.value[key] = inner.value
    draft.places.graft((key,), inner.places)


def _read_inner(draft: Draft, path: FieldPath, file: Path, given: str) -> Draft | None:
    """The document of a file that this document names; its problems become problems of this document."""
    shown_name = display(draft.folder / (strip_file_prefix(given) or given))
    try:
        inner = Draft.of_file(file, draft.model, command=draft.command, name=shown_name)
    except MooringsError as wrong:
        failed = wrong.failure.details[0] if wrong.failure.details else wrong.failure
        problem = Problem(
            path, f"`{path_text(path)}`: {failed.message}", failed.code, fields={"folder": file.parent}
        )
        target, written = failed.target or shown_name, draft.written(path)
        located = Located(f"{target} {path_text(written)}", failed.evidence)
        draft.problems.append((problem.at(written), located))
        draft.hidden.append(path)
        return None
    return inner


def _read_conda(draft: Draft, checker: PathChecker, path: FieldPath) -> None:
    holder = _at(draft.value, path[:-1])
    given = holder["conda_file"]
    file = checker.local(given, path, want="file")
    if file is None:
        draft.hidden.append(path)
        return
    inner = _read_inner(draft, path, file, given)
    if inner is None:
        return
    draft.problems += inner.problems
    holder["conda_file"] = inner.value
    draft.places.graft(path, inner.places)
    _check_conda(draft, path)


def _check_conda(draft: Draft, path: FieldPath) -> None:
    """The shape of a conda file; what its packages mean is for whoever builds the environment."""
    conda = _at(draft.value, path)
    for key in _CONDA_KEYS:
        if key in conda and not isinstance(conda[key], list):
            here = (*path, key)
            draft.note(Problem(here, f"`{path_text(here)}`: found {shown(conda[key])}; expected a list"))
    listed = conda.get("dependencies")
    for index, item in enumerate(listed if isinstance(listed, list) else ()):
        here = (*path, "dependencies", index)
        if isinstance(item, dict) and set(item) == {"pip"}:
            _check_pip(draft, (*here, "pip"), item["pip"])
        elif not isinstance(item, str):
            found = draft.places.raw.get(here, shown(item))
            message = (
                f"`{path_text(here)}`: found {found}; expected a package such as `numpy=2.3` or `pip: [...]`"
            )
            draft.note(Problem(here, message))


def _check_pip(draft: Draft, path: FieldPath, items: Any) -> None:
    if not isinstance(items, list):
        draft.note(
            Problem(path, f"`{path_text(path)}`: found {shown(items)}; expected a list of requirements")
        )
        return
    for index, item in enumerate(items):
        if not isinstance(item, str):
            here = (*path, index)
            message = (
                f"`{path_text(here)}`: found {shown(item)}; expected a requirement such as `numpy==2.3.1`"
            )
            draft.note(Problem(here, message))


def _is_conda(value: Any) -> bool:
    return isinstance(value, dict) and any(key in value for key in _CONDA_KEYS)


def _conda_problem(draft: Draft, at: FieldPath, file: str) -> Problem:
    key = next(key for key in _CONDA_KEYS if key in _at(draft.value, at))
    message = (
        f"`{key}` belongs into a conda file, not into an environment; "
        "name the conda file with `conda_file: <path>` (beside `image:`)"
    )
    return Problem((*at, key), message, "EnvironmentIsCondaFile", on_key=True, fields={"file": file})


def _resolve(draft: Draft, checker: PathChecker, path: FieldPath, *, want: str) -> bool:
    """Make the path at `path` absolute; whether it can be used."""
    holder = _at(draft.value, path[:-1])
    value = holder.get(path[-1]) if isinstance(holder, dict) else None
    if not isinstance(value, str):
        return False
    found = checker.resolve(draft.places.raw.get(path, value), path, want=want)
    if found is None:
        draft.hidden.append(path)
        return False
    holder[path[-1]] = found
    return True


def _tell(draft: Draft, checker: PathChecker) -> None:
    for problem in checker.problems:
        draft.note(problem)
    checker.problems = []


def _at(value: Any, path: FieldPath) -> Any:
    for part in path:
        value = value[part]
    return value
