"""Verdicts on a model file that cannot be loaded: saved with other versions, by a class that is not there, or no model
file at all. Pure."""

from __future__ import annotations

import re

from moorings.errors.diagnosis import lines
from moorings.errors.diagnosis.evidence import InstanceEvidence
from moorings.errors.diagnosis.packages import package_of
from moorings.errors.diagnosis.raised import Raised
from moorings.errors.diagnosis.verdicts import Report, reported
from moorings.errors.exceptions import Confidence, Failure
from moorings.errors.sentence import Sentence, sentence

_LOADS = re.compile(
    r"pickle|joblib|\bdill\b|numpy_pickle|torch/serialization|torch\.load|load_model|\.load\(|\bloads?\(|find_class|"
    r"InferenceSession|safe_open|load_file\(|Booster\(|h5py"
)
_PICKLES = re.compile(r"pickle|joblib|\bdill\b|torch/serialization|torch\.load|keras|load_model")
_IMPORTS = re.compile(r"^\s*(?:from|import)\s")
_WRONG_ARGUMENT = re.compile(r"(?:(?P<type>\w+)\.)?__init__\(\) got an unexpected keyword argument")
_ATTRIBUTE = re.compile(
    r"Can't get attribute '(?P<name>[\w.]+)' on <module '(?P<module>[\w.]+)'(?: from '(?P<file>[^']+)')?"
)
_SUBMODULE = re.compile(r"No module named '(?P<module>\w+(?:\.\w+)+)'")
_PROTOCOL = re.compile(r"unsupported pickle protocol: (?P<number>\d+)")
_SAVED_WITH = re.compile(
    r"unpickle estimator (?P<name>\w+) from version (?P<old>[\w.]+) when using version (?P<new>[\w.]+)"
)
_NO_MODEL = (
    "invalid load key",
    "Ran out of input",
    "pickle data was truncated",
    "could not find MARK",
    "STACK_GLOBAL requires str",
    "unpickling stack underflow",
    "as a pickle",
    "PytorchStreamReader failed",
    "file signature not found",
    "truncated file",
    "INVALID_PROTOBUF",
    "InvalidProtobuf",
    "HeaderTooLarge",
    "HeaderTooSmall",
    "InvalidHeader",
    "MetadataIncompleteBuffer",
    "Model format error",
)
_OTHER_SHAPE = (
    "incompatible dtype",
    "node array from the pickle",
    "code expected at most",
    "code() argument",
    "an integer is required (got type bytes)",
    "is not a known BitGenerator",
    "bad marshal data",
)


def of_model_file(instance: InstanceEvidence, report: Report, raised: Raised) -> Failure | None:
    """A verdict when it was while a saved object was read; None otherwise."""
    told = [f"{frame.file} {frame.text}" for frame in raised.frames] or [str(report.get("text") or "")]
    if not any(_LOADS.search(line) for line in told):
        return None
    said = raised.words
    own_class = _ATTRIBUTE.search(said)
    if own_class and own_class["module"].endswith(("__main__", "__mp_main__", "entry_script")):
        return _class_missing(instance, report, own_class["name"])
    if own_class and _is_own(instance, own_class["file"]):
        return _class_missing(instance, report, own_class["name"], own_class["module"])
    if any(sign in said for sign in _NO_MODEL) or raised.name == "EOFError":
        return _no_model(instance, report, said)
    if raised.inner is not None and _IMPORTS.match(raised.inner.text):
        return None  # it imports by itself; no saved object asks for it
    return _other_version(instance, report, raised, pickled=any(_PICKLES.search(line) for line in told))


def _other_shape(raised: Raised) -> bool:
    """An object of another version does not take what was saved."""
    wrong = _WRONG_ARGUMENT.search(raised.words)
    if wrong:
        called = f"{wrong['type']}(" if wrong["type"] else "__init__("
        return raised.inner is None or called not in raised.inner.text
    return any(sign in raised.words for sign in _OTHER_SHAPE)


def _is_own(instance: InstanceEvidence, file: str | None) -> bool:
    return bool(file and instance.code_root and file.startswith(instance.code_root.rstrip("/") + "/"))


def _class_missing(instance: InstanceEvidence, report: Report, name: str, module: str = "") -> Failure:
    where = f"the module {module}" if module else "the program that saved it (`__main__`)"
    remedy = (
        sentence("Define {name} in {module}.py of the code folder again", name=name, module=module)
        if module
        else sentence(
            "Put {name} into a module of its own beside the scoring script, import it from there where the model is "
            "trained, and save the model again",
            name=name,
        )
    )
    return reported(
        instance,
        report,
        "PickleClassMissing",
        f"the model was saved with an object of {name}, defined in {where}, which is not there when it is loaded",
        remedy=remedy,
    )


def _no_model(instance: InstanceEvidence, report: Report, said: str) -> Failure:
    why, remedy = (
        "it is not a file of this format",
        sentence("Register the file that was saved by the training (moor model create)"),
    )
    if "invalid load key, 'v'" in said:
        why = (
            "it begins like a pointer of Git LFS (`version https://...`): the model itself was never fetched"
        )
        remedy = sentence("Run `git lfs pull` and register the model again (moor model create)")
    elif "invalid load key, '<'" in said:
        why = "it begins like a web page, most likely an error page that was downloaded in its place"
        remedy = sentence("Download the model again and register that (moor model create)")
    elif "invalid load key, '\\x1f'" in said:
        why = "it is compressed with gzip"
        remedy = sentence("Open it with gzip.open(), or register it uncompressed (moor model create)")
    elif "Ran out of input" in said or said.startswith("EOFError"):
        why = "it is empty or ends too early"
        remedy = sentence("Look at its size, save the model again and register that (moor model create)")
    elif "truncated" in said or "TooSmall" in said or "IncompleteBuffer" in said:
        why = "it ends too early"
        remedy = sentence("Copy the model again and register that (moor model create)")
    return reported(
        instance,
        report,
        "ModelFileInvalid",
        f"the model file cannot be read: {why} ({said})",
        more=lines.model_tree(instance.log_tail),
        remedy=remedy,
    )


def _other_version(
    instance: InstanceEvidence, report: Report, raised: Raised, *, pickled: bool
) -> Failure | None:
    package, versions, confidence, said = "", None, Confidence.LIKELY, raised.words
    for line in instance.log_tail if pickled else ():
        warned = _SAVED_WITH.search(line)
        if warned:
            versions, package, confidence = warned, "scikit-learn", Confidence.CERTAIN
    attribute, submodule, protocol = _ATTRIBUTE.search(said), _SUBMODULE.search(said), _PROTOCOL.search(said)
    if protocol:
        text = (
            f"the model was saved with pickle protocol {protocol['number']}, which this Python does not know"
        )
        remedy = sentence(
            "Ask for the Python that saved the model (`python=` in the conda_file), or save it again with protocol=4"
        )
        return _mismatch(instance, report, text, remedy, Confidence.CERTAIN)
    if attribute:
        package = package or package_of(attribute["module"])
    elif submodule:
        package = package or package_of(submodule["module"])
    elif not versions and not _other_shape(raised):
        return None
    if versions:
        remedy = sentence(
            "Pin `{package}=={old}` in the conda_file, or save the model again with {new}",
            package=package,
            old=versions["old"],
            new=versions["new"],
        )
        text = f"the model was saved with {package} {versions['old']} and is loaded with {versions['new']}: {said}"
    else:
        remedy = (
            sentence(
                "Pin the version of `{package}` that saved the model in the environment's conda_file "
                "(where it was trained: pip freeze), or save the model again",
                package=package,
            )
            if package
            else sentence(
                "Pin the versions of the packages that saved the model in the environment's conda_file "
                "(where it was trained: pip freeze), or save the model again"
            )
        )
        text = f"the model was saved with another version of {package or 'a package'} than is loaded: {said}"
    return _mismatch(instance, report, text, remedy, confidence)


def _mismatch(
    instance: InstanceEvidence, report: Report, text: str, remedy: Sentence, confidence: Confidence
) -> Failure:
    warned = tuple(line for line in instance.log_tail if _SAVED_WITH.search(line))[-3:]
    return reported(
        instance,
        report,
        "PickleVersionMismatch",
        text,
        confidence=confidence,
        more=warned,
        remedy=remedy,
    )
