"""Problems of one input as values: which field, what was found, what is expected; and their way into coded
failures.

Knows neither YAML nor JSON: whoever read the input says where a field stands in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from moorings.errors.exceptions import Failure, SpecInvalid, failure
from moorings.errors.sentence import Sentence, sentence
from moorings.spec.base import NAME_PATTERN, OBJECT_TAG, REFERENCE_TAG

FieldPath = tuple[str | int, ...]

MAX_PROBLEMS = 100
"""Problems reported of one input; the rest are counted."""
MAX_SHOWN = 60
"""Characters of a found value that are shown."""

MAX_KEY_SHOWN = 100
"""Characters of a key that are shown."""

_SECRET_KEYS = ("environment_variables", "environmentVariables")
_EXPECTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_unicode": "text",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "tuple_type": "a list",
    "list_type": "a list",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
    "enum": "{expected}",
}


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one field. `path` is its field path in the spec, outermost key first."""

    path: FieldPath
    message: str
    code: str = "SpecValueInvalid"
    on_key: bool = False
    """The key itself is wrong, not its value."""
    fields: Mapping[str, object] = field(default_factory=dict)
    """Fills the fix of the catalogue entry; `key` is filled from `path`."""
    fix: Sentence | None = None
    wants_text: bool = False
    """Text is expected where something else stands; its raw text may do."""

    def at(self, path: FieldPath) -> Problem:
        """The same problem of a field that stands at `path` in the input."""
        if path == self.path:
            return self
        message = self.message.replace(f"`{path_text(self.path)}`", f"`{path_text(path)}`")
        return replace(self, path=path, message=message)


@dataclass(frozen=True)
class Located:
    """Where a problem stands: `target` for the failure, evidence lines, and the command that reads the input
    again."""

    target: str
    evidence: tuple[str, ...] = ()


def path_text(path: FieldPath) -> str:
    """`("deployments", 0, "name")` -> `deployments[0].name`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part and part.isprintable() and not set(part) & set(" .[]\"'")
            name = part if plain else repr(part)
            name = name if len(name) <= MAX_KEY_SHOWN else f"{name[:MAX_KEY_SHOWN]}..."
            text += f".{name}" if text else name
    return text


def problem_failure(problem: Problem, where: Located, *, command: str) -> Failure:
    fields: dict[str, object] = {
        "key": path_text(problem.path) or sentence("the spec"),
        "command": command,
        **problem.fields,
    }
    return failure(
        problem.code,
        problem.message,
        target=where.target,
        evidence=where.evidence,
        fields=fields,
        fix=problem.fix,
    )


def spec_invalid(
    problems: Sequence[Problem], *, what: str, locate: Callable[[Problem], Located], command: str
) -> SpecInvalid:
    """The exception for `problems` (at least one) of the input called `what`; `locate` finds where each
    stands."""
    details = [problem_failure(p, locate(p), command=command) for p in problems[:MAX_PROBLEMS]]
    if len(problems) == 1:
        message = f"{what}: {problems[0].message}"
    elif len(problems) <= MAX_PROBLEMS:
        message = f"{what} has {len(problems)} problems"
    else:
        message = f"{what} has {len(problems)} problems; the first {MAX_PROBLEMS} are listed"
    first = details[0]
    return SpecInvalid(
        failure(
            "SpecInvalid",
            message,
            target=first.target if len(details) == 1 else what,
            evidence=first.evidence if len(details) == 1 else (),
            details=details,
            fields={"command": command},
            fix=first.remedy if len(details) == 1 else None,
        )
    )


def problems_of(invalid: ValidationError) -> list[Problem]:
    """What pydantic found, as problems: unknown and missing keys first to last, in the order of the
    fields."""
    return [_problem(error) for error in invalid.errors(include_url=False)]


def shown(value: Any, path: FieldPath = ()) -> str:
    """A found value in a few characters; values that may be secret are described only."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if any(part in _SECRET_KEYS for part in path):
        return (
            "text" if isinstance(value, str) else "true or false" if isinstance(value, bool) else "a number"
        )
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _problem(error: Mapping[str, Any]) -> Problem:
    kind: str = error["type"]
    path: FieldPath = tuple(part for part in error["loc"] if part not in (OBJECT_TAG, REFERENCE_TAG))
    name = path_text(path)
    on_key = bool(path) and path[-1] == "[key]"
    if on_key:
        path = path[:-1]
    if kind == "missing":
        return Problem(path, f"`{name}` is required", "SpecKeyMissing")
    if kind == "extra_forbidden":
        return Problem(path, f"`{name}` is not a key of this spec", "SpecKeyUnknown", on_key=True)
    context: Mapping[str, Any] = error.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return Problem(path, f"`{path_text(path)}`: {context.get('error', error['msg'])}", on_key=on_key)
    found = shown(error.get("input"), path)
    message = f"`{path_text(path)}`: found {found}; expected {_expected(kind, context, error)}"
    return Problem(path, message, on_key=on_key, wants_text=kind == "string_type")


def _expected(kind: str, context: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    if kind == "string_pattern_mismatch":
        if context.get("pattern") == NAME_PATTERN:
            return "letters, digits and hyphens, a letter first and no hyphen last"
        return f"text of the form {context.get('pattern')}"
    template = _EXPECTED.get(kind)
    return template.format_map(dict(context)) if template is not None else str(error["msg"])


def merge_problems(*groups: Iterable[Problem]) -> list[Problem]:
    """All problems in order, without a second one for the same place and message."""
    seen: set[tuple[FieldPath, str]] = set()
    merged: list[Problem] = []
    for group in groups:
        for problem in group:
            key = (problem.path, problem.message)
            if key not in seen:
                seen.add(key)
                merged.append(problem)
    return merged
