"""From what the package index answered to findings at the lines of the conda file. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from packaging.utils import canonicalize_name

from moorings.environments.conda import (
    UntranslatableError,
    parse_match_spec,
    pip_requirement,
    without_comment,
)
from moorings.environments.conda_names import RENAMED
from moorings.errors.exceptions import Failure
from moorings.errors.sentence import Sentence, sentence
from moorings.preflight.findings import Finding, Place, Severity
from moorings.preflight.index import Unmet
from moorings.spec.problems import FieldPath, Located

_ENTRY = re.compile(r"^dependencies\[(\d+)\](?:\.pip\[(\d+)\])?")


@dataclass(frozen=True)
class Entry:
    """Where a requirement is written. `of_conda`: as a conda package, which a channel may have all the same."""

    path: FieldPath
    of_conda: bool


def entries_of(conda: Mapping[str, Any], at: FieldPath) -> dict[str, Entry]:
    """Canonical name on the package index -> where the conda file at `at` of the spec asks for it."""
    found: dict[str, Entry] = {}
    dependencies = conda.get("dependencies")
    for index, entry in enumerate(dependencies if isinstance(dependencies, list) else ()):
        here: FieldPath = (*at, "dependencies", index)
        if isinstance(entry, Mapping):
            lines = entry.get("pip")
            for line, text in enumerate(lines if isinstance(lines, list) else ()):
                name = _pip_name(text)
                if name:
                    found.setdefault(name, Entry((*here, "pip", line), of_conda=False))
            continue
        name = _conda_name(entry)
        if name:
            found.setdefault(name, Entry(here, of_conda=True))
    return found


def pin_findings(
    unmet: Iterable[Unmet],
    entries: Mapping[str, Entry],
    locate: Callable[[FieldPath], Located],
    *,
    at: FieldPath,
    again: str,
    channels: bool,
) -> list[Finding]:
    """`channels`: conda channels may have what the index has not, so nothing is sure about their packages."""
    found: list[Finding] = []
    for one in unmet:
        entry = entries.get(one.package)
        doubtful = channels and (entry is None or entry.of_conda)
        failed = one.failure
        message = failed.message
        if one.compiled:
            message = f"{one.package} has no ready-made file for this Python: it would have to be compiled"
        elif doubtful:
            message += " (a channel of the conda file may have it)"
        fix = _fix(failed, one.package, again)
        located = locate(at if entry is None else entry.path)
        evidence = (*located.evidence, *failed.evidence)
        made = replace(failed, message=message, remedy=fix, target=located.target, evidence=evidence)
        severity = Severity.WARNING if one.compiled or doubtful else Severity.ERROR
        found.append(Finding(severity, made, Place.parse(located.target)))
    return found


def translation_findings(
    failed: Failure, locate: Callable[[FieldPath], Located], *, at: FieldPath, again: str, severity: Severity
) -> list[Finding]:
    """One finding for each entry of a conda file that cannot be used."""
    found: list[Finding] = []
    for line in failed.evidence or (failed.message,):
        match = _ENTRY.match(line)
        path: FieldPath = at
        if match is not None:
            path = (*at, "dependencies", int(match[1]), *(("pip", int(match[2])) if match[2] else ()))
        located = locate(path)
        fix = sentence("Change or remove the entry, then: {again}", again=again)
        made = Failure(failed.code, line, located.target, located.evidence, fix)
        found.append(Finding(severity, made, Place.parse(located.target)))
    return found


def _fix(failed: Failure, package: str, again: str) -> Sentence:
    match failed.code:
        case "PackageNotFound":
            return sentence(
                "Correct the name of {package}, or remove it, then: {again}", package=package, again=again
            )
        case "PackageVersionNotFound":
            return sentence(
                "Ask for a version of {package} that exists, or leave its version out, then: {again}",
                package=package,
                again=again,
            )
        case "NoWheelForPython":
            return sentence(
                "Take another version of {package}, or another python= in the conda file, then: {again}",
                package=package,
                again=again,
            )
        case "EnvironmentUnsatisfiable":
            return sentence(
                "Loosen {package} or what it is at odds with, then: {again}", package=package, again=again
            )
    return sentence("Change or remove {package}, then: {again}", package=package, again=again)


def _pip_name(text: Any) -> str | None:
    try:
        return canonicalize_name(pip_requirement(without_comment(str(text))).name)
    except UntranslatableError:
        return None


def _conda_name(text: Any) -> str | None:
    try:
        name = canonicalize_name(parse_match_spec(str(text)).name)
    except UntranslatableError:
        return None
    return canonicalize_name(RENAMED.get(name, name))
