"""Find the processes of one workspace by the variables each of them carries, and signal exactly those. Linux
only (`/proc`)."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from moorings.lib.procs import start_ticks

HOME_VARIABLE = "MOORINGS_HOME"
ROLE_VARIABLE = "MOORINGS_ROLE"
OWNER_VARIABLE = "MOORINGS_OWNER"

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessInfo:
    """One living process of a workspace, as it was when it was looked at."""

    role: str
    """`daemon`, `gateway-keeper`, `gateway-agent`, `envoy`, `supervisor`, `worker-N`, ..."""
    pid: int
    rss_bytes: int
    """Resident memory; pages shared with other processes count in each of them."""
    uptime_s: float
    owner: str | None
    """`<endpoint>/<deployment>` where it belongs to one."""
    start_ticks: int
    """Kernel start time; with the pid it names the process for ever."""
    parent_pid: int


def scan(home: Path) -> list[ProcessInfo]:
    """Every process of this user whose environment names `home` and a role, except the caller; sorted by
    role and pid.

    Processes that end while we look are left out. A process between fork and exec still shows its parent's
    role.
    """
    wanted = os.path.realpath(home)
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            info = _look(int(entry.name), wanted)
            if info is not None:
                found.append(info)
    return sorted(found, key=lambda p: (p.role, p.pid))


def is_alive(process: ProcessInfo) -> bool:
    """Whether that very process (not another one with its pid) still runs; a zombie does not."""
    return start_ticks(process.pid) == process.start_ticks


def send(process: ProcessInfo, signum: signal.Signals) -> bool:
    """Signal that very process; False when it is gone. A pid that was given to another process is never
    hit."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(descriptor, signum)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _look(pid: int, wanted: str) -> ProcessInfo | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        if (_PROC / str(pid)).stat().st_uid != os.getuid():
            return None
        raw = (_PROC / str(pid) / "environ").read_bytes()
        environ = dict(item.split(b"=", 1) for item in raw.split(b"\0") if b"=" in item)
        role = environ.get(ROLE_VARIABLE.encode())
        home = environ.get(HOME_VARIABLE.encode())
        if not role or not home or os.path.realpath(os.fsdecode(home)) != wanted:
            return None
        owner = environ.get(OWNER_VARIABLE.encode())
        return _measure(pid, os.fsdecode(role), os.fsdecode(owner) if owner else None)
    return None


def _measure(pid: int, role: str, owner: str | None) -> ProcessInfo | None:
    folder = _PROC / str(pid)
    # The command name may hold spaces and parentheses: fields are counted from the last one.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    ticks = int(fields[19])
    up_s = float((_PROC / "uptime").read_text().split()[0])
    pages = int((folder / "statm").read_text().split()[1])
    return ProcessInfo(
        role=role,
        pid=pid,
        rss_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
        uptime_s=round(max(0.0, up_s - ticks / os.sysconf("SC_CLK_TCK")), 2),
        owner=owner,
        start_ticks=ticks,
        parent_pid=int(fields[1]),
    )
