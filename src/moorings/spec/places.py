"""Where each key and value of an input stands, and the raw text of its plain scalars. Values only; reads
nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from moorings.spec.problems import FieldPath, Located, path_text

V = TypeVar("V")

SHOWN_LINE = 160
"""Characters of an offending line that are shown as evidence."""


@dataclass(frozen=True)
class Source:
    """A text that was read, by the name the user gave it."""

    name: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """A character of a source; line and column count from 1. Without a line the whole source is meant (`--set
    a=b`)."""

    source: Source
    line: int | None = None
    column: int = 1

    def __str__(self) -> str:
        return self.source.name if self.line is None else f"{self.source.name}:{self.line}:{self.column}"

    def evidence(self) -> tuple[str, ...]:
        """The offending line and a caret under its column; nothing where there is no line."""
        if self.line is None or not 1 <= self.line <= len(self.source.lines):
            return ()
        text = self.source.lines[self.line - 1]
        start = 0 if self.column <= SHOWN_LINE // 2 else self.column - SHOWN_LINE // 2
        cut = "".join(c if c.isprintable() else " " for c in text[start : start + SHOWN_LINE])
        gutter = f"{self.line} | "
        return (f"{gutter}{cut}", " " * (len(gutter) + self.column - 1 - start) + "^")


@dataclass
class Places:
    """Places by field path. Filled while a document is put together, only read afterwards."""

    root: Place
    keys: dict[FieldPath, Place] = field(default_factory=dict)
    values: dict[FieldPath, Place] = field(default_factory=dict)
    raw: dict[FieldPath, str] = field(default_factory=dict)
    """Text of plain scalars that YAML took for something else than text: `1.10`, `yes`, `2024-01-01`."""

    def forget(self, path: FieldPath) -> None:
        """Drop what is known at and below `path`."""
        for table in (self.keys, self.values, self.raw):
            for known in [p for p in table if p[: len(path)] == path]:
                del table[known]

    def graft(self, path: FieldPath, other: Places) -> None:
        """Take over the places of another document that now stands at `path`."""
        key = self.keys.get(path)
        self.forget(path)
        if key is not None:
            self.keys[path] = key
        self.values[path] = other.root
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            mine.update({path + p: place for p, place in theirs.items()})
        self.raw.update({path + p: text for p, text in other.raw.items()})

    def move(self, old: FieldPath, new: FieldPath) -> None:
        """What stood at and below `old` stands at `new` now."""
        for table in (self.keys, self.values):
            _move(table, old, new)
        _move(self.raw, old, new)

    def below(self, path: FieldPath) -> Places:
        """The places of what stands at `path`, as those of a document of its own."""
        inner = Places(self.find(path))
        for mine, theirs in ((self.keys, inner.keys), (self.values, inner.values)):
            theirs.update(
                {p[len(path) :]: at for p, at in mine.items() if p[: len(path)] == path and p != path}
            )
        inner.raw.update({p[len(path) :]: text for p, text in self.raw.items() if p[: len(path)] == path})
        return inner

    def find(self, path: FieldPath, *, on_key: bool = False) -> Place:
        """The place of the value (or key) at `path`, or of its nearest parent that is in the input."""
        for depth, known in _upwards(path):
            exact = depth == len(path)
            order = (self.keys, self.values) if on_key or not exact else (self.values, self.keys)
            for table in order:
                if known in table:
                    return table[known]
        return self.root

    def locate(self, path: FieldPath, *, on_key: bool = False, name: str | None = None) -> Located:
        """Where `path` stands, under the `name` that users know it by (else its own)."""
        place = self.find(path, on_key=on_key)
        name = path_text(path) if name is None else name
        # What is missing at the top has no line of its own to show.
        known = path[:1] in self.values or path[:1] in self.keys
        return Located(f"{place} {name}".rstrip(), place.evidence() if known else ())


def _move(table: dict[FieldPath, V], old: FieldPath, new: FieldPath) -> None:
    for path in [p for p in table if p[: len(old)] == old]:
        table[new + path[len(old) :]] = table.pop(path)


def _upwards(path: FieldPath) -> Iterator[tuple[int, FieldPath]]:
    for depth in range(len(path), 0, -1):
        yield depth, path[:depth]
