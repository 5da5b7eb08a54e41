"""Folders that hold secrets or sockets: made 0700, and refused when they are somebody else's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from moorings.errors.exceptions import error


def private(path: Path) -> Path:
    """Make `path` (0700) if absent and check that it is a real folder of ours with no rights for others.

    Raises `FolderNotPrivate`: the machine's or the user's fault; nothing was changed.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise error(
            "FolderNotPrivate",
            f"cannot make {path}: {problem.strerror}",
            target=str(path),
            fields={"path": path},
        ) from None
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise error(
            "FolderNotPrivate",
            f"{path} is not a folder owned by this user",
            target=str(path),
            evidence=(f"owner uid {info.st_uid}, mode {stat.filemode(info.st_mode)}",),
            fields={"path": path},
        )
    if info.st_mode & 0o077:
        path.chmod(0o700)
    return path
