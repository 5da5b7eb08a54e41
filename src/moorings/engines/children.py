"""Child processes of a supervisor: start them bound to its life, notice their end, end all they have started.

It must not know why a child runs. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from moorings import contract
from moorings.lib import procs

STACKS = signal.Signals[contract.STACKS_SIGNAL]
OOM_SCORE_ADJ = "500"
"""When the machine has no memory left the kernel ends one of these rather than a supervisor, Envoy or the daemon."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def become_reaper() -> None:
    """What a child leaves behind becomes ours instead of init's, so that it can be found and ended."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_socket() -> socket.socket:
    """What tells us that a child has ended or that we are to stop: signal numbers as bytes to read."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    # Handlers, not SIG_IGN: what is ignored would stay ignored in everything we start.
    for signum in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, STACKS):
        signal.signal(signum, lambda _number, _frame: None)
    return reader


def start(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, output_fd: int, enter: Callable[[], None]
) -> int:
    """Start `argv` leading a process group of its own; it is killed when we die, however we do. Returns its
    pid.

    `enter` runs in the child before exec. Raises OSError or subprocess.SubprocessError when it cannot be
    started.
    """
    parent = os.getpid()

    def in_child() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # we died between fork and here
            os._exit(1)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE_ADJ)
        os.setpgid(
            0, 0
        )  # `process_group` of Popen is younger than the oldest Python that runs us in a container
        enter()

    child = subprocess.Popen(
        argv,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output_fd,
        stderr=output_fd,
        preexec_fn=in_child,
    )
    child.returncode = 0  # reaped by `reap`, not by this object
    return child.pid


def reap() -> Iterator[tuple[int, int | None, int | None, int]]:
    """Every child that has ended: (pid, exit status or None, signal or None, the most bytes it had in memory). Its
    process group is killed with it."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        # Before the pid is given back: a group of this number is surely still this one.
        procs.signal_group(ended.si_pid, signal.SIGKILL)
        _, status, usage = os.wait4(ended.si_pid, 0)
        peak = usage.ru_maxrss * 1024
        if os.WIFSIGNALED(status):
            yield ended.si_pid, None, os.WTERMSIG(status), peak
        else:
            yield ended.si_pid, os.WEXITSTATUS(status), None, peak


def adopted(known: set[int]) -> list[int]:
    """Children of ours that we did not start: left behind by one that did."""
    own = os.getpid()
    return [pid for pid in _pids() if pid not in known and _parent(pid) == own]


def variable_of(pid: int, name: str) -> str | None:
    """A variable of the environment `pid` was started with; None when it is not there or cannot be read."""
    with contextlib.suppress(OSError):
        prefix = f"{name}=".encode()
        for item in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if item.startswith(prefix):
                return os.fsdecode(item[len(prefix) :])
    return None


def carrying(variables: Mapping[str, str]) -> list[int]:
    """Every other process that was started with all of these variables in its environment."""
    own = os.getpid()
    return [
        pid
        for pid in _pids()
        if pid != own and all(variable_of(pid, name) == value for name, value in variables.items())
    ]


def kill(pid: int, signum: signal.Signals = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def catches(pid: int, signum: signal.Signals) -> bool:
    """Whether `pid` has a handler for the signal: sent to one that has none it would end it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
    return False


def is_unreaped(pid: int, parent: int) -> bool:
    """Whether `pid` is a child of `parent` that has ended without `parent` having taken note."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        state, its_parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        return state == "Z" and int(its_parent) == parent
    return False


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None
