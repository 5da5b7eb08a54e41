"""What a scoring script does with the paths of its model when an instance starts: its top level and `init()` are followed
statement by statement, over values that the text tells. Pure; nothing of the script runs.

What is under a condition that is not known, in a loop, or in a `try` that catches its failure, is not sure to happen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from moorings.preflight.entry import Function
from moorings.preflight.evaluate import UNKNOWN, Aliases, Evaluator, Files, Opened, Value

DEEPEST = 8
"""Calls of the script's own functions within one another that are followed."""
MOST_STATEMENTS = 20_000
LOADERS = frozenset(
    {"pickle.load", "joblib.load", "cloudpickle.load", "dill.load", "torch.load", "pandas.read_pickle"}
)
"""What makes objects of a saved file: of its path, or of the opened file."""
_SETTERS = frozenset(
    {"os.environ.update", "os.environ.setdefault", "os.environ.pop", "os.putenv", "os.unsetenv"}
)
_EXITS = frozenset({"sys.exit", "exit", "quit"})
_FILE_ERRORS = frozenset(
    {"BaseException", "Exception", "OSError", "IOError", "FileNotFoundError", "IsADirectoryError"}
)


@dataclass(frozen=True)
class Use:
    """A call that is given a path."""

    function: str
    """Last name of what is called: `load` of `joblib.load`."""
    dotted: str | None
    """Its full name, where the imports tell."""
    path: str
    node: ast.Call
    mode: str | None
    """Second argument of `open`, or its `mode`; None when none is given."""
    surely: bool
    owner: bool = False
    """Whether the path is the object whose method is called (`path.read_text()`)."""


@dataclass(frozen=True)
class Load:
    """A call that makes objects of a saved file."""

    dotted: str
    """Such as `joblib.load`."""
    path: str
    node: ast.Call
    surely: bool


@dataclass(frozen=True)
class End:
    """A `raise` or an exit that is surely reached, whatever the circumstances. `function`: that it stands in."""

    node: ast.stmt
    text: str
    function: str | None


@dataclass(frozen=True)
class Lookup:
    """`os.environ["NAME"]` of a variable that is not set."""

    name: str
    node: ast.AST
    surely: bool


@dataclass
class Boot:
    """Follows one script. `unset`: variables that are known not to be there."""

    tree: ast.Module
    variables: Mapping[str, str]
    unset: frozenset[str] = frozenset()
    files: Files | None = None
    uses: list[Use] = field(default_factory=list)
    lookups: list[Lookup] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._functions = {node.name: node for node in self.tree.body if isinstance(node, Function)}
        self._variables: dict[str, Value] = dict(self.variables)
        self._set: set[str] = set()
        self._evaluator = Evaluator(
            Aliases.of(self.tree), self._variables, {}, self.files, on_call=self._called
        )
        self._surely = True
        self._guarded = False
        self._depth = 0
        self._depends = 0
        self._within: str | None = None
        self._left = MOST_STATEMENTS

    def follow(self) -> None:
        """The top level, then `init()`."""
        if not self._block(self.tree.body):
            return
        init = self._functions.get("init")
        if init is not None and not init.decorator_list:
            self._within = "init"
            self._inside(init, {})

    # --- statements ---

    def _block(self, body: list[ast.stmt]) -> bool:
        """Whether the end of the block may be reached."""
        for statement in body:
            self._left -= 1
            if self._left < 0:
                return False
            if not self._statement(statement):
                return False
        return True

    def _statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Return):
            self._returned.append(self._look(node.value))
            return False
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and self._exits(node.value)):
            self._ended(node)
            return False
        if isinstance(node, ast.Break | ast.Continue):
            return False
        if isinstance(node, ast.If):
            return self._if(node)
        if isinstance(node, ast.Try | ast.TryStar):
            return self._try(node)
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                self._bind(item.optional_vars, self._opened(self._look(item.context_expr)))
            with self._circumstances():
                return self._block(node.body)
        self._simple(node)
        return True

    @contextmanager
    def _circumstances(self) -> Iterator[None]:
        """What stands in it may be taken care of, or depends on what was found here."""
        self._depends += 1
        try:
            yield
        finally:
            self._depends -= 1

    def _exits(self, node: ast.expr) -> bool:
        function = node.func if isinstance(node, ast.Call) else None
        return function is not None and self._evaluator.aliases.dotted(function) in _EXITS

    def _ended(self, node: ast.stmt) -> None:
        if self._surely and not self._depends:
            self.ends.append(End(node, ast.unparse(node).partition("\n")[0][:80], self._within))

    def _simple(self, node: ast.stmt) -> None:
        """A statement whose end is reached."""
        if isinstance(node, ast.For | ast.AsyncFor | ast.While):
            self._loop(node)
        elif isinstance(node, ast.Assign):
            value = self._look(node.value)
            for target in node.targets:
                self._bind(target, value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._bind(node.target, self._look(node.value))
        elif isinstance(node, ast.AugAssign):
            self._augmented(node)
        elif isinstance(node, ast.Expr):
            self._look(node.value)
        elif isinstance(node, ast.Match):
            self._unsure([*(case.body for case in node.cases), []])

    def _opened(self, value: Value) -> Value:
        """`with` may hand out something else than it was given."""
        return value if isinstance(value, str | Opened) else UNKNOWN

    def _augmented(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            before = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
            whole = ast.copy_location(ast.BinOp(before, node.op, node.value), node)
            self._bind(node.target, self._look(whole))
        else:
            self._look(node.value)

    def _if(self, node: ast.If) -> bool:
        test = self._look(node.test)
        if test is not UNKNOWN:
            with self._circumstances():
                return self._block(node.body if test else node.orelse)
        return self._unsure([node.body, node.orelse])

    def _unsure(self, blocks: list[list[ast.stmt]]) -> bool:
        """Exactly one of the blocks runs, or none is told: what they disagree about is not known afterwards."""
        scope, surely = dict(self._evaluator.scope), self._surely
        after: list[dict[str, Value]] = []
        ends = []
        for block in blocks:
            self._evaluator.scope = dict(scope)
            self._surely = False
            ends.append(self._block(block))
            if ends[-1]:
                after.append(self._evaluator.scope)
        # After a branch that leaves, the rest is not sure to be reached.
        self._surely = surely and all(ends)
        self._evaluator.scope = _agreed(after or [scope])
        return any(ends) or not blocks

    def _try(self, node: ast.Try | ast.TryStar) -> bool:
        scope, surely, guarded = dict(self._evaluator.scope), self._surely, self._guarded
        self._guarded = guarded or any(_forgives(handler) for handler in node.handlers)
        with self._circumstances():
            end = self._block(node.body)
        self._guarded = guarded
        end = self._block(node.orelse) if end else end
        done = self._evaluator.scope
        after = [done] if end else []
        ends = [end]
        for handler in node.handlers:
            self._evaluator.scope = _agreed([scope, done])
            self._surely = False
            ends.append(self._block(handler.body))
            if ends[-1]:
                after.append(self._evaluator.scope)
        self._evaluator.scope = _agreed(after or [scope])
        # A handler that leaves does so because of a failure: whoever comes after the `try` came through its body.
        self._surely = surely and end
        return self._block(node.finalbody) and any(ends)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While) -> None:
        surely = self._surely
        self._look(node.iter if isinstance(node, ast.For | ast.AsyncFor) else node.test)
        for name in _bound(node):
            self._evaluator.scope[name] = UNKNOWN
        self._surely = False
        self._block(node.body)
        for name in _bound(node):
            self._evaluator.scope[name] = UNKNOWN
        self._block(node.orelse)
        self._surely = surely
        # Whether it ever ends is not told.
        self._depends += isinstance(node, ast.While)

    def _bind(self, target: ast.expr | None, value: Value) -> None:
        if isinstance(target, ast.Name):
            self._evaluator.scope[target.id] = value
        elif isinstance(target, ast.Subscript):
            if self._evaluator.aliases.dotted(target.value) == "os.environ":
                self._set_variable(self._look(target.slice), value)
        elif isinstance(target, ast.Tuple | ast.List):
            whole = isinstance(value, list | tuple) and len(value) == len(target.elts)
            for index, each in enumerate(target.elts):
                self._bind(each, value[index] if whole else UNKNOWN)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, UNKNOWN)

    def _set_variable(self, name: Value, value: Value) -> None:
        """The script sets a variable itself; in a branch that may not be taken, nothing is known of it from there on."""
        if not isinstance(name, str):
            for each in self._variables:
                self._variables[each] = UNKNOWN
            return
        self._set.add(name)
        self._variables[name] = value if self._surely and isinstance(value, str) else UNKNOWN

    # --- expressions ---

    def _look(self, node: ast.expr | None) -> Value:
        if node is not None:
            self._lookups(node)
        return self._evaluator.value(node)

    def _lookups(self, node: ast.expr) -> None:
        for each in _evaluated(node):
            if not isinstance(each, ast.Subscript) or not isinstance(each.slice, ast.Constant):
                continue
            name = each.slice.value
            if name in self.unset - self._set and self._evaluator.aliases.dotted(each.value) == "os.environ":
                self.lookups.append(Lookup(str(name), each, self._surely))

    def _called(
        self, node: ast.Call, holder: Value, arguments: list[Value], words: dict[str, Value]
    ) -> Value:
        dotted = self._evaluator.aliases.dotted(node.func)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if dotted in _SETTERS:
            self._set_variable(arguments[0] if arguments and name != "update" else UNKNOWN, UNKNOWN)
        function = self._functions.get(name) if isinstance(node.func, ast.Name) else None
        if function is not None:
            return self._own(function, arguments, words)
        if self._guarded:
            return UNKNOWN
        mode = arguments[1] if len(arguments) > 1 else words.get("mode")
        given = [(False, value) for value in (*arguments, *words.values())]
        for owner, value in [(True, holder), *given]:
            if isinstance(value, PurePosixPath) or (isinstance(value, str) and not owner):
                text = mode if isinstance(mode, str) else None
                if owner:
                    text = arguments[0] if arguments and isinstance(arguments[0], str) else text
                sure = self._surely and not (name == "open" and mode is UNKNOWN)
                self.uses.append(Use(name, dotted, str(value), node, text, sure, owner))
        return self._file(node, dotted, holder, arguments, mode)

    def _file(
        self, node: ast.Call, dotted: str | None, holder: Value, arguments: list[Value], mode: Value
    ) -> Value:
        """What a call opens to be read, if it does; what is loaded from such a file is noted."""
        first = arguments[0] if arguments else UNKNOWN
        if dotted in LOADERS and isinstance(first, str | PurePosixPath | Opened):
            loaded = first.path if isinstance(first, Opened) else str(first)
            self.loads.append(Load(dotted, loaded, node, self._surely))
            return UNKNOWN
        path: Value
        path, mode = (first, mode) if dotted in ("open", "io.open") else (UNKNOWN, first)
        if (
            isinstance(node.func, ast.Attribute)
            and node.func.attr == "open"
            and isinstance(holder, PurePosixPath)
        ):
            path = holder
        if isinstance(path, str | PurePosixPath) and mode in ("rb", "r", "br"):
            return Opened(str(path))
        return UNKNOWN

    def _own(self, function: Function, arguments: list[Value], words: dict[str, Value]) -> Value:
        """A call of a function of the script itself."""
        if self._depth >= DEEPEST or function.args.vararg or function.decorator_list:
            return UNKNOWN
        names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
        given: dict[str, Any] = dict.fromkeys(
            [*names, *(each.arg for each in function.args.kwonlyargs)], UNKNOWN
        )
        for name, default in zip(reversed(names), reversed(function.args.defaults), strict=False):
            given[name] = self._evaluator.value(default)
        given.update(zip(names, arguments, strict=False))
        given.update({name: value for name, value in words.items() if name in given})
        return self._inside(function, given)

    def _inside(self, function: Function, given: dict[str, Value]) -> Value:
        outer, surely, returned = self._evaluator.scope, self._surely, self._returned
        local = dict.fromkeys(_bound(function) - _globals(function), UNKNOWN)
        self._evaluator.scope = {**outer, **local, **given}
        self._returned, self._depth = [], self._depth + 1
        end = self._block(function.body)
        found = [*self._returned, *([None] if end else [])]
        changed = {name: self._evaluator.scope.get(name, UNKNOWN) for name in _globals(function)}
        self._evaluator.scope = {**outer, **changed}
        self._returned, self._depth, self._surely = returned, self._depth - 1, surely
        return found[0] if found and all(_same(value, found[0]) for value in found) else UNKNOWN

    _returned: list[Value] = field(default_factory=list)


def _forgives(handler: ast.ExceptHandler) -> bool:
    """Whether a file that is not there is taken care of, instead of being told and raised again."""
    if any(isinstance(each, ast.Raise) for each in handler.body):
        return False
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or getattr(kind, "id", "") in _FILE_ERRORS for kind in kinds)


def _agreed(scopes: list[dict[str, Value]]) -> dict[str, Value]:
    first, *others = scopes
    return {
        name: value if all(name in other and _same(other[name], value) for other in others) else UNKNOWN
        for name, value in first.items()
    } | {name: UNKNOWN for other in others for name in other if name not in first}


def _same(one: Value, other: Value) -> bool:
    return type(one) is type(other) and bool(one == other)


def _bound(node: ast.AST) -> set[str]:
    """Names that something in it binds."""
    return {
        each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }


def _globals(function: Function) -> set[str]:
    found: set[str] = set()
    for each in ast.walk(function):
        if isinstance(each, ast.Global):
            found.update(each.names)
    return found


def _evaluated(node: ast.expr) -> Iterator[ast.AST]:
    """The parts of an expression that are surely computed with it: not the body of a lambda, nor what stands behind
    `or`, `and` and `if`."""
    if isinstance(node, ast.Lambda | ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp):
        return
    yield node
    parts: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.BoolOp):
        parts = [node.values[0]]
    elif isinstance(node, ast.IfExp):
        parts = [node.test]
    for part in parts:
        if isinstance(part, ast.expr):
            yield from _evaluated(part)
        elif isinstance(part, ast.keyword):
            yield from _evaluated(part.value)
