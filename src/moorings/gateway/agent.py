"""The gateway agent: takes in the snapshot, serves it to Envoy, keeps Envoy running and says how things
stand.

It needs no control plane: it starts from the last good snapshot, and every file it writes can be thrown away.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping

from moorings.errors.exceptions import Failure, MooringsError
from moorings.gateway import admin, binary, descriptors, locks, snapshot
from moorings.gateway.__main__ import keeper_argv
from moorings.gateway.ads import DiscoveryServer
from moorings.gateway.control import GatewaySettings
from moorings.gateway.envoy import Bundle
from moorings.gateway.process import EnvoyProcess, process_env
from moorings.gateway.state import GatewayStatus
from moorings.gateway.validate import Validator
from moorings.gateway.waiting import WaitingRooms
from moorings.lib.timing import Clock, SystemClock

_POLL_S = 0.25
_POLL_BUSY_S = 0.03
_OBSERVE_S = 1.0
_BUSY_S = 5.0
"""How long health is asked for at the busy pace after what is expected has changed; then gently, then at
leisure."""
_HALF_BUSY_S = 60.0
_OBSERVE_SHARE = 9.0
"""Asked for a tenth of the time at most."""
_RETRY_BINARY_S = 5.0
_SILENT_LIMIT = 3
"""Questions in a row that Envoy may leave unanswered (2 s each) before it no longer counts as ready."""
DRAIN_S = 10.0
ACCESS_LOG_LIMIT_BYTES = 64 * 1024 * 1024


class Agent:
    """One gateway. `run` returns after `stop`."""

    def __init__(self, settings: GatewaySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._snapshot = snapshot.SnapshotFile(settings.snapshot)
        self._serving = snapshot.SnapshotFile(settings.serving)
        self._wake = asyncio.Event()
        self._stopped = False
        self._taken: snapshot.Snapshot = snapshot.of(())
        self._seen: tuple[int, ...] = ()
        self._good: dict[str, Bundle] = {}
        """Endpoint -> the last bundle Envoy has accepted: what it goes back to when the next one is
        refused."""
        self._good_written: dict[str, str] = {}
        self._invalid: dict[str, str] = {}
        self._nacked: dict[str, tuple[str, str]] = {}
        self._healthy: Mapping[str, tuple[str, ...]] = {}
        self._ready = False
        self._status: GatewayStatus | None = None
        self._expected: frozenset[tuple[str, str]] = frozenset()
        self._expected_since_s = clock.monotonic()
        self._observed_s = 0.0
        self._observing_took_s = 0.0
        self._observing: asyncio.Task[None] | None = None
        self._rooms = WaitingRooms()
        self._starts = 0
        self._silent = 0

    def stop(self) -> None:
        """Ask `run` to end everything gracefully."""
        self._stopped = True
        self._wake.set()

    @property
    def stopping(self) -> bool:
        return self._stopped

    async def run(self) -> None:
        """Serve until `stop`; then let requests finish, end Envoy and remove what only a running gateway
        has."""
        envoy_binary = await self._binary()
        if envoy_binary is None:
            return
        settings = self._settings
        messages = descriptors.load(envoy_binary.path, settings.dir, envoy_binary.sha256)
        self._validator = Validator(envoy_binary.path, settings.dir, process_env(settings, "envoy-check"))
        self._validator.sweep()
        self._ads = DiscoveryServer(messages, settings.discovery_socket, self._wake.set)
        self._process = EnvoyProcess(settings, envoy_binary, self._clock, self._wake.set)
        self._resume()
        # Before anything is listened on: an Envoy that runs on would be told that there are no endpoints.
        await self._take_snapshot()
        await self._ads.start()
        wake = self._listen_for_wakes()
        supervisor = asyncio.create_task(self._process.run())
        try:
            while not self._stopped:
                await self._turn()
                if supervisor.done():
                    supervisor.result()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._pause_s())
                self._wake.clear()
        finally:
            asyncio.get_running_loop().remove_reader(wake)
            wake.close()
        if self._observing is not None:
            self._observing.cancel()
        await self._process.stop(DRAIN_S)
        supervisor.cancel()
        await self._ads.stop()
        await self._rooms.close()
        for path in (settings.status, settings.wake_socket, settings.discovery_socket):
            path.unlink(missing_ok=True)

    async def _binary(self) -> binary.EnvoyBinary | None:
        """The checked binary; while it is refused, say so and look again, as a reinstallation may mend it."""
        while not self._stopped:
            try:
                return await asyncio.to_thread(self._check_binary)
            except MooringsError as problem:
                self._write_status(_nothing(problem.failure))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _RETRY_BINARY_S)
        return None

    def _check_binary(self) -> binary.EnvoyBinary:
        return binary.check(binary.find(), self._settings.dir / "binary.json")

    def _resume(self) -> None:
        """Take up what the agent before this one knew."""
        good = snapshot.read(self._settings.serving)
        if good is not None:
            self._good = {bundle.endpoint: bundle for bundle in good.bundles}
            self._good_written = good.endpoints
            self._validator.trust(good.bundles)
            self._taken = good
        before = snapshot.read_status(self._settings.status)
        if before is not None and locks.holders(self._settings.envoy_lock, (locks.ROLE_ENVOY,)):
            self._ads.seed(before.accepted)
            self._healthy, self._ready = before.healthy, before.ready

    def _listen_for_wakes(self) -> socket.socket:
        path = self._settings.wake_socket
        path.unlink(missing_ok=True)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        receiver.bind(str(path))

        def drain() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    receiver.recv(16)
            self._wake.set()

        asyncio.get_running_loop().add_reader(receiver, drain)
        return receiver

    async def _turn(self) -> None:
        await self._take_snapshot()
        await self._take_answers()
        if self._process.starts != self._starts:
            self._starts = self._process.starts
            self._ads.forget()
            self._healthy, self._ready = {}, False
            self._expected_since_s = self._clock.monotonic()
            self._observed_s = 0.0
        self._look_at_envoy()
        self._let_in()
        self._write_status(self._current())

    async def _take_snapshot(self) -> None:
        """Take in a new snapshot: have its changes checked, publish the rest with the last good of what is
        refused."""
        signature = snapshot.signature(self._settings.snapshot)
        if signature == self._seen and self._taken is not None:
            return
        self._seen = signature
        found = self._snapshot.read()
        if found is not None:
            self._taken = found
        self._invalid = await self._validator.refusals(self._taken.bundles)
        # They listen before Envoy knows of them.
        known = (*self._taken.bundles, *self._good.values())
        await self._rooms.serve(path for _, path in snapshot.rooms(known))
        self._publish()

    def _publish(self) -> None:
        serving: dict[str, Bundle] = {}
        for bundle in self._taken.bundles:
            chosen = self._good.get(bundle.endpoint) if self._refusal(bundle) is not None else bundle
            if chosen is not None:
                serving[bundle.endpoint] = chosen
        self._ads.publish(serving)
        expected = frozenset(snapshot.workers(serving.values()))
        if expected != self._expected:
            self._expected = expected
            self._expected_since_s = self._clock.monotonic()
            self._observed_s = 0.0

    def _refusal(self, bundle: Bundle) -> str | None:
        """Why this bundle is not served, or None."""
        message = self._invalid.get(bundle.endpoint)
        if message is not None:
            return message
        version, answer = self._nacked.get(bundle.endpoint, ("", ""))
        return answer if version == bundle.version else None

    async def _take_answers(self) -> None:
        """What Envoy has said: remember the accepted as good, go back to the good where it has refused."""
        wanted = {bundle.endpoint: bundle for bundle in self._taken.bundles}
        for name, bundle in wanted.items():
            if self._ads.accepted.get(name) == bundle.version:
                self._good[name] = bundle
        self._good = {name: bundle for name, bundle in self._good.items() if name in wanted}
        refused = {
            name: found
            for name, found in self._ads.refused.items()
            if name in wanted and wanted[name].version == found[0] and self._nacked.get(name) != found
        }
        if refused:
            self._nacked = {**{n: f for n, f in self._nacked.items() if n in wanted}, **refused}
            self._publish()
        versions = {name: bundle.version for name, bundle in self._good.items()}
        if versions != self._good_written:
            # Envoy is told of the next change meanwhile: all of this is written, and waited for until it is on disk.
            await asyncio.to_thread(self._serving.write, snapshot.of(self._good.values()))
            self._good_written = versions

    def _look_at_envoy(self) -> None:
        """Have it asked how it is when that is due: an answer that is long, or does not come, holds up no change."""
        if self._observing is not None and self._observing.done():
            self._observing.result()
            self._observing = None
        due = self._clock.monotonic() - self._observed_s >= self._observe_pace_s()
        if due and self._observing is None:
            self._observing = asyncio.create_task(self._observe())
            self._observing.add_done_callback(lambda _: self._wake.set())

    async def _observe(self) -> None:
        """Ask Envoy how it is."""
        began_s = self._clock.monotonic()
        try:
            await self._ask()
        finally:
            self._observed_s = self._clock.monotonic()
            self._observing_took_s = self._observed_s - began_s

    async def _ask(self) -> None:
        if self._process.pid is None:
            self._ready, self._healthy = False, {}
            return
        asked = self._process.starts
        try:
            healthy, ready = await self._process.admin.healthy(), self._ready
            if not ready:
                live = await self._process.admin.live()
                ready = live and await admin.answers(self._settings.bind, self._settings.port)
            if self._process.starts != asked:
                return  # that was another one
            self._healthy, self._ready = healthy, ready
            if self._ready:
                self._process.mark_ready()
            await self._rotate_access_log()
            self._silent = 0
        except admin.AdminError:
            self._silent += 1
            self._ready = self._ready and self._silent < _SILENT_LIMIT
            # It may be busy or on its way out; its end is noticed elsewhere, and health is never guessed.
            return

    def _let_in(self) -> None:
        """Requests that wait for an instance go on as soon as Envoy itself holds a worker healthy."""
        there = {c for c, worker in self._expected if worker in self._healthy.get(c, ())}
        known = (*self._taken.bundles, *self._good.values())
        self._rooms.let_in({path: cluster in there for cluster, path in snapshot.rooms(known)})

    async def _rotate_access_log(self) -> None:
        log = self._settings.access_log
        if log.exists() and log.stat().st_size > ACCESS_LOG_LIMIT_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
            await self._process.admin.reopen_logs()

    def _pending(self) -> bool:
        """Whether something that is expected of Envoy hasn't happened yet."""
        if not self._ready or any(
            self._ads.accepted.get(bundle.endpoint) != bundle.version and self._refusal(bundle) is None
            for bundle in self._taken.bundles
        ):
            return True
        return any(worker not in self._healthy.get(cluster, ()) for cluster, worker in self._expected)

    def _observe_pace_s(self) -> float:
        """Where there are very many workers an answer is long: to ask must not keep Envoy and us from our work."""
        waited_s = self._clock.monotonic() - self._expected_since_s
        at_leisure = waited_s > _HALF_BUSY_S or not self._pending()
        wanted_s = _OBSERVE_S if at_leisure else _POLL_BUSY_S if waited_s < _BUSY_S else _POLL_S
        return max(wanted_s, _OBSERVE_SHARE * self._observing_took_s)

    def _pause_s(self) -> float:
        return min(_POLL_S, self._observe_pace_s())

    def _current(self) -> GatewayStatus:
        rejected = {
            bundle.endpoint: message
            for bundle in self._taken.bundles
            if (message := self._refusal(bundle)) is not None
        }
        problem = self._process.problem
        return GatewayStatus(
            snapshot_version=self._taken.version,
            accepted=dict(self._ads.accepted),
            rejected=rejected,
            healthy=dict(self._healthy) if self._process.pid is not None else {},
            envoy_pid=self._process.pid,
            ready=self._ready and self._process.pid is not None,
            failure=_text(problem),
            problem=problem,
        )

    def _write_status(self, status: GatewayStatus) -> None:
        if status != self._status:
            snapshot.write_status(self._settings.status, status)
            self._status = status


def _nothing(problem: Failure) -> GatewayStatus:
    return GatewayStatus("", {}, {}, {}, None, False, _text(problem), problem)


def _text(problem: Failure | None) -> str | None:
    return f"({problem.code}) {problem.message}" if problem is not None else None


def main(options: argparse.Namespace) -> None:
    """Run the agent until SIGTERM (everything ends) or the keeper's death (then this process becomes the
    keeper)."""
    os.environ["GRPC_VERBOSITY"] = "ERROR"
    settings = GatewaySettings(
        options.home, options.dir, options.run_dir, options.port, options.bind, options.max_connections
    )
    if asyncio.run(_run(settings, options.keeper_fd)):
        return
    os.set_inheritable(options.lock_fd, True)
    os.environ["MOORINGS_ROLE"] = locks.ROLE_KEEPER
    os.execv(sys.executable, keeper_argv(options, options.lock_fd))  # noqa: S606 - our own command, no shell


async def _run(settings: GatewaySettings, keeper_fd: int) -> bool:
    """True when it was told to stop; False when the keeper has died."""
    loop = asyncio.get_running_loop()
    agent = Agent(settings, SystemClock())
    orphaned = asyncio.Event()

    def keeper_died() -> None:
        loop.remove_reader(keeper_fd)
        orphaned.set()

    loop.add_reader(keeper_fd, keeper_died)
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, agent.stop)
    work = asyncio.create_task(agent.run())
    orphan = asyncio.create_task(orphaned.wait())
    await asyncio.wait({work, orphan}, return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        work.result()
        return True
    if agent.stopping:
        await work
        return True
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    return False
