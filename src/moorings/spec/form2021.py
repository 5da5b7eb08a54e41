"""The endpoint of 2021: one file with `deployments:` and `traffic:` in it (behaviour reference, sections 3.2 and
3.3), to today's specs.

The document is rewritten to today's keys (`older`) before it is checked, and every problem is told under the key and
line that the user wrote. Today's keys are taken as well. Sends nothing and knows no command.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorings.errors.exceptions import SpecInvalid
from moorings.errors.sentence import sentence
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.documents import STAND_IN, Draft, Examined, display
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.limits import MAX_DEPLOYMENTS_PER_ENDPOINT
from moorings.spec.loader import prepare_deployment, prepare_endpoint
from moorings.spec.older import DEPLOYMENTS, modern_deployment, modern_endpoint
from moorings.spec.problems import FieldPath, Problem, path_text, shown
from moorings.spec.update import plain
from moorings.spec.validate import deployment_problems, endpoint_problems


@dataclass(frozen=True)
class EndpointForm:
    """An endpoint and its deployments, as one file says them. Paths are absolute, deployments complete."""

    endpoint: EndpointSpec
    """`traffic` included, whether or not its deployments are there yet."""
    deployments: tuple[DeploymentSpec, ...]
    lists_deployments: bool
    """Whether the file has the key `deployments`: a file without it says nothing about them."""


@dataclass(frozen=True)
class ExaminedForm:
    """A document that was looked at, whatever is wrong with it."""

    endpoint: EndpointSpec | None
    deployments: tuple[Examined[DeploymentSpec], ...]
    """Those of its items that are mappings. Their problems are told by the whole, too."""
    lists_deployments: bool
    invalid: SpecInvalid | None

    @property
    def name(self) -> str:
        """That of the endpoint, for commands that are told."""
        return "<name>" if self.endpoint is None else self.endpoint.name

    def valid(self) -> EndpointForm:
        """Raises SpecInvalid with every problem of endpoint and deployments."""
        if self.invalid is not None:
            raise self.invalid
        if self.endpoint is None:
            raise AssertionError("a document without a value has problems")
        found = tuple(each.valid() for each in self.deployments)
        return EndpointForm(self.endpoint, found, self.lists_deployments)


def examine_form(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    force_string: bool = False,
    name: str | None = None,
    default_name: str | None = None,
    command: str = "moor endpoint create",
) -> ExaminedForm:
    """The endpoint in the file `path` with its deployments, expressions applied, and every problem of them; raises as
    `loader.examine_endpoint`. `name` beats that of the file, which beats `default_name`."""
    draft = Draft.of_file(path, EndpointSpec, command=f"{command} -f {display(path)}")
    draft.apply(set_=overrides, add=add, remove=remove, force_string=force_string)
    if name is None and draft.value.get("name") is None:
        name = default_name
    if name is not None:
        draft.put("name", name, "-n")
    return _form(draft)


def change_form(
    endpoint: EndpointSpec,
    deployments: Sequence[DeploymentSpec],
    *,
    set_: Sequence[str] = (),
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    force_string: bool = False,
) -> ExaminedForm:
    """What there is, as one document in the order given, with expressions applied (`deployments[0].tags.x=y`)."""
    document = {**plain(endpoint), DEPLOYMENTS: [plain(each) for each in deployments]}
    draft = Draft.of_value(document, EndpointSpec, command=f"moor endpoint update -n {endpoint.name}")
    draft.apply(set_=set_, add=add, remove=remove, force_string=force_string)
    given = draft.value.get("name")
    if given != endpoint.name:
        message = f"`name`: found {shown(given)}; the endpoint that is updated has {endpoint.name!r}"
        draft.note(Problem(("name",), message, "NameMismatch", fields={"name": given}))
    return _form(draft, older_wins=True)


def examine_item(
    path: Path,
    *,
    endpoint_name: str,
    name: str | None = None,
    instance_count: int | None = None,
    overrides: Sequence[str] = (),
) -> Examined[DeploymentSpec]:
    """A deployment in a file of its own, with the keys of an item of `deployments:`, expressions and flags applied;
    see `examine_form`.

    A `name` beside that of the file must be the same: problem NameMismatch.
    """
    command = (
        f"moor endpoint update -n {endpoint_name} -d {name or '<name>'} --deployment-file {display(path)}"
    )
    draft = Draft.of_file(path, DeploymentSpec, command=command)
    draft.apply(set_=overrides)
    given = draft.value.get("name")
    if name is not None and given is None:
        draft.put("name", name, "-d")
    elif name is not None and given != name:
        message = f"`name`: found {shown(given)}; --deployment says {name!r}"
        draft.note(Problem(("name",), message, "NameMismatch", fields={"name": given}))
    return _deployment(draft, endpoint_name, instance_count=instance_count)


# --- the whole document --------------------------------------------------------------------------------------
def _form(draft: Draft, *, older_wins: bool = False) -> ExaminedForm:
    lists_deployments = draft.value.get(DEPLOYMENTS) is not None
    items = draft.value.pop(DEPLOYMENTS, None)
    insights = modern_endpoint(draft)
    prepare_endpoint(draft)
    endpoint = draft.check(endpoint_problems, EndpointSpec)
    name = endpoint.name if endpoint is not None else STAND_IN
    specs = []
    for item in _items(draft, items):
        if insights is not None:
            item.value.setdefault("app_insights_enabled", insights)
        specs.append(_deployment(item, name, older_wins=older_wins))
        draft.problems += item.problems
    _check_names(draft, items)
    if lists_deployments:
        _check_traffic(draft, items)
    return ExaminedForm(endpoint, tuple(specs), lists_deployments, draft.invalid())


def _items(draft: Draft, items: Any) -> Iterator[Draft]:
    """Each item of `deployments:` that is a mapping, as a document of its own."""
    if items is None:
        return
    if not isinstance(items, list):
        message = f"`{DEPLOYMENTS}`: found {shown(items)}; expected a list, each item `- name: ...`"
        draft.note(Problem((DEPLOYMENTS,), message))
        return
    if len(items) > MAX_DEPLOYMENTS_PER_ENDPOINT:
        message = (
            f"`{DEPLOYMENTS}`: found {len(items)}; an endpoint has at most {MAX_DEPLOYMENTS_PER_ENDPOINT}"
        )
        draft.note(Problem((DEPLOYMENTS,), message))
        return
    draft.value[DEPLOYMENTS] = items
    parts = [
        draft.part((DEPLOYMENTS, index), DeploymentSpec)
        for index, item in enumerate(items)
        if isinstance(item, dict)
    ]
    del draft.value[DEPLOYMENTS]
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            path: FieldPath = (DEPLOYMENTS, index)
            draft.note(Problem(path, f"`{path_text(path)}`: found {shown(item)}; expected a mapping of keys"))
    yield from parts


def _check_names(draft: Draft, items: Any) -> None:
    """Each name once; traffic tables do not tell case apart, so neither does this."""
    seen: dict[str, int] = {}
    for index, name in _names(items):
        first = seen.setdefault(name.lower(), index)
        if first != index:
            path: FieldPath = (DEPLOYMENTS, index, "name")
            message = f"`{path_text(path)}`: {name!r} is the name of `{DEPLOYMENTS}[{first}]` already"
            draft.note(Problem(path, message))


def _check_traffic(draft: Draft, items: Any) -> None:
    """Traffic goes to listed deployments only: others are not there, or are not there any more."""
    known = {name.lower(): name for _, name in _names(items)}
    for key in ("traffic", "mirror_traffic"):
        table = draft.value.get(key)
        for name in table if isinstance(table, dict) else ():
            if not isinstance(name, str) or name.lower() in known:
                continue
            near = difflib.get_close_matches(name.lower(), known, n=1)
            hint = f"; did you mean `{known[near[0]]}`?" if near else ""
            listed = ", ".join(known.values()) or "none"
            draft.note(
                Problem(
                    (key, name),
                    f"`{key}` names {name!r}, which is not under `{DEPLOYMENTS}` ({listed}){hint}",
                    "TrafficInvalid",
                    on_key=True,
                    fix=sentence(
                        "Name deployments of the file, then run the same command again: {command}",
                        command=draft.command,
                    ),
                )
            )


def _names(items: Any) -> Iterator[tuple[int, str]]:
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            yield index, item["name"]


def _deployment(
    draft: Draft, endpoint_name: str, *, older_wins: bool = False, instance_count: int | None = None
) -> Examined[DeploymentSpec]:
    """The spec of one item, its problems noted. `instance_count`: that of `-i`, which beats every key."""
    given = draft.value.get("endpoint_name")
    if given is not None and given != endpoint_name and endpoint_name != STAND_IN:
        message = f"`endpoint_name`: found {shown(given)}; the endpoint is {endpoint_name!r}"
        draft.note(Problem(("endpoint_name",), message, "NameMismatch", fields={"name": given}))
    draft.value["endpoint_name"] = endpoint_name
    modern_deployment(draft, older_wins=older_wins)
    if instance_count is not None:
        draft.put("instance_count", instance_count, "-i")
    prepare_deployment(draft)
    return draft.examine(lambda spec: deployment_problems(spec, complete=True), DeploymentSpec)
