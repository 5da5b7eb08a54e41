"""Tables that say where each spec key stands in a JSON body of the control API, and the two walks over such a
table.

A table is the only place where a key meets its JSON property, so both directions and the places of problems
agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from moorings.spec.base import Spec
from moorings.spec.durations import format_duration_ms, format_duration_s, parse_duration_ms, parse_duration_s
from moorings.spec.problems import (
    FieldPath,
    Located,
    Problem,
    merge_problems,
    path_text,
    problems_of,
    shown,
    spec_invalid,
)

T = TypeVar("T", bound=Spec)
RESEND = "moor online-deployment create -f deployment.yml"


class WireValueError(ValueError):
    """A JSON value that does not fit its property; the text says what was found and what is expected."""


@dataclass(frozen=True)
class Slot:
    """One spec key and its JSON property. `decode` raises WireValueError (or ValueError) with a sentence."""

    key: tuple[str, ...]
    where: tuple[str, ...]
    decode: Callable[[Any], Any]
    encode: Callable[[Any], Any] = lambda value: value
    omit: Callable[[Any], bool] = lambda value: value is None
    """Whether a spec value is left out of the body."""


def slot(
    key: str,
    where: str,
    decode: Callable[[Any], Any],
    encode: Callable[[Any], Any] = lambda value: value,
    omit: Callable[[Any], bool] = lambda value: value is None,
) -> Slot:
    return Slot(tuple(key.split(".")), tuple(where.split(".")), decode, encode, omit)


# --- decoders: JSON value -> plain spec value ---------------------------------------------------------------
def text(value: Any) -> str:
    if not isinstance(value, str):
        raise WireValueError(f"found {shown(value)}; expected text")
    return value


def whole(value: Any) -> int:
    if isinstance(value, bool) or not (
        isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    ):
        raise WireValueError(f"found {shown(value)}; expected a whole number")
    return int(value)


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WireValueError(f"found {shown(value)}; expected a number")
    return float(value)


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WireValueError(f"found {shown(value)}; expected true or false")
    return value


def mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise WireValueError(f"found {shown(value)}; expected an object")
    return dict(value)


def texts(value: Any) -> dict[str, str]:
    """A map of text to text; numbers and booleans are taken as their JSON text, null entries are left out."""
    found: dict[str, str] = {}
    for key, item in mapping(value).items():
        if isinstance(item, str):
            found[key] = item
        elif isinstance(item, bool):
            found[key] = "true" if item else "false"
        elif isinstance(item, int | float):
            found[key] = str(item)
        elif item is not None:
            raise WireValueError(f"the value of {key!r} is {shown(item)}; expected text")
    return found


def counts(value: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for key, item in mapping(value).items():
        if item is not None:
            try:
                found[key] = whole(item)
            except WireValueError as wrong:
                raise WireValueError(f"the value of {key!r}: {wrong}") from None
    return found


def duration_ms(value: Any) -> int:
    return parse_duration_ms(text(value))


def duration_s(value: Any) -> int:
    return parse_duration_s(text(value))


@dataclass(frozen=True)
class Choice:
    """Spellings of an enumeration: spec value -> JSON value. Read in any case, with or without
    underscores."""

    names: Mapping[str, str]

    def decode(self, value: Any) -> str:
        plain = _plain(text(value))
        for spec_value, wire in self.names.items():
            if plain in (_plain(spec_value), _plain(wire)):
                return spec_value
        raise WireValueError(f"found {shown(value)}; expected one of {', '.join(self.names.values())}")

    def encode(self, value: Any) -> str:
        return self.names[str(value)]


def _plain(value: str) -> str:
    return value.replace("_", "").replace("-", "").lower()


def choice(key: str, where: str, names: Mapping[str, str]) -> Slot:
    spelled = Choice(names)
    return slot(key, where, spelled.decode, spelled.encode)


def milliseconds(key: str, where: str) -> Slot:
    return slot(key, where, duration_ms, format_duration_ms)


def seconds(key: str, where: str) -> Slot:
    return slot(key, where, duration_s, format_duration_s)


# --- the two walks ------------------------------------------------------------------------------------------
def write_slots(slots: Iterable[Slot], spec: Spec, body: dict[str, Any]) -> dict[str, Any]:
    """Put every value of `spec` that the table knows into `body`, making parents as needed."""
    for entry in slots:
        value: Any = spec
        for part in entry.key:
            value = getattr(value, part) if value is not None else None
        if value is None or entry.omit(value):
            continue
        target = body
        for part in entry.where[:-1]:
            target = target.setdefault(part, {})
        target[entry.where[-1]] = entry.encode(value)
    return body


def read_slots(slots: Sequence[Slot], body: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The plain spec mapping of `body`; absent and null properties give no key. Problems carry JSON paths."""
    plain: dict[str, Any] = {}
    problems: list[Problem] = []
    for entry in slots:
        try:
            value = _dig(body, entry.where)
        except _NotAnObject as wrong:
            problems.append(
                Problem(wrong.path, f"`{path_text(wrong.path)}`: found {wrong.found}; expected an object")
            )
            continue
        if value is None:
            continue
        try:
            decoded = entry.decode(value)
        except ValueError as wrong:
            problems.append(Problem(entry.where, f"`{path_text(entry.where)}`: {wrong}"))
            continue
        target = plain
        for part in entry.key[:-1]:
            target = target.setdefault(part, {})
        target[entry.key[-1]] = decoded
    return plain, merge_problems(problems)


def build(
    model: type[T],
    slots: Sequence[Slot],
    plain: Mapping[str, Any],
    problems: Sequence[Problem],
    *,
    what: str,
    check: Callable[[T], list[Problem]] | None = None,
) -> T:
    """The spec value of `plain`; raises SpecInvalid with all problems, each with its JSON path as target."""
    value: T | None = None
    found: list[Problem] = list(problems)
    try:
        value = model.model_validate(plain)
    except ValidationError as invalid:
        broken = {p.path for p in problems}
        for problem in problems_of(invalid):
            moved = to_wire(slots, problem)
            if not any(moved.path[: len(path)] == path for path in broken):
                found.append(moved)
    if value is not None and check is not None:
        found += [to_wire(slots, problem) for problem in check(value)]
    if found or value is None:
        raise spec_invalid(
            found, what=what, locate=lambda p: Located(path_text(p.path) or "$"), command=RESEND
        )
    return value


def to_wire(slots: Iterable[Slot], problem: Problem) -> Problem:
    """`problem` with the JSON path of its spec path, by the longest table entry that leads to it."""
    best: tuple[int, FieldPath] = (0, problem.path)
    for entry in slots:
        shared = 0
        for ours, theirs in zip(entry.key, problem.path, strict=False):
            if ours != theirs:
                break
            shared += 1
        if shared > best[0]:
            if shared == len(entry.key):
                where: FieldPath = entry.where + problem.path[shared:]
            else:
                where = entry.where[: len(entry.where) - (len(entry.key) - shared)]
            best = (shared, where)
    message = problem.message.replace(f"`{path_text(problem.path)}`", f"`{path_text(best[1])}`")
    return Problem(best[1], message, problem.code, problem.on_key, problem.fields, problem.fix)


@dataclass
class _NotAnObject(Exception):  # noqa: N818 - a signal between two functions of this module
    path: FieldPath
    found: str


def _dig(body: Mapping[str, Any], where: tuple[str, ...]) -> Any:
    value: Any = body
    for depth, part in enumerate(where):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise _NotAnObject(where[:depth], shown(value))
        value = value.get(part)
    return value
