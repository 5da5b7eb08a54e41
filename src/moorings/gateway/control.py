"""The gateway as the control plane sees it: publish a state, read what became of it, start and stop the
agent.

Everything goes through files, so nothing here fails because the agent is away: it takes in the last state
when it is back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from moorings.gateway import locks, snapshot
from moorings.gateway.admin import Admin, AdminError, Load
from moorings.gateway.envoy_clusters import cluster_name, cluster_parts
from moorings.gateway.publication import Publication
from moorings.gateway.state import GatewayState, GatewayStatus, Published
from moorings.gateway.waiting import room_path
from moorings.lib import procs
from moorings.spec.limits import MAX_CONNECTIONS


@dataclass(frozen=True)
class GatewaySettings:
    """Where a gateway lives. `run_dir` is short (sockets: 107 bytes at most) and, like `dir`, for its user
    only."""

    home: Path
    dir: Path
    run_dir: Path
    port: int
    bind: str = "127.0.0.1"
    max_connections: int = MAX_CONNECTIONS

    @property
    def snapshot(self) -> Path:
        return self.dir / "snapshot.json"

    @property
    def serving(self) -> Path:
        return self.dir / "serving.json"

    @property
    def status(self) -> Path:
        return self.dir / "status.json"

    @property
    def agent_lock(self) -> Path:
        return self.dir / "agent.lock"

    @property
    def envoy_lock(self) -> Path:
        return self.dir / "envoy.lock"

    @property
    def agent_log(self) -> Path:
        return self.dir / "agent.log"

    @property
    def envoy_log(self) -> Path:
        return self.dir / "envoy.log"

    @property
    def access_log(self) -> Path:
        return self.dir / "access.log"

    @property
    def discovery_socket(self) -> Path:
        return self.run_dir / "ads.sock"

    @property
    def admin_socket(self) -> Path:
        return self.run_dir / "admin.sock"

    @property
    def doorstep_socket(self) -> Path:
        return self.run_dir / "door.sock"

    @property
    def wake_socket(self) -> Path:
        return self.run_dir / "wake.sock"

    def make_folders(self) -> None:
        """Make both folders, 0700."""
        for folder in (self.dir, self.run_dir):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)

    def argv(self) -> tuple[str, ...]:
        """The command that runs this gateway."""
        return (
            sys.executable, "-m", "moorings.gateway", "--home", str(self.home), "--dir", str(self.dir),
            "--run-dir", str(self.run_dir), "--port", str(self.port), "--bind", self.bind,
            "--max-connections", str(self.max_connections),
        )  # fmt: skip


class GatewayControl:
    """One gateway, driven from outside. No method waits for Envoy, except `stop`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self._publication = Publication(settings.snapshot)
        self._status = snapshot.StatusFile(settings.status)
        settings.make_folders()

    def publish(self, state: GatewayState) -> Published:
        """Make `state` what the gateway should serve; returns what to compare with `status()`.

        The file is written only when something changed. Raises OSError when it can't be.
        """
        published, written = self._publication.put(state)
        if written:
            self._poke()
        return published

    def workers(self, endpoint: str, deployment: str) -> tuple[str, ...]:
        """Addresses of a deployment that take traffic by what was published last, by whichever daemon."""
        last = snapshot.read(self.settings.snapshot)
        cluster = cluster_name(endpoint, deployment)
        return tuple(a for c, a in snapshot.workers(last.bundles if last else ()) if c == cluster)

    def status(self) -> GatewayStatus | None:
        """The agent's last word, or None when there is none. It does not say that the agent lives: `running`
        does."""
        return self._status.read()

    def waiting_room(self, endpoint: str, deployment: str) -> str:
        """The socket where requests to the deployment wait while it has no instance."""
        return str(room_path(self.settings.run_dir, cluster_name(endpoint, deployment)))

    async def loads(self, *, timed: bool = False) -> Mapping[tuple[str, str], Load] | None:
        """(Endpoint, deployment) -> the load that Envoy itself counts; None while it does not answer. With `timed` also
        how long answers took.

        Asked of Envoy's admin socket: a figure that is read four times a second is worth no file.
        """
        try:
            admin = Admin(self.settings.admin_socket)
            found = await admin.loads()
            if timed:
                for cluster, (count, time_ms) in (await admin.times()).items():
                    if cluster in found:
                        found[cluster] = replace(found[cluster], timed=count, time_ms=time_ms)
        except AdminError:
            return None
        return {cluster_parts(cluster): load for cluster, load in found.items()}

    def running(self) -> bool:
        """Whether an agent (or its keeper) lives."""
        return procs.is_locked(self.settings.agent_lock)

    def ensure_agent(self) -> bool:
        """Start the agent, detached, unless one lives; True when one was started. Raises OSError."""
        if self.running():
            return False
        procs.start_detached(
            self.settings.argv(),
            env={
                **os.environ,
                "MOORINGS_HOME": str(self.settings.home),
                "MOORINGS_ROLE": locks.ROLE_KEEPER,
            },
            cwd=self.settings.dir,
            stdout=self.settings.agent_log,
            session=procs.Session.SHARED,
        )
        return True

    def stop(self, timeout_s: float) -> bool:
        """End agent and Envoy, letting requests in flight finish; blocks. False when `timeout_s` passed and
        it was killed.

        Also ends an Envoy that has lost its agent.
        """
        deadline = time.monotonic() + timeout_s
        graceful = True
        for lock in (self.settings.agent_lock, self.settings.envoy_lock):
            self._signal(lock, signal.SIGTERM)
            if not procs.wait_unlocked(lock, max(0.0, deadline - time.monotonic())):
                graceful = False
                self._kill(lock)
        self.settings.status.unlink(missing_ok=True)
        return graceful

    def _kill(self, lock: Path) -> None:
        for _ in range(5):
            self._signal(lock, signal.SIGKILL)
            if procs.wait_unlocked(lock, 1.0):
                return

    def _signal(self, lock: Path, signum: signal.Signals) -> None:
        for pid in locks.holders(lock):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signum)

    def _poke(self) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(b"!", str(self.settings.wake_socket))
