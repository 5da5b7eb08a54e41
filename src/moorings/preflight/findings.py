"""What a check found: a coded failure, how bad it is, and where it stands. Values only: decides nothing, reads nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from moorings.errors.exceptions import Failure, failure
from moorings.errors.sentence import Sentence

_POSITION = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?(?: (?P<field>.+))?", re.DOTALL)
_FILE_ENDINGS = (".yml", ".yaml", ".py", ".json", ".txt")


class Severity(StrEnum):
    ERROR = "error"
    """It cannot work: nothing is sent."""
    WARNING = "warning"
    """It may well fail, or cannot be told from here."""


@dataclass(frozen=True)
class Place:
    """Where in a file something stands; lines and columns count from 1."""

    file: str
    """As the user would name it; empty where only the field is known."""
    line: int | None = None
    column: int | None = None
    field: str | None = None
    """Path of the key in a spec, such as `environment.conda_file.dependencies[2]`."""

    def __str__(self) -> str:
        position = "".join(f":{part}" for part in (self.line, self.column) if part is not None)
        return f"{self.file}{position} {self.field or ''}".strip()

    @staticmethod
    def parse(text: str) -> Place:
        """The inverse of `str`, which is also how failures of specs name their place."""
        found = _POSITION.fullmatch(text)
        if found is None:
            return Place(text) if text.endswith(_FILE_ENDINGS) else Place("", field=text)
        column = found["column"]
        return Place(found["file"], int(found["line"]), int(column) if column else None, found["field"])


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or doubtful."""

    severity: Severity
    failure: Failure
    place: Place | None = None

    def to_json(self, language: str) -> dict[str, Any]:
        """With the fix in that language."""
        place = self.place or Place("")
        return {
            "severity": self.severity.value,
            "code": self.failure.code,
            "message": self.failure.message,
            "file": place.file or None,
            "line": place.line,
            "column": place.column,
            "field": place.field,
            "evidence": list(self.failure.evidence),
            "fix": self.failure.remedy.said(language),
        }


def finding(
    severity: Severity,
    code: str,
    message: str,
    *,
    place: Place | None = None,
    evidence: Sequence[str] = (),
    fix: Sentence | None = None,
    fields: dict[str, object] | None = None,
) -> Finding:
    """A finding of a catalogue code; its fix is the entry's, filled from `fields`, unless given."""
    target = None if place is None else str(place)
    made = failure(code, message, target=target, evidence=evidence, fields=fields, fix=fix)
    return Finding(severity, made, place)


def of_failure(failed: Failure, severity: Severity = Severity.ERROR) -> list[Finding]:
    """Findings of a failure that was raised: one for each of its details."""
    parts = failed.details or (failed,)
    return [Finding(severity, part, Place.parse(part.target) if part.target else None) for part in parts]


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then by place, each once."""
    unique: dict[tuple[str, str, str], Finding] = {}
    for one in findings:
        unique.setdefault((one.failure.code, str(one.place), one.failure.message), one)
    return sorted(unique.values(), key=_rank)


def _rank(one: Finding) -> tuple[bool, str, int, int]:
    place = one.place or Place("~")
    return one.severity is Severity.WARNING, place.file, place.line or 0, place.column or 0


def line_evidence(line: int | None, column: int | None, text: str) -> tuple[str, ...]:
    """A line of a file with a caret below its column."""
    if line is None or not text.strip():
        return ()
    shown = "".join(c if c.isprintable() else " " for c in text.rstrip("\n"))[:160]
    gutter = f"{line} | "
    if column is None or column > len(shown) + 1:
        return (f"{gutter}{shown}",)
    return (f"{gutter}{shown}", " " * (len(gutter) + column - 1) + "^")
