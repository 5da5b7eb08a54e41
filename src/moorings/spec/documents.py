"""One spec document on its way from a file to a value: read, overridden, cleaned, its paths resolved, checked
at once.

The order is what makes all problems come out together: nothing raises before everything has been looked at.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from moorings.errors.exceptions import MooringsError, SpecInvalid, error
from moorings.spec.base import Spec
from moorings.spec.expressions import change
from moorings.spec.hints import keys_of, model_at, unknown_key_hint
from moorings.spec.places import Place, Places, Source
from moorings.spec.problems import FieldPath, Located, Problem, path_text, problems_of, shown, spec_invalid
from moorings.spec.yamltext import MAX_BYTES, Document, YamlProblem, parse_yaml

MAX_ROUNDS = 5
"""How often more is left out to get at a document whose rest can be checked."""
STAND_IN = "placeholder"
"""Stands for a name that is wrong, so that the rest of its document can be checked all the same."""
_POSITION = re.compile(r"(?P<name>.*?):(?P<line>\d+):(?P<column>\d+)(?: |$)", re.DOTALL)

T = TypeVar("T", bound=Spec)


def read_document(path: Path, *, command: str, name: str | None = None) -> Document:
    """The YAML document in the file `path`.

    Raises MooringsError SpecFileUnreadable or SpecTooLarge (a large file is not read at all), SpecInvalid for
    a text
    that is no YAML document. Any file gives a Document or one of these.
    """
    name = name or display(path)
    try:
        return parse_yaml(_read(path, name), name)
    except YamlProblem as wrong:
        raise _refused(wrong, name, command) from None


def display(path: Path) -> str:
    """The path as the user gave it, printable."""
    return "".join(c if c.isprintable() else "?" for c in str(path))


def _read(path: Path, name: str) -> bytes:
    folder = display(path.parent)
    try:
        # O_NONBLOCK: opening a pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as wrong:
        reason = wrong.strerror if isinstance(wrong, OSError) and wrong.strerror else str(wrong)
        raise error(
            "SpecFileUnreadable", f"{name}: {reason.lower()}", target=name, fields={"folder": folder}
        ) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
            raise error("SpecFileUnreadable", f"{name} is {what}", target=name, fields={"folder": folder})
        if found.st_size > MAX_BYTES:
            raise _too_large(name, found.st_size)
        data = _read_all(descriptor)
    except OSError as wrong:
        reason = (wrong.strerror or "read error").lower()
        raise error(
            "SpecFileUnreadable", f"{name}: {reason}", target=name, fields={"folder": folder}
        ) from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise _too_large(name, len(data))
    return data


def _read_all(descriptor: int) -> bytes:
    """What the file holds, up to one byte more than is taken: it may grow while it is read."""
    data = b""
    while len(data) <= MAX_BYTES:
        chunk = os.read(descriptor, MAX_BYTES + 1 - len(data))
        if not chunk:
            break
        data += chunk
    return data


def _too_large(name: str, size: int) -> MooringsError:
    return error("SpecTooLarge", f"{name} has {size} bytes; a spec is at most {MAX_BYTES}", target=name)


def _refused(wrong: YamlProblem, name: str, command: str) -> SpecInvalid:
    located = Located(str(wrong.place), wrong.place.evidence())
    return spec_invalid([wrong.problem], what=name, locate=lambda _: located, command=command)


@dataclass(frozen=True)
class Examined(Generic[T]):
    """A document that was looked at, whatever is wrong with it."""

    value: T | None
    """The spec; None where it has none."""
    partial: T | None
    """The same, or what is left of it without its broken parts."""
    invalid: SpecInvalid | None
    """Every problem of the document; None without any."""
    locate: Callable[[FieldPath], Located]
    """Where the value at a path of the spec stands."""

    def valid(self) -> T:
        """The spec value; raises SpecInvalid."""
        if self.invalid is not None:
            raise self.invalid
        if self.value is None:
            raise AssertionError("a document without a value has problems")
        return self.value


@dataclass
class Draft:
    """A spec document that is being put together. `problems` come with the place where each stands."""

    name: str
    """The file (or command line) as the user knows it."""
    folder: Path
    """Where relative paths start."""
    model: type[Spec]
    value: dict[str, Any]
    places: Places
    command: str
    """The command that reads it again, for the fixes."""
    problems: list[tuple[Problem, Located]] = field(default_factory=list)
    hidden: list[FieldPath] = field(default_factory=list)
    """Paths a problem was already told about; what else is wrong at or below them follows from it."""
    inside: FieldPath = ()
    """Where the value stands in its file, when it is a part of it."""
    renamed: dict[FieldPath, FieldPath] = field(default_factory=dict)
    """Paths of the value that stand elsewhere in the file: a document of an older form."""
    partial: Spec | None = None
    """After `check`: the spec value, or what is left of it without its broken parts; None where nothing is."""

    @staticmethod
    def of_file(path: Path, model: type[Spec], *, command: str, name: str | None = None) -> Draft:
        """Read `path`; raises as `read_document`, and SpecInvalid when the document is no mapping."""
        name = name or display(path)
        document = read_document(path, command=command, name=name)
        if not isinstance(document.value, dict):
            found = "nothing" if document.value is None else shown(document.value)
            problem = Problem((), f"found {found}; expected keys and values (`name: ...`)", "SpecNotYaml")
            raise spec_invalid(
                [problem], what=name, locate=lambda _: document.places.locate(()), command=command
            )
        draft = Draft(name, path.parent, model, document.value, document.places, command)
        draft.problems += [(p, Located(str(place), place.evidence())) for p, place in document.problems]
        return draft

    @staticmethod
    def of_value(value: dict[str, Any], model: type[Spec], *, command: str) -> Draft:
        """A document that did not come from a file; relative paths start at the current folder."""
        place = Place(Source("the command line"))
        return Draft("the command line", Path(), model, value, Places(place), command)

    def apply(
        self,
        *,
        set_: Iterable[str] = (),
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        force_string: bool = False,
    ) -> None:
        found = change(self.value, self.places, set_=set_, add=add, remove=remove, force_string=force_string)
        self.problems += [(problem, Located(str(place))) for problem, place in found]

    def put(self, key: str, value: Any, flag: str) -> None:
        """Set a key that was given by a flag of its own."""
        self.places.forget((key,))
        place = Place(Source(flag))
        self.places.keys[(key,)] = self.places.values[(key,)] = place
        self.value[key] = value

    def part(self, path: FieldPath, model: type[Spec]) -> Draft:
        """The mapping at `path` as a document of its own, whose problems name their place in this file."""
        value: Any = self.value
        for each in path:
            value = value[each]
        places = self.places.below(path)
        inside = (*self.inside, *path)
        return Draft(self.name, self.folder, model, value, places, self.command, inside=inside)

    def written(self, path: FieldPath) -> FieldPath:
        """The path in the file of what stands at `path` of the value."""
        known = [new for new in self.renamed if path[: len(new)] == new]
        longest = max(known, key=len, default=())
        return (*self.inside, *self.renamed.get(longest, longest), *path[len(longest) :])

    def note(self, problem: Problem, *, hide: bool = True) -> None:
        """Add a problem with its place; `hide` drops later ones at or below the same path."""
        written = self.written(problem.path)
        located = self.places.locate(problem.path, on_key=problem.on_key, name=path_text(written))
        self.problems.append((problem.at(written), located))
        if hide and problem.path:
            self.hidden.append(problem.path)

    def drop_read_only(self, keys: Iterable[str]) -> None:
        """Leave out what `show` prints beside the spec, so that its output can be loaded again."""
        for key in keys:
            self.value.pop(key, None)
        schema = self.value.pop("$schema", None)
        if schema is not None and not isinstance(schema, str):
            self.note(Problem(("$schema",), f"`$schema`: found {shown(schema)}; expected text"))

    def drop_nulls(self) -> None:
        """A key of a spec without a value (`tags:`) is a key that is not given."""
        _drop_nulls(self.value, self.model)

    def build(self, check: Callable[[Any], list[Problem]], model: type[T]) -> T:
        """The spec value; raises SpecInvalid with every problem of the document."""
        return self.examine(check, model).valid()

    def examine(self, check: Callable[[Any], list[Problem]], model: type[T]) -> Examined[T]:
        """The spec value and every problem of the document, for checks that go on in spite of them."""
        value = self.check(check, model)
        partial = self.partial if isinstance(self.partial, model) else None
        return Examined(value, partial, self.invalid(), self.locate)

    def check(self, rules: Callable[[Any], list[Problem]], model: type[T]) -> T | None:
        """Note every problem of the document. The spec value, or None where it has none; whoever takes it looks
        at the problems first."""
        value, found = self._validate(model, self.value)
        broken = [*self.hidden, *(problem.path for problem in found)]
        found = [self._hinted(p) for p in found if not _related(p.path, self.hidden)]
        candidate = value if value is not None else self._salvage(model, broken)
        self.partial = candidate
        if candidate is not None:
            found += [p for p in rules(candidate) if not _related(p.path, broken)]
        for problem in found:
            self.note(problem, hide=False)
        return value

    def locate(self, path: FieldPath) -> Located:
        """Where the value at `path` of the spec stands, under the name that users know it by."""
        return self.places.locate(path, name=path_text(self.written(path)))

    def raise_problems(self) -> None:
        """Raise SpecInvalid when there are problems, in the order in which they stand in the input."""
        invalid = self.invalid()
        if invalid is not None:
            raise invalid

    def invalid(self) -> SpecInvalid | None:
        """The problems as an exception, in the order in which they stand in the input; None without any."""
        if not self.problems:
            return None
        unique = {(p.path, p.message, where.target): (p, where) for p, where in self.problems}
        ordered = sorted(unique.values(), key=lambda item: self._rank(item[0], item[1]))
        places = {id(problem): located for problem, located in ordered}
        return spec_invalid(
            [problem for problem, _ in ordered],
            what=self.name,
            locate=lambda p: places[id(p)],
            command=self.command,
        )

    def _rank(self, problem: Problem, located: Located) -> tuple[int, str, int, int]:
        """The spec itself first, then what it names, line by line; last what has no line."""
        found = _POSITION.match(located.target)
        if found is None or (problem.code == "SpecKeyMissing" and len(problem.path) == 1):
            return (2, "", 0, 0)
        other = found["name"] != self.name
        return (int(other), found["name"], int(found["line"]), int(found["column"]))

    def _validate(self, model: type[T], value: Mapping[str, Any]) -> tuple[T | None, list[Problem]]:
        try:
            return model.model_validate(value), []
        except ValidationError as invalid:
            texts = [p for p in problems_of(invalid) if p.wants_text and p.path in self.places.raw]
        for problem in texts:
            _put(self.value, problem.path, self.places.raw[problem.path])
        try:
            return model.model_validate(value), []
        except ValidationError as invalid:
            return None, problems_of(invalid)

    def _salvage(self, model: type[T], broken: list[FieldPath]) -> T | None:
        """The document without its broken parts, so that the rest is checked in the same run.

        What had to go as well, because it cannot be without them, is added to `broken`.
        """
        for _ in range(MAX_ROUNDS):
            value = _without(self.value, (), broken)
            for key in ("name", "endpoint_name"):
                if key in keys_of(model) and (key,) in broken:
                    value[key] = STAND_IN
            try:
                return model.model_validate(value)
            except ValidationError as invalid:
                broken += [
                    p.path[:-1] if p.code == "SpecKeyMissing" else p.path for p in problems_of(invalid)
                ]
        return None

    def _hinted(self, problem: Problem) -> Problem:
        if problem.code != "SpecKeyUnknown":
            return problem
        top = f"directly under `{path_text(self.inside)}`" if self.inside else "at the top of the file"
        hint = unknown_key_hint(self.model, problem.path, top=top)
        if not hint:
            model = model_at(self.model, problem.path[:-1])
            hint = f"known keys: {', '.join(keys_of(model))}" if model is not None else ""
        message = f"{problem.message}; {hint}" if hint else problem.message
        return Problem(problem.path, message, problem.code, on_key=True, fields=problem.fields)


def _related(path: FieldPath, others: Iterable[FieldPath]) -> bool:
    """Whether `path` lies at, below or above one of `others`."""
    return any(path[: len(o)] == o[: len(path)] for o in others if o and path)


def _put(value: Any, path: FieldPath, new: Any) -> None:
    for part in path[:-1]:
        value = value[part]
    value[path[-1]] = new


def _without(value: Any, at: FieldPath, broken: Sequence[FieldPath]) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, (*at, k), broken) for k, v in value.items() if (*at, k) not in broken}
    if isinstance(value, list):
        return [_without(v, (*at, i), broken) for i, v in enumerate(value) if (*at, i) not in broken]
    return value


def _drop_nulls(value: dict[str, Any], model: type[Any]) -> None:
    known = set(keys_of(model))
    for key in [k for k, v in value.items() if v is None and k in known]:
        del value[key]
    for key, inner in value.items():
        inner_model = model_at(model, (key,))
        if isinstance(inner, dict) and inner_model is not None:
            _drop_nulls(inner, inner_model)
