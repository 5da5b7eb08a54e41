"""Start, stop and look at the processes of the local workspace. Starts the control process only; the rest is
its business."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from moorings.client.client import Client
from moorings.client.transport import SocketTransport
from moorings.errors.exceptions import Failure, MooringsError, error
from moorings.lib import atomic, procs
from moorings.lib.processes import HOME_VARIABLE, ROLE_VARIABLE, ProcessInfo, is_alive, scan, send
from moorings.security.folders import private

START_TIMEOUT_S = 60.0
GATEWAY_PATIENCE_S = 2.0
"""How long a failure of the gateway must stand before it is believed, in seconds."""
GATEWAY_TIMEOUT_S = 20.0
STOP_STEPS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("daemon",), 15.0),
    (("gateway-keeper",), 20.0),
    (("gateway-agent", "envoy"), 10.0),
    (("supervisor",), 45.0),
)
"""Which roles are asked to end, in this order, and how many seconds each step may take.

The control process goes first, else it would start the others anew; the gateway goes before the instances, so
that it never routes to what is gone.
"""
KILL_WAIT_S = 5.0
_POLL_S = 0.05
_LOG_LINES = 20
_LOG_BYTES = 64 * 1024

DAEMON_VARIABLE = "MOORINGS_DAEMON"

Say = Callable[[str], None]


class Workspace(Protocol):
    """What is needed of the settings."""

    @property
    def home(self) -> Path: ...
    @property
    def run_dir(self) -> Path: ...
    @property
    def api_socket(self) -> Path: ...
    @property
    def daemon_lock(self) -> Path: ...
    @property
    def logs_dir(self) -> Path: ...
    @property
    def daemon_log(self) -> Path: ...
    @property
    def own_socket(self) -> Path: ...
    @property
    def gateway_url(self) -> str: ...


@dataclass(frozen=True)
class Ended:
    """A process that was stopped, and whether it had to be killed."""

    role: str
    pid: int
    owner: str | None
    killed: bool


def ensure_running(workspace: Workspace, workspace_path: str, say: Say) -> bool:
    """Return once the control process answers, starting it when none runs; True when this call started it.

    Raises `DaemonStartFailed` with the last lines of its log, `DaemonStartTimeout` with what was waited for.
    """
    if answers(workspace, workspace_path):
        return False
    private(workspace.home)
    private(workspace.logs_dir)
    _forget_stop(workspace)
    log = workspace.daemon_log
    deadline = time.monotonic() + START_TIMEOUT_S
    started_pid: int | None = None
    log_from = 0
    while time.monotonic() < deadline:
        if not procs.is_locked(workspace.daemon_lock) and not _runs(started_pid):
            if started_pid is not None:
                raise _start_failed(log, log_from)
            log_from = _size(log)
            say(f"starting the workspace in {workspace.home}")
            started_pid = _start(workspace, log)
        if answers(workspace, workspace_path):
            return started_pid is not None
        time.sleep(_POLL_S)
    raise error(
        "DaemonStartTimeout",
        f"no answer on {workspace.api_socket} within {START_TIMEOUT_S:g} s",
        target=str(workspace.api_socket),
        evidence=(f"waited for: {_waited_for(workspace)}", *_tail(log, log_from)),
        fields={"log": log},
    )


def start_standby(workspace: Workspace, name: str, workspace_path: str) -> bool:
    """Have one more daemon of this name, which answers reads and takes the lead when it has to; True when this call
    started it. `workspace` is as the daemon of that name sees it.

    Raises `DaemonStartFailed`, `DaemonStartTimeout`.
    """
    private(workspace.logs_dir)
    log, log_from = workspace.daemon_log, _size(workspace.daemon_log)
    pid = None
    if not procs.is_locked(workspace.daemon_lock):
        pid = _start(workspace, log, {DAEMON_VARIABLE: name})
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers_on(workspace.own_socket, workspace_path):
        if pid is not None and not _runs(pid):
            raise _start_failed(log, log_from)
        if time.monotonic() >= deadline:
            message = f"no answer on {workspace.own_socket} within {START_TIMEOUT_S:g} s"
            raise error(
                "DaemonStartTimeout",
                message,
                target=str(workspace.own_socket),
                evidence=_tail(log, log_from),
                fields={"log": log},
            )
        time.sleep(_POLL_S)
    return pid is not None


def wait_for_gateway(workspace: Workspace, workspace_path: str, timeout_s: float = GATEWAY_TIMEOUT_S) -> bool:
    """Wait until the gateway of a running workspace takes requests; False when `timeout_s` seconds passed first.

    Raises the gateway's own coded failure (a port that is taken, a binary that is refused) once it has stood for
    `GATEWAY_PATIENCE_S`: the workspace goes on trying, and so the same command succeeds when the cause is gone.
    """
    deadline = time.monotonic() + timeout_s
    told_since: float | None = None
    while True:
        gateway = status(workspace, workspace_path)["facts"].get("gateway") or {}
        if gateway.get("ready"):
            return True
        problem = gateway.get("problem")
        now = time.monotonic()
        told_since = (told_since or now) if problem else None
        if problem and told_since is not None and now - told_since >= GATEWAY_PATIENCE_S:
            raise MooringsError(Failure.from_json(problem))
        if now >= deadline:
            return False
        time.sleep(4 * _POLL_S)


def answers(workspace: Workspace, workspace_path: str) -> bool:
    """Whether the control process answers now."""
    return _answers_on(workspace.api_socket, workspace_path)


def _answers_on(socket: Path, workspace_path: str) -> bool:
    if not socket.exists():
        return False
    with SocketTransport(socket, patience_s=0.0) as transport:
        try:
            Client(transport, workspace_path).workspace(timeout_s=5.0)
        except MooringsError as problem:
            return problem.failure.code != "WorkspaceUnreachable"
    return True


def stop(workspace: Workspace, say: Say) -> list[Ended]:
    """End every process of the workspace: asked first, in the order of `STOP_STEPS`, then killed. Data stays.

    Bounded in time. Raises `WorkspaceStopIncomplete` naming what stayed.
    """
    if workspace.home.is_dir():
        try:
            atomic.write(_stop_mark(workspace), b"")
        except OSError as problem:  # a disk that is full, or failed: what runs has to end all the same
            say(
                f"that it was stopped cannot be written down: {problem.strerror}; a command that waits may start it again"
            )
    at_first = scan(workspace.home)
    killed: dict[int, Ended] = {}
    for roles, grace_s in STOP_STEPS:
        targets = [p for p in scan(workspace.home) if p.role in roles]
        if not targets:
            continue
        say(f"stopping {_counted(targets)}")
        for process in targets:
            send(process, signal.SIGTERM)
        _wait_gone(targets, grace_s)
    deadline = time.monotonic() + KILL_WAIT_S
    left = scan(workspace.home)
    while left and time.monotonic() < deadline:
        # Whoever restarts others must not live longer than they do.
        for process in sorted(left, key=lambda p: p.role.startswith(("worker", "envoy"))):
            send(process, signal.SIGKILL)
            killed[process.pid] = Ended(process.role, process.pid, process.owner, killed=True)
        _wait_gone(left, 0.5)
        left = scan(workspace.home)
    if left:
        names = tuple(f"{p.role} pid {p.pid}" for p in left)
        raise error("WorkspaceStopIncomplete", f"{len(left)} processes did not end", evidence=names)
    by_themselves = (p for p in at_first if p.pid not in killed)
    return [*(Ended(p.role, p.pid, p.owner, killed=False) for p in by_themselves), *killed.values()]


def stopped_since(workspace: Workspace, unix_s: float) -> bool:
    """Whether somebody stopped the workspace on purpose after `unix_s` (Unix seconds)."""
    with contextlib.suppress(OSError):
        return _stop_mark(workspace).stat().st_mtime >= unix_s
    return False


def status(workspace: Workspace, workspace_path: str) -> dict[str, Any]:
    """Facts of the workspace and every process of it; starts nothing."""
    facts: dict[str, Any] = {}
    running = procs.is_locked(workspace.daemon_lock)
    answering = False
    if workspace.api_socket.exists():
        with SocketTransport(workspace.api_socket, patience_s=0.0) as transport:
            try:
                body = Client(transport, workspace_path).workspace(timeout_s=5.0)
                facts = dict((body.get("properties") or {}).get("moorings") or {})
                answering = True
            except MooringsError as problem:
                facts = {"error": str(problem)}
    processes = scan(workspace.home)
    state = "running" if answering else "not answering" if running else "stopped"
    return {
        "home": str(workspace.home),
        "daemon": state,
        "gateway_url": workspace.gateway_url,
        "api_socket": str(workspace.api_socket),
        "logs": str(workspace.logs_dir),
        "facts": facts,
        "rss_bytes": sum(p.rss_bytes for p in processes),
        "processes": [
            {k: v for k, v in asdict(p).items() if k not in ("start_ticks", "parent_pid")} for p in processes
        ],
    }


def _start(workspace: Workspace, log: Path, more: Mapping[str, str] | None = None) -> int:
    env = {**os.environ, HOME_VARIABLE: str(workspace.home), ROLE_VARIABLE: "daemon", **(more or {})}
    # -P: what lies in the current folder must not become a module of the control process.
    argv = [sys.executable, "-P", "-m", "moorings.daemon"]
    try:
        return procs.start_detached(argv, env=env, cwd=workspace.home, stdout=log, session=procs.Session.NEW)
    except OSError as problem:
        raise error("DaemonStartFailed", str(problem), fields={"log": log}) from None


def _start_failed(log: Path, log_from: int) -> MooringsError:
    return error(
        "DaemonStartFailed",
        "the control process ended while it was starting",
        target=str(log),
        evidence=_tail(log, log_from),
        fields={"log": log},
    )


def _waited_for(workspace: Workspace) -> str:
    if not procs.is_locked(workspace.daemon_lock):
        return "the control process to take its lock"
    if not workspace.api_socket.exists():
        return "the control process to open its socket (it holds its lock)"
    return "an answer on its socket (it is open)"


def _runs(pid: int | None) -> bool:
    return pid is not None and procs.start_ticks(pid) is not None


def _tail(log: Path, start: int) -> tuple[str, ...]:
    """The last lines written after `start` bytes."""
    with contextlib.suppress(OSError):
        with log.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            # A file shorter than before was begun anew in between.
            handle.seek(max(start if size >= start else 0, size - _LOG_BYTES))
            lines = handle.read().decode(errors="replace").splitlines()
        return tuple(lines[-_LOG_LINES:])
    return ()


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _wait_gone(processes: Iterable[ProcessInfo], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    left = list(processes)
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [p for p in left if is_alive(p)]


def _counted(processes: list[ProcessInfo]) -> str:
    roles = sorted({p.role for p in processes})
    counts = [(sum(p.role == role for p in processes), role) for role in roles]
    return ", ".join(role if count == 1 else f"{count} x {role}" for count, role in counts)


def _stop_mark(workspace: Workspace) -> Path:
    return workspace.home / "stopped"


def _forget_stop(workspace: Workspace) -> None:
    with contextlib.suppress(FileNotFoundError):
        _stop_mark(workspace).unlink()
