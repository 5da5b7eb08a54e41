"""What a script imports beside what its environment will hold: findings. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from moorings.errors.diagnosis.packages import package_of
from moorings.errors.sentence import Sentence, sentence
from moorings.preflight.environment import Contents
from moorings.preflight.findings import Finding, Severity, finding
from moorings.preflight.imports import Runs
from moorings.preflight.packages import Brought, brought, in_stdlib, is_known
from moorings.preflight.walk import Asked

DEFAULT_PYTHON = (3, 12)


def import_findings(
    asked: Iterable[Asked], contents: Contents, *, again: str, environment: Sentence, moved: bool = False
) -> list[Finding]:
    """`environment`: how the user names what packages are to be added to, such as `environment/conda.yaml`. `moved`: the
    script adds folders to `sys.path`, so only a module that is known to be a package's is missed."""
    if contents.packages is None:
        return []
    python = (
        tuple(int(part) for part in contents.python.split(".")[:2]) if contents.python else DEFAULT_PYTHON
    )
    found: list[Finding] = []
    for one in sorted(asked, key=lambda each: each.module):
        if one.by.runs is Runs.NEVER or in_stdlib(one.module, python, sys.stdlib_module_names):
            continue
        answer = brought(one.module, contents.packages)
        if answer is not Brought.YES and not (moved and not is_known(one.module.partition(".")[0])):
            sure = one.by.runs is Runs.SURELY and answer is Brought.NO and contents.whole
            found.append(_missing(one, sure=sure, whole=contents.whole, again=again, environment=environment))
    return _one_for_each(found)


def _missing(one: Asked, *, sure: bool, whole: bool, again: str, environment: Sentence) -> Finding:
    package = package_of(one.module)
    said = one.said or f"`import {one.by.module}`"
    if one.by.names and not one.by.level:
        said = f"`from {one.by.module} import {', '.join(one.by.names)}`"
    message = f"{said}: the environment has no package that brings {one.module}"
    if not sure:
        if not whole:
            message += ", as far as is known"
        if one.by.runs is not Runs.SURELY:
            where = f"in {one.by.function}()" if one.by.function else "under a condition"
            message += f" (imported {where})"
    fix = sentence(
        "Add {package} to {environment}, then: {again}", package=package, environment=environment, again=again
    )
    return finding(
        Severity.ERROR if sure else Severity.WARNING,
        "UserScriptImportError",
        message,
        place=one.source.place(one.by.node),
        evidence=one.source.evidence(one.by.node),
        fix=fix,
    )


def _one_for_each(found: list[Finding]) -> list[Finding]:
    """One finding for each statement and package, of several modules the one with the shortest name."""
    unique: dict[tuple[str, str], Finding] = {}
    for one in found:
        unique.setdefault((str(one.place), one.failure.fix), one)
    return list(unique.values())
