"""Checks of a deployment that need only the user's own files, before anything is sent. Runs none of the
user's code."""

from __future__ import annotations

import ast
import platform
import warnings
from pathlib import Path

from moorings.errors.exceptions import error
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.references import is_local_path


def check_script(spec: DeploymentSpec) -> None:
    """Parse the scoring script of a spec whose code is a folder here; never runs it.

    Raises `ScriptSyntaxError` with file:line and the line, `ScriptUnreadable`: the user's fault.
    """
    code = spec.code_configuration
    if code is None or not is_local_path(code.code):
        return
    path = Path(code.code) / code.scoring_script
    try:
        source = path.read_bytes()
    except OSError as problem:
        message = f"{path}: {problem.strerror}"
        raise error("ScriptUnreadable", message, target=str(path), fields={"path": path}) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in the user's script is no news at deploy time
            ast.parse(source, filename=str(path))
    except SyntaxError as problem:
        raise error(
            "ScriptSyntaxError",
            f"{path}:{problem.lineno or 1}: {problem.msg}",
            target=f"{path}:{problem.lineno or 1}:{problem.offset or 1}",
            evidence=_place(problem),
            fields={"python": platform.python_version()},
        ) from None
    except (
        ValueError,
        RecursionError,
        MemoryError,
    ) as problem:  # NUL bytes; nesting beyond what the parser takes
        raise error(
            "ScriptSyntaxError",
            f"{path}: {problem or type(problem).__name__}",
            target=str(path),
            fields={"python": platform.python_version()},
        ) from None


def _place(problem: SyntaxError) -> tuple[str, ...]:
    if not problem.text:
        return ()
    line = problem.text.rstrip("\n")
    number = f"{problem.lineno}"
    lines = [f"{number} | {line}"]
    if problem.offset:
        lines.append(f"{' ' * len(number)} | {' ' * (problem.offset - 1)}^")
    return tuple(lines)
