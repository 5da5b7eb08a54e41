"""What a condition in a script comes to on the machine that serves it, as far as its text tells. Pure.

Only what is the same for every instance is told: the Python of the environment, Linux, that nobody checks types, and that
the script is imported and not run.
"""

from __future__ import annotations

import ast
from typing import Any, Final

PLATFORM: Final = {"sys.platform": "linux", "os.name": "posix", "platform.system": "Linux"}
_REST: Final = float("inf")
"""Stands for the parts of a version that are there and not told: (3, 11, ...) is more than (3, 11)."""
_ASKING = frozenset({"find_spec", "find_loader", "version_info", "modules", "get_ipython", "PY2", "PY3"})
"""Words of a condition that asks whether something is there, before it is imported."""


def told(test: ast.expr, python: str) -> bool | None:
    """Whether the condition holds; None where that is not told. `python`: version of the environment (`3.12`), or empty."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if last(test) == "TYPE_CHECKING":
        return False
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = told(test.operand, python)
        return None if inner is None else not inner
    if isinstance(test, ast.BoolOp):
        return _several([told(each, python) for each in test.values], stop=isinstance(test.op, ast.Or))
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return _compared(test.left, test.ops[0], test.comparators[0], python)
    if isinstance(test, ast.Call) and isinstance(test.func, ast.Attribute) and test.func.attr == "startswith":
        value = PLATFORM.get(_dotted(test.func.value))
        given = [each.value for each in test.args if isinstance(each, ast.Constant)]
        return value.startswith(str(given[0])) if value is not None and len(given) == 1 else None
    return None


def asks(test: ast.expr) -> bool:
    """Whether the condition itself asks if something is there, so that what stands behind it is as good as tried."""
    return any(
        last(node) in _ASKING
        or (isinstance(node, ast.Call) and last(node.func).endswith(("available", "installed")))
        for node in ast.walk(test)
        if isinstance(node, ast.expr)
    )


def last(expression: ast.expr) -> str:
    """The last name of a dotted expression; empty for any other."""
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def _several(found: list[bool | None], *, stop: bool) -> bool | None:
    if stop in found:
        return stop
    return None if None in found else not stop


def _compared(left: ast.expr, operator: ast.cmpop, right: ast.expr, python: str) -> bool | None:
    try:
        wanted = ast.literal_eval(right)
    except ValueError:
        return None
    if last(left) == "__name__" and wanted == "__main__":
        return isinstance(operator, ast.NotEq)
    value: Any = PLATFORM.get(_dotted(left.func if isinstance(left, ast.Call) else left))
    if value is None:
        value = _version(left, python)
    return None if value is None else _holds(value, operator, wanted)


def _version(left: ast.expr, python: str) -> Any:
    """`sys.version_info`, one part of it or some, as far as major and minor tell."""
    parts = tuple(int(part) for part in python.split(".")[:2] if part.isdigit())
    if len(parts) < 2:
        return None
    if last(left) == "version_info":
        return (*parts, _REST)
    if isinstance(left, ast.Attribute) and last(left.value) == "version_info":
        return {"major": parts[0], "minor": parts[1]}.get(left.attr)
    if isinstance(left, ast.Subscript) and last(left.value) == "version_info":
        index, upper = left.slice, getattr(left.slice, "upper", None)
        if isinstance(index, ast.Constant) and isinstance(index.value, int):
            return parts[index.value] if index.value in (0, 1) else None
        if isinstance(index, ast.Slice) and index.lower is None and isinstance(upper, ast.Constant):
            return parts[: upper.value] if isinstance(upper.value, int) else None
    return None


def _holds(value: Any, operator: ast.cmpop, wanted: Any) -> bool | None:
    if isinstance(value, tuple) and isinstance(wanted, tuple) and _REST in value:
        known = len(value) - 1
        if len(wanted) > known and wanted[:known] == value[:known]:
            return None  # a patch release
    try:
        match operator:
            case ast.Eq():
                return bool(value == wanted)
            case ast.NotEq():
                return bool(value != wanted)
            case ast.Lt():
                return bool(value < wanted)
            case ast.LtE():
                return bool(value <= wanted)
            case ast.Gt():
                return bool(value > wanted)
            case ast.GtE():
                return bool(value >= wanted)
            case ast.In():
                return bool(value in wanted)
            case ast.NotIn():
                return bool(value not in wanted)
    except TypeError:
        return None
    return None


def _dotted(expression: ast.expr) -> str:
    if isinstance(expression, ast.Attribute) and isinstance(expression.value, ast.Name):
        return f"{expression.value.id}.{expression.attr}"
    return ""
