"""The Envoy process: start it, find again the one that runs already, watch it, bring it back, end it without
loss.

Envoy holds a file lock through an inherited descriptor, so whoever comes later knows that it lives, and which
it is. This module must not know what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moorings.errors.exceptions import Failure, failure
from moorings.gateway import envoy_listener, locks
from moorings.gateway.admin import Admin, AdminError
from moorings.gateway.binary import EnvoyBinary
from moorings.gateway.control import GatewaySettings
from moorings.gateway.doorstep import Doorstep
from moorings.gateway.envoy import content_hash
from moorings.gateway.port import port_problem
from moorings.lib import atomic, procs
from moorings.lib.timing import Backoff, Clock

_BACKOFF = Backoff(first_s=0.05, cap_s=2.0)
_STEADY_S = 1.0
"""An Envoy that has answered for so long ended by something new: the next one is started at once."""
_LOCK_WAIT_S = 0.05
_TERM_WAIT_S = 5.0
_PATIENCE_S = 5.0
"""How long callers are kept waiting for an Envoy that is gone."""
_MOST_WAITING = 1000
_OWN_FILES = 100
"""Envoy's logs, sockets and events, and some room."""
_LOG_LIMIT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Launch:
    """How Envoy is started: equal launches are the same Envoy, so a running one can be adopted."""

    bootstrap: Path
    argv: tuple[str, ...]


class EnvoyProcess:
    """Keeps one Envoy running. `changed()` is called when it starts, ends or fails."""

    def __init__(
        self, settings: GatewaySettings, binary: EnvoyBinary, clock: Clock, changed: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._binary = binary
        self._clock = clock
        self._changed = changed
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self.admin = Admin(settings.admin_socket)
        self.pid: int | None = None
        self.problem: Failure | None = None
        self.starts = 0
        """How many Envoys this object has started: a new one holds nothing that an earlier one
        acknowledged."""
        self._ready_since_s: float | None = None
        self._doorstep = Doorstep(
            settings.bind,
            settings.port,
            settings.doorstep_socket,
            patience_s=_PATIENCE_S,
            most=callers_at_once(_MOST_WAITING, resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        )

    async def run(self) -> None:
        """Adopt or start, watch, start again after an end; until `stop`."""
        failures = 0
        while True:
            self._ready_since_s = None
            pid = await self._bring_up()
            if pid is not None:
                self.pid = pid
                self._changed()
                await _gone(pid)
                self._doorstep.left_alone()
                self._reap()
                self.pid = None
            if self._stopping:
                return
            failures = 0 if self._served_s() > _STEADY_S else failures + 1
            if pid is not None:
                self.problem = self._problem_of_death(failures)
            self._changed()
            if failures:
                await asyncio.sleep(_BACKOFF.delay_s(failures))

    def _served_s(self) -> float:
        """How long the last one has answered."""
        return 0.0 if self._ready_since_s is None else self._clock.monotonic() - self._ready_since_s

    def mark_ready(self) -> None:
        """Envoy answers: what was wrong before is over."""
        self.problem = None
        self._doorstep.attended()
        if self._ready_since_s is None:
            self._ready_since_s = self._clock.monotonic()

    async def stop(self, drain_s: float) -> None:
        """Let requests in flight finish (at most `drain_s` seconds), then end Envoy. Unsuccessful drains end
        it too."""
        self._stopping = True
        self._doorstep.close()
        pid = self.pid
        if pid is not None:
            await self._drain(pid, drain_s)
        await self._doorstep.end()

    async def _drain(self, pid: int, drain_s: float) -> None:
        with contextlib.suppress(AdminError, TimeoutError):
            # SIGTERM alone would cut requests in flight off.
            await self.admin.drain()
            async with asyncio.timeout(drain_s):
                await self._idle()
        await self._end(pid)

    async def _idle(self) -> None:
        while await self.admin.active_requests() > 0:  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(0.05)

    async def _bring_up(self) -> int | None:
        launch = self._launch()
        for running in locks.holders(self._settings.envoy_lock, (locks.ROLE_ENVOY,)):
            if str(launch.bootstrap) in locks.command_line(running):
                self._doorstep.join()
                return running
            # Another configuration or binary than this agent's: that Envoy can't be changed, only replaced.
            await self._end(running)
        lock = procs.try_lock(self._settings.envoy_lock)
        if lock is None:
            await asyncio.sleep(_LOCK_WAIT_S)
            return None
        try:
            self.problem = self._claim()
            return None if self.problem is not None else self._start(launch, lock)
        finally:
            lock.release()

    def _claim(self) -> Failure | None:
        """Have the port for Envoy, which shares it with us alone; or say why it cannot be had."""
        where = self._settings.bind, self._settings.port
        problem = None if self._doorstep.is_open else port_problem(*where)
        if problem is None:
            try:
                self._doorstep.claim()
            except OSError as refused:  # taken this very moment
                message = f"the gateway can't listen on {where[0]}:{where[1]}: {refused.strerror}"
                problem = port_problem(*where) or failure(
                    "GatewayCannotListen", message, fields={"port": where[1]}
                )
        return problem

    def _launch(self) -> Launch:
        settings = self._settings
        document = envoy_listener.bootstrap(
            envoy_listener.ListenerSettings(
                bind=settings.bind,
                port=settings.port,
                max_connections=callers_at_once(
                    settings.max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
                ),
                discovery_socket=str(settings.discovery_socket),
                admin_socket=str(settings.admin_socket),
                access_log=str(settings.access_log),
                doorstep_socket=str(settings.doorstep_socket),
            ),
            node="gateway",
        )
        name = content_hash([document, self._binary.sha256])
        path = settings.dir / f"bootstrap-{name}.json"
        if atomic.write_if_changed(path, json.dumps(document).encode()):
            for other in settings.dir.glob("bootstrap-*.json"):
                if other != path:
                    other.unlink(missing_ok=True)
        argv = (
            str(self._binary.path), "-c", str(path), "--concurrency", "1", "--disable-hot-restart",
            # A field that Envoy doesn't know would otherwise be dropped with a warning.
            "--reject-unknown-dynamic-fields", "-l", "warn", "--drain-time-s", "10",
            "--file-flush-interval-msec", "1000",
        )  # fmt: skip
        return Launch(path, argv)

    def _start(self, launch: Launch, lock: procs.Held) -> int | None:
        log = self._settings.envoy_log
        if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
        try:
            with log.open("ab") as output:
                self._child = subprocess.Popen(
                    launch.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=process_env(self._settings, locks.ROLE_ENVOY),
                    cwd=self._settings.dir,
                    pass_fds=(lock.fd,),
                    **procs.popen_session(procs.Session.SHARED),
                )
        except OSError as problem:
            self.problem = failure("GatewayEnvoyFailed", f"Envoy can't be started: {problem}")
            return None
        self.starts += 1
        return self._child.pid

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None

    async def _end(self, pid: int) -> None:
        for signum in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_gone(pid), _TERM_WAIT_S)
                return

    def _problem_of_death(self, failures: int) -> Failure | None:
        taken = self._claim()
        if taken is not None or failures < 2:
            return taken
        lines = _tail(self._settings.envoy_log)
        return failure(
            "GatewayEnvoyFailed", "Envoy ends soon after its start, again and again", evidence=lines
        )


async def _gone(pid: int) -> None:
    """Return when the process has ended; works for one that isn't our child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def callers_at_once(wanted: int, files: int) -> int:
    """How many callers may be connected where a process may open `files` files (below zero: any number).

    Envoy raises its own limit to that one. A request needs a second connection, to a worker, and Envoy ends itself when
    it can't open one: callers that only sit there must leave as many files as they take.
    """
    return wanted if files < 0 else max(1, min(wanted, (files - _OWN_FILES) // 2))


def process_env(settings: GatewaySettings, role: str) -> dict[str, str]:
    """The environment of a gateway process: ours, with its role and home."""
    return {**os.environ, "MOORINGS_HOME": str(settings.home), "MOORINGS_ROLE": role}


def _tail(path: Path, lines: int = 10) -> list[str]:
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, path.stat().st_size - 8192))
            return handle.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
