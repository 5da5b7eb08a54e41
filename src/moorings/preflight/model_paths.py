"""What becomes of a script when it starts: whether the files of the model that it opens are there, and whether it gets to its
end. Pure: it is given the tree of the model and what `boot` found."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from moorings.errors.sentence import sentence
from moorings.preflight.boot import Boot, Use
from moorings.preflight.findings import Finding, Severity, finding
from moorings.preflight.source import Source

MODEL_DIR = "AZUREML_MODEL_DIR"
MOST_LISTED = 20
_OPENERS = frozenset({"open", "joblib.load", "io.open", "gzip.open", "torch.jit.load", "codecs.open"})
"""What takes a file, and never a folder."""
_OPENING_METHODS = frozenset({"open", "read_text", "read_bytes", "iterdir", "stat"})
_READERS = ("load", "read", "open", "from_pretrained", "InferenceSession", "listdir", "scandir", "Booster")
_QUIET = frozenset(
    """
    print info debug warning warn error exception critical log format str repr len isinstance exists isfile isdir is_file
    is_dir mkdir makedirs join joinpath Path PurePath PosixPath dirname basename split splitext abspath normpath realpath
    fspath getenv get setdefault append insert extend add startswith endswith replace strip lstrip rstrip lower upper
    relpath rmtree remove unlink touch save dump write write_text write_bytes savetxt to_csv to_json to_pickle partition
    rpartition glob rglob resolve absolute iglob getattr setattr hasattr setLevel getLogger update encode removeprefix
    removesuffix islink lexists is_symlink commonpath expandvars expanduser with_name with_suffix with_stem as_posix
    environ putenv chdir addsitedir isabs suppress
    """.split()  # noqa: SIM905 - a table of words
)
"""What does nothing with a path that would need a file there."""
_MAKERS = frozenset(
    """mkdir makedirs touch save dump write_text write_bytes savetxt to_csv to_json to_pickle copy copyfile copytree
    extractall urlretrieve symlink rename move""".split()  # noqa: SIM905 - a table of words
)


@dataclass(frozen=True)
class ModelTree:
    """What lies below `AZUREML_MODEL_DIR`. `root` is that folder's path in the instance."""

    root: str
    files: tuple[str, ...]
    """Relative to `root`, with `/`."""
    empty_folders: tuple[str, ...] = ()

    @cached_property
    def folders(self) -> frozenset[str]:
        found = {""}
        for path in (*self.files, *(f"{folder}/" for folder in self.empty_folders)):
            parts = path.split("/")[:-1]
            found.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        return frozenset(found)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.files)

    def relative(self, path: str) -> str | None:
        """The path below `root`; None for one that leads elsewhere."""
        whole = posixpath.normpath(path)
        if whole == self.root:
            return ""
        return whole[len(self.root) + 1 :] if whole.startswith(f"{self.root}/") else None

    def kind(self, path: str) -> str | None:
        inside = self.relative(path)
        if inside is None:
            return None
        if inside in self._names:
            return "file"
        return "folder" if inside in self.folders else "missing"


def path_findings(source: Source, boot: Boot, tree: ModelTree, *, again: str) -> list[Finding]:
    """The calls that ask for something which is not there. `boot` has been followed."""
    found: list[Finding] = []
    made: set[str] = set()
    for use in boot.uses:
        inside = tree.relative(use.path)
        kind = tree.kind(use.path)
        if inside is None or kind is None:
            continue
        if _writes(use) or use.function in _MAKERS:
            made.add(inside)
        elif use.function in _QUIET or any(_below(inside, each) for each in made):
            continue
        elif kind == "missing":
            found.append(_missing(source, use, inside, tree, again))
            if not _reads(use):
                made.add(inside)  # it may well have been asked to make it
        elif kind == "folder" and _takes_file(use):
            found.append(_folder(source, use, inside, tree, again))
        elif kind == "folder" and not _reads(use) and not use.owner:
            made.add(inside)  # what is given a folder may well put files into it
    return found


def _below(inside: str, folder: str) -> bool:
    return not folder or inside == folder or inside.startswith(f"{folder}/")


def lookup_findings(source: Source, boot: Boot, *, again: str) -> list[Finding]:
    """A deployment without a model whose script asks where the model is."""
    found: list[Finding] = []
    for lookup in boot.lookups:
        message = f"the script reads {lookup.name}, and the deployment has no `model`, so it is not set"
        found.append(
            finding(
                Severity.ERROR if lookup.surely else Severity.WARNING,
                "ModelPathNotFound",
                message,
                place=source.place(lookup.node),
                evidence=source.evidence(lookup.node),
                fix=sentence(
                    "Add `model:` to the deployment, or leave the line out, then: {again}", again=again
                ),
            )
        )
    return found


def end_findings(source: Source, boot: Boot, *, again: str) -> list[Finding]:
    """A script that cannot start, whatever it finds: its first surely reached `raise` or exit. `boot` has been followed."""
    found: list[Finding] = []
    for end in boot.ends[:1]:
        where = "init()" if end.function else "the top level of the script"
        found.append(
            finding(
                Severity.ERROR,
                "UserScriptInitFailed" if end.function else "ScriptRaised",
                f"`{end.text}` is reached whenever {where} runs, so the deployment never starts",
                place=source.place(end.node),
                evidence=source.evidence(end.node),
                fix=sentence("Take it out, or put it under its condition, then: {again}", again=again),
            )
        )
    return found


def _missing(source: Source, use: Use, inside: str, tree: ModelTree, again: str) -> Finding:
    sure = use.surely and (_reads(use) or use.owner)
    near = _nearest(inside, tree)
    hint = f"; did you mean ${MODEL_DIR}/{near}?" if near else ""
    message = f"{_called(use)} asks for ${MODEL_DIR}/{inside}, which the model does not have{hint}"
    fix = sentence(
        "Make the path in the script fit what is listed above, or `model.path` hold it, then: {again}",
        again=again,
    )
    if near:
        path = f"${MODEL_DIR}/{near}"
        fix = sentence("Write {path} in {script}, then: {again}", path=path, script=source.name, again=again)
    return finding(
        Severity.ERROR if sure else Severity.WARNING,
        "ModelPathNotFound",
        message,
        place=source.place(use.node),
        evidence=(*source.evidence(use.node), *_listed(tree)),
        fix=fix,
    )


def _folder(source: Source, use: Use, inside: str, tree: ModelTree, again: str) -> Finding:
    where = f"${MODEL_DIR}/{inside}" if inside else f"${MODEL_DIR}"
    below = [name for name in tree.files if name.startswith(f"{inside}/" if inside else "")]
    hint = f"; the file in it is ${MODEL_DIR}/{below[0]}" if len(below) == 1 else ""
    message = f"{_called(use)} opens {where}, which is a folder{hint}"
    fix = sentence("Add the name of the file to the path, then: {again}", again=again)
    return finding(
        Severity.ERROR if use.surely else Severity.WARNING,
        "ModelPathNotFound",
        message,
        place=source.place(use.node),
        evidence=(*source.evidence(use.node), *_listed(tree)),
        fix=fix,
    )


def _listed(tree: ModelTree) -> Iterator[str]:
    yield f"{MODEL_DIR} holds:"
    names = sorted([*tree.files, *(f"{folder}/" for folder in tree.empty_folders)])
    yield from (f"  {name}" for name in names[:MOST_LISTED])
    if len(names) > MOST_LISTED:
        yield f"  ... and {len(names) - MOST_LISTED} more"
    if not names:
        yield "  nothing"


def _nearest(inside: str, tree: ModelTree) -> str | None:
    """A file of the same name elsewhere, else one of a similar path."""
    name = posixpath.basename(inside)
    same = [each for each in (*tree.files, *tree.folders) if each and posixpath.basename(each) == name]
    if same:
        return min(same, key=lambda each: (each.count("/"), each))
    close = difflib.get_close_matches(inside, tree.files[:2000], n=1, cutoff=0.7)
    return close[0] if close else None


def _called(use: Use) -> str:
    return f"{use.dotted or use.function or 'a call'}()"


def _reads(use: Use) -> bool:
    return use.dotted in _OPENERS or any(
        use.function == word or use.function.startswith((f"{word}_", f"{word}l")) for word in _READERS
    )


def _takes_file(use: Use) -> bool:
    return use.function in ("open", "read_text", "read_bytes") if use.owner else use.dotted in _OPENERS


def _writes(use: Use) -> bool:
    if use.owner and use.function not in _OPENING_METHODS:
        return True
    opens = use.dotted in _OPENERS or use.function == "open"
    return (
        opens
        and use.mode is not None
        and set(use.mode) <= set("rwaxtb+U")
        and bool(set(use.mode) & set("wax"))
    )
