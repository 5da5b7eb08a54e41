"""Unix sockets that listen. Knows nothing of what is said on them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

BACKLOG = 128


def listen(path: Path) -> socket.socket:
    """A listening unix socket (0600) that appears at `path` in one step, in place of a stale one.

    The caller makes sure that it is the only one who does so: other temporary names are taken for those of killed processes.
    Raises OSError.
    """
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(temporary))
    temporary.chmod(0o600)
    listener.listen(BACKLOG)
    temporary.replace(path)
    return listener


def number(path: Path) -> int:
    """Tells this socket from another one that takes its place; 0: there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def remove(path: Path, numbered: int) -> None:
    """Remove it, unless another one has taken its place."""
    if number(path) == numbered:
        path.unlink(missing_ok=True)
