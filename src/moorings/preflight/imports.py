"""Which modules a Python file imports, and how surely each import runs. Pure.

An import surely runs when it stands at the top level, or in `init()`, outside of everything that may be skipped. What is
tried (`try: import x; except ImportError`), meant for type checkers, or left to a condition is not sure to run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

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


def imports_of(tree: ast.Module, *, entry: bool = False) -> list[Import]:
    """Every import of a file, `importlib.import_module("x")` among them; `entry`: it is the scoring script, whose
    `init()` runs."""
    return list(_block(tree.body, Runs.SURELY, None, entry=entry))


def _block(body: list[ast.stmt], runs: Runs, function: str | None, *, entry: bool) -> Iterator[Import]:
    for statement in body:
        yield from _statement(statement, runs, function, entry=entry)
        if _leaves(statement):
            return


def _statement(statement: ast.stmt, runs: Runs, function: str | None, *, entry: bool) -> Iterator[Import]:
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            yield Import(alias.name, (), 0, runs, statement, function)
    elif isinstance(statement, ast.ImportFrom):
        names = tuple(alias.name for alias in statement.names if alias.name != "*")
        yield Import(statement.module or "", names, statement.level, runs, statement, function)
    elif isinstance(statement, Function):
        is_init = entry and function is None and statement.name == "init"
        inside = runs if is_init else min(runs, Runs.MAYBE)
        yield from _block(statement.body, inside, statement.name, entry=entry)
    elif isinstance(statement, ast.ClassDef):
        yield from _block(statement.body, runs, function, entry=entry)
    elif isinstance(statement, ast.Try | ast.TryStar):
        yield from _try(statement, runs, function, entry=entry)
    elif isinstance(statement, ast.If):
        yield from _if(statement, runs, function, entry=entry)
    elif isinstance(statement, ast.With | ast.AsyncWith):
        inside = Runs.NEVER if any(_suppresses(item.context_expr) for item in statement.items) else runs
        yield from _block(statement.body, min(runs, inside), function, entry=entry)
    elif isinstance(statement, ast.For | ast.AsyncFor | ast.While):
        yield from _block(statement.body, min(runs, Runs.MAYBE), function, entry=entry)
        yield from _block(statement.orelse, min(runs, Runs.MAYBE), function, entry=entry)
    elif isinstance(statement, ast.Match):
        for case in statement.cases:
            yield from _block(case.body, min(runs, Runs.MAYBE), function, entry=entry)
    else:
        yield from _dynamic(statement, runs, function)


def _try(
    statement: ast.Try | ast.TryStar, runs: Runs, function: str | None, *, entry: bool
) -> Iterator[Import]:
    guarded = any(_catches(handler) for handler in statement.handlers)
    inside = Runs.NEVER if guarded else runs
    yield from _block(statement.body, min(runs, inside), function, entry=entry)
    for handler in statement.handlers:
        yield from _block(handler.body, min(runs, Runs.MAYBE), function, entry=entry)
    yield from _block(statement.orelse, min(runs, Runs.MAYBE if guarded else runs), function, entry=entry)
    yield from _block(statement.finalbody, runs, function, entry=entry)


def _if(statement: ast.If, runs: Runs, function: str | None, *, entry: bool) -> Iterator[Import]:
    inside, otherwise = Runs.MAYBE, Runs.MAYBE
    if _is_type_checking(statement.test):
        inside, otherwise = Runs.NEVER, runs
    elif _is_main(statement.test):
        inside = Runs.NEVER
    elif isinstance(statement.test, ast.Constant):
        inside, otherwise = (runs, Runs.NEVER) if statement.test.value else (Runs.NEVER, runs)
    yield from _block(statement.body, min(runs, inside), function, entry=entry)
    yield from _block(statement.orelse, min(runs, otherwise), function, entry=entry)


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
        caught = any(_last(kind) in _GUARDS for kind in kinds)
    # A handler that raises again guards nothing.
    return caught and not any(isinstance(last, ast.Raise) for last in handler.body[-1:])


def _suppresses(expression: ast.expr) -> bool:
    if not isinstance(expression, ast.Call) or _last(expression.func) != "suppress":
        return False
    return any(_last(argument) in _GUARDS for argument in expression.args)


def _is_type_checking(test: ast.expr) -> bool:
    return _last(test) == "TYPE_CHECKING"


def _is_main(test: ast.expr) -> bool:
    return (
        isinstance(test, ast.Compare)
        and _last(test.left) == "__name__"
        and len(test.comparators) == 1
        and isinstance(test.comparators[0], ast.Constant)
        and test.comparators[0].value == "__main__"
    )


def _last(expression: ast.expr) -> str:
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""
