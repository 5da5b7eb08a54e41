"""The engine that runs instances as processes of this machine: folders, locks and a supervisor per instance.

It keeps nothing in memory but since when a supervisor has done nothing: the folders are the truth, and the lock of a
folder says whether its supervisor lives. It knows neither HTTP nor what a worker does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from moorings import contract
from moorings.engines import cgroup, children, layout
from moorings.engines.base import (
    CONTAINERS,
    Exit,
    GroupSpec,
    Inspection,
    Instance,
    Phase,
    Private,
)
from moorings.engines.inspection import watched
from moorings.engines.logfolder import LogFolder
from moorings.engines.neglect import LATE_S, UNREAPED_S, Neglect
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import atomic, procs
from moorings.lib.logfile import Line, LogSource, most_telling, tail

logger = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_SOCKET_PATH_BYTES = 107
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class ProcessEngineSettings:
    """Where instances live and what they are started with."""

    home: Path
    """The workspace's folder; every process carries it as `MOORINGS_HOME`."""
    root: Path
    """Folder of the instances."""
    logs_root: Path
    """Folder of their logs, which outlive them: the workspace lets go of those."""
    run_dir: Path
    """Folder of the workers' sockets: short, 0700."""
    store_root: Path
    """The content store the storage initializer reads."""
    initializer_argv: tuple[str, ...]
    """Command that lays out a plan; the path of the plan is its last argument."""
    workspace_id: str
    worker_argv: tuple[str, ...] = ("-m", "moorings_server", "--worker")
    """Arguments for the environment's Python."""
    log_file_bytes: int = 4 * 1024 * 1024
    log_files: int = 4
    """A container-equivalent's log takes at most `log_file_bytes * log_files`."""
    log_bytes_per_s: int = layout.LOG_BYTES_PER_S
    """What an instance may write into its log in the long run; what is more is dropped and counted."""
    cgroup_parent: Path | None = None
    """Control group to make groups in; None: one that is delegated to us, where there is one."""


class ProcessEngine:
    """`Engine` on processes. See `engines/base.py` for what its methods promise."""

    name = "process"

    def __init__(self, settings: ProcessEngineSettings) -> None:
        self._settings = settings
        self._logs_kept = LogFolder(settings.logs_root)
        self._neglect = Neglect()
        self._mutex = (
            threading.Lock()
        )  # one look or change at a time; other processes are kept out by the locks

    async def apply(self, group: GroupSpec) -> None:
        """Raises `DiskFull` or `ContainerCannotStart` (the machine's fault); what was begun stays begun."""
        await self._in_thread(lambda: self._apply(group))

    async def observe(self, owner: str | None = None) -> Sequence[Instance]:
        return await self._in_thread(lambda: self._observe(owner))

    async def remove(self, owner: str, revision: str, *, grace_s: float) -> None:
        await self._in_thread(lambda: self._remove(owner, revision, grace_s))

    async def forget(self, owner: str) -> None:
        await self._in_thread(lambda: self._forget(owner))

    async def logs(self, owner: str, *, container: str, tail: int, instance: str | None = None) -> str | None:
        return await self._in_thread(lambda: self._logs(owner, container, tail, instance))

    async def log_sources(self, owner: str) -> Sequence[LogSource]:
        return await self._in_thread(lambda: self._log_sources(owner))

    async def log_lines(self, owner: str, source: LogSource, *, most: int | None) -> Iterator[Line]:
        return self._logs_kept.lines(owner, source)

    def follow_log(self, owner: str, source: LogSource, *, after: float) -> AsyncGenerator[Line, None]:
        folder = layout.owner_folder(self._settings.root, owner) / source.instance
        return self._logs_kept.follow(owner, source, after=after, there=folder.exists)

    async def inspect(self, instance: Instance) -> Inspection:
        supervisor = instance.pids.get("supervisor")
        if supervisor is None:
            return Inspection()

        async def ask() -> None:
            if children.catches(supervisor, children.STACKS):
                children.kill(supervisor, children.STACKS)

        return await watched(supervisor, ask)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        def locked() -> T:
            with self._mutex:
                return work()

        return await asyncio.to_thread(locked)

    # --- changes ---

    def _apply(self, group: GroupSpec) -> None:
        owner_dir = layout.owner_folder(self._settings.root, group.owner)
        try:
            logs = layout.owner_folder(self._settings.logs_root, group.owner)
            for folder in (self._settings.root, self._settings.run_dir, owner_dir, logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep(owner_dir)
            for ordinal in range(group.count):
                self._begin(owner_dir, group, ordinal)
            for folder, data in layout.folders(owner_dir):
                if data["revision"] == group.revision and data["ordinal"] >= group.count:
                    self._end(folder, group.grace_s)
        except OSError as problem:
            raise _coded(problem, group) from problem

    def _begin(self, owner_dir: Path, group: GroupSpec, ordinal: int) -> None:
        """Start what does not live and has not failed."""
        instance = layout.instance_id(group.owner, group.revision, ordinal)
        folder = owner_dir / instance
        if folder.exists():
            held = procs.try_lock(folder / layout.LOCK)
            if held is None:
                return
            try:
                if not _has_ended(folder):
                    status = layout.read(folder / layout.STATUS)
                    if status.get("phase") == Phase.FAILED:
                        return
                    self._end_leftovers(instance)
                    # A new supervisor is not to be taken for the old one's last word.
                    (folder / layout.STATUS).unlink(missing_ok=True)
                    self._write_description(folder, group, ordinal, instance)
                    self._start(folder, held, group.private)
                    return
                self._discard(folder)
            finally:
                held.release()
        self._create(owner_dir, group, ordinal, instance)

    def _create(self, owner_dir: Path, group: GroupSpec, ordinal: int, instance: str) -> None:
        """The folder appears complete and locked, in one step."""
        new = owner_dir / f"{layout.NEW_PREFIX}{instance}"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._write_description(new, group, ordinal, instance)
        held = procs.try_lock(new / layout.LOCK)
        if held is None:
            return
        try:
            folder = owner_dir / instance
            new.replace(folder)
            atomic.sync_folder(owner_dir)
            self._start(folder, held, group.private)
        finally:
            held.release()

    def _write_description(self, folder: Path, group: GroupSpec, ordinal: int, instance: str) -> None:
        description = self._describe(group, ordinal, instance)
        atomic.write(folder / layout.INSTANCE, json.dumps(description).encode())

    def _describe(self, group: GroupSpec, ordinal: int, instance: str) -> dict[str, Any]:
        settings, template = self._settings, group.template
        workers = layout.worker_count(
            dict(template.environment_variables), contract.ENV_WORKER_COUNT, template.max_concurrent_requests
        )
        sockets = [str(path) for path in layout.socket_paths(settings.run_dir, instance, workers)]
        too_long = [s for s in sockets if len(os.fsencode(s)) > LONGEST_SOCKET_PATH_BYTES]
        if too_long:
            raise OSError(errno.ENAMETOOLONG, "too long for a unix socket", too_long[0])
        return {
            "id": instance,
            "owner": group.owner,
            "revision": group.revision,
            "ordinal": ordinal,
            "created_at": time.time(),
            "workspace_id": settings.workspace_id,
            "home": str(settings.home),
            "grace_s": group.grace_s,
            "proven": group.proven,
            "worker_argv": list(settings.worker_argv),
            "initializer_argv": list(settings.initializer_argv),
            "store_root": str(settings.store_root),
            "sockets": sockets,
            "logs": str(self._logs_kept.instance(group.owner, instance)),
            "log_file_bytes": settings.log_file_bytes,
            "log_files": settings.log_files,
            "log_bytes_per_s": settings.log_bytes_per_s,
            "cgroup_parent": None if settings.cgroup_parent is None else str(settings.cgroup_parent),
            "cgroup_name": f"{settings.workspace_id[:8]}.{instance}",
            "template": asdict(template),
        }

    def _start(self, folder: Path, held: procs.Held, private: Private) -> None:
        """The supervisor inherits the lock, so there is no instant at which the instance looks dead. Secrets reach it
        in memory that has no name: they are on no disk and in no command line."""
        data = layout.read(folder / layout.INSTANCE)
        env = {
            **os.environ,
            "MOORINGS_HOME": str(self._settings.home),
            "MOORINGS_ROLE": "supervisor",
            contract.ENV_INSTANCE_ID: str(data["id"]),
            contract.ENV_OWNER: str(data["owner"]),
            contract.ENV_WORKSPACE_ID: self._settings.workspace_id,
        }
        with _unnamed(json.dumps(private.to_json()).encode()) as told:
            procs.start_detached(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "moorings.engines.supervisor",
                    str(folder),
                    str(held.fd),
                    str(told),
                ],
                env=env,
                cwd=folder,
                stdout=folder / layout.OWN_LOG,
                pass_fds=[held.fd, told],
                session=procs.Session.SHARED,
            )

    def _remove(self, owner: str, revision: str, grace_s: float) -> None:
        owner_dir = layout.owner_folder(self._settings.root, owner)
        for folder, data in layout.folders(owner_dir):
            if data["revision"] == revision:
                self._end(folder, grace_s)
        self._sweep(owner_dir)

    def _end(self, folder: Path, grace_s: float) -> None:
        wish = json.dumps({"grace_s": grace_s}).encode()
        try:
            changed = atomic.write_if_changed(folder / layout.STOP, wish)
            held = procs.try_lock(folder / layout.LOCK)
        except FileNotFoundError:
            return  # it has just gone by itself
        if held is not None:
            try:
                self._discard(folder)
            finally:
                held.release()
            return
        status = layout.read(folder / layout.STATUS)
        if changed or status.get("phase") != Phase.STOPPING:
            _tell(status)

    def _discard(self, folder: Path) -> None:
        """Remove a folder nobody lives in (its lock is held by us), and what its processes left behind."""
        data = layout.read(folder / layout.INSTANCE)
        self._end_leftovers(folder.name)
        cgroup.remove(_groups(data, layout.read(folder / layout.STATUS)))
        for path in data.get("sockets", []):
            Path(path).unlink(missing_ok=True)
        old = folder.with_name(f"{layout.OLD_PREFIX}{folder.name}.{os.getpid()}")
        folder.replace(old)
        shutil.rmtree(old, ignore_errors=True)

    def _end_leftovers(self, instance: str) -> None:
        """After a supervisor was killed its workers die with it, but not what those had started."""
        identity = {"MOORINGS_HOME": str(self._settings.home), contract.ENV_INSTANCE_ID: instance}
        for pid in children.carrying(identity):
            children.kill(pid)

    def _sweep(self, owner_dir: Path) -> None:
        """Clear what a killed process left half made or half removed."""
        for prefix in (layout.NEW_PREFIX, layout.OLD_PREFIX):
            for folder in owner_dir.glob(f"{prefix}*"):
                if not procs.is_locked(folder / layout.LOCK):
                    shutil.rmtree(folder, ignore_errors=True)

    def _forget(self, owner: str) -> None:
        owner_dir = layout.owner_folder(self._settings.root, owner)
        for folder, _ in layout.folders(owner_dir):
            held = procs.try_lock(folder / layout.LOCK)
            if held is None:
                return  # it lives
            try:
                self._discard(folder)
            finally:
                held.release()
        self._sweep(owner_dir)
        with contextlib.suppress(OSError):
            owner_dir.rmdir()

    # --- looks ---

    def _observe(self, owner: str | None) -> list[Instance]:
        root = self._settings.root
        if owner is not None:
            owner_dirs = [layout.owner_folder(root, owner)]
        else:
            owner_dirs = sorted(root.iterdir()) if root.is_dir() else []
        found = []
        for owner_dir in owner_dirs:
            for folder, data in layout.folders(owner_dir):
                if data["workspace_id"] == self._settings.workspace_id:
                    instance = self._look(folder, data)
                    if instance is not None:
                        found.append(instance)
        return found

    def _look(self, folder: Path, data: Mapping[str, Any]) -> Instance | None:
        """The lock first: what is read after is at least as new as the answer."""
        locked = procs.is_locked(folder / layout.LOCK)
        status = layout.read(folder / layout.STATUS)
        if not folder.exists():
            return None
        if locked:
            wished = (folder / layout.STOP).exists()
            if wished and status.get("phase") not in (Phase.STOPPING, layout.PHASE_STOPPED):
                _tell(status)  # whoever has written the wish may have been killed before it could
            stopping = wished or status.get("phase") == layout.PHASE_STOPPED
            phase = Phase.STOPPING if stopping else Phase(status.get("phase", Phase.STARTING))
            self._mind_supervisor(folder, status, stopping=stopping)
        elif _has_ended(folder):
            held = procs.try_lock(folder / layout.LOCK)
            if held is not None:
                self._discard(folder)
                held.release()
            return None
        else:
            phase = Phase.FAILED if status.get("phase") == Phase.FAILED else Phase.GONE
        return Instance(
            id=data["id"],
            owner=data["owner"],
            revision=data["revision"],
            ordinal=data["ordinal"],
            phase=phase,
            addresses=tuple(data["sockets"]),
            started_at=float(status.get("started_at", data["created_at"])),
            restarts=int(status.get("restarts", 0)),
            exit=_exit(status.get("exit")),
            pids=_pids(status) if locked else {},
            limits=status.get("limits", {}),
            exits=tuple(Exit(**told) for told in status.get("exits", ())),
            code_dir=str(status.get("code_dir", "")),
            model_dir=str(status.get("model_dir", "")),
            boot_budget_s=status.get("boot_budget_s"),
        )

    def _mind_supervisor(self, folder: Path, status: Mapping[str, Any], *, stopping: bool) -> None:
        """End a supervisor that leaves undone what it is there for: the instance then begins anew, or is removed."""
        supervisor, now = status.get("supervisor", {}), time.monotonic()
        pid = supervisor.get("pid")
        if pid is None or procs.start_ticks(pid) != supervisor.get("ticks"):
            return
        workers = [w["pid"] for w in status.get("workers", []) if w["pid"] is not None]
        unreaped = any(children.is_unreaped(worker, pid) for worker in workers)
        grace_s = float(layout.read(folder / layout.STOP).get("grace_s", 0.0)) if stopping else 0.0
        hangs = self._neglect.lasts(folder.name, "reap", unreaped, allowed_s=UNREAPED_S, now=now)
        late = self._neglect.lasts(folder.name, "stop", stopping, allowed_s=grace_s + LATE_S, now=now)
        if hangs or late:
            logger.warning("the supervisor of %s (pid %d) does nothing any more: killed", folder.name, pid)
            children.kill(pid)

    def _log_sources(self, owner: str) -> list[LogSource]:
        phases = {i.id: i.phase for i in self._observe(owner)}
        return [
            s._replace(running=phases.get(s.instance) is Phase.RUNNING, ended=s.instance not in phases)
            for s in self._logs_kept.sources(owner)
        ]

    def _logs(self, owner: str, container: str, lines: int, instance: str | None) -> str | None:
        if container not in CONTAINERS:
            raise error("LogContainerUnknown", f"there is no container {container!r}", target=container)
        source = most_telling(self._log_sources(owner), container, instance)
        return None if source is None else tail(self._logs_kept.path(owner, source), lines)


@contextlib.contextmanager
def _unnamed(content: bytes) -> Iterator[int]:
    """A descriptor of memory that holds `content`; it ends with its last holder."""
    fd = os.memfd_create("moorings", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def _tell(status: Mapping[str, Any]) -> None:
    """Have the supervisor look at the wish to end. One that has not written its status yet does so right after that."""
    supervisor = status.get("supervisor", {})
    pid = supervisor.get("pid")
    if pid is not None and procs.start_ticks(pid) == supervisor.get("ticks"):
        children.kill(pid, signal.SIGTERM)


def _has_ended(folder: Path) -> bool:
    """With nobody alive in it: whether this instance was to end."""
    return (folder / layout.STOP).exists() or layout.read(folder / layout.STATUS).get(
        "phase"
    ) == layout.PHASE_STOPPED


def _exit(data: Mapping[str, Any] | None) -> Exit | None:
    return None if data is None else Exit(**data)


def _pids(status: Mapping[str, Any]) -> dict[str, int]:
    pids = {"supervisor": status["supervisor"]["pid"]} if "supervisor" in status else {}
    pids.update({f"worker-{w['index']}": w["pid"] for w in status.get("workers", []) if w["pid"] is not None})
    return pids


def _groups(description: Mapping[str, Any], status: Mapping[str, Any]) -> list[Path]:
    """Control groups of an instance: those its supervisor told of, and the one it was to have."""
    told = [Path(path) for path in status.get("cgroups", ())]
    parent, name = description.get("cgroup_parent"), description.get("cgroup_name")
    return [*told, cgroup.folder_below(Path(parent), name)] if parent and name else told


def _coded(problem: OSError, group: GroupSpec) -> MooringsError:
    fields = {"endpoint": group.template.endpoint, "deployment": group.template.deployment}
    evidence = (f"{problem.filename or ''}: {problem.strerror or problem}".lstrip(": "),)
    code = "DiskFull" if problem.errno in _NO_SPACE else "ContainerCannotStart"
    message = f"an instance of {group.owner} cannot be started: {problem.strerror or problem}"
    return error(code, message, target=group.owner, evidence=evidence, fields=fields)
