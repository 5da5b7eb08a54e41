"""A Python file of the user as a syntax tree, or the one finding why it is none. Pure: it is given the bytes, and runs
nothing of them."""

from __future__ import annotations

import ast
import platform
import warnings
from dataclasses import dataclass

from moorings.preflight.findings import Finding, Place, Severity, finding, line_evidence


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
            tree = ast.parse(data, filename=name)
    except SyntaxError as wrong:
        return _syntax(wrong, name, again, python)
    except (ValueError, RecursionError, MemoryError) as wrong:  # NUL bytes; deeper than the parser goes
        message = f"{name}: {wrong or type(wrong).__name__}"
        return _finding(message, Place(name), (), again, python)
    return Source(name, tree, tuple(_text(data).splitlines()))


def _syntax(wrong: SyntaxError, name: str, again: str, python: str) -> Finding:
    line, column = wrong.lineno or 1, wrong.offset or 1
    place = Place(name, line, column)
    evidence = line_evidence(line, column, wrong.text or "")
    return _finding(f"{name}:{line}: {wrong.msg}", place, evidence, again, python)


def _finding(message: str, place: Place, evidence: tuple[str, ...], again: str, python: str) -> Finding:
    """An error, but for a script that is meant for a newer Python than the one that looks at it."""
    ours = platform.python_version()
    newer = bool(python) and _minor(python) > _minor(ours)
    fix = f"Correct the line shown, then: {again}"
    if newer:
        message += f" (looked at with Python {ours}; the environment has {python})"
    severity = Severity.WARNING if newer else Severity.ERROR
    return finding(severity, "UserScriptSyntaxError", message, place=place, evidence=evidence, fix=fix)


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _text(data: bytes) -> str:
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
