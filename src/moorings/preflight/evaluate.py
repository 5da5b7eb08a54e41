"""What an expression about paths is worth, told from its text: `os.path.join`, `Path`, f-strings and the like over known
variables of the environment. Pure; knows neither the disk nor statements.

It computes with the same functions as the real thing, so a value is either right or `UNKNOWN`.
"""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Final, Protocol


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()
"""A value that the text does not tell."""

Value = Any
"""A str, PurePosixPath, int, bool, None, a list or tuple of values, Opened, or UNKNOWN."""


@dataclass(frozen=True)
class Opened:
    """A file that was opened to be read."""

    path: str


LONGEST = 4096
"""Characters of a text that is computed."""


class Files(Protocol):
    """What is known of the files that an instance will see."""

    def kind(self, path: str) -> str | None:
        """`file`, `folder` or `missing`; None where it is not known."""


@dataclass(frozen=True)
class Aliases:
    """What names at the top level of a file stand for: `osp` -> `os.path`, `join` -> `os.path.join`."""

    names: Mapping[str, str]

    @staticmethod
    def of(tree: ast.AST) -> Aliases:
        """From all imports of a file, wherever they stand."""
        found: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    found[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return Aliases(found)

    def dotted(self, expression: ast.expr) -> str | None:
        """The full name of a function or module; None for what is none (a local variable's method, say)."""
        parts: list[str] = []
        while isinstance(expression, ast.Attribute):
            parts.append(expression.attr)
            expression = expression.value
        if not isinstance(expression, ast.Name):
            return None
        first = self.names.get(expression.id)
        if first is None:
            return None if parts else expression.id
        return ".".join([first, *reversed(parts)]).replace("posixpath", "os.path", 1)


OnCall = Callable[[ast.Call, Value, list[Value], dict[str, Value]], Value]


@dataclass
class Evaluator:
    """`variables`: of the environment, as far as they are known; `scope`: local and global names -> values."""

    aliases: Aliases
    variables: Mapping[str, str]
    scope: dict[str, Value] = field(default_factory=dict)
    files: Files | None = None
    on_call: OnCall | None = None
    """Told of every call: the object whose method it is (or UNKNOWN), arguments and keyword arguments. What it answers
    is the value of a call that is none of the functions known here."""

    def value(self, node: ast.expr | None) -> Value:
        """What the expression is worth. Looks at every part of it, whatever the outcome."""
        if node is None:
            return UNKNOWN
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self.value(child)
            return UNKNOWN
        return _bounded(method(node))

    # --- the kinds of expressions ---

    def _constant(self, node: ast.Constant) -> Value:
        return node.value if isinstance(node.value, str | int | bool | None) else UNKNOWN

    def _name(self, node: ast.Name) -> Value:
        return self.scope.get(node.id, UNKNOWN)

    def _starred(self, node: ast.Starred) -> Value:
        return self.value(node.value)

    def _list(self, node: ast.List | ast.Tuple) -> Value:
        return self._items(node.elts)

    def _tuple(self, node: ast.Tuple) -> Value:
        found = self._items(node.elts)
        return tuple(found) if isinstance(found, list) else UNKNOWN

    def _items(self, nodes: list[ast.expr]) -> Value:
        found: list[Value] = []
        for node in nodes:
            value = self.value(node)
            if not isinstance(node, ast.Starred):
                found.append(value)
            elif isinstance(value, list | tuple):
                found.extend(value)
            else:
                return UNKNOWN
        return found

    def _joinedstr(self, node: ast.JoinedStr) -> Value:
        parts = [self._formatted(part) for part in node.values]
        return UNKNOWN if any(part is UNKNOWN for part in parts) else "".join(parts)

    def _formatted(self, part: ast.expr) -> Value:
        if isinstance(part, ast.Constant):
            return part.value
        assert isinstance(part, ast.FormattedValue)
        value = self.value(part.value)
        if part.format_spec is not None:
            self.value(part.format_spec)
            return UNKNOWN
        if not _plain(value) or part.conversion not in (-1, ord("s")):
            return UNKNOWN
        return str(value)

    def _binop(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        if left is UNKNOWN or right is UNKNOWN:
            return UNKNOWN
        try:
            if isinstance(node.op, ast.Div) and PurePosixPath in (type(left), type(right)):
                return left / right
            if isinstance(node.op, ast.Add) and isinstance(left, str) and isinstance(right, str):
                return left + right
            if isinstance(node.op, ast.Mod) and isinstance(left, str) and _all_plain(right):
                return left % right
        except (TypeError, ValueError, KeyError):
            return UNKNOWN
        return UNKNOWN

    def _boolop(self, node: ast.BoolOp) -> Value:
        """`a or b`: the first that decides. What stands behind one that is not known may not be reached."""
        stop = isinstance(node.op, ast.Or)
        value: Value = UNKNOWN
        for each in node.values:
            value = self.value(each)
            if value is UNKNOWN:
                return UNKNOWN
            if bool(value) is stop:
                return value
        return value

    def _unaryop(self, node: ast.UnaryOp) -> Value:
        value = self.value(node.operand)
        return (not value) if isinstance(node.op, ast.Not) and value is not UNKNOWN else UNKNOWN

    def _ifexp(self, node: ast.IfExp) -> Value:
        test = self.value(node.test)
        if test is UNKNOWN:
            return UNKNOWN
        return self.value(node.body if test else node.orelse)

    def _namedexpr(self, node: ast.NamedExpr) -> Value:
        value = self.value(node.value)
        self.scope[node.target.id] = value
        return value

    def _compare(self, node: ast.Compare) -> Value:
        left = self.value(node.left)
        if len(node.ops) != 1:
            return UNKNOWN
        operator, other = node.ops[0], node.comparators[0]
        if isinstance(operator, ast.In | ast.NotIn) and self.aliases.dotted(other) == "os.environ":
            if not isinstance(left, str) or left not in self.variables:
                return UNKNOWN
            return isinstance(operator, ast.In)
        right = self.value(other)
        if left is UNKNOWN or right is UNKNOWN:
            return UNKNOWN
        if isinstance(operator, ast.Eq | ast.NotEq):
            return (left == right) is isinstance(operator, ast.Eq)
        if isinstance(operator, ast.Is | ast.IsNot) and (left is None or right is None):
            return (left is right) is isinstance(operator, ast.Is)
        return UNKNOWN

    def _subscript(self, node: ast.Subscript) -> Value:
        key = self.value(node.slice)
        if self.aliases.dotted(node.value) == "os.environ":
            return self.variables.get(key, UNKNOWN) if isinstance(key, str) else UNKNOWN
        holder = self.value(node.value)
        if isinstance(holder, list | tuple) and isinstance(key, int) and -len(holder) <= key < len(holder):
            return holder[key]
        return UNKNOWN

    def _attribute(self, node: ast.Attribute) -> Value:
        dotted = self.aliases.dotted(node)
        if dotted in _CONSTANTS:
            return _CONSTANTS[dotted]
        holder = self.value(node.value)
        if isinstance(holder, PurePosixPath) and node.attr in _PATH_ATTRIBUTES:
            return getattr(holder, node.attr)
        return UNKNOWN

    def _call(self, node: ast.Call) -> Value:
        function = node.func
        method = isinstance(function, ast.Attribute) and self.aliases.dotted(function) is None
        holder = self.value(function.value) if method and isinstance(function, ast.Attribute) else UNKNOWN
        arguments = self._items(node.args)
        words = {word.arg: self.value(word.value) for word in node.keywords if word.arg is not None}
        for word in node.keywords:
            if word.arg is None:
                self.value(word.value)
        if arguments is UNKNOWN:
            arguments = [UNKNOWN]
        told = self.on_call(node, holder, arguments, words) if self.on_call is not None else UNKNOWN
        try:
            computed = self._computed(node, holder, arguments, words)
        except (TypeError, ValueError, IndexError, KeyError):
            computed = UNKNOWN
        return told if computed is UNKNOWN else computed

    # --- the functions that are known ---

    def _computed(
        self, node: ast.Call, holder: Value, arguments: list[Value], words: dict[str, Value]
    ) -> Value:
        dotted = self.aliases.dotted(node.func)
        if dotted in ("os.getenv", "os.environ.get"):
            return self._variable(arguments, words)
        if any(value is UNKNOWN for value in (*arguments, *words.values())):
            return UNKNOWN
        function = _FUNCTIONS.get(dotted or "")
        if function is not None and not words and _all_plain(tuple(arguments)):
            return function(*arguments)
        if dotted in _TESTS and len(arguments) == 1 and not words:
            return self._test(_TESTS[dotted], arguments[0])
        if isinstance(node.func, ast.Attribute) and holder is not UNKNOWN:
            return self._method(node.func.attr, holder, arguments, words)
        return UNKNOWN

    def _variable(self, arguments: list[Value], words: dict[str, Value]) -> Value:
        """What is not known here may still be set there: a default says nothing."""
        name = arguments[0] if arguments else words.get("key", UNKNOWN)
        return self.variables.get(name, UNKNOWN) if isinstance(name, str) else UNKNOWN

    def _test(self, wanted: str, path: Value) -> Value:
        if self.files is None or not isinstance(path, str | PurePosixPath):
            return UNKNOWN
        kind = self.files.kind(str(path))
        return UNKNOWN if kind is None else kind in (("file", "folder") if wanted == "any" else (wanted,))

    def _method(self, name: str, holder: Value, arguments: list[Value], words: dict[str, Value]) -> Value:
        if isinstance(holder, str) and name in _TEXT_METHODS:
            if name == "join":
                return holder.join(arguments[0])
            if name == "format" and _all_plain((*arguments, *words.values())):
                return _format(holder, arguments, words)
            if name != "format" and not words and _all_texts(arguments):
                return getattr(holder, name)(*arguments)
        if isinstance(holder, PurePosixPath) and not words:
            if name in _PATH_METHODS and _all_plain(tuple(arguments)):
                return getattr(holder, name)(*arguments)
            if name in _SAME_PATH and not arguments:
                absolute = _absolute(str(holder))
                return UNKNOWN if absolute is UNKNOWN else PurePosixPath(absolute)
            if name in _PATH_TESTS and not arguments:
                return self._test(_PATH_TESTS[name], holder)
        return UNKNOWN


def _join(*parts: Any) -> str:
    if not all(isinstance(part, str | PurePosixPath) for part in parts):
        raise TypeError("paths are expected")
    return posixpath.join(*map(str, parts))


def _on_texts(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(value: Any) -> Any:
        if not isinstance(value, str | PurePosixPath):
            raise TypeError("a path is expected")
        return function(str(value))

    return call


def _split(path: str) -> tuple[str, ...]:
    return posixpath.split(path)


def _splitext(path: str) -> tuple[str, ...]:
    return posixpath.splitext(path)


def _absolute(path: str) -> Value:
    """Relative ones depend on the folder a process runs in."""
    return posixpath.normpath(path) if path.startswith("/") else UNKNOWN


def _path(*parts: Any) -> PurePosixPath:
    return PurePosixPath(*parts)


def _text(value: Any = "") -> str:
    return str(value)


def _format(text: str, arguments: list[Value], words: dict[str, Value]) -> Value:
    """Plain `{}`, `{0}` and `{name}`; anything else in braces is not followed."""
    fields = text.replace("{{", "").replace("}}", "")
    inner = [part.partition("}")[0] for part in fields.split("{")[1:]]
    if not all(name == "" or name.isdigit() or name.isidentifier() for name in inner):
        return UNKNOWN
    return text.format(*arguments, **words)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "os.path.join": _join,
        "os.path.normpath": _on_texts(posixpath.normpath),
        "os.path.abspath": _on_texts(_absolute),
        "os.path.realpath": _on_texts(_absolute),
        "os.path.dirname": _on_texts(posixpath.dirname),
        "os.path.basename": _on_texts(posixpath.basename),
        "os.path.split": _on_texts(_split),
        "os.path.splitext": _on_texts(_splitext),
        "os.fspath": _on_texts(str),
        "pathlib.Path": _path,
        "pathlib.PurePath": _path,
        "pathlib.PosixPath": _path,
        "pathlib.PurePosixPath": _path,
        "str": _text,
    }
)
_TESTS: Mapping[str | None, str] = MappingProxyType(
    {"os.path.exists": "any", "os.path.isfile": "file", "os.path.isdir": "folder"}
)
_PATH_TESTS: Mapping[str, str] = MappingProxyType({"exists": "any", "is_file": "file", "is_dir": "folder"})
_CONSTANTS: Mapping[str | None, str] = MappingProxyType({"os.sep": "/", "os.path.sep": "/"})
_PATH_ATTRIBUTES = frozenset({"parent", "name", "stem", "suffix"})
_PATH_METHODS = frozenset({"joinpath", "with_name", "with_suffix", "with_stem", "as_posix"})
_SAME_PATH = frozenset({"resolve", "absolute"})
_TEXT_METHODS = frozenset({"format", "join", "strip", "rstrip", "lstrip", "lower", "upper", "replace"})


def _plain(value: Value) -> bool:
    return isinstance(value, str | int | PurePosixPath) and not isinstance(value, bool)


def _all_plain(values: Value) -> bool:
    return all(map(_plain, values)) if isinstance(values, tuple | list) else _plain(values)


def _all_texts(values: list[Value]) -> bool:
    return all(isinstance(value, str) for value in values)


def _bounded(value: Value) -> Value:
    """A text that grows beyond any path is not followed."""
    too_long = isinstance(value, str | list | tuple) and len(value) > LONGEST
    return UNKNOWN if too_long else value
