"""Bring the files of a model or code version to a folder of this machine. What the server says about paths is not believed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from moorings.client.client import Client
from moorings.client.intake import Intake, Watch
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import procs

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True)
class _File:
    path: str
    size_bytes: int
    sha256: str
    executable: bool


def download(
    client: Client, kind: str, name: str, version: str, folder: Path, *, watch: Watch | None = None
) -> Path:
    """Put the files of a version below `folder/name`, which appears when all of them are there; returns it.

    Raises `DownloadTargetExists` (the user's fault) where something is there already, `DownloadNoSpace` before
    anything is written, `DownloadUnwritable` (the machine's), `WorkspaceAnswerInvalid` for paths that would
    lead out of the folder and for content that is not what its digest says. Then nothing is left behind.
    """
    target = folder.absolute() / name
    files, empty = _listed(client.asset_files(kind, name, version))
    _check_target(target)
    _check_room(target, sum(file.size_bytes for file in files))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        with _partial(target) as partial:
            meter = _Meter(sum(file.size_bytes for file in files), watch)
            for each in empty:
                (partial / each).mkdir(parents=True, exist_ok=True)
            for file in files:
                _fetch(client, (kind, name, version), file, partial, meter)
            _check_target(target)
            partial.rename(target)  # an empty folder is replaced; anything else is refused by the kernel
    except OSError as problem:
        raise _unwritable(problem, target) from None
    finally:
        if watch is not None:
            watch(None)
    return target


def _fetch(client: Client, of: tuple[str, str, str], file: _File, partial: Path, meter: _Meter) -> None:
    place = partial / file.path
    place.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with place.open("xb", buffering=0) as sink:

        def write(chunk: bytes | memoryview) -> None:
            rest = memoryview(chunk)
            while rest:
                rest = rest[sink.write(rest) :]
            digest.update(chunk)
            meter.tell(len(chunk), file.path)

        client.fetch_asset_file(*of, file.sha256, write)
        if file.executable:
            os.fchmod(sink.fileno(), 0o755)
    if digest.hexdigest() != file.sha256:
        message = f"the content of {file.path!r} is not what its digest says"
        raise error("WorkspaceAnswerInvalid", message, target=file.path)


@dataclass
class _Meter:
    total_bytes: int
    watch: Watch | None
    done_bytes: int = 0

    def tell(self, count: int, path: str) -> None:
        self.done_bytes += count
        if self.watch is not None:
            self.watch(Intake(self.done_bytes, self.total_bytes, path))


def _listed(body: Mapping[str, Any]) -> tuple[list[_File], list[str]]:
    try:
        files = [
            _File(
                _checked(found["path"]),
                int(found["sizeBytes"]),
                str(found["sha256"]),
                bool(found.get("executable")),
            )
            for found in body["files"]
        ]
        empty = [_checked(path) for path in body.get("emptyFolders") or ()]
    except (KeyError, TypeError, ValueError) as problem:
        message = f"the list of files is not understood: {problem}"
        raise error("WorkspaceAnswerInvalid", message) from None
    if len({file.path for file in files}) != len(files):
        raise error("WorkspaceAnswerInvalid", "two files have one path")
    return files, empty


def _checked(quoted: Any) -> str:
    """A path that stays below the folder it is laid out in. Raises ValueError."""
    path = unquote(str(quoted), errors="surrogateescape")
    if not path or "\0" in path or path.startswith("/") or {"", ".", ".."} & set(path.split("/")):
        raise ValueError(f"{path!r} leads out of the folder")
    return path


def _check_target(target: Path) -> None:
    occupied = target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir())))
    if occupied:
        what = (
            "a symbolic link"
            if target.is_symlink()
            else "a folder with files"
            if target.is_dir()
            else "a file"
        )
        raise error(
            "DownloadTargetExists",
            f"{target} is {what}",
            target=str(target),
            fields={"command": f"mv {target} {target}.old"},
        )


def _check_room(target: Path, needed_bytes: int) -> None:
    for place in target.parents:
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(place).free
            if needed_bytes > free:
                message = f"{needed_bytes} bytes do not fit: {free} are free at {place}"
                raise error("DownloadNoSpace", message, target=str(target), fields={"folder": place})
            return


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A folder beside the target, gone at the end unless it was renamed; its lock tells that we live."""
    partial = target.parent / f".{target.name}.{os.urandom(4).hex()}.partial"
    held = procs.try_lock(partial.with_suffix(".lock"))
    if held is None:
        raise error("DownloadUnwritable", f"{partial} is in use", fields={"folder": target.parent})
    try:
        partial.mkdir()
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        held.path.unlink(missing_ok=True)
        held.release()


def _sweep(target: Path) -> None:
    """Remove what killed downloads of the same thing left."""
    for lock in target.parent.glob(f".{_escaped(target.name)}.????????.lock"):
        held = procs.try_lock(lock)
        if held is not None:
            shutil.rmtree(lock.with_suffix(".partial"), ignore_errors=True)
            lock.unlink(missing_ok=True)
            held.release()


def _escaped(name: str) -> str:
    return name.replace("[", "[[]")


def _unwritable(problem: OSError, target: Path) -> MooringsError:
    full = problem.errno in _FULL
    message = f"cannot write to {problem.filename or target.parent}: {problem.strerror}"
    return error(
        "DownloadNoSpace" if full else "DownloadUnwritable",
        message,
        target=str(target),
        fields={"folder": target.parent},
    )
