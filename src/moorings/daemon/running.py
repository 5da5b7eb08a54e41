"""The life of the control process: it waits for its turn to lead, looks after everything, and ends. Which tasks run, and in
which order they begin and end, stands here; what they are is put together elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping

import uvicorn
from starlette.types import ASGIApp

from moorings import __version__
from moorings.api.listener import QuietServer
from moorings.autoscale.scaler import Scaler
from moorings.controller.upkeep import keep_directory, keep_gateway
from moorings.daemon.composition import Controller, app_of, controller_of, log_keeper_of
from moorings.daemon.engines import engine_of, usages_of
from moorings.daemon.parts import Parts
from moorings.engines.base import Engine
from moorings.errors.exceptions import MooringsError
from moorings.lib import atomic, sockets
from moorings.security.folders import private
from moorings.settings import Settings, check_engine
from moorings.state.binding import open_bound

logger = logging.getLogger("moorings.daemon")


class Daemon:
    """One workspace's control plane. Constructing acts on nothing; `run` does."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        """`environ`: what this process was started with, and would be started with again."""
        self._parts = Parts(settings)
        self._environ = environ

    def _engine(self, workspace_id: str) -> Engine:
        return engine_of(self._parts.settings, self._parts.docker, workspace_id)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. The data plane goes on without us."""
        parts, settings = self._parts, self._parts.settings
        for folder in (settings.home, settings.run_dir, settings.logs_dir, parts.audit.folder):
            private(folder)
        workspace_id = await asyncio.to_thread(open_bound, parts.database, settings.home)
        check_engine(settings, settings.engine)
        engine = self._engine(workspace_id)
        controller = controller_of(parts, engine)
        app = app_of(parts, controller, engine, workspace_id)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        try:
            async with self._leading(app, stop):
                if not stop.is_set():
                    await self._lead(controller, engine, app, stop, workspace_id)
        finally:
            await controller.deployments.close()
            parts.database.close()
        logger.info("stopped")

    @contextlib.asynccontextmanager
    async def _leading(self, app: ASGIApp, stop: asyncio.Event) -> AsyncIterator[None]:
        """Within it this daemon leads, or `stop` is set. Until then it answers on a socket of its own."""
        election, own_socket = self._parts.election, self._parts.settings.own_socket
        if election is None:
            yield
            return
        listener = sockets.listen(own_socket)
        server = _server(app)
        api = asyncio.create_task(server.serve(sockets=[listener]))
        tasks = [asyncio.create_task(election.win()), asyncio.create_task(stop.wait())]
        try:
            await asyncio.wait({api, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
                tasks.append(asyncio.create_task(election.keep(self._begin_anew)))
            else:
                stop.set()
            yield
        finally:
            for task in tasks:
                task.cancel()
            server.should_exit = True
            await asyncio.gather(api, *tasks, return_exceptions=True)
            own_socket.unlink(missing_ok=True)
            with contextlib.suppress(MooringsError):  # then it runs out
                await asyncio.to_thread(election.end)

    def _begin_anew(self) -> None:
        """Another daemon leads: whatever this one is in the middle of ends now, as by a kill. It comes back as a standby."""
        os.execve(sys.executable, [sys.executable, "-P", "-m", "moorings.daemon"], dict(self._environ))  # noqa: S606

    async def _lead(
        self, controller: Controller, engine: Engine, app: ASGIApp, stop: asyncio.Event, workspace_id: str
    ) -> None:
        """Look after everything until `stop`."""
        parts, settings = self._parts, self._parts.settings
        for folder in (settings.home, settings.home / "gateway"):
            await asyncio.to_thread(atomic.sweep, folder)
        await asyncio.to_thread(parts.sweep_store)
        await asyncio.to_thread(parts.blobs.sweep, parts.clock.now())
        await asyncio.to_thread(parts.environments.builder.sweep)
        await asyncio.to_thread(parts.access.adopt)
        await controller.loops.expect(engine)
        log_keeper = log_keeper_of(parts, controller.loops, engine)
        usages = usages_of(settings, engine)
        scaler = Scaler(
            parts.database.acting(), parts.gateway, parts.clock, controller.loops.hinter(), usages
        )
        server = _server(app)
        listener = sockets.listen(settings.api_socket)
        bound = sockets.number(settings.api_socket)
        logger.info("moorings %s serves %s, workspace %s", __version__, settings.api_socket, workspace_id)
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(controller.loops.scan(), name="scan"),
                    tasks.create_task(controller.loops.publish(), name="publish"),
                    tasks.create_task(keep_gateway(parts.gateway.ensure_agent), name="gateway"),
                    tasks.create_task(parts.listener.run(), name="listener"),
                    tasks.create_task(log_keeper.run(), name="logs"),
                    tasks.create_task(
                        keep_directory(parts.directory, parts.publisher.changed), name="directory"
                    ),
                    tasks.create_task(parts.instance_tokens.run(), name="instance tokens"),
                    tasks.create_task(scaler.run(), name="scaler"),
                ]
                api = tasks.create_task(server.serve(sockets=[listener]), name="api")
                await asyncio.wait({api, tasks.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
                stop.set()
                server.should_exit = True
                for task in background:
                    task.cancel()
                await asyncio.gather(api, parts.listener.close())
        finally:
            await controller.loops.close()
            controller.rollouts.close()
            sockets.remove(settings.api_socket, bound)


def _server(app: ASGIApp) -> QuietServer:
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=5
    )
    return QuietServer(config)
