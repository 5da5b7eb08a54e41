"""Verdicts on what the inference server reports of a boot that failed: the script, its imports, its `init()`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from moorings.errors.diagnosis import evidence as ev
from moorings.errors.diagnosis import libraries, lines, models
from moorings.errors.diagnosis.evidence import InstanceEvidence
from moorings.errors.diagnosis.packages import package_of
from moorings.errors.diagnosis.verdicts import Report, make, reported
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
_HALF_IMPORTED = re.compile(r"partially initialized module '(?P<module>[\w.]+)'")
_BINARY = (
    "may indicate binary incompatibility",
    "compiled using NumPy 1.x cannot be run in",
    "numpy.core.multiarray failed to import",
    "undefined symbol:",
    "module compiled against API version",
    "module compiled against ABI version",
)
_NO_SUCH = re.compile(
    r"(?:No such file or directory|does not exist|[Nn]ot found|could not find|[Ff]ile doesn't exist)"
)


def of_report(instance: InstanceEvidence, report: Report) -> Failure | None:
    """None for a kind that is not known here."""
    kind = str(report.get("kind"))
    if kind in (ev.KIND_IMPORT_ERROR, ev.KIND_INIT_RAISED, ev.KIND_SCRIPT_RAISED):
        for judge in (_native_library, _binary, models.of_model_file, _half_imported, _variable_missing):
            verdict = judge(instance, report)
            if verdict is not None:
                return verdict
    judge_of = _BY_KIND.get(kind)
    if judge_of is not None:
        return judge_of(instance, report)
    simple = _SIMPLE.get(kind)
    return None if simple is None else _plain(instance, report, *simple)


def _plain(instance: InstanceEvidence, report: Report, code: str, text: str) -> Failure:
    message = str(report.get("message") or "")
    return reported(
        instance,
        report,
        code,
        f"{text}: {message}" if message else text,
    )


def _message(report: Report) -> str:
    """The exception's own words: the last line of its traceback, else the report's message."""
    trace = lines.traceback_of(report)
    return trace[-1].strip() if trace else str(report.get("message") or "")


def _text(report: Report) -> str:
    return "\n".join((*lines.traceback_of(report), str(report.get("message") or "")))


def _native_library(instance: InstanceEvidence, report: Report) -> Failure | None:
    text = _text(report)
    library = libraries.missing_library(text)
    version = libraries.missing_version(text)
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


def _binary(instance: InstanceEvidence, report: Report) -> Failure | None:
    text = _text(report)
    log = "\n".join(instance.log_tail)
    sign = next((s for s in _BINARY if s in text or (s in log and "numpy" in text)), None)
    if sign is None:
        return None
    remedy = (
        sentence(
            "Pin `numpy<2` in the environment's conda_file, or take versions of the other packages that are made for "
            "NumPy 2"
        )
        if "numpy" in (text + log).lower()
        else sentence("Pin versions of the two packages that were made for each other")
    )
    return reported(
        instance,
        report,
        "PackagesIncompatible",
        f"two packages of the environment were compiled for different versions of one another: {_message(report)}",
        remedy=remedy,
    )


def _half_imported(instance: InstanceEvidence, report: Report) -> Failure | None:
    """A module that is imported while it is being imported: a file that has the name of a package and asks for that
    package, or two files that ask for each other."""
    root = instance.code_root.rstrip("/")
    found = _HALF_IMPORTED.search(_text(report))
    if not root or not found:
        return None
    top = found["module"].partition(".")[0]
    asking = str(report.get("file") or "").removeprefix(f"{root}/")
    if asking in (f"{top}.py", f"{top}/__init__.py"):
        text = f"{asking} of the code folder has the name of the module {top} and hides it"
        remedy = sentence(
            "Rename {file}: it is imported instead of the package {package}",
            file=asking,
            package=package_of(top),
        )
    else:
        text = f"the modules {top} and {PurePosixPath(asking).stem} import each other"
        remedy = sentence(
            "In {file}, import it inside the function that uses it, or move what both need into a third module",
            file=asking,
        )
    return reported(
        instance,
        report,
        "UserScriptImportError",
        f"{text}: {_message(report)}",
        confidence=Confidence.LIKELY,
        remedy=remedy,
    )


def _variable_missing(instance: InstanceEvidence, report: Report) -> Failure | None:
    """`os.environ[...]` of what nobody has set."""
    trace = lines.traceback_of(report)
    frames = lines.frames_of(trace)
    missing = re.match(r"KeyError: '(?P<name>\w+)'", _message(report))
    if not frames or missing is None:
        return None
    if not any("environ" in frame.text for frame in frames[-2:]):
        return None
    name = missing["name"]
    if name == "AZUREML_MODEL_DIR":
        return _model_path(instance, {**report, "missing": "AZUREML_MODEL_DIR"})
    return reported(
        instance,
        report,
        "VariableMissing",
        f"the script reads the environment variable {name}, which is not set",
        fields={"name": name},
    )


def _import_error(instance: InstanceEvidence, report: Report) -> Failure:
    module = str(report.get("missing") or "")
    detail = str(report.get("message") or f"No module named {module!r}")
    if not module:
        remedy = sentence("Put a version of the package that has this name into the environment")
    elif _is_absent(detail, module):
        remedy = sentence(
            "Add `{package}` to the pip list of the environment's conda_file "
            "(or, if `{module}` is a file of yours, put it beside the scoring script)",
            package=package_of(module),
            module=module,
        )
    else:
        remedy = sentence(
            "Pin a version of `{package}` that has this name, and what it needs", package=package_of(module)
        )
    text = f"the scoring script cannot import {module or 'a module'}: {detail}"
    return reported(
        instance,
        report,
        "UserScriptImportError",
        text,
        remedy=remedy,
    )


def _init_raised(instance: InstanceEvidence, report: Report) -> Failure:
    message = _message(report)
    if report.get("missing") and ("No module named" in message or "cannot import name" in message):
        return _import_error(instance, report)
    asked = _model_path_in(instance, message)
    if asked is not None and _NO_SUCH.search(message):
        return _model_path(instance, {**report, "missing": asked}, Confidence.LIKELY)
    absent = re.match(r"FileNotFoundError: .*: '(?P<path>/[^']*)'$", message)
    if absent and instance.model_root:
        return _elsewhere(instance, report, absent["path"])
    if message.startswith("PermissionError") or "[Errno 13]" in message:
        return _plain(
            instance, report, "FileAccessDenied", "the script may not open a file or folder it asks for"
        )
    if report.get("kind") == ev.KIND_SCRIPT_RAISED:
        return _plain(instance, report, *_SIMPLE[ev.KIND_SCRIPT_RAISED])
    return _plain(instance, report, *_SIMPLE[ev.KIND_INIT_RAISED])


def _elsewhere(instance: InstanceEvidence, report: Report, path: str) -> Failure:
    """A file outside of the model folder: most often the path of another machine."""
    return reported(
        instance,
        report,
        "UserScriptInitFailed",
        f"init() failed: the file {path} is not there",
        remedy=sentence(
            "If it belongs to the model, register it and open it below os.environ['AZUREML_MODEL_DIR']; if to the code, "
            "put it beside the script and open it below os.path.dirname(__file__)"
        ),
    )


def _model_path_in(instance: InstanceEvidence, message: str) -> str | None:
    """The path below the model folder that an exception of some library mentions."""
    root = instance.model_root.rstrip("/")
    if not root:
        return None
    found = re.search(re.escape(root) + r"[^\s'\"`,;:)\]]*", message)
    return found[0] if found else None


def _function_missing(instance: InstanceEvidence, report: Report) -> Failure:
    missing = listed([f"{name.strip()}()" for name in str(report.get("missing") or "run").split(",")])
    return reported(
        instance,
        report,
        "UserScriptFunctionNotFound",
        f"the scoring script has no {missing}",
        fields={"missing": missing},
    )


def _model_path(
    instance: InstanceEvidence, report: Report, confidence: Confidence = Confidence.CERTAIN
) -> Failure:
    path = str(report.get("missing") or report.get("message") or "")
    tree = lines.model_tree(instance.log_tail)
    place = lines.place_of(report)
    found = _same_name(tree, path)
    remedy = sentence("Make the path in the script fit what is listed above, or register the right files")
    if found:
        parts = ", ".join(repr(part) for part in PurePosixPath(found).parts)
        remedy = sentence(
            "In {place} open os.path.join(os.environ['AZUREML_MODEL_DIR'], {parts})",
            place=place or "score.py",
            parts=parts,
        )
    if not instance.model_root and not tree:
        remedy = sentence("Give the deployment a model (`model:` in its file)")
        path = f"{path}, but the deployment has no model"
    evidence = (
        *([place] if place else []),
        *lines.traceback_of(report),
        *(tree or lines.log_evidence(instance.log_tail)),
    )
    return make(
        instance,
        "ModelPathNotFound",
        f"init() asked for {path}"
        + ("" if path.endswith("no model") else ", which is not in the model folder"),
        confidence=confidence,
        target=place,
        evidence=evidence,
        remedy=remedy,
    )


def _same_name(tree: tuple[str, ...], path: str) -> str | None:
    """Where a file of that name is instead, relative to the model folder; of a folder with one file only, that file."""
    wanted = PurePosixPath(path).name
    folders: list[str] = []
    files: list[str] = []
    for line in tree[2:]:
        depth = (len(line) - len(line.lstrip(" "))) // 4
        name = line.strip()
        folders = folders[: max(0, depth - 1)]
        if name.endswith("/"):
            folders.append(name.rstrip("/"))
        else:
            files.append("/".join((*folders, name)))
    same = [f for f in files if PurePosixPath(f).name == wanted]
    if len(same) == 1:
        return same[0]
    return files[0] if len(files) == 1 and not same else None


def _is_absent(detail: str, module: str) -> bool:
    """A module that is not there at all, not one that failed inside or lacks a name."""
    return "No module named" in detail and module in detail


_BY_KIND: Mapping[str, Callable[[InstanceEvidence, Report], Failure]] = {
    ev.KIND_IMPORT_ERROR: _import_error,
    ev.KIND_INIT_RAISED: _init_raised,
    ev.KIND_SCRIPT_RAISED: _init_raised,
    ev.KIND_FUNCTION_MISSING: _function_missing,
    ev.KIND_MODEL_PATH: _model_path,
}
