"""Processes and process groups: who is alive, start one that outlives us, end a whole group. Linux only (`/proc`, flock)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any


class Held:
    """An exclusive lock on a file, held as long as this object (or a process that inherited its descriptor) lives.

    The kernel lets go of it however the holder dies, so "is the lock held?" is the one test of life here that
    neither a reused pid nor a stale file can fool.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    def release(self) -> None:
        os.close(self.fd)


def try_lock(path: Path) -> Held | None:
    """Take the lock of `path` (made if absent, 0600) without waiting; None when somebody holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return Held(path, fd)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock of `path`."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def reap_inherited() -> None:
    """Take note of the end of whatever was started before this process became this program (`exec`): nobody else will."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                    threading.Thread(target=os.waitpid, args=(int(entry.name), 0), daemon=True).start()


class Session(Enum):
    """The session of a process that is started.

    Linux shares a CPU out among sessions first (autogroup, where no control groups do) and among the processes of
    each afterwards. A process that wakes interrupts one of another session nearly always, one of its own only when
    that one has had its turn. Envoy and the workers hand requests to each other in bursts; in one session a burst
    stays together (`docs/explanation/inference-server.md`).
    """

    NEW = "new"
    SHARED = "shared"
    """That of this process, unless it belongs to a terminal, whose end it would share too."""


def popen_session(session: Session) -> dict[str, Any]:
    """The arguments of `subprocess.Popen` for a process group of its own in that session."""
    return {"start_new_session": True} if session is Session.NEW or _has_terminal() else {"process_group": 0}


def _has_terminal() -> bool:
    stat = Path("/proc/self/stat").read_text()
    return stat.rpartition(")")[2].split()[4] != "0"


def start_detached(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdout: Path,
    pass_fds: Sequence[int] = (),
    session: Session,
) -> int:
    """Start `argv` as the leader of a process group, its output appended to `stdout` (0600); returns its pid at once.

    The process outlives this one. It is a grandchild (double fork through a tiny shim), so that it never
    becomes a zombie of ours. Raises OSError when it can't be started.
    """
    log_fd = os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        shim = (
            "import os,subprocess,sys;"
            "os.set_inheritable(3,False);"  # else the read below waits for the end of what we start
            f"p=subprocess.Popen(sys.argv[1:],**{popen_session(session)!r},close_fds=False);"
            "os.write(3,str(p.pid).encode());os._exit(0)"
        )
        read_fd, write_fd = os.pipe()
        with os.fdopen(read_fd, "rb") as reader:
            keep = tuple(pass_fds)
            launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", shim.replace("(3,", f"({write_fd},"), *argv],
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                env=dict(env),
                cwd=cwd,
                pass_fds=(*keep, write_fd),
            )
            os.close(write_fd)
            launcher.wait()
            text = reader.read(32)
    finally:
        os.close(log_fd)
    if not text:
        raise OSError(f"could not start {argv[0]}")
    return int(text)


def start_ticks(pid: int) -> int | None:
    """Kernel start time of `pid` in clock ticks since boot; with the pid it names a process for ever. None if gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def age_s() -> float:
    """How long ago this process was started, its interpreter's own start included; 0 where the system does not tell."""
    ticks = start_ticks(os.getpid())
    if ticks is None:
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


def signal_group(pgid: int, signum: signal.Signals) -> bool:
    """Send `signum` to every process of the group; False when none is left."""
    try:
        os.killpg(pgid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def wait_unlocked(path: Path, timeout_s: float) -> bool:
    """Wait until nobody holds the lock of `path`; False when `timeout_s` seconds passed first."""
    deadline = time.monotonic() + timeout_s
    while is_locked(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def pid_in(path: Path) -> int | None:
    """The pid written in a file, or None when the file is absent or unreadable."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(path.read_text().split()[0])
    return None
