"""Which modules a Python file imports, and how surely each import runs; whether it changes where modules are found. Pure.

An import surely runs when it stands at the top level, or in `init()`, outside of everything that may be skipped. What is
tried (`try: import x; except ImportError`), meant for type checkers, or left to a condition is not sure to run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from moorings.preflight.conditions import asks, last, told
from moorings.preflight.entry import Function

_GUARDS = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


class Runs(IntEnum):
    """How surely an import runs when an instance starts."""

    NEVER = 0
    """Only for type checkers, or its failure is caught."""
    MAYBE = 1
    """Under a condition, or in a function that may not be called."""
    SURELY = 2


@dataclass(frozen=True)
class Import:
    """One module that is asked for."""

    module: str
    """Dotted, absolute in the sense of the file; empty for `from . import x`."""
    names: tuple[str, ...]
    """What is taken out of it (`from module import names`), each of which may be a module itself."""
    level: int
    """Dots in front."""
    runs: Runs
    node: ast.AST
    function: str | None = None
    """The function it stands in."""

    def at_most(self, runs: Runs) -> Import:
        return replace(self, runs=min(self.runs, runs))


def imports_of(tree: ast.Module, *, entry: bool = False, python: str = "") -> list[Import]:
    """Every import of a file, `importlib.import_module("x")` among them; `entry`: it is the scoring script, whose
    `init()` runs; `python`: version of the environment (`3.12`), where it is known."""
    return list(_block(tree.body, Runs.SURELY, None, entry=entry, python=python))


def moves_the_path(tree: ast.Module) -> bool:
    """Whether it may add folders to `sys.path`, so that modules come from where nobody would look."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("path", "meta_path")
            and last(node.value) == "sys"
        ):
            return True
        if isinstance(node, ast.Call) and last(node.func) == "addsitedir":
            return True
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "sys"
            and any(a.name == "path" for a in node.names)
        ):
            return True
    return False


def _block(
    body: list[ast.stmt], runs: Runs, function: str | None, *, entry: bool, python: str
) -> Iterator[Import]:
    for statement in body:
        yield from _statement(statement, runs, function, entry=entry, python=python)
        if _leaves(statement):
            return


def _statement(
    statement: ast.stmt, runs: Runs, function: str | None, *, entry: bool, python: str
) -> Iterator[Import]:
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            yield Import(alias.name, (), 0, runs, statement, function)
    elif isinstance(statement, ast.ImportFrom):
        names = tuple(alias.name for alias in statement.names if alias.name != "*")
        yield Import(statement.module or "", names, statement.level, runs, statement, function)
    elif isinstance(statement, Function):
        is_init = entry and function is None and statement.name == "init"
        inside = runs if is_init else min(runs, Runs.MAYBE)
        yield from _block(statement.body, inside, statement.name, entry=entry, python=python)
    elif isinstance(statement, ast.ClassDef):
        yield from _block(statement.body, runs, function, entry=entry, python=python)
    elif isinstance(statement, ast.Try | ast.TryStar):
        yield from _try(statement, runs, function, entry=entry, python=python)
    elif isinstance(statement, ast.If):
        yield from _if(statement, runs, function, entry=entry, python=python)
    elif isinstance(statement, ast.With | ast.AsyncWith):
        inside = Runs.NEVER if any(_suppresses(item.context_expr) for item in statement.items) else runs
        yield from _block(statement.body, min(runs, inside), function, entry=entry, python=python)
    elif isinstance(statement, ast.For | ast.AsyncFor | ast.While):
        yield from _block(statement.body, min(runs, Runs.MAYBE), function, entry=entry, python=python)
        yield from _block(statement.orelse, min(runs, Runs.MAYBE), function, entry=entry, python=python)
    elif isinstance(statement, ast.Match):
        for case in statement.cases:
            yield from _block(case.body, min(runs, Runs.MAYBE), function, entry=entry, python=python)
    else:
        yield from _dynamic(statement, runs, function)


def _try(
    statement: ast.Try | ast.TryStar, runs: Runs, function: str | None, *, entry: bool, python: str
) -> Iterator[Import]:
    guarded = any(_catches(handler) for handler in statement.handlers)
    inside = Runs.NEVER if guarded else runs
    yield from _block(statement.body, min(runs, inside), function, entry=entry, python=python)
    for handler in statement.handlers:
        yield from _block(handler.body, min(runs, Runs.MAYBE), function, entry=entry, python=python)
    # What comes after an import that worked is as good as tried with it.
    yield from _block(statement.orelse, min(runs, inside), function, entry=entry, python=python)
    yield from _block(statement.finalbody, runs, function, entry=entry, python=python)


def _if(statement: ast.If, runs: Runs, function: str | None, *, entry: bool, python: str) -> Iterator[Import]:
    test, holds = statement.test, told(statement.test, python)
    inside = otherwise = Runs.NEVER if asks(test) else Runs.MAYBE
    if holds is not None:
        inside, otherwise = (runs, Runs.NEVER) if holds else (Runs.NEVER, runs)
    yield from _block(statement.body, min(runs, inside), function, entry=entry, python=python)
    yield from _block(statement.orelse, min(runs, otherwise), function, entry=entry, python=python)


def _dynamic(statement: ast.stmt, runs: Runs, function: str | None) -> Iterator[Import]:
    """`importlib.import_module("x")` and `__import__("x")`."""
    for node in ast.walk(statement):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = node.args[0]
        if name not in ("import_module", "__import__") or not isinstance(given, ast.Constant):
            continue
        if isinstance(given.value, str) and given.value and not given.value.startswith("."):
            yield Import(given.value, (), 0, min(runs, Runs.MAYBE), node, function)


def _leaves(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Return | ast.Raise)


def _catches(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        caught = True
    else:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        caught = any(last(kind) in _GUARDS for kind in kinds)
    # A handler that raises again guards nothing.
    return caught and not any(isinstance(last, ast.Raise) for last in handler.body[-1:])


def _suppresses(expression: ast.expr) -> bool:
    if not isinstance(expression, ast.Call) or last(expression.func) != "suppress":
        return False
    return any(last(argument) in _GUARDS for argument in expression.args)
