"""The engine that runs instances as containers of a Docker Engine of this machine.

It keeps nothing in memory: labels say whose a container is, the engine keeps it running, and a folder per instance holds
what it was made from. In containers of ours the supervisor of the process engine is the first process, so workers,
sockets, liveness and restarts are the same; containers with a server of their own are run as they are. It knows neither
HTTP routes of the gateway nor what a worker does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import Any, TypeVar

from moorings.containers.host import DockerHost
from moorings.engines import children, layout
from moorings.engines import docker_config as cfg
from moorings.engines.base import (
    CONTAINER_SERVER,
    CONTAINERS,
    GroupSpec,
    Inspection,
    Instance,
    Phase,
    Private,
)
from moorings.engines.bundle import write_bundle
from moorings.engines.docker_lines import Lines, parsed_at, shortened
from moorings.engines.docker_look import Liveness, Sight, look
from moorings.engines.docker_start import Starter, free_ports
from moorings.engines.inspection import listening, watched
from moorings.engines.logfolder import LogFolder
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import atomic, procs
from moorings.lib.logfile import Line, LogSource, RotatingWriter, backwards, most_telling, parsed
from moorings.lib.redaction import Redactor, with_their_lines

T = TypeVar("T")

FOLLOW_PERIOD_S = 0.2
NOBODY = 65532
"""Who our processes are in a container when we ourselves are root: a user that no image gives files to."""
LAST_KILL_S = 5.0
"""After its grace, how long a container of ours may take to end by itself before the engine ends it."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class DockerEngineSettings:
    """Where instances live and what they are started with."""

    root: Path
    """Folder of the instances."""
    logs_root: Path
    """Folder of their logs, which outlive them: the workspace lets go of those."""
    run_dir: Path
    """Folder of the folders of sockets: short, 0700."""
    runtime_root: Path
    """Folder for the Python that serves tokens beside containers with a server of their own."""
    store_root: Path
    initializer_argv: tuple[str, ...]
    """Command that lays out a plan; the path of the plan is its last argument."""
    workspace_id: str
    home_digest: str
    """Names the workspace to who has its folder only."""
    network: str = "bridge"
    """The network of the engine that instances are in."""
    worker_argv: tuple[str, ...] = ("-m", "moorings_server", "--worker")
    log_file_bytes: int = 4 * 1024 * 1024
    log_files: int = 4
    log_bytes_per_s: int = layout.LOG_BYTES_PER_S


class DockerEngine:
    """`Engine` on containers. See `engines/base.py` for what its methods promise.

    All of them raise `DockerEngineNotAvailable` or `DockerAccessDenied` (the machine's fault) when Docker is away.
    """

    name = "docker"

    def __init__(self, settings: DockerEngineSettings, host: DockerHost) -> None:
        self._settings = settings
        self._host = host
        self._logs_kept = LogFolder(settings.logs_root)
        self._thread = ThreadPoolExecutor(1, "docker")
        """One thing at a time, on a thread of our own: when Docker hangs, nobody else runs out of threads."""
        self._liveness = Liveness()

    async def apply(self, group: GroupSpec) -> None:
        """Raises `DiskFull` or `ContainerCannotStart` (the machine's fault) too; what was begun stays begun."""
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
        if source.container != CONTAINER_SERVER:
            return self._logs_kept.lines(owner, source)
        return self._newest_first(
            owner, source, await self._in_thread(lambda: self._said(source.instance, most))
        )

    async def follow_log(self, owner: str, source: LogSource, *, after: float) -> AsyncGenerator[Line, None]:
        if source.container != CONTAINER_SERVER:
            folder = layout.owner_folder(self._settings.root, owner) / source.instance
            async for line in self._logs_kept.follow(owner, source, after=after, there=folder.exists):
                yield line
            return
        name, since = cfg.container_name(self._settings.workspace_id, source.instance), after
        while True:
            redactor = await self._in_thread(lambda: self._redactor(source.instance))
            output = Lines(self._host, name, since, redactor)
            try:
                async for line in output.read():
                    yield line
            finally:
                output.close()
            since = output.last_at
            if output.gone:  # and what it has said was copied
                async for line in self._logs_kept.follow(owner, source, after=since, there=lambda: False):
                    yield line
                return
            await asyncio.sleep(FOLLOW_PERIOD_S)  # it has ended: the engine starts it again, or removes it

    async def inspect(self, instance: Instance) -> Inspection:
        pid = instance.pids.get("container")
        if pid is None:
            return Inspection()
        if instance.probes:
            ports = await asyncio.to_thread(listening, pid)
            ports = ports and tuple(port for port in ports if port not in cfg.METADATA_ADDRESSES)
            return replace(await watched(pid, itself=True), listening=ports)
        name = cfg.container_name(self._settings.workspace_id, instance.id)

        async def ask() -> None:
            # Sent from outside, the kernel gives it to the first process of a container only if that has a handler.
            await self._in_thread(lambda: self._host.signal(name, children.STACKS.name))

        return await watched(pid, ask)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- changes ---

    def _apply(self, group: GroupSpec) -> None:
        if group.template.container is None:
            message = f"the deployment {group.owner} was made for instances that are processes"
            raise error("ContainerCannotStart", message, target=group.owner)
        self._host.check()
        owner_dir = layout.owner_folder(self._settings.root, group.owner)
        try:
            logs = layout.owner_folder(self._settings.logs_root, group.owner)
            settings = self._settings
            for folder in (settings.root, settings.run_dir, settings.runtime_root, owner_dir, logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep(owner_dir)
            seen = self._containers(group.owner)
            for ordinal in range(group.count):
                self._begin(owner_dir, group, ordinal, seen)
            for folder, data in layout.folders(owner_dir):
                if data["revision"] == group.revision and data["ordinal"] >= group.count:
                    self._end(folder, data, group.grace_s)
        except OSError as problem:
            raise _coded(problem, group) from problem

    def _begin(
        self, owner_dir: Path, group: GroupSpec, ordinal: int, seen: Mapping[str, dict[str, Any]]
    ) -> None:
        """Start what does not live and has not failed."""
        instance = layout.instance_id(group.owner, group.revision, ordinal)
        folder = owner_dir / instance
        if not folder.exists():
            self._create(owner_dir, group, ordinal, instance)
            return
        held = procs.try_lock(folder / layout.LOCK)
        if held is None:
            return
        started = False
        try:
            sight = self._sight(folder, layout.read(folder / layout.INSTANCE), seen.get(instance), False)
            if (folder / layout.STOP).exists():
                if sight.running:
                    return
                self._discard(folder)
                self._create(owner_dir, group, ordinal, instance)
            elif sight.phase is Phase.GONE:
                (folder / layout.STATUS).unlink(missing_ok=True)
                self._keep_log(group.owner, instance)
                self._write_description(folder, group, ordinal, instance)
                started = True
                self._start(folder, held, group.private)
        finally:
            if not started:
                held.release()

    def _create(self, owner_dir: Path, group: GroupSpec, ordinal: int, instance: str) -> None:
        """The folder appears complete and locked, in one step."""
        new = owner_dir / f"{layout.NEW_PREFIX}{instance}"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._write_description(new, group, ordinal, instance)
        held = procs.try_lock(new / layout.LOCK)
        if held is None:
            return
        folder = owner_dir / instance
        try:
            new.replace(folder)
            atomic.sync_folder(owner_dir)
        except BaseException:
            held.release()
            raise
        self._start(folder, held, group.private)

    def _write_description(self, folder: Path, group: GroupSpec, ordinal: int, instance: str) -> None:
        template, settings = asdict(group.template), self._settings
        routes = template["container"]["routes"]
        workers = 0 if routes else cfg.workers_of(template)
        run_folder = layout.socket_paths(settings.run_dir, instance, 1)[0].with_suffix("")
        description = {
            "id": instance,
            "owner": group.owner,
            "revision": group.revision,
            "ordinal": ordinal,
            "created_at": time.time(),
            "workspace_id": settings.workspace_id,
            "grace_s": group.grace_s,
            "proven": group.proven,
            "worker_argv": list(settings.worker_argv),
            "initializer_argv": list(settings.initializer_argv),
            "store_root": str(settings.store_root),
            "run_folder": str(run_folder),
            "sockets": [str(run_folder / f"{index}.sock") for index in range(workers)],
            "inside_sockets": cfg.sockets(workers),
            "ports": free_ports(cfg.ports_of(routes)) if routes else {},
            "log_file_bytes": settings.log_file_bytes,
            "log_files": settings.log_files,
            "log_bytes_per_s": settings.log_bytes_per_s,
            "logs": str(self._logs_kept.instance(group.owner, instance)),
            "template": template,
        }
        atomic.write(folder / layout.INSTANCE, json.dumps(description).encode())

    def _start(self, folder: Path, held: procs.Held, private: Private) -> None:
        """On a thread of its own, which holds the lock of the folder until the container runs or has failed."""
        settings = self._settings
        site = cfg.Site(
            workspace_id=settings.workspace_id,
            home_digest=settings.home_digest,
            user=_user(),
            network=settings.network,
            log_file_bytes=settings.log_file_bytes,
            log_files=settings.log_files,
            bundle=str(write_bundle(settings.root)),
            runtime_root=str(settings.runtime_root),
            identity_folder=_folder_of(private),
        )
        starter = Starter(folder, held, self._host, site, private)
        threading.Thread(target=starter.run, name=f"start {folder.name}", daemon=True).start()

    def _remove(self, owner: str, revision: str, grace_s: float) -> None:
        owner_dir = layout.owner_folder(self._settings.root, owner)
        for folder, data in layout.folders(owner_dir):
            if data["revision"] == revision:
                self._end(folder, data, grace_s)
        for data in self._strays(owner, owner_dir):
            if data["revision"] == revision:
                self._remove_containers(data["id"])
        self._sweep(owner_dir)

    def _end(self, folder: Path, data: Mapping[str, Any], grace_s: float) -> None:
        """Write the wish down, then tell the container; `observe` clears away what has ended."""
        wish = {"grace_s": grace_s, "at": time.time()}
        old = layout.read(folder / layout.STOP)
        if old and old["at"] + old["grace_s"] <= wish["at"] + grace_s:
            wish = old
        encoded = json.dumps(wish).encode()
        try:
            atomic.write_if_changed(folder / layout.STOP, encoded)
            with contextlib.suppress(FileNotFoundError):
                atomic.write_if_changed(Path(data["run_folder"]) / layout.STOP, encoded, mode=0o644)
        except FileNotFoundError:
            return  # it has just gone by itself
        held = procs.try_lock(folder / layout.LOCK)
        if held is None:
            return  # whoever starts it looks at the wish, too
        try:
            if wish is not old:
                self._host.signal(cfg.container_name(self._settings.workspace_id, data["id"]), "SIGTERM")
            self._clear(folder, data, self._host.container(self._name(data)))
        finally:
            held.release()

    def _clear(self, folder: Path, data: Mapping[str, Any], container: dict[str, Any] | None) -> bool:
        """Of an instance that is to end (its lock is held by us): end it for good when its time is up, clear it away
        when it has ended. True when nothing is left of it."""
        wish = layout.read(folder / layout.STOP)
        if container is not None and container["State"]["Running"]:
            late_s = 0.0 if data["template"]["container"]["routes"] else LAST_KILL_S
            if time.time() < wish.get("at", 0.0) + wish.get("grace_s", 0.0) + late_s:
                return False
            self._host.signal(container["Id"], "SIGKILL")
            return False
        self._discard(folder)
        return True

    def _discard(self, folder: Path) -> None:
        """Remove an instance that does not run (its lock is held by us); its log is kept."""
        data = layout.read(folder / layout.INSTANCE)
        self._keep_log(data.get("owner", folder.parent.name.replace(".", "/")), folder.name)
        self._remove_containers(folder.name)
        if data:
            shutil.rmtree(data["run_folder"], ignore_errors=True)
        self._liveness.forget(folder.name)
        old = folder.with_name(f"{layout.OLD_PREFIX}{folder.name}.{os.getpid()}")
        folder.replace(old)
        shutil.rmtree(old, ignore_errors=True)

    def _remove_containers(self, instance: str) -> None:
        self._host.remove(cfg.container_name(self._settings.workspace_id, instance))
        self._host.remove(cfg.companion_name(self._settings.workspace_id, instance))

    def _keep_log(self, owner: str, instance: str) -> None:
        """What a container has said goes with it: copy it to where logs outlive their instances."""
        said = self._host.logs(cfg.container_name(self._settings.workspace_id, instance), tail=None)
        if said:
            folder, settings = self._logs_kept.instance(owner, instance), self._settings
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = folder / f"{CONTAINER_SERVER}.log"
            last = next(
                backwards(path), Line("", "")
            ).at  # killed before the container went, we come here again
            new = [raw for raw in said.splitlines(keepends=True) if parsed(raw).at > last]
            log = RotatingWriter(path, file_bytes=settings.log_file_bytes, files=settings.log_files)
            log.write(self._redactor(instance).redact(b"".join(new)))
            log.close()

    def _sweep(self, owner_dir: Path) -> None:
        """Clear what a killed process left half made or half removed."""
        for prefix in (layout.NEW_PREFIX, layout.OLD_PREFIX):
            for folder in owner_dir.glob(f"{prefix}*"):
                if not procs.is_locked(folder / layout.LOCK):
                    shutil.rmtree(folder, ignore_errors=True)

    def _forget(self, owner: str) -> None:
        owner_dir = layout.owner_folder(self._settings.root, owner)
        seen = self._containers(owner)
        for folder, data in layout.folders(owner_dir):
            held = procs.try_lock(folder / layout.LOCK)
            if held is None:
                return  # it lives
            try:
                if self._sight(folder, data, seen.get(folder.name), False).running:
                    return
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
        seen = self._containers(owner)
        found = []
        for owner_dir in owner_dirs:
            for folder, data in layout.folders(owner_dir):
                instance = self._look(folder, data, seen.pop(data["id"], None))
                if instance is not None:
                    found.append(instance)
        for container in seen.values():  # its folder is gone: nobody asked for it
            found.append(look(_data_of(container), container, {}, locked=False).instance)
        return found

    def _look(self, folder: Path, data: dict[str, Any], container: dict[str, Any] | None) -> Instance | None:
        if (folder / layout.STOP).exists():
            held = procs.try_lock(folder / layout.LOCK)
            if held is not None:
                try:
                    if self._clear(folder, data, container):
                        return None
                finally:
                    held.release()
        locked = procs.is_locked(folder / layout.LOCK)
        if not locked and container is None:
            container = self._host.container(self._name(data))  # it may have come while we looked
        sight = self._sight(folder, data, container, locked)
        if not folder.exists():
            return None
        routes = data["template"]["container"]["routes"]
        if routes and container is not None and sight.phase is Phase.RUNNING:
            self._keep_network(container)
            address = f"{cfg.LOOPBACK}:{data['ports'][str(routes['liveness_port'])]}{routes['liveness_path']}"
            if self._liveness.is_dead(data["id"], container, address, data["template"]["liveness"]):
                self._host.restart(container["Id"])
        return sight.instance

    def _keep_network(self, container: Mapping[str, Any]) -> None:
        """Of one that is in the network of its companion: when that one has begun anew, its network is another one, and
        the instance has to begin anew too. One that has gone is made again with the instance."""
        name = cfg.companion_of(container)
        if name is None:
            return
        beside = self._host.container(name)
        if beside is None:
            self._host.signal(container["Id"], "SIGKILL")  # Docker does not start it again by itself then
            return
        if not beside["State"]["Running"]:
            if not beside["State"]["Restarting"]:
                self._host.start(name)
            return
        if parsed_at(beside["State"]["StartedAt"]) > parsed_at(container["State"]["StartedAt"]):
            self._host.restart(container["Id"])

    def _sight(
        self, folder: Path, data: Mapping[str, Any], container: dict[str, Any] | None, locked: bool
    ) -> Sight:
        stopping = (folder / layout.STOP).exists()
        return look(data, container, layout.read(folder / layout.STATUS), locked=locked, stopping=stopping)

    def _containers(self, owner: str | None) -> dict[str, dict[str, Any]]:
        """Instance id -> `inspect` of its container."""
        wanted = {cfg.LABEL_WORKSPACE: self._settings.workspace_id}
        if owner is not None:
            wanted[cfg.LABEL_OWNER] = owner
        return {c["Config"]["Labels"][cfg.LABEL_INSTANCE]: c for c in self._host.containers(wanted)}

    def _strays(self, owner: str, owner_dir: Path) -> list[dict[str, Any]]:
        """Containers of an owner whose folders are gone."""
        return [_data_of(c) for i, c in self._containers(owner).items() if not (owner_dir / i).exists()]

    def _name(self, data: Mapping[str, Any]) -> str:
        return cfg.container_name(self._settings.workspace_id, data["id"])

    # --- logs ---

    def _logs(self, owner: str, container: str, lines: int, instance: str | None) -> str | None:
        if container not in CONTAINERS:
            raise error("LogContainerUnknown", f"there is no container {container!r}", target=container)
        source = most_telling(self._log_sources(owner), container, instance)
        if source is None:
            return None
        said = self._said(source.instance, lines) if container == CONTAINER_SERVER else []
        newest_first = self._newest_first(owner, source, said)
        return "".join(reversed([f"{line.text}\n" for line in islice(newest_first, max(0, lines))]))

    def _newest_first(self, owner: str, source: LogSource, said: Sequence[Line]) -> Iterator[Line]:
        """What the container says, then what earlier ones of this name have left."""
        kept: Iterator[Line] = map(shortened, self._logs_kept.lines(owner, source))
        if said:  # which may be kept already, when the container is about to go
            kept = dropwhile(lambda line: line.at >= said[0].at, kept)
        return chain(reversed(said), kept)

    def _log_sources(self, owner: str) -> list[LogSource]:
        phases = {i.id: i.phase for i in self._observe(owner)}
        found = {(s.instance, s.container): s for s in self._logs_kept.sources(owner)}
        for instance, container in self._containers(owner).items():
            if container["State"]["Status"] != "created":
                began = parsed_at(container["State"]["StartedAt"])
                found[instance, CONTAINER_SERVER] = LogSource(instance, CONTAINER_SERVER, last_at=began)
        return [
            s._replace(running=phases.get(s.instance) is Phase.RUNNING, ended=s.instance not in phases)
            for s in found.values()
        ]

    def _said(self, instance: str, most: int | None) -> list[Line]:
        """What the container of an instance has said so far, as far as Docker keeps it, oldest first."""
        said = self._host.logs(cfg.container_name(self._settings.workspace_id, instance), tail=most)
        lines = self._redactor(instance).redact(said).split(b"\n")[:-1] if said else []
        return [shortened(parsed(raw)) for raw in lines]

    def _redactor(self, instance: str) -> Redactor:
        """Knows what a container with a server of its own was told: nobody inside takes that out of what it prints."""
        container = self._host.container(cfg.container_name(self._settings.workspace_id, instance))
        return Redactor(with_their_lines(cfg.secrets_of(container) if container else ()))


def _folder_of(private: Private) -> str:
    """The folder to mount for tokens; the engine would make one that is not there, as root."""
    folder = "" if private.identity is None else str(Path(private.identity.socket).parent)
    return folder if folder and Path(folder).is_dir() else ""


def _user() -> str:
    """Never root: ourselves, or nobody when we are root (who can reach the sockets of anybody)."""
    return f"{os.getuid()}:{os.getgid()}" if os.getuid() else f"{NOBODY}:{NOBODY}"


def _data_of(container: Mapping[str, Any]) -> dict[str, Any]:
    """What the labels of a container say of its instance."""
    labels = container["Config"]["Labels"]
    return {
        "id": labels[cfg.LABEL_INSTANCE],
        "owner": labels[cfg.LABEL_OWNER],
        "revision": labels[cfg.LABEL_REVISION],
        "ordinal": int(labels[cfg.LABEL_ORDINAL]),
        "created_at": 0.0,
        "sockets": [],
        "ports": {},
        "run_folder": "/nonexistent",
        "template": {"container": {"routes": None}},
    }


def _coded(problem: OSError, group: GroupSpec) -> MooringsError:
    fields = {"endpoint": group.template.endpoint, "deployment": group.template.deployment}
    evidence = (f"{problem.filename or ''}: {problem.strerror or problem}".lstrip(": "),)
    code = "DiskFull" if problem.errno in _NO_SPACE else "ContainerCannotStart"
    message = f"an instance of {group.owner} cannot be started: {problem.strerror or problem}"
    return error(code, message, target=group.owner, evidence=evidence, fields=fields)
