"""`--set a.b=c`, `--add` and `--remove` on a plain document: parsed, then applied to a copy. Knows no spec
model."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from moorings.spec.places import Place, Places, Source
from moorings.spec.problems import FieldPath, Located, Problem, path_text, shown, spec_invalid
from moorings.spec.yamltext import YamlProblem, parse_yaml, scalar_value

_PART = re.compile(
    r"""\[(?P<index>-?\d{1,6})\]|\[?(?P<quote>["'])(?P<quoted>.*?)(?P=quote)\]?|(?P<name>[^.\[\]="']+)"""
)
_FORMS = {"--set": "path=value", "--add": "path=value", "--remove": "path"}


class ExpressionError(ValueError):
    """Why an expression cannot be applied, as a sentence for the user."""


def apply_changes(
    document: Mapping[str, Any],
    *,
    set_: Sequence[str] = (),
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    force_string: bool = False,
    command: str = "moor online-deployment update",
) -> dict[str, Any]:
    """A copy of `document` with the expressions applied: all of `set_`, then `add`, then `remove`.

    Raises SpecInvalid with one ChangeExpressionInvalid per expression that cannot be applied.
    """
    changed = copy.deepcopy(dict(document))
    problems = change(changed, None, set_=set_, add=add, remove=remove, force_string=force_string)
    if problems:
        places = {id(problem): place for problem, place in problems}
        raise spec_invalid(
            [problem for problem, _ in problems],
            what="the command line",
            locate=lambda p: Located(str(places[id(p)])),
            command=command,
        )
    return changed


def change(
    document: dict[str, Any],
    places: Places | None,
    *,
    set_: Iterable[str] = (),
    add: Iterable[str] = (),
    remove: Iterable[str] = (),
    force_string: bool = False,
) -> list[tuple[Problem, Place]]:
    """Apply expressions to `document` in place; what was set is noted in `places`. Returns the problems."""
    problems: list[tuple[Problem, Place]] = []
    verbs: tuple[tuple[str, Iterable[str], _Verb], ...] = (
        ("--set", set_, _set),
        ("--add", add, _add),
        ("--remove", remove, _remove),
    )
    for flag, expressions, verb in verbs:
        for expression in expressions:
            place = Place(Source(f"{flag} {_printable(expression)}"))
            try:
                path, value, raw = _parse(expression, flag, force_string)
                where = verb(document, path, value)
            except ExpressionError as wrong:
                problems.append((Problem((), str(wrong), "ChangeExpressionInvalid"), place))
                continue
            if places is not None:
                places.forget(where)
                places.keys[where] = places.values[where] = place
                if raw is not None:
                    places.raw[where] = raw
    return problems


def parse_path(text: str) -> FieldPath:
    """`deployments[0].tags."a.b"` as a path; raises ExpressionError."""
    path: list[str | int] = []
    position = 0
    while position < len(text):
        if position and text[position] == ".":
            position += 1
        elif position and text[position] != "[":
            raise ExpressionError(
                f"`{_printable(text)}` is no path: `.` or `[` is expected at character {position + 1}"
            )
        found = _PART.match(text, position)
        if found is None:
            raise ExpressionError(
                f"`{_printable(text)}` is no path: a name is expected at character {position + 1}"
            )
        if found["index"] is not None:
            path.append(int(found["index"]))
        else:
            path.append(found["quoted"] if found["quoted"] is not None else found["name"].strip())
        position = found.end()
    if not path or text.endswith("."):
        raise ExpressionError(f"`{_printable(text)}` is no path: a name is expected at its end")
    if not isinstance(path[0], str):
        raise ExpressionError(f"`{_printable(text)}` begins with an index; a path begins with a key")
    return tuple(path)


_Verb = Callable[[dict[str, Any], FieldPath, Any], FieldPath]


def _parse(expression: str, flag: str, force_string: bool) -> tuple[FieldPath, Any, str | None]:
    if not expression.isascii():
        try:
            expression.encode()
        except UnicodeEncodeError:
            raise ExpressionError("the expression is not UTF-8 text") from None
    if flag == "--remove":
        return parse_path(expression), None, None
    at = _equals(expression)
    if at is None:
        raise ExpressionError(f"found no `=`; expected {_FORMS[flag]}")
    value, raw = _value(expression[at + 1 :], force_string)
    return parse_path(expression[:at]), value, raw


def _equals(expression: str) -> int | None:
    """Where the first `=` outside of quotes is."""
    quote = ""
    for index, character in enumerate(expression):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "=":
            return index
    return None


def _value(text: str, force_string: bool) -> tuple[Any, str | None]:
    if force_string or not text:
        return text, None
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1], None
    if text[0] in "{[":
        try:
            document = parse_yaml(text.encode(), "value")
        except YamlProblem as wrong:
            raise ExpressionError(
                f"the value is neither a list nor a mapping: {wrong.problem.message}"
            ) from None
        if document.problems:
            raise ExpressionError(f"the value: {document.problems[0][0].message}")
        return document.value, None
    value = scalar_value(text)
    return value, None if value is None or isinstance(value, str) else text


def _set(document: dict[str, Any], path: FieldPath, value: Any) -> FieldPath:
    holder, where = _holder(document, path, create=True)
    last = path[-1]
    if isinstance(last, int):
        index = _index(holder, last, where)
        holder[index] = value
        return (*where, index)
    if not isinstance(holder, dict):
        raise ExpressionError(f"`{path_text(where)}` is {shown(holder, where)}; it has no key {last!r}")
    holder[last] = value
    return (*where, last)


def _add(document: dict[str, Any], path: FieldPath, value: Any) -> FieldPath:
    holder, where = _holder(document, path, create=True)
    last = path[-1]
    if isinstance(last, int):
        target = holder[_index(holder, last, where)]
    elif isinstance(holder, dict):
        target = holder.get(last)
        if target is None:
            holder[last] = value
            return (*where, last)
    else:
        raise ExpressionError(f"`{path_text(where)}` is {shown(holder, where)}; it has no key {last!r}")
    here = (*where, last)
    if isinstance(target, list):
        target.append(value)
        return (*here, len(target) - 1)
    if isinstance(target, dict) and isinstance(value, dict):
        target.update(value)
        return here
    raise ExpressionError(
        f"`{path_text(here)}` is {shown(target, here)}; --add appends to a list "
        "or adds {key: value} to a mapping (--set replaces a value)"
    )


def _remove(document: dict[str, Any], path: FieldPath, value: Any) -> FieldPath:
    holder, where = _holder(document, path, create=False)
    last = path[-1]
    if isinstance(last, int):
        index = _index(holder, last, where)
        del holder[index]
        return (*where, index)
    if not isinstance(holder, dict) or last not in holder:
        raise ExpressionError(f"`{path_text(path)}` is not there{_close(last, holder)}")
    del holder[last]
    return (*where, last)


def _holder(document: dict[str, Any], path: FieldPath, *, create: bool) -> tuple[Any, FieldPath]:
    """The mapping or list that holds the last part of `path`, and its own path."""
    at: Any = document
    for depth, part in enumerate(path[:-1]):
        here = path[:depth]
        if isinstance(part, int):
            at = at[_index(at, part, here)]
            continue
        if not isinstance(at, dict):
            raise ExpressionError(f"`{path_text(here)}` is {shown(at, here)}; it has no key {part!r}")
        if at.get(part) is None:
            if not create or isinstance(path[depth + 1], int):
                raise ExpressionError(f"`{path_text((*here, part))}` is not there{_close(part, at)}")
            at[part] = {}
        at = at[part]
    return at, path[:-1]


def _index(holder: Any, index: int, where: FieldPath) -> int:
    if not isinstance(holder, list):
        raise ExpressionError(f"`{path_text(where)}` is {shown(holder, where)}; [{index}] needs a list")
    if not -len(holder) <= index < len(holder):
        raise ExpressionError(f"`{path_text(where)}` has {len(holder)} items; there is no [{index}]")
    return index % len(holder)


def _close(key: str, holder: Any) -> str:
    near = difflib.get_close_matches(key, holder, n=1) if isinstance(holder, dict) else []
    return f" (did you mean `{near[0]}`?)" if near else ""


def _printable(text: str) -> str:
    cut = text if len(text) <= 120 else f"{text[:120]}..."
    return "".join(c if c.isprintable() else "?" for c in cut)
