"""What the saved objects that a script loads are made of, told from their bytes: whether they are any, and which modules
they need. Pure, and nothing is ever unpickled: the operations are read as text is.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from moorings.errors.sentence import Sentence, sentence
from moorings.preflight.boot import Boot, Load
from moorings.preflight.findings import Finding, Severity, finding
from moorings.preflight.model_paths import MODEL_DIR, ModelTree
from moorings.preflight.source import Source

HEAD_BYTES = 1 << 16
"""How much of a file is looked at: the classes of a model stand at its beginning."""
NEWEST_PROTOCOL = 5
"""Of pickles, in every Python up to 3.14."""
PLAIN_PICKLE = "pickle.load"
_LFS = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
_OLD_NAMES = frozenset({"copy_reg", "__builtin__", "cPickle", "_reconstructor", "__builtins__"})
"""Modules of Python 2, which unpickling maps to those of today."""
_STRINGS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})
_PUTS = frozenset({"BINPUT", "LONG_BINPUT", "PUT"})
_GETS = frozenset({"BINGET", "LONG_BINGET", "GET"})
_ARRAYS = "joblib.numpy_pickle"
"""Behind such an object stand the bytes of an array, which are no operations."""


@dataclass(frozen=True)
class Content:
    """The beginning of a file."""

    size_bytes: int
    head: bytes

    @property
    def whole(self) -> bool:
        return len(self.head) == self.size_bytes


@dataclass(frozen=True)
class Pickled:
    """What the operations of a pickle tell."""

    modules: tuple[str, ...]
    """That its objects come from, in the order in which they are named."""
    ends: bool
    """Whether the last operation is there."""


Read = Callable[[str], Content | None]
"""The content of a file of the model (relative to the model folder); None where it cannot be read."""


def content_findings(source: Source, boot: Boot, tree: ModelTree, read: Read, *, again: str) -> list[Finding]:
    """The loads that will fail because of what the file is."""
    found: list[Finding] = []
    for load, inside, content in _loaded(boot, tree, read):
        told = _told(load, content, again) or _own_class(source, load, content, again)
        if told is None:
            continue
        code, what, remedy = told
        found.append(
            finding(
                Severity.ERROR if load.surely else Severity.WARNING,
                code,
                f"{load.dotted}() reads ${MODEL_DIR}/{inside}, and {what}",
                place=source.place(load.node),
                evidence=source.evidence(load.node),
                fix=remedy,
            )
        )
    return found


def needed_modules(boot: Boot, tree: ModelTree, read: Read) -> Iterator[tuple[Load, str, str]]:
    """Load, path below the model folder, and a module that the saved objects need."""
    for load, inside, content in _loaded(boot, tree, read):
        for module in pickled(content.head).modules:
            if module.partition(".")[0] not in (*_OLD_NAMES, "__main__", ""):
                yield load, inside, module


def pickled(data: bytes) -> Pickled:
    """Reads any bytes; what is no pickle has no modules."""
    modules: dict[str, None] = {}
    strings: list[str | None] = []
    memo: dict[int, str | None] = {}
    last: str | None = None
    arrays = ends = False
    try:
        for operation, argument, _ in pickletools.genops(data):
            name, module = operation.name, None
            if name in ("GLOBAL", "INST"):
                module = str(argument).partition(" ")[0]
            elif name == "STACK_GLOBAL":
                module = strings[-2] if len(strings) > 1 else None
            elif name == "MEMOIZE":
                memo[len(memo)] = last
            elif name in _PUTS:
                memo[int(str(argument))] = last
            elif name == "BUILD" and arrays:
                break
            last = _string(name, argument, memo)
            if last is not None:
                strings = [*strings[-1:], last]
            if module is not None:
                modules[module] = None
                arrays = arrays or module == _ARRAYS
            ends = name == "STOP"
    except (ValueError, IndexError, OverflowError, struct.error):
        pass  # no pickle, or cut off: what was read until there counts
    return Pickled(tuple(modules), ends or arrays)


def _string(name: str, argument: object, memo: dict[int, str | None]) -> str | None:
    """The text that an operation puts on the stack; None for anything else."""
    if name in _STRINGS:
        return str(argument)
    return memo.get(int(str(argument))) if name in _GETS else None


def _loaded(boot: Boot, tree: ModelTree, read: Read) -> Iterator[tuple[Load, str, Content]]:
    for load in boot.loads:
        inside = tree.relative(load.path)
        content = read(inside) if inside and tree.kind(load.path) == "file" else None
        if inside and content is not None:
            yield load, inside, content


def _told(load: Load, content: Content, again: str) -> tuple[str, str, Sentence] | None:
    """Code, what the file is, and what to do about it; None for what may well be a saved object."""
    head, invalid = content.head, "ModelFileInvalid"
    if not content.size_bytes:
        return invalid, "the file is empty", sentence("Save the model anew, then: {again}", again=again)
    if head.startswith(_LFS):
        what = "it is a pointer of Git LFS, not the model"
        return (
            invalid,
            what,
            sentence("Fetch the file it stands for (git lfs pull), then: {again}", again=again),
        )
    if head.lstrip()[:16].lower().startswith(_PAGES):
        return (
            invalid,
            "it is a web page, not a model",
            sentence("Download the model again, then: {again}", again=again),
        )
    if head[:1] == b"\x80" and len(head) > 1 and head[1] > NEWEST_PROTOCOL:
        what = f"it has pickle protocol {head[1]}, which no Python here knows"
        return (
            "PickleVersionMismatch",
            what,
            sentence(
                "Save the model with protocol={number}, then: {again}",
                number=str(NEWEST_PROTOCOL),
                again=again,
            ),
        )
    if load.dotted != PLAIN_PICKLE:
        return None
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            return (
                invalid,
                f"it is compressed ({kind})",
                sentence(
                    "Save it without compression, or open it with the module that unpacks it, then: {again}",
                    again=again,
                ),
            )
    if content.whole and not pickled(head).ends:
        return (
            invalid,
            "it is no whole pickle: its end is missing, or it is something else",
            sentence("Save the model anew, then: {again}", again=again),
        )
    return None


def _own_class(source: Source, load: Load, content: Content, again: str) -> tuple[str, str, Sentence] | None:
    """A class of the program that saved it, which the server is not."""
    if load.dotted not in (PLAIN_PICKLE, "joblib.load") or "__main__" not in pickled(content.head).modules:
        return None
    if any("__main__" in line and "__name__" not in line for line in source.lines):
        return None  # the script puts it there itself
    what = "it holds an object whose class was defined in the program that saved it (`__main__`)"
    remedy = sentence(
        "Define the class in a module beside the script, import it from there where the model is saved, save it anew, "
        "then: {again}",
        again=again,
    )
    return "PickleClassMissing", what, remedy
