"""Which of our processes hold a lock file: found by what is open, not by a written pid that may be somebody
else's now."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from moorings.lib import procs

ROLE_KEEPER = "gateway-keeper"
ROLE_AGENT = "gateway-agent"
ROLE_ENVOY = "envoy"
ROLES = frozenset((ROLE_KEEPER, ROLE_AGENT, ROLE_ENVOY))


def holders(lock: Path, roles: Collection[str] = ROLES) -> list[int]:
    """Pids of processes of these roles that have the lock file open while it is locked; an inherited
    descriptor counts.

    The kernel names only who took the lock, which may be gone. The role keeps apart processes that merely
    look whether the lock is free.
    """
    if not procs.is_locked(lock):
        return []
    wanted = lock.stat()
    return [pid for pid in _pids() if _role(pid) in roles and _has_open(pid, wanted)]


def command_line(pid: int) -> list[str]:
    """The arguments of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _pids() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            yield int(entry.name)


def _role(pid: int) -> str | None:
    with contextlib.suppress(OSError):
        for item in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if item.startswith(b"MOORINGS_ROLE="):
                return item.partition(b"=")[2].decode(errors="replace")
    return None


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    with contextlib.suppress(OSError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.path.samestat(fd.stat(), wanted):
                    return True
    return False
