"""The boot report: one small JSON file in which a worker says that it is ready, or how it failed to boot.

Knows how to turn an exception of user code into evidence (kind, frames, file, line); decides nothing about
it.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import tempfile
import threading
import traceback
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from moorings_server import contract

OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
MESSAGE_LIMIT_CHARS = 4_000
TRACEBACK_LIMIT_CHARS = 32_000
WORDS_LIMIT_CHARS = 16_000
MOST_EXCEPTIONS = 100
"""A chain or group of more is shown in part."""
MOST_SHOWN = 10
MOST_FRAMES = 1_000
TREE_LIMIT_LINES = 200


class BootFailure(Exception):  # noqa: N818 - the outcome of a boot
    """The worker cannot serve: `kind` is one of contract.KIND_*, `missing` what was looked for, the cause (if
    any) the exception of user code. Always the fault of the script, the model or the settings."""

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        cause: Optional[BaseException] = None,
        missing: Optional[str] = None,
        file: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.cause = cause
        self.missing = missing
        self.file = file


def said(failure: BaseException) -> str:
    """`Type: words` of an exception, also of one that cannot be turned into words."""
    name, words = _name(failure), words_of(failure)
    return "%s: %s" % (name, words) if words else name


def words_of(failure: BaseException) -> str:
    """`str()` of an exception (its beginning, when it is very long), or that it has none."""
    try:
        # What user code gives may be a text whose own methods raise.
        return str.__getitem__(str(failure), slice(WORDS_LIMIT_CHARS))
    except BaseException as second:  # user code may raise anything there, even SystemExit
        return "(its words are not known: str() of this %s raised %s)" % (_name(failure), _name(second))


def users_traceback(failure: BaseException) -> str:
    """The text of a traceback without the frames of this server and of the import machinery; of a very long one its
    beginning and its end."""
    try:
        text = _users_traceback(failure) if _is_short(failure) else _newest(failure)
    except BaseException as second:  # an exception of user code may have properties that raise
        text = "%s (it cannot be shown: %s)" % (_alone(failure), _name(second))
    left_out = len(text) - TRACEBACK_LIMIT_CHARS
    if left_out <= 0:
        return text
    begin = TRACEBACK_LIMIT_CHARS // 4
    return "%s\n... (%d characters are left out)\n%s" % (text[:begin], left_out, text[begin + left_out :])


def _users_traceback(failure: BaseException) -> str:
    rendered = traceback.TracebackException.from_exception(failure)
    seen: Set[int] = set()
    waiting: List[Optional[traceback.TracebackException]] = [rendered]
    while waiting:
        part = waiting.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        part.stack = traceback.StackSummary.from_list(
            [frame for frame in part.stack if not _is_ours(frame.filename)]
        )
        waiting += [part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())]
    return "".join(rendered.format()).rstrip("\n")


def _is_short(failure: BaseException) -> bool:
    """Whether an exception leads to few others. (The interpreter's own rendering takes all of them, in memory and time.)"""
    seen: Set[int] = set()
    waiting: List[Optional[BaseException]] = [failure]
    while waiting and len(seen) <= MOST_EXCEPTIONS:
        part = waiting.pop()
        if part is not None and id(part) not in seen:
            seen.add(id(part))
            waiting += [cause_of(part), context_of(part), *_members(part)[: MOST_EXCEPTIONS + 1]]
    return len(seen) <= MOST_EXCEPTIONS


def _newest(failure: BaseException) -> str:
    """The last few exceptions of a chain, each by itself."""
    texts: List[str] = []
    part: Optional[BaseException] = failure
    while part is not None and len(texts) < MOST_SHOWN:
        members = _members(part)
        texts.append(_alone(part) + (" (%d exceptions in it)" % len(members) if members else ""))
        part = cause_of(part) or context_of(part)
    texts.append("(there are too many exceptions to show all of them)")
    return "\n\nwhich led to:\n\n".join(reversed(texts))


def _alone(failure: BaseException) -> str:
    """One exception without those it came from, and without a call of anything that user code may have overridden, but for
    `str()`."""
    frames = [frame for frame in _frames(failure) if not _is_ours(frame.filename)]
    return "".join(["Traceback (most recent call last):\n", *traceback.format_list(frames), said(failure)])


def _frames(failure: BaseException) -> List[traceback.FrameSummary]:
    trace = BaseException.__traceback__.__get__(failure)  # type: ignore[attr-defined]
    return list(traceback.extract_tb(trace, limit=-MOST_FRAMES))


def _name(failure: BaseException) -> str:
    return str(type.__dict__["__name__"].__get__(type(failure)))


def cause_of(failure: BaseException) -> Optional[BaseException]:
    """Its `__cause__`, whatever its class says that is."""
    found: Optional[BaseException] = BaseException.__cause__.__get__(failure)  # type: ignore[attr-defined, union-attr]
    return found


def context_of(failure: BaseException) -> Optional[BaseException]:
    found: Optional[BaseException] = BaseException.__context__.__get__(failure)  # type: ignore[attr-defined, union-attr]
    return found


def _members(failure: BaseException) -> Sequence[BaseException]:
    group = getattr(builtins, "BaseExceptionGroup", None)
    if group is None or not issubclass(type(failure), group):
        return ()
    found: Sequence[BaseException] = group.exceptions.__get__(failure)
    return found


def stacks(frames: Mapping[int, Any], tasks: Sequence[Any]) -> str:
    """Where user code is in each thread (`frames` by thread id) and each asyncio task; those without any are left
    out."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found = [
        (names.get(ident, str(ident)), traceback.extract_stack(frame)) for ident, frame in frames.items()
    ]
    for task in tasks:
        inner = [traceback.extract_stack(frame, 1)[0] for frame in _awaited(task.get_coro())]
        found.append(("task of run()", traceback.StackSummary.from_list(inner)))
    lines: List[str] = []
    for name, stack in found:
        users = [frame for frame in stack if not _is_ours(frame.filename) and not _is_library(frame.filename)]
        if users:
            kept = [frame for frame in stack if not _is_ours(frame.filename)]
            lines += ["%s:\n" % name] + traceback.format_list(kept)
    return "".join(lines).rstrip("\n") or "(no thread is in user code)"


def _awaited(coroutine: Any) -> Iterator[Any]:
    """The frames from a coroutine to what it waits for in the end."""
    while coroutine is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(coroutine, kind + "_frame")), None)
        if kind is None:
            return
        frame = getattr(coroutine, kind + "_frame")
        if frame is not None:
            yield frame
        coroutine = getattr(coroutine, "gi_yieldfrom" if kind == "gi" else kind + "_await")


def _is_library(filename: str) -> bool:
    return filename.startswith((os.path.dirname(os.__file__) + os.sep, "<"))


def _is_ours(filename: str) -> bool:
    return filename.startswith((OWN_FOLDER, "<frozen importlib", "<frozen runpy", "<frozen zipimport"))


def is_unreadable(failure: BaseException, script: str = "") -> bool:
    """Whether a file is no Python; what `eval` and the like say of a text is an exception like others. `script`: what was
    being imported: where a file cannot be read as text at all, nothing says which it is."""
    if not issubclass(type(failure), SyntaxError):
        return False
    filename = SyntaxError.__dict__["filename"].__get__(failure)
    if filename:
        return not (filename if type(filename) is str else "").startswith("<")
    return bool(script) and not any(not _is_ours(frame.filename) for frame in _frames(failure))


def location(
    failure: BaseException, user_folders: Tuple[str, ...]
) -> Tuple[Optional[str], Optional[int], Optional[str]]:
    """(file, line, source text) where user code failed: the innermost frame below one of `user_folders`, or
    else the innermost frame that is not this server's."""
    if is_unreadable(failure):
        known = _place(failure)
        if known is not None:
            return known
    frames = [frame for frame in _frames(failure) if not _is_ours(frame.filename)]
    mine = [frame for frame in frames if _is_below(frame.filename, user_folders)]
    if not frames:
        return None, None, None
    chosen = (mine or frames)[-1]
    return chosen.filename, chosen.lineno, chosen.line or None


def _place(failure: BaseException) -> Optional[Tuple[str, Optional[int], Optional[str]]]:
    """What an error of syntax says itself, as far as it is what it should be."""
    file, line, text = (
        SyntaxError.__dict__[name].__get__(failure) for name in ("filename", "lineno", "text")
    )
    if type(file) is not str or not file:
        return None
    line = line if type(line) is int else None
    return file, line, (text.strip() or None) if type(text) is str else None


def _is_below(filename: str, folders: Tuple[str, ...]) -> bool:
    path = os.path.abspath(filename)
    return "site-packages" not in path and any(
        path.startswith(os.path.join(folder, "")) for folder in folders
    )


def ready(pid: int, seconds: float) -> Dict[str, Any]:
    """The report of a worker that serves."""
    empty = dict.fromkeys(("kind", "message", "traceback", "file", "line", "text", "missing"))
    return dict({"outcome": contract.BOOT_READY, "pid": pid, "seconds": round(seconds, 3)}, **empty)


def failed(failure: BootFailure, pid: int, seconds: float, user_folders: Tuple[str, ...]) -> Dict[str, Any]:
    """The report of a worker that could not boot."""
    file, line, text = failure.file, None, None
    trace = None
    if failure.cause is not None:
        trace = users_traceback(failure.cause)
        file, line, text = location(failure.cause, user_folders)
        file = file or failure.file
    return {
        "outcome": contract.BOOT_FAILED,
        "pid": pid,
        "seconds": round(seconds, 3),
        "kind": failure.kind,
        "message": failure.message[:MESSAGE_LIMIT_CHARS],
        "traceback": trace,
        "file": file,
        "line": line,
        "text": text,
        "missing": failure.missing,
    }


def write(path: str, content: Dict[str, Any]) -> None:
    """Replace `path` by `content` in one step (0600). Raises OSError: the machine's fault."""
    folder = os.path.dirname(os.path.abspath(path))
    fd, temporary = tempfile.mkstemp(dir=folder, prefix=".boot-report.")
    try:
        with os.fdopen(fd, "wb") as handle:
            handle.write(json.dumps(content).encode("ascii"))
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def tree(folder: str, limit_lines: int = TREE_LIMIT_LINES) -> List[str]:
    """The names below `folder`, indented by depth, sorted, at most `limit_lines` and a note when there are
    more."""
    lines: List[str] = []
    waiting = [(folder, 0)]
    while waiting:
        path, depth = waiting.pop()
        name = os.path.basename(path.rstrip(os.sep)) if depth else path
        is_folder = os.path.isdir(path) and (depth == 0 or not os.path.islink(path))
        if len(lines) == limit_lines:
            lines.append("... (only the first %d lines are shown)" % limit_lines)
            break
        lines.append("    " * depth + name + ("/" if is_folder else ""))
        if is_folder:
            try:
                names = sorted(os.listdir(path), reverse=True)
            except OSError as failure:
                lines[-1] += " (cannot be listed: %s)" % failure.strerror
                continue
            waiting += [(os.path.join(path, name), depth + 1) for name in names]
    return lines
