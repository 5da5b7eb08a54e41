"""The exceptions that carry a catalogue code.

    MooringsError            one coded failure, with message, evidence and fix
      SpecInvalid            several problems of one input at once (its `details`)

Layers pass `Failure` values to one another (they can be stored and sent); they raise only inside a layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from moorings.errors.catalogue import CATALOGUE
from moorings.errors.entry import Entry
from moorings.errors.find import canonical
from moorings.errors.sentence import NOTHING, Sentence, verbatim


class Confidence(StrEnum):
    """How sure a verdict is that was found from evidence."""

    CERTAIN = "certain"
    """Whoever failed said so itself: an exception, the kernel, the installer."""
    LIKELY = "likely"
    """The evidence fits this and nothing else that is known."""
    POSSIBLE = "possible"
    """The best that can be said with what there is."""


@dataclass(frozen=True)
class Failure:
    """A failure as a value: what, the evidence, the exact fix. JSON-safe through `to_json` / `from_json`;
    a code that was stored by an older version becomes the one of today."""

    code: str
    message: str
    target: str | None = None
    """Field path, file:line or resource the failure is about."""
    evidence: tuple[str, ...] = ()
    """Lines that prove it: log lines, file:line, figures. Oldest first, at most a screenful."""
    remedy: Sentence = NOTHING
    """What to do: a command or an edit, said in the language of whoever reads it."""
    details: tuple[Failure, ...] = ()
    confidence: str = ""
    """One of `Confidence`; empty where nothing had to be found out."""

    @property
    def fix(self) -> str:
        """The remedy in English."""
        return str(self.remedy)

    @property
    def entry(self) -> Entry:
        return CATALOGUE[self.code]

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "message": self.message,
            "target": self.target,
            "evidence": list(self.evidence),
            "fix": self.fix,
            "remedy": self.remedy.to_json(),
            "details": [d.to_json() for d in self.details],
            **({"confidence": str(self.confidence)} if self.confidence else {}),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Failure:
        return Failure(
            code=canonical(data["code"]),
            message=data["message"],
            target=data.get("target"),
            evidence=tuple(data.get("evidence", ())),
            remedy=Sentence.from_json(data["remedy"]) if "remedy" in data else verbatim(data.get("fix", "")),
            details=tuple(Failure.from_json(d) for d in data.get("details", ())),
            confidence=data.get("confidence", ""),
        )


def failure(
    code: str,
    message: str,
    *,
    target: str | None = None,
    evidence: Sequence[str] = (),
    details: Sequence[Failure] = (),
    fields: Mapping[str, object] | None = None,
    fix: Sentence | None = None,
    confidence: str = "",
) -> Failure:
    """Make a Failure of a catalogue code; its fix is the entry's, filled from `fields`, unless one is given that was
    written for this failure (`sentence`).

    Raises KeyError for a code that is not in the catalogue: a defect of ours, found by the tests.
    """
    fix = fix_of(CATALOGUE[code], fields or {}) if fix is None else fix
    return Failure(code, message, target, tuple(evidence), fix, tuple(details), str(confidence))


def fix_of(entry: Entry, fields: Mapping[str, object]) -> Sentence:
    """The fix of the entry with those of `fields` that it names."""
    return Sentence(
        entry.fix,
        {
            name: value if isinstance(value, Sentence) else str(value)
            for name, value in fields.items()
            if f"{{{name}}}" in entry.fix
        },
        f"{entry.code}.fix",
    )


@dataclass
class MooringsError(Exception):
    """A coded failure on its way to an edge, which turns it into an HTTP answer, a condition or terminal text."""

    failure: Failure = field()

    def __post_init__(self) -> None:
        super().__init__(self.failure.message)

    def __str__(self) -> str:
        return f"({self.failure.code}) {self.failure.message}"


class SpecInvalid(MooringsError):  # noqa: N818 - named as its code
    """One input with one or more problems, each a detail with its file:line and field path."""


def error(code: str, message: str, **kwargs: Any) -> MooringsError:
    """`raise error("EndpointNotFound", "...", fields={...})`: the keyword arguments are those of `failure`."""
    return MooringsError(failure(code, message, **kwargs))
