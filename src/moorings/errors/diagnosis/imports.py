"""Verdicts on imports that failed: what is missing, which package has it, or what in the project stands in its way. Pure."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from moorings.errors.diagnosis.evidence import InstanceEvidence
from moorings.errors.diagnosis.packages import NAMESPACES, package_of
from moorings.errors.diagnosis.raised import Raised
from moorings.errors.diagnosis.verdicts import Report, reported
from moorings.errors.exceptions import Confidence, Failure
from moorings.errors.sentence import Sentence, sentence

__all__ = ["half_imported", "of_import", "package_of", "unnamed"]

_HALF_IMPORTED = re.compile(r"partially initialized module '(?P<module>[\w.]+)'")
_HIDES = re.compile(r"consider renaming '(?P<file>[^']+)'")
_ABSENT = re.compile(r"No module named '?(?P<module>[\w.]+)'?")
_NO_PACKAGE = re.compile(r"'(?P<name>[\w.]+)' is not a package")
_NO_NAME = re.compile(
    r"cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'(?: \((?P<file>[^)]*)\))?"
)
_RELATIVE = re.compile(r"attempted relative import (?:with no known parent package|beyond top-level package)")
_STATEMENT = re.compile(r"from\s+\.+\s*(?P<module>[\w.]*)\s+import\s+(?P<names>.+)")
_FULL_NAME = re.compile(r"^(?:from|import)\s+(?P<module>\w[\w.]*)(?:\s+import\s+(?P<name>\w+))?")
_HOW_TO_INSTALL = re.compile(
    r"(?:(?:pip|conda) install (?:-\S+ )*|pip or conda to install )['\"]?(?P<package>[A-Za-z][\w.-]*(?:\[[\w,-]+\])?)"
)


def half_imported(instance: InstanceEvidence, report: Report, raised: Raised) -> Failure | None:
    """A module that is imported while it is being imported: a file that has the name of a package and asks for that
    package, or two files that ask for each other."""
    root = instance.code_root.rstrip("/")
    found, hides = _HALF_IMPORTED.search(raised.words), _HIDES.search(raised.words)
    if not root or not (found or hides):
        return None
    hidden = hides["file"].removeprefix(f"{root}/") if hides else ""
    asking = str(report.get("file") or "").removeprefix(f"{root}/")
    top = found["module"].partition(".")[0] if found else PurePosixPath(hidden).stem
    if hidden or asking in (f"{top}.py", f"{top}/__init__.py"):
        file = hidden or asking
        text = f"{file} of the code folder has the name of the module {top} and hides it"
        remedy = _rename(file, top)
    else:
        text = f"the modules {top} and {PurePosixPath(asking).stem} import each other"
        remedy = sentence(
            "In {file}, import it inside the function that uses it, or move what both need into a third module",
            file=asking,
        )
    return _failed(instance, report, f"{text}: {raised.words}", remedy, Confidence.LIKELY)


def of_import(instance: InstanceEvidence, report: Report, raised: Raised) -> Failure | None:
    """An `ImportError` that says what it misses."""
    untraced = not raised.frames and _ABSENT.search(raised.words)
    if raised.name not in ("ImportError", "ModuleNotFoundError") and not untraced:
        return None
    for judge in (_relative, _hidden, _absent, _without_name, _says_how):
        found = judge(instance, raised)
        if found is not None:
            what, remedy, confidence = found
            said = raised.words.partition(": ")[2] or raised.words
            return _failed(
                instance, report, f"the scoring script cannot import {what}: {said}", remedy, confidence
            )
    return None


def unnamed(instance: InstanceEvidence, report: Report) -> Failure:
    """One that says nothing of it."""
    said = str(report.get("message") or "no words")
    remedy = sentence("Put what it asks for into the environment, or correct the line named above")
    return _failed(
        instance, report, f"an import of the scoring script failed: {said}", remedy, Confidence.CERTAIN
    )


_Found = tuple[str, Sentence, Confidence]


def _relative(instance: InstanceEvidence, raised: Raised) -> _Found | None:
    if not _RELATIVE.search(raised.words):
        return None
    asked = _STATEMENT.match(raised.inner.text) if raised.inner else None
    statement = "import ..."
    if asked:
        names = asked["names"].strip()
        statement = f"from {asked['module']} import {names}" if asked["module"] else f"import {names}"
    remedy = sentence(
        "In {file}, import it without leading dots (`{statement}`): the script is not part of a package",
        file=_shown(instance, raised.inner.file) if raised.inner else "score.py",
        statement=statement,
    )
    return "a module beside it", remedy, Confidence.CERTAIN


def _hidden(instance: InstanceEvidence, raised: Raised) -> _Found | None:
    found = _NO_PACKAGE.search(raised.words)
    if not found:
        return None
    name = found["name"]
    return f"a part of {name}", _rename(f"{name.replace('.', '/')}.py", name), Confidence.LIKELY


def _absent(instance: InstanceEvidence, raised: Raised) -> _Found | None:
    found = _ABSENT.search(raised.words)
    if not found:
        return None
    module = found["module"]
    asked = _FULL_NAME.match(raised.inner.text.strip()) if raised.inner else None
    full = asked["module"] if asked and f"{asked['module']}.".startswith(f"{module}.") else module
    if asked and asked["name"] and full.partition(".")[0] in NAMESPACES:
        full = f"{full}.{asked['name']}"
    package, top = package_of(full), module.partition(".")[0]
    if module != top and package == package_of(top):
        return module, _pin(package, module), Confidence.CERTAIN
    remedy = sentence(
        "Add `{package}` to the pip list of the environment's conda_file "
        "(or, if `{module}` is a file of yours, put it beside the scoring script)",
        package=package,
        module=module,
    )
    return module, remedy, Confidence.CERTAIN


def _without_name(instance: InstanceEvidence, raised: Raised) -> _Found | None:
    found = _NO_NAME.search(raised.words)
    if not found:
        return None
    root, file = instance.code_root.rstrip("/"), found["file"] or ""
    if root and file.startswith(f"{root}/"):
        remedy = sentence(
            "Define {name} in {file}, or import a name that is there",
            name=found["name"],
            file=_shown(instance, file),
        )
        return found["module"], remedy, Confidence.CERTAIN
    return found["module"], _pin(package_of(found["module"]), found["name"]), Confidence.CERTAIN


def _says_how(instance: InstanceEvidence, raised: Raised) -> _Found | None:
    found = _HOW_TO_INSTALL.search(raised.words)
    if not found:
        return None
    package = found["package"].rstrip(".-")
    remedy = sentence("Add `{package}` to the pip list of the environment's conda_file", package=package)
    return "what a package asks for", remedy, Confidence.LIKELY


def _pin(package: str, name: str) -> Sentence:
    return sentence(
        "Pin a version of `{package}` that has {name}, or import it from where it is now",
        package=package,
        name=name,
    )


def _rename(file: str, module: str) -> Sentence:
    return sentence(
        "Rename {file}: it is imported instead of the package {package}",
        file=file,
        package=package_of(module),
    )


def _shown(instance: InstanceEvidence, file: str) -> str:
    return file.removeprefix(f"{instance.code_root.rstrip('/')}/")


def _failed(
    instance: InstanceEvidence, report: Report, text: str, remedy: Sentence, confidence: Confidence
) -> Failure:
    return reported(instance, report, "UserScriptImportError", text, confidence=confidence, remedy=remedy)
