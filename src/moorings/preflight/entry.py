"""Whether a scoring script has the `init()` and `run()` that the inference server calls, as far as its text tells. Pure.

The rules are those of `moorings_server.script`, which looks at the loaded module: what is only known there (a name that
is imported, assigned or made by a decorator) is taken for right.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from moorings.errors.sentence import Sentence, listed, sentence
from moorings.preflight.findings import Finding, Place, Severity, finding
from moorings.preflight.source import Source

HEADERS_PARAMETER = "request_headers"
_RAW, _BATCH, _SCHEMA = "rawhttp", "batch", ("input_schema", "output_schema")
_SETTING = "properties.moorings.batch_max_size (or MOORINGS_BATCH_MAX_SIZE)"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Declared:
    """What the top level of a script binds the names `init` and `run` to."""

    functions: dict[str, Function]
    """Those that are plain definitions, the last one of each name."""
    other: frozenset[str]
    """Names that are bound in another way."""
    open: bool
    """Whether more names may come from somewhere (`from x import *`, `globals()`, `driver_module`)."""


def entry_findings(source: Source, *, again: str, batch_setting: bool = False) -> list[Finding]:
    """What is wrong with `init` and `run`. `batch_setting`: the deployment asks for batches itself."""
    declared = declared_in(source.tree)
    found: list[Finding] = []
    absent = [
        name
        for name in ("init", "run")
        if name not in declared.functions and name not in declared.other and not declared.open
    ]
    if absent:
        found.append(_absent(source, absent, again))
    run, init = declared.functions.get("run"), declared.functions.get("init")
    if run is not None and "run" not in declared.other:
        found += _run(source, run, again, batch_setting=batch_setting)
    if init is not None and "init" not in declared.other:
        found += _init(source, init, again)
    return found


def declared_in(tree: ast.Module) -> Declared:
    """The bindings at the top level, through `if`, `try`, `with` and loops."""
    functions: dict[str, Function] = {}
    other: set[str] = set()
    more = False
    for statement in _statements(tree.body):
        if isinstance(statement, Function):
            functions[statement.name] = statement
            other.discard(statement.name)
            continue
        for name in _bound(statement):
            other.add(name)
            functions.pop(name, None)
        more = more or _opens(statement)
    return Declared(functions, frozenset(other), more or "driver_module" in other)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """In the order of the text; what stands in a block at module level is at module level."""
    for statement in body:
        yield statement
        for inner in ("body", "orelse", "finalbody"):
            if not isinstance(statement, Function | ast.ClassDef):
                yield from _statements(getattr(statement, inner, []))
        for handler in getattr(statement, "handlers", []):
            yield from _statements(handler.body)
        for case in getattr(statement, "cases", []):
            yield from _statements(case.body)


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.For | ast.AsyncFor | ast.With | ast.Expr):
        for node in ast.walk(statement) if isinstance(statement, ast.Expr) else _targets(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def _targets(statement: ast.stmt) -> Iterator[ast.AST]:
    roots: list[ast.AST] = []
    if isinstance(statement, ast.Assign):
        roots = list(statement.targets)
    elif isinstance(statement, ast.AnnAssign):
        roots = [statement.target] if statement.value is not None else []
    elif isinstance(statement, ast.For | ast.AsyncFor):
        roots = [statement.target]
    elif isinstance(statement, ast.With):
        roots = [item.optional_vars for item in statement.items if item.optional_vars is not None]
    for root in roots:
        yield from ast.walk(root)


def _opens(statement: ast.stmt) -> bool:
    """Whether the statement may bind names that its text does not show."""
    if isinstance(statement, ast.ImportFrom):
        return any(alias.name == "*" for alias in statement.names)
    if isinstance(statement, ast.Expr | ast.Assign):
        return any(
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("globals", "exec", "setattr", "vars")
            for node in ast.walk(statement)
        )
    return False


def _absent(source: Source, names: list[str], again: str) -> Finding:
    missing = listed([f"{name}()" for name in names])
    message = f"{source.name} defines no function {' and no function '.join(f'{name}()' for name in names)}"
    nested = [node for node in ast.walk(source.tree) if isinstance(node, Function) and node.name in names]
    evidence = tuple(
        f"{node.lineno} | {node.name}() is defined here, inside of something else" for node in nested
    )
    fix = sentence(
        "Define {missing} at the top level of the script, then: {again}", missing=missing, again=again
    )
    return finding(
        Severity.ERROR,
        "UserScriptFunctionNotFound",
        message,
        place=Place(source.name, nested[0].lineno) if nested else Place(source.name, 1),
        evidence=evidence,
        fix=fix,
    )


def _run(source: Source, run: Function, again: str, *, batch_setting: bool) -> Iterator[Finding]:
    names = [_decorator(node) for node in run.decorator_list]
    known = {_RAW, _BATCH, *_SCHEMA, "routes"}
    # Another decorator may change the parameters: then the server sees what this text does not show.
    if set(names) <= known:
        yield from _parameters(source, run, again)
    raw, schema = _RAW in names, any(name in names for name in _SCHEMA)
    if raw and "input_schema" in names:
        message = "run() has both @rawhttp and @input_schema; it can have only one of them"
        yield _bad(
            source, run, message, sentence("Remove one of the two decorators, then: {again}", again=again)
        )
    if "routes" in names and not raw:
        message = "run() has @routes and not @rawhttp: only the request itself tells which path was asked for"
        yield _bad(source, run, message, sentence("Add @rawhttp, then: {again}", again=again))
    if _BATCH in names or batch_setting:
        why = (
            "yields its results"
            if yields(run)
            else "has @rawhttp"
            if raw
            else "has @input_schema"
            if schema
            else ""
        )
        if why:
            asked = "@batch" if _BATCH in names else _SETTING
            message = f"run() {why} and cannot take batches as well, which {asked} asks for"
            yield _bad(
                source,
                run,
                message,
                sentence("Remove {asked}, or the other, then: {again}", asked=asked, again=again),
            )


def _parameters(source: Source, run: Function, again: str) -> Iterator[Finding]:
    """The rules of `moorings_server.script.check_signature`."""
    arguments = run.args
    refused = [
        *((each, "a positional-only parameter") for each in arguments.posonlyargs),
        *(((arguments.vararg, "*args"),) if arguments.vararg else ()),
        *(((arguments.kwarg, "**kwargs"),) if arguments.kwarg else ()),
    ]
    for parameter, kind in refused:
        message = (
            f"run() has {kind} ({parameter.arg!r}); only ordinary and keyword-only parameters are allowed"
        )
        yield _bad(
            source, parameter, message, sentence("Declare it as `def run(data):`, then: {again}", again=again)
        )
    data = [p for p in (*arguments.args, *arguments.kwonlyargs) if p.arg != HEADERS_PARAMETER]
    if not data and not refused:
        message = f"run() needs at least one parameter for the request's data, besides {HEADERS_PARAMETER}"
        yield _bad(
            source, run, message, sentence("Declare it as `def run(data):`, then: {again}", again=again)
        )


def _init(source: Source, init: Function, again: str) -> Iterator[Finding]:
    arguments = init.args
    positional = [*arguments.posonlyargs, *arguments.args]
    needed = positional[: len(positional) - len(arguments.defaults)]
    needed += [
        p for p, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None
    ]
    if needed and not init.decorator_list:
        names = ", ".join(parameter.arg for parameter in needed)
        message = f"init() needs a value for {names}, and it is called without arguments"
        yield _bad(
            source, needed[0], message, sentence("Declare it as `def init():`, then: {again}", again=again)
        )
    if yields(init) and not init.decorator_list:
        message = "init() has a `yield`, so calling it runs none of its lines"
        fix = sentence("Remove the `yield` from init(), then: {again}", again=again)
        yield _bad(source, init, message, fix, Severity.WARNING)


def yields(function: Function) -> bool:
    """Whether it is a generator (an `async` one too)."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(node))
    return False


def _decorator(node: ast.expr) -> str:
    """The last name of a decorator: `rawhttp` of `@aml_request.rawhttp`, `batch` of `@batch(max_size=8)`."""
    while isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _bad(
    source: Source, node: ast.AST, message: str, fix: Sentence, severity: Severity = Severity.ERROR
) -> Finding:
    return finding(
        severity,
        "UserScriptBadSignature",
        message,
        place=source.place(node),
        evidence=source.evidence(node),
        fix=fix,
    )
