"""Verdicts on files that the script opens and that are not there: the model, and where it is instead. Pure."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from moorings.errors.diagnosis import lines
from moorings.errors.diagnosis.evidence import InstanceEvidence
from moorings.errors.diagnosis.raised import Raised
from moorings.errors.diagnosis.verdicts import Report, make, reported
from moorings.errors.exceptions import Confidence, Failure
from moorings.errors.sentence import sentence

_NO_SUCH = re.compile(
    r"\[Errno (?:2|20|21)\]|No such file or directory|does not exist|[Nn]ot found|could not find|"
    r"[Ff]ile doesn't exist"
)
_NO_FILE = frozenset({"FileNotFoundError", "NotADirectoryError", "IsADirectoryError"})
_OPENED = re.compile(r"^FileNotFoundError: \[Errno 2\] .*: b?'(?P<path>[^']*)'$")
"""Whatever language the operating system says it in."""


def of_report(instance: InstanceEvidence, report: Report) -> Failure:
    """The server has seen itself which path below the model folder was asked for."""
    return _model_path(instance, report, str(report.get("missing") or report.get("message") or ""))


def not_given(instance: InstanceEvidence, report: Report) -> Failure:
    """The script asks for a model and the deployment has none."""
    return _model_path(instance, report, str(report.get("missing")))


def of_words(instance: InstanceEvidence, report: Report, raised: Raised) -> Failure | None:
    """An exception that mentions a path which is not in the model."""
    tree = lines.model_tree(instance.log_tail)
    asked = _below_model(instance, raised.words)
    if asked is not None and (raised.name in _NO_FILE or _NO_SUCH.search(raised.words)):
        inside = asked.removeprefix(instance.model_root.rstrip("/")).strip("/")
        if inside not in _files(tree):
            return _model_path(instance, report, asked, Confidence.LIKELY)
    opened = _OPENED.match(raised.words)
    if opened is None:
        return None
    path = opened["path"]
    if instance.model_root and _same_name(tree, path, only_one=False):
        return _model_path(instance, report, path, Confidence.LIKELY)
    return _elsewhere(instance, report, path) if path.startswith("/") and instance.model_root else None


def _elsewhere(instance: InstanceEvidence, report: Report, path: str) -> Failure | None:
    """A file outside of the model folder: most often the path of another machine."""
    if report.get("who"):
        return None
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


def _below_model(instance: InstanceEvidence, words: str) -> str | None:
    root = instance.model_root.rstrip("/")
    if not root:
        return None
    found = re.search(re.escape(root) + r"[^\s'\"`,;:)\]]*", words)
    return found[0] if found else None


def _model_path(
    instance: InstanceEvidence, report: Report, path: str, confidence: Confidence = Confidence.CERTAIN
) -> Failure:
    tree = lines.model_tree(instance.log_tail)
    place = lines.place_of(report)
    trace = lines.traceback_of(report)
    is_folder = bool(trace) and trace[-1].startswith("IsADirectoryError")
    remedy = sentence("Make the path in the script fit what is listed above, or register the right files")
    found = _inside(tree, instance.model_root, path) if is_folder else _same_name(tree, path)
    if found:
        parts = ", ".join(repr(part) for part in PurePosixPath(found).parts)
        remedy = sentence(
            "In {place} open os.path.join(os.environ['AZUREML_MODEL_DIR'], {parts})",
            place=place or "score.py",
            parts=parts,
        )
    text = f"{_who(report)} asked for {path}, which is not in the model folder"
    root = instance.model_root.rstrip("/")
    if root and not path.startswith(root):
        text = f"{_who(report)} opened {path}, which is not there; the model has a file of that name"
    elif is_folder:
        text = f"{_who(report)} opened {path}, which is a folder, as a file"
    elif not instance.model_root and not tree:
        remedy = sentence("Give the deployment a model (`model:` in its file)")
        text = f"{_who(report)} asked for {path}, but the deployment has no model"
    evidence = (
        *([place] if place else []),
        *trace,
        *(tree or lines.log_evidence(instance.log_tail)),
    )
    return make(
        instance,
        "ModelPathNotFound",
        text,
        confidence=confidence,
        target=place,
        evidence=evidence,
        remedy=remedy,
    )


def _who(report: Report) -> str:
    if report.get("who"):
        return str(report["who"])
    return "the script" if str(report.get("message")).startswith("The top level") else "init()"


def _files(tree: tuple[str, ...]) -> list[str]:
    """The files that a listing of the model folder shows, relative to it."""
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
    return files


def _same_name(tree: tuple[str, ...], path: str, *, only_one: bool = True) -> str | None:
    """Where a file of that name is instead, relative to the model folder; `only_one`: of a folder with one file only,
    that file, whatever its name."""
    wanted, files = PurePosixPath(path).name, _files(tree)
    same = [f for f in files if PurePosixPath(f).name == wanted]
    if len(same) == 1:
        return same[0]
    return files[0] if only_one and len(files) == 1 and not same else None


def _inside(tree: tuple[str, ...], root: str, path: str) -> str | None:
    """The only file in a folder of the model."""
    folder = path.removeprefix(root.rstrip("/")).strip("/")
    files = [f for f in _files(tree) if not folder or f.startswith(f"{folder}/")]
    return files[0] if len(files) == 1 else None
