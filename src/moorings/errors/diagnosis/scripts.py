"""Verdicts on exceptions of the user's code, and on what the inference server reports of a boot that failed: the script,
its libraries, its `init()`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from moorings.errors.diagnosis import evidence as ev
from moorings.errors.diagnosis import imports, libraries, lines, models, paths
from moorings.errors.diagnosis.ends import placed, told, user_frame
from moorings.errors.diagnosis.evidence import InstanceEvidence
from moorings.errors.diagnosis.raised import Raised, chain_of
from moorings.errors.diagnosis.verdicts import Report, reported
from moorings.errors.exceptions import Confidence, Failure
from moorings.errors.sentence import listed, sentence

_SIMPLE: Mapping[str, tuple[str, str]] = {
    ev.KIND_SCRIPT_MISSING: ("ScriptMissing", "the scoring script is not there"),
    ev.KIND_SYNTAX_ERROR: ("UserScriptSyntaxError", "the scoring script is not valid Python"),
    ev.KIND_SCRIPT_RAISED: ("ScriptRaised", "the scoring script failed while it was imported"),
    ev.KIND_BAD_SIGNATURE: ("UserScriptBadSignature", "the scoring script cannot be called"),
    ev.KIND_INIT_RAISED: ("UserScriptInitFailed", "init() failed"),
    ev.KIND_BAD_SETTINGS: ("ServerSettingsInvalid", "the inference server refuses its settings"),
}
_BINARY = (
    "may indicate binary incompatibility",
    "compiled using NumPy 1.x cannot be run in",
    "numpy.core.multiarray failed to import",
    "undefined symbol:",
    "module compiled against API version",
    "module compiled against ABI version",
)
_OF_NUMPY = re.compile(r"multiarray failed to import|_ARRAY_API not found|[Nn]um[Pp]y is not available")
"""What fails for want of a NumPy that fits; the log has said why."""
_NOT_UTF_8 = re.compile(r"codec can't decode|Non-UTF-8|null bytes|invalid non-printable character U\+FEFF")
_SYNTAX = frozenset({"SyntaxError", "IndentationError", "TabError"})
_OF_A_PACKAGE = re.compile(r"/(?:site|dist)-packages/(?P<name>[^/]+)")
_ASKED_VARIABLE = re.compile(r"(?:getenv|environ\.get)\(\s*['\"](?P<name>\w+)['\"]\s*\)")
_IS_NONE = re.compile(r"'NoneType' object|not NoneType\b|not 'NoneType'")


def of_report(instance: InstanceEvidence, report: Report) -> Failure | None:
    """None for a kind that is not known here."""
    kind = str(report.get("kind"))
    if kind in (ev.KIND_IMPORT_ERROR, ev.KIND_INIT_RAISED, ev.KIND_SCRIPT_RAISED):
        verdict = of_exception(instance, report)
        if verdict is not None:
            return verdict
    if kind == ev.KIND_SYNTAX_ERROR:
        return _syntax(instance, report)
    judge_of = _BY_KIND.get(kind)
    if judge_of is not None:
        return judge_of(instance, report)
    simple = _SIMPLE.get(kind)
    return None if simple is None else _plain(instance, report, *simple)


def of_exception(instance: InstanceEvidence, report: Report) -> Failure | None:
    """A verdict on an exception whose cause has a name of its own; None where the place of it is all that can be told."""
    found = told(instance, report)
    for judge in _JUDGES:
        for raised in found:
            verdict = judge(instance, placed(instance, report, raised), raised)
            if verdict is not None:
                return verdict
    # What the script found out by itself counts here: that a path is not in the model is seen in the model.
    for raised in reversed(chain_of(lines.traceback_of(report))):
        verdict = paths.of_words(instance, placed(instance, report, raised), raised)
        if verdict is not None:
            return verdict
    return None


def _syntax(instance: InstanceEvidence, report: Report) -> Failure:
    """A file that is no Python: one of the user's, or one of a package."""
    file, said = str(report.get("file") or ""), str(report.get("message") or "")
    package = _OF_A_PACKAGE.search(file)
    if package:
        name = imports.package_of(package["name"].removesuffix(".py"))
        return reported(
            instance,
            report,
            "UserScriptImportError",
            f"the package {name} is not made for the Python of this environment: {said}",
            confidence=Confidence.LIKELY,
            remedy=sentence(
                "Pin a version of `{package}` that is made for this Python, or take another python=",
                package=name,
            ),
        )
    remedy = None
    if _NOT_UTF_8.search(said):
        remedy = sentence(
            "Save {file} as UTF-8 (iconv -f {encoding} -t UTF-8 {file} > {file}.new && mv {file}.new {file})",
            file=PurePosixPath(file).name or "score.py",
            encoding="UTF-16" if "null bytes" in said or "0xff" in said else "ISO-8859-1",
        )
    text = f"the scoring script is not valid Python: {said}"
    return reported(instance, report, "UserScriptSyntaxError", text, remedy=remedy)


def _syntax_met(instance: InstanceEvidence, report: Report, raised: Raised) -> Failure | None:
    """A module that is imported late, by `init()` or `run()`."""
    if raised.name not in _SYNTAX or raised.syntax_at is None:
        return None
    file, line = raised.syntax_at
    return _syntax(instance, {**report, "file": file, "line": line})


def _plain(instance: InstanceEvidence, report: Report, code: str, text: str) -> Failure:
    message = str(report.get("message") or "")
    return reported(
        instance,
        report,
        code,
        f"{text}: {message}" if message else text,
    )


def _native_library(instance: InstanceEvidence, report: Report, raised: Raised) -> Failure | None:
    library = libraries.missing_library(raised.words)
    version = libraries.missing_version(raised.words)
    if library is None and version is None:
        return None
    if library is not None:
        stem = libraries.stem(library)
        package = libraries.DEBIAN_PACKAGE.get(stem)
        remedy = (
            sentence(
                "Install `{package}` in the image (or on this machine: apt-get install {package})",
                package=package,
            )
            if package
            else sentence(
                "Install the system package that has {library} in the image (or on this machine)",
                library=library,
            )
        )
        other = libraries.WITHOUT_IT.get(stem)
        if other:
            remedy = sentence(
                "{remedy}, or take `{other}` in the conda_file, which does without",
                remedy=remedy,
                other=other,
            )
        said = f"the shared library {library} is not on the system the instance runs on"
    else:
        assert version is not None
        said = f"{PurePosixPath(version[1]).name} needs {version[0]}, which is newer than the system has"
        remedy = sentence("Take an older version of the package, or a newer base image")
    return reported(
        instance,
        report,
        "NativeLibraryMissing",
        said,
        remedy=remedy,
    )


def _binary(instance: InstanceEvidence, report: Report, raised: Raised) -> Failure | None:
    text, log = raised.words, "\n".join(instance.log_tail)
    if _OF_NUMPY.search(text):
        text += f"\n{log}"
    if not any(sign in text for sign in _BINARY):
        return None
    remedy = (
        sentence(
            "Pin `numpy<2` in the environment's conda_file, or take versions of the other packages that are made for "
            "NumPy 2"
        )
        if "numpy" in text.lower()
        else sentence("Pin versions of the two packages that were made for each other")
    )
    return reported(
        instance,
        report,
        "PackagesIncompatible",
        f"two packages of the environment were compiled for different versions of one another: {raised.words}",
        remedy=remedy,
    )


def _variable_missing(instance: InstanceEvidence, report: Report, raised: Raised) -> Failure | None:
    """`os.environ[...]` of what nobody has set, or `None` that was got in its place."""
    name, sure = _unset_variable(raised), True
    if name is None:
        own = user_frame(instance, raised.frames[::-1])
        asked = _ASKED_VARIABLE.findall(own.text) if own and _IS_NONE.search(raised.words) else []
        name, sure = asked[0] if len(asked) == 1 else None, False
    if name is None:
        return None
    if name == "AZUREML_MODEL_DIR":
        return None if instance.model_root else paths.not_given(instance, {**report, "missing": name})
    return reported(
        instance,
        report,
        "VariableMissing",
        f"the script reads the environment variable {name}, which is not set",
        confidence=Confidence.CERTAIN if sure else Confidence.LIKELY,
        fields={"name": name},
    )


def _unset_variable(raised: Raised) -> str | None:
    """Its name where `os.environ` itself has raised."""
    missing, inner = re.match(r"KeyError: '(?P<name>\w+)'", raised.words), raised.inner
    if inner is None or missing is None:
        return None
    of_os = inner.function == "__getitem__" and inner.file.endswith(("/os.py", "<frozen os>"))
    asked = re.search(rf"environ\[\s*['\"]{missing['name']}['\"]\s*\]", inner.text)
    return missing["name"] if of_os or asked else None


def _access(instance: InstanceEvidence, report: Report, raised: Raised) -> Failure | None:
    """A file; what else may be denied (a port, a signal) has no path."""
    denied = raised.name == "PermissionError" or "[Errno 13]" in raised.words
    if not denied or not re.search(r": b?['\"].+['\"]$", raised.words):
        return None
    text = "the script may not open a file or folder it asks for"
    return reported(instance, report, "FileAccessDenied", f"{text}: {raised.words}")


def _import_error(instance: InstanceEvidence, report: Report) -> Failure:
    """An import that failed for a reason that has no name."""
    return imports.unnamed(instance, report)


def _raised(instance: InstanceEvidence, report: Report) -> Failure:
    return _plain(instance, report, *_SIMPLE[str(report["kind"])])


def _function_missing(instance: InstanceEvidence, report: Report) -> Failure:
    missing = listed([f"{name.strip()}()" for name in str(report.get("missing") or "run").split(",")])
    return reported(
        instance,
        report,
        "UserScriptFunctionNotFound",
        f"the scoring script has no {missing}",
        fields={"missing": missing},
    )


_JUDGES = (
    _syntax_met,
    _native_library,
    _binary,
    models.of_model_file,
    imports.half_imported,
    imports.of_import,
    _variable_missing,
    _access,
)
"""Asked in this order, each of all exceptions that count."""
_BY_KIND: Mapping[str, Callable[[InstanceEvidence, Report], Failure]] = {
    ev.KIND_IMPORT_ERROR: _import_error,
    ev.KIND_INIT_RAISED: _raised,
    ev.KIND_SCRIPT_RAISED: _raised,
    ev.KIND_FUNCTION_MISSING: _function_missing,
    ev.KIND_MODEL_PATH: paths.of_report,
}
