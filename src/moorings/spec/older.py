"""Keys of 2021 in the documents of endpoints and deployments, rewritten in place to today's keys (behaviour reference,
sections 3.2 and 3.3).

The draft remembers where each moved key was written, so that problems are told there. Knows no whole file.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moorings.spec.deployment import ScaleSettings
from moorings.spec.documents import Draft
from moorings.spec.hints import keys_of, model_at
from moorings.spec.paths import PathChecker, strip_file_prefix
from moorings.spec.problems import FieldPath, Problem, path_text, shown

DEPLOYMENTS = "deployments"
ENDPOINT_KEYS = (DEPLOYMENTS, "type", "target", "app_insights_enabled", "allow_public_access")
"""Keys at the top that today's endpoint does not have."""
_BUILD = ("environment", "build")
DEPLOYMENT_KEYS: Mapping[FieldPath, Mapping[str, FieldPath]] = {
    ("model",): {"local_path": ("model", "path")},
    ("code_configuration", "code"): {"local_path": ("code_configuration", "code")},
    ("environment",): {"path": (*_BUILD, "path"), "docker": ("environment", "image")},
    ("environment", "docker"): {"image": ("environment", "image"), "build": _BUILD},
    ("environment", "docker", "build"): {"dockerfile": (*_BUILD, "dockerfile_path")},
    ("scale_settings",): {"scale_type": ("scale_settings", "type"), "instance_count": ("instance_count",)},
}
"""The same of a deployment, by the mapping they stand in, each with the path of today's key."""


def modern_endpoint(draft: Draft) -> bool | None:
    """Rewrite the keys at the top; returns the `app_insights_enabled` of all deployments, None if not given."""
    _spelling(draft, (), dict.fromkeys(ENDPOINT_KEYS, ()))
    value = draft.value
    value.pop("swagger_uri", None)
    kind = value.pop("type", None)
    if isinstance(kind, str) and kind.lower() == "batch":
        draft.note(Problem(("type",), "`type`: batch endpoints are not served here", "BatchNotServed"))
    elif kind is not None and str(kind).lower() != "online":
        draft.note(Problem(("type",), f"`type`: found {shown(kind)}; expected online"))
    if value.pop("target", None) is not None:
        message = "`target`: no cluster is attached to this workspace; deployments run on this machine"
        draft.note(Problem(("target",), message, "KubernetesNotAvailable"))
    public = value.pop("allow_public_access", None)
    if isinstance(public, bool):
        value["public_network_access"] = "enabled" if public else "disabled"
        _rename(draft, ("allow_public_access",), ("public_network_access",))
    elif public is not None:
        draft.note(_expected(("allow_public_access",), public, "true or false"))
    insights = value.pop("app_insights_enabled", None)
    if insights is not None and not isinstance(insights, bool):
        draft.note(_expected(("app_insights_enabled",), insights, "true or false"))
        return None
    return insights


def modern_deployment(draft: Draft, *, older_wins: bool) -> None:
    """Rewrite the keys of a deployment. Where both spellings of a key are given that is a problem, unless
    `older_wins`."""
    for parent, older in DEPLOYMENT_KEYS.items():
        _spelling(draft, parent, older)
    _modern_model(draft, older_wins)
    _modern_code(draft)
    _modern_environment(draft, older_wins)
    _modern_scale(draft, older_wins)


def _modern_model(draft: Draft, older_wins: bool) -> None:
    if isinstance(draft.value.get("model"), dict):
        _move(draft, ("model", "local_path"), ("model", "path"), older_wins)


def _modern_code(draft: Draft) -> None:
    """`code: {local_path: folder}` is `code: folder`."""
    configuration = draft.value.get("code_configuration")
    code = configuration.get("code") if isinstance(configuration, dict) else None
    if not isinstance(configuration, dict) or not isinstance(code, dict):
        return
    old: FieldPath = ("code_configuration", "code", "local_path")
    new = old[:-1]
    _leftovers(draft, new, code)
    folder = code.get("local_path")
    if folder is None:
        if new not in draft.hidden:
            message = f"`{path_text(old)}` is required: the folder of the script"
            draft.note(Problem(new, message, "SpecKeyMissing"))
        return
    configuration["code"] = folder
    _rename(draft, old, new)


def _modern_scale(draft: Draft, older_wins: bool) -> None:
    scale = draft.value.get("scale_settings")
    if not isinstance(scale, dict):
        return
    kind = scale.get("scale_type")
    if isinstance(kind, str):
        if kind.lower() not in ("manual", "default"):
            path = ("scale_settings", "scale_type")
            draft.note(_expected(path, kind, "manual (the count is `scale_settings.instance_count`)"))
            del scale["scale_type"]
        else:
            scale["scale_type"] = "default"
    _move(draft, ("scale_settings", "scale_type"), ("scale_settings", "type"), older_wins)
    _move(draft, ("scale_settings", "instance_count"), ("instance_count",), older_wins)
    least, most = scale.get("min_instances"), scale.get("max_instances")
    if (
        isinstance(least, int)
        and most is None
        and least > ScaleSettings.model_fields["max_instances"].default
    ):
        scale["max_instances"] = least


def _modern_environment(draft: Draft, older_wins: bool) -> None:
    """`docker.image` is `image`; `docker.build.dockerfile` in the folder `path` is a `build`; without them `path` is
    where the conda file may lie, or a folder to build when there is nothing else."""
    environment = draft.value.get("environment")
    if not isinstance(environment, dict):
        return
    at: FieldPath = ("environment",)
    _modern_docker(draft, environment, older_wins)
    folder = environment.get("path")
    if folder is None:
        return
    builds = isinstance(environment.get("build"), dict)
    if builds or not (environment.get("image") or environment.get("conda_file")):
        if not builds:
            environment["build"] = {}
        _move(draft, (*at, "path"), (*at, "build", "path"), older_wins)
        _below_context(draft, environment["build"])
        return
    checker = PathChecker(draft.folder)
    context = checker.resolve(draft.places.raw.get((*at, "path"), folder), (*at, "path"), want="folder")
    if not isinstance(folder, str):
        draft.note(_expected((*at, "path"), folder, "a folder"))
    for problem in checker.problems:
        draft.note(problem)
    del environment["path"]
    conda = environment.get("conda_file")
    if isinstance(conda, str) and context is not None:
        environment["conda_file"] = _beside_or_below(draft.folder, Path(context), conda)


def _modern_docker(draft: Draft, environment: dict[str, Any], older_wins: bool) -> None:
    at: FieldPath = ("environment", "docker")
    docker = environment.get("docker")
    if docker is None:
        return
    if not isinstance(docker, dict):
        draft.note(_expected(at, docker, "a mapping such as {image: registry/name:tag}"))
        del environment["docker"]
        return
    build = docker.get("build")
    if isinstance(build, dict):
        if build.get("dockerfile") is not None:
            environment.setdefault("build", {})
            _move(
                draft, (*at, "build", "dockerfile"), ("environment", "build", "dockerfile_path"), older_wins
            )
            if isinstance(environment["build"], dict) and "path" not in environment:
                environment["build"].setdefault("path", ".")
        _leftovers(draft, (*at, "build"), build)
    elif build is not None:
        draft.note(_expected((*at, "build"), build, "a mapping such as {dockerfile: Dockerfile}"))
    _move(draft, (*at, "image"), ("environment", "image"), older_wins)
    _leftovers(draft, at, docker)
    del environment["docker"]


def _below_context(draft: Draft, build: dict[str, Any]) -> None:
    """The Dockerfile as a path below the context; it may be given from the folder of the file, too."""
    dockerfile, context = build.get("dockerfile_path"), build.get("path")
    if not isinstance(dockerfile, str) or not isinstance(context, str):
        return
    text = strip_file_prefix(dockerfile) or dockerfile
    build["dockerfile_path"] = text
    try:
        below = (draft.folder / context).resolve()
        beside = (draft.folder / text).resolve()
        if not (below / text).exists() and beside.is_relative_to(below):
            build["dockerfile_path"] = str(beside.relative_to(below))
    except (OSError, RuntimeError, ValueError):
        return  # the path is checked, and told about, where all paths are


def _beside_or_below(folder: Path, context: Path, given: str) -> str:
    """`given` itself if it is found from the folder of the file, else as found below `context`, if it is there."""
    text = strip_file_prefix(given) or given
    try:
        if not (folder / text).exists() and (context / text).is_file():
            return str(context / text)
    except (OSError, ValueError):
        pass
    return given


# --- moving keys ---------------------------------------------------------------------------------------------
def _move(draft: Draft, old: FieldPath, new: FieldPath, older_wins: bool) -> None:
    """Put what stands at `old` to `new`. When both are given that is a problem, unless `older_wins`."""
    holder, target = _mapping(draft.value, old[:-1]), _mapping(draft.value, new[:-1])
    if holder is None or target is None or holder.get(old[-1]) is None:
        return
    value = holder.pop(old[-1])
    if target.get(new[-1]) is not None and not older_wins:
        both = f"`{path_text(draft.written(old))}` and `{path_text(draft.written(new))}`"
        draft.note(Problem(old, f"{both} mean the same; give one of them", on_key=True))
        return
    target[new[-1]] = value
    _rename(draft, old, new)


def _rename(draft: Draft, old: FieldPath, new: FieldPath) -> None:
    draft.places.move(old, new)
    draft.renamed[new] = old


def _mapping(value: Any, path: FieldPath) -> dict[Any, Any] | None:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None


def _spelling(draft: Draft, parent: FieldPath, older: Mapping[str, FieldPath]) -> None:
    """Tell of keys that are neither of today nor of 2021 but close to one of 2021; the others are told of later.

    That the key which was probably meant is missing is not told of as well.
    """
    mapping = _mapping(draft.value, parent)
    if mapping is None:
        return
    model = model_at(draft.model, parent) if parent else draft.model
    today = keys_of(model) if model is not None else []
    for key in [k for k in mapping if isinstance(k, str) and k not in today and k not in older]:
        near = difflib.get_close_matches(key, [*today, *older], n=1)
        if near and near[0] in older:
            path = (*parent, key)
            message = f"`{path_text(path)}` is not a key of this spec; did you mean `{near[0]}`?"
            draft.note(Problem(path, message, "SpecKeyUnknown", on_key=True))
            draft.hidden.append(older[near[0]])
            del mapping[key]


def _leftovers(draft: Draft, path: FieldPath, mapping: Mapping[Any, Any]) -> None:
    """What is left in a mapping that today's spec does not have."""
    known = DEPLOYMENT_KEYS[path]
    for key in mapping:
        if key not in known:
            draft.hidden += known.values()
            name = path_text((*path, str(key)))
            message = f"`{name}` is not a key of this spec; known keys: {', '.join(known)}"
            draft.note(Problem((*path, str(key)), message, "SpecKeyUnknown", on_key=True))


def _expected(path: FieldPath, value: Any, expected: str) -> Problem:
    return Problem(path, f"`{path_text(path)}`: found {shown(value, path)}; expected {expected}")
