"""Make a workspace from a backup, in an empty home. Until all of it is there, a mark says so, and no control process starts.

A backup is believed to have been made by us only after its passphrase has opened it, and even then it writes nothing but
what `places` names, as plain files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from moorings.backup import places
from moorings.backup.save import ABOUT, FORMAT, ROWS, unwritable
from moorings.backup.sealed import Opener, SealError
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import atomic, procs
from moorings.security.folders import private
from moorings.state import binding
from moorings.state.database import Database

_MAY_BE_THERE = frozenset({places.SETTINGS, "daemon.lock", "run", binding.RESTORING})
_SPOOL = "restoring.jsonl"
_ABOUT_BYTES = 64 * 1024
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Restored:
    workspace_id: str
    rows: int
    files: int


def restore(source: Path, home: Path, lock: Path, database: Database, passphrase: str) -> Restored:
    """Fill `home` and `database` from `source`. `lock` is that of the control process, which must not run.

    Raises (the user's fault) `BackupUnreadable`, `RestoreTargetInUse`; (the machine's) `BackupUnwritable`,
    `StateUnavailable`, `StateServerUnavailable`. After an error or a kill nothing starts from what is there; the same call
    again begins anew.
    """
    try:
        handle = source.open("rb")
    except OSError as problem:
        raise unreadable(source, problem.strerror or str(problem)) from None
    try:
        with handle:
            opened = Opener(handle, passphrase)
            with tarfile.open(fileobj=opened, mode="r|") as tar:
                members = iter(tar)
                about = _about(tar, members)
                private(home)
                held = procs.try_lock(lock)
                if held is None:
                    raise _in_use(f"a control process of {home} is running")
                try:
                    return _fill(tar, members, about, home, database)
                finally:
                    held.release()
    except (SealError, tarfile.TarError, EOFError, UnicodeError) as problem:
        raise unreadable(source, str(problem) or "it is damaged") from None
    except OSError as problem:
        raise unwritable(problem, home) from None


def unreadable(source: Path, why: str) -> MooringsError:
    return error("BackupUnreadable", f"{source}: {why}", target=str(source), fields={"file": source})


def _about(tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo]) -> dict[str, Any]:
    first = next(members, None)
    handle = tar.extractfile(first) if first is not None and first.isreg() else None
    if first is None or handle is None or first.name != ABOUT or first.size > _ABOUT_BYTES:
        raise SealError("it does not begin as a backup does")
    try:
        about = json.loads(handle.read())
        if (
            about["format"] != FORMAT
            or not isinstance(about["id"], str)
            or not isinstance(about["revision"], str)
        ):
            raise SealError(f"its format is {about['format']!r}, which this version does not know")
    except (ValueError, KeyError, TypeError):
        raise SealError("what it says of itself is damaged") from None
    return dict(about)


def _fill(
    tar: tarfile.TarFile,
    members: Iterator[tarfile.TarInfo],
    about: dict[str, Any],
    home: Path,
    database: Database,
) -> Restored:
    mark = home / binding.RESTORING
    begun, own_settings = binding.restoring(home), binding.own_settings(home)
    atomic.sweep(home)  # a mark that was being written when somebody was killed
    there = sorted(path.name for path in home.iterdir() if path.name not in _MAY_BE_THERE)
    if there and not begun:
        raise _in_use(f"{home} is not empty: {', '.join(there[:5])}")
    if database.on_server:
        _check_free(database, begun)
    if begun != about["id"]:
        atomic.write(mark, binding.mark(about["id"], own_settings=own_settings))
    for name in there:  # of the attempt before
        _remove(home / name)
    if not own_settings:
        _remove(home / places.SETTINGS)
    files = 0
    for member in members:
        files += _take(tar, member, home, own_settings=own_settings)
    spool = home / _SPOOL
    if not spool.exists():
        raise SealError("it holds no state")
    if not database.on_server:
        (home / "state.db").touch(mode=0o600)
    rows = _Rows(spool)
    try:
        database.fill(about["revision"], rows, begun)
    except FileExistsError as problem:  # since it was looked at
        raise _in_use(str(problem)) from None
    except (ValueError, KeyError, TypeError) as problem:
        raise SealError(f"its state cannot be used: {problem}") from None
    binding.bind(home, about["id"], database)
    spool.unlink()
    os.sync()  # all of it, before the mark goes
    mark.unlink()
    atomic.sync_folder(home)
    return Restored(about["id"], rows.count, files)


def _check_free(database: Database, begun: str) -> None:
    """A state is there already only as what the attempt before has left, which no daemon has led. Raises
    `RestoreTargetInUse`."""
    found, led = database.holder()
    if found and (led or found != begun):
        raise _in_use(f"{database.shown} holds the state of workspace {found}")


class _Rows:
    """The rows of a file, counted as they are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.count = 0

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        with self._path.open("rb") as handle:
            for line in handle:
                table, row = json.loads(line)
                self.count += 1
                yield str(table), dict(row)


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, home: Path, *, own_settings: bool) -> int:
    """Write one member; how many files of the home that are."""
    name = member.name
    if not member.isreg() or not (name == ROWS or places.kept(name)):
        raise SealError(f"it holds {name!r}, which no backup does")
    if name == places.SETTINGS and own_settings:
        return 0
    target = home / (_SPOOL if name == ROWS else name)
    for folder in reversed(Path(name).parents[:-1]):
        (home / folder).mkdir(mode=0o700, exist_ok=True)
    content = tar.extractfile(member)
    assert content is not None
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(target, flags, places.mode_of(name))
    except FileExistsError:
        raise SealError(f"it holds {name!r} twice") from None
    digest = _copy(content, fd)
    wanted = places.OBJECT.fullmatch(name)
    if wanted and wanted[1] != digest:
        raise SealError(f"{name} is not what its name says")
    return int(name != ROWS)


def _copy(content: IO[bytes], fd: int) -> str:
    digest = hashlib.sha256()
    with os.fdopen(fd, "wb") as sink:
        while data := content.read(_COPY_BYTES):
            digest.update(data)
            sink.write(data)
    return digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _in_use(message: str) -> MooringsError:
    return error("RestoreTargetInUse", message, fields={})
