"""A Python file of the user as a syntax tree, or the one finding why it is none. Pure: it is given the bytes, and runs
nothing of them."""

from __future__ import annotations

import ast
import platform
import re
import sys
import warnings
from dataclasses import dataclass

from moorings.errors.sentence import sentence
from moorings.preflight.findings import Finding, Place, Severity, finding, line_evidence

_NEWER = re.compile(
    r"""\b[rRbB]?[fFtT][rR]?['"]|^\s*type\s+\w|\b(?:def|class)\s+\w+\s*\[|^\s*except\b""", re.MULTILINE
)
"""What the line of an error has in it that a newer Python may take: f-strings within one another, `type X = ...`, type
parameters, `except A, B:`, t-strings."""


@dataclass(frozen=True)
class Source:
    """A file that was parsed."""

    name: str
    """As the user would name it."""
    tree: ast.Module
    lines: tuple[str, ...]

    def place(self, node: ast.AST) -> Place:
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        # The tree counts bytes.
        return Place(self.name, line, len(text.encode()[:column].decode(errors="replace")) + 1)

    def evidence(self, node: ast.AST) -> tuple[str, ...]:
        place = self.place(node)
        assert place.line is not None
        text = self.lines[place.line - 1] if place.line <= len(self.lines) else ""
        return line_evidence(place.line, place.column, text)


def parse(data: bytes, name: str, *, again: str, python: str = "") -> Source | Finding:
    """The tree of a file called `name`. `again`: what to type once it is put right; `python`: version the environment
    will have (`3.12`), where it is known: what a newer one would take may be no error there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in the user's script is no news at deploy time
            tree = ast.parse(data, filename=name, feature_version=_features(python))
    except SyntaxError as wrong:
        return _syntax(wrong, name, again, python)
    except (ValueError, RecursionError, MemoryError) as wrong:  # NUL bytes; deeper than the parser goes
        message = f"{name}: {wrong or type(wrong).__name__}"
        return _finding(message, Place(name), (), again)
    return Source(name, tree, tuple(_text(data).splitlines()))


def _syntax(wrong: SyntaxError, name: str, again: str, python: str) -> Finding:
    line, column = wrong.lineno or 1, wrong.offset or 1
    text = wrong.text or ""
    newer = bool(python) and _minor(python) > sys.version_info[:2] and _NEWER.search(text) is not None
    place = Place(name, line, column)
    return _finding(f"{name}:{line}: {wrong.msg}", place, line_evidence(line, column, text), again, newer)


def _finding(
    message: str, place: Place, evidence: tuple[str, ...], again: str, newer: bool = False
) -> Finding:
    """An error, but for what may be right in the newer Python of the environment."""
    ours = platform.python_version()
    fix = sentence(
        "Correct the line shown, then: {again}   "
        "(if it is written for a newer Python than {ours}: add --skip-script-validation)",
        again=again,
        ours=ours,
    )
    if newer:
        message += f" (looked at with Python {ours}, which is older than the environment's)"
    severity = Severity.WARNING if newer else Severity.ERROR
    return finding(severity, "UserScriptSyntaxError", message, place=place, evidence=evidence, fix=fix)


def _features(python: str) -> tuple[int, int] | None:
    """The Python whose syntax is taken: not more than the environment's has."""
    wanted = _minor(python)
    older = len(wanted) == 2 and (3, 0) <= wanted < sys.version_info[:2]
    return (wanted[0], wanted[1]) if older else None


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _text(data: bytes) -> str:
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
