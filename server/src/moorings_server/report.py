"""The boot report: one small JSON file in which a worker says that it is ready, or how it failed to boot.

Knows how to turn an exception of user code into evidence (kind, frames, file, line); decides nothing about
it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import traceback
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from moorings_server import contract

OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
MESSAGE_LIMIT_CHARS = 4_000
TRACEBACK_LIMIT_CHARS = 32_000
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
    name, words = type(failure).__name__, words_of(failure)
    return "%s: %s" % (name, words) if words else name


def words_of(failure: BaseException) -> str:
    """`str()` of an exception, or that it has none."""
    try:
        return str(failure)
    except BaseException as second:  # user code may raise anything there, even SystemExit
        return "(its words are not known: str() of this %s raised %s)" % (
            type(failure).__name__,
            type(second).__name__,
        )


def users_traceback(failure: BaseException) -> str:
    """The text of a traceback without the frames of this server and of the import machinery."""
    try:
        return _users_traceback(failure)
    except BaseException as second:  # an exception of user code may have properties that raise
        frames = [f for f in traceback.extract_tb(failure.__traceback__) if not _is_ours(f.filename)]
        lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)]
        return "".join(lines) + "%s (it cannot be shown: %s)" % (
            type(failure).__name__,
            type(second).__name__,
        )


def _users_traceback(failure: BaseException) -> str:
    rendered = traceback.TracebackException.from_exception(failure)
    seen: List[traceback.TracebackException] = []
    waiting: List[Optional[traceback.TracebackException]] = [rendered]
    while waiting:
        part = waiting.pop()
        if part is None or part in seen:
            continue
        seen.append(part)
        part.stack = traceback.StackSummary.from_list(
            [frame for frame in part.stack if not _is_ours(frame.filename)]
        )
        waiting += [part.__cause__, part.__context__]
    return "".join(rendered.format()).rstrip("\n")


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
    if not isinstance(failure, SyntaxError):
        return False
    if failure.filename:
        return not str(failure.filename).startswith("<")
    return bool(script) and not any(
        not _is_ours(frame.filename) for frame in traceback.extract_tb(failure.__traceback__)
    )


def location(
    failure: BaseException, user_folders: Tuple[str, ...]
) -> Tuple[Optional[str], Optional[int], Optional[str]]:
    """(file, line, source text) where user code failed: the innermost frame below one of `user_folders`, or
    else the innermost frame that is not this server's."""
    if isinstance(failure, SyntaxError) and is_unreadable(failure):
        return failure.filename, failure.lineno, (failure.text or "").strip() or None
    frames = [frame for frame in traceback.extract_tb(failure.__traceback__) if not _is_ours(frame.filename)]
    mine = [frame for frame in frames if _is_below(frame.filename, user_folders)]
    if not frames:
        return None, None, None
    chosen = (mine or frames)[-1]
    return chosen.filename, chosen.lineno, chosen.line or None


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
        trace = users_traceback(failure.cause)[-TRACEBACK_LIMIT_CHARS:]
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
