"""Updates: an existing spec and what is to change in it, to the spec that is sent (behaviour reference,
section 2.9).

Unspecified keys are kept, mappings are merged key by key, other values are replaced, null keeps the old
value; only
`--remove` takes a key away. An inline model or environment replaces the one that was there as a whole.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from moorings.spec.base import Spec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.documents import Draft, Examined, display
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.loader import prepare_deployment, prepare_endpoint
from moorings.spec.problems import Problem
from moorings.spec.validate import deployment_problems, endpoint_problems

T = TypeVar("T", bound=Spec)

ASSET_WORDS = ("description", "tags", "properties", "stage", "flavors")
"""What may change in a version of an asset."""

_WHOLE = ("model", "environment", "identity")
"""Keys whose mapping is one thing: merging the old into the new would mix two."""


def update_endpoint(
    existing: EndpointSpec,
    *,
    path: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    set_: Sequence[str] = (),
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    force_string: bool = False,
) -> EndpointSpec:
    """`existing` with the file `path`, then `changes`, then the expressions applied.

    Raises SpecInvalid with every problem, and as `loader.examine_endpoint`; another name than that of `existing` is a
    problem NameMismatch.
    """
    command = f"moor online-endpoint update -n {existing.name}"
    draft = _draft(existing, path, changes, command, prepare_endpoint)
    draft.apply(set_=set_, add=add, remove=remove, force_string=force_string)
    prepare_endpoint(draft)
    _same_names(draft, {"name": existing.name})
    return draft.build(endpoint_problems, EndpointSpec)


def examine_updated(
    existing: DeploymentSpec,
    *,
    path: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    set_: Sequence[str] = (),
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    force_string: bool = False,
) -> Examined[DeploymentSpec]:
    """As `update_endpoint`, for a deployment, its problems a part of the answer; raises for a file that is no mapping.
    Local paths of the file start at its folder, those of expressions at the current folder."""
    command = f"moor online-deployment update -n {existing.name} -e {existing.endpoint_name}"
    draft = _draft(existing, path, changes, command, prepare_deployment)
    draft.apply(set_=set_, add=add, remove=remove, force_string=force_string)
    prepare_deployment(draft)
    _same_names(draft, {"name": existing.name, "endpoint_name": existing.endpoint_name})
    return draft.examine(lambda spec: deployment_problems(spec, complete=True), DeploymentSpec)


def update_asset(
    existing: T,
    *,
    command: str,
    set_: Sequence[str] = (),
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    force_string: bool = False,
) -> T:
    """`existing`, a version of an asset or the words of a name, with the expressions applied.

    Raises SpecInvalid; a change of anything but `ASSET_WORDS` is a problem ImmutableProperty.
    """
    old = plain(existing)
    draft = Draft.of_value(copy.deepcopy(old), type(existing), command=command)
    draft.apply(set_=set_, add=add, remove=remove, force_string=force_string)
    for key in sorted(set(old) | set(draft.value)):
        fixed = key in type(existing).model_fields and key not in ASSET_WORDS
        if fixed and old.get(key) != draft.value.get(key):
            message = f"`{key}` is part of what the version consists of, and that never changes"
            draft.note(Problem((key,), message, "ImmutableProperty"))
    draft.drop_nulls()
    return draft.build(lambda _: [], type(existing))


def plain(spec: Spec) -> dict[str, Any]:
    """The plain document of a spec, as YAML would hold it: what is not set is left out."""
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def merged(existing: Mapping[str, Any], changes: Mapping[str, Any], *, top: bool = True) -> dict[str, Any]:
    """A new mapping by the rules of updates. Pure."""
    result = dict(existing)
    for key, value in changes.items():
        old = result.get(key)
        if value is None:
            continue
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not (top and key in _WHOLE):
            result[key] = merged(old, value, top=False)
        else:
            result[key] = value
    return result


def _draft(
    existing: Spec,
    path: Path | None,
    changes: Mapping[str, Any] | None,
    command: str,
    prepare: Callable[[Draft], None],
) -> Draft:
    old = plain(existing)
    if path is not None:
        draft = Draft.of_file(path, type(existing), command=f"{command} -f {display(path)}")
        # Paths are made absolute before the old values join: those start at no folder of this machine.
        prepare(draft)
        draft.value = merged(old, draft.value)
        # What the expressions name does not start at the folder of the file.
        draft.folder = Path()
    else:
        draft = Draft.of_value(dict(old), type(existing), command=command)
    if changes is not None:
        draft.value = merged(draft.value, changes)
    return draft


def _same_names(draft: Draft, names: Mapping[str, str]) -> None:
    for key, name in names.items():
        given = draft.value.get(key)
        if given is not None and given != name:
            message = f"`{key}`: found {str(given)[:60]!r}; the resource that is updated has {name!r}"
            draft.note(Problem((key,), message, "NameMismatch", fields={"name": given}))
