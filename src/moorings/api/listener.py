"""The TLS listener on loopback that the ecosystem's own clients speak to: off until asked for, and then on for good.

Whether it is on, and its port, survive restarts. It knows how to listen, not what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from moorings.errors.exceptions import MooringsError, error
from moorings.lib import atomic
from moorings.lib.timing import Clock
from moorings.security.access import AccessKeys
from moorings.security.certificates import Certificates
from moorings.security.folders import private

logger = logging.getLogger(__name__)

HOST = "localhost"
"""In addresses: clients of the blob protocol read more into an IP address than there is."""
ADDRESS = "127.0.0.1"
LOOK_PERIOD_S = 3600.0
"""How often the certificate is looked at."""
RETRY_PERIOD_S = 5.0
"""How often a port that is taken is tried again, once the listener is on."""


class QuietServer(uvicorn.Server):
    """A server that leaves the signals of the process to whoever runs it: there are two in this one."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        """Set once it takes connections, or has failed to."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True)
class Access:
    """How a client gets in."""

    base_url: str
    ca_bundle: str
    identity_header: str


@dataclass
class _Running:
    server: QuietServer
    task: asyncio.Task[None]
    config: uvicorn.Config


@dataclass
class Listener:
    """One workspace's listener. All methods belong to one event loop."""

    folder: Path
    """0700: keys, certificates, and `listener.json`."""
    port: int
    """0: one that is free when the listener is first turned on, and the same from then on."""
    clock: Clock
    _app: ASGIApp | None = field(default=None, init=False)
    _running: _Running | None = field(default=None, init=False)
    _keys: AccessKeys | None = field(default=None, init=False)
    _turning: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def serve(self, app: ASGIApp) -> None:
        """What is served once it is on."""
        self._app = app

    def keys(self) -> AccessKeys:
        """The secrets of the workspace; made at first use."""
        if self._keys is None:
            private(self.folder)
            self._keys = AccessKeys.kept(self.folder / "keys.json")
        return self._keys

    @property
    def base_url(self) -> str | None:
        """`https://localhost:<port>` while it listens."""
        if self._running is None:
            return None
        return f"https://{HOST}:{self._remembered().get('port')}"

    async def run(self) -> None:
        """Keep it on, where it was turned on, and its certificate valid, until cancelled."""
        while True:
            period_s = LOOK_PERIOD_S
            if self._remembered().get("on") is True:
                try:
                    await self._open()
                    await asyncio.to_thread(self._renew)
                except (MooringsError, OSError) as problem:
                    logger.error("the listener for clients is not open: %s", problem)
                    period_s = RETRY_PERIOD_S
            await asyncio.sleep(period_s)

    async def turn_on(self) -> Access:
        """Open it now and at every start. Raises `ListenerPortTaken`, `FolderNotPrivate`; OSError."""
        await self._open()
        self._remember(on=True)
        url = self.base_url
        assert url is not None
        return Access(url, str(self._certificates().bundle_file), self.keys().identity)

    async def turn_off(self) -> None:
        """Close it for good, and forget its secrets: what clients hold opens nothing any more."""
        self._remember(on=False)
        await self.close()
        (self.folder / "keys.json").unlink(missing_ok=True)
        self._keys = None

    async def close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.server.should_exit = True
            with contextlib.suppress(asyncio.CancelledError):
                await running.task

    async def _open(self) -> None:
        async with self._turning:
            if self._running is not None and not self._running.task.done():
                return
            assert self._app is not None
            certificates = self._certificates()
            self.keys()
            await asyncio.to_thread(certificates.renew)
            listening = self._bind()
            config = uvicorn.Config(
                self._app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # An idle client over TLS does not answer to being closed: waiting longer serves nobody.
                timeout_graceful_shutdown=1,
            )
            config.load()
            config.ssl = certificates.context()
            server = QuietServer(config)
            task = asyncio.create_task(server.serve(sockets=[listening]), name="listener")
            await server.up.wait()
            self._running = _Running(server, task, config)
            logger.info("clients are served on %s", self.base_url)

    def _bind(self) -> socket.socket:
        kept = self._remembered().get("port")
        port = self.port or (kept if isinstance(kept, int) and 0 < kept < 65536 else 0)
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((ADDRESS, port))
            listening.listen(128)
        except OSError as problem:
            listening.close()
            raise error(
                "ListenerPortTaken",
                f"cannot listen on {ADDRESS}:{port}: {problem.strerror}",
                target="clients.port",
                evidence=(f"{problem.strerror}: {ADDRESS}:{port}",),
                fields={"port": port},
            ) from None
        listening.setblocking(False)
        self._remember(port=int(listening.getsockname()[1]))
        return listening

    def _renew(self) -> None:
        certificates = self._certificates()
        if certificates.renew() and self._running is not None and self._running.config.ssl is not None:
            certificates.load(self._running.config.ssl)
            logger.info("the certificate of the listener was renewed")

    def _certificates(self) -> Certificates:
        return Certificates(self.folder, self.clock)

    def _remembered(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((self.folder / "listener.json").read_bytes())
            if isinstance(found, dict):
                return found
        return {}

    def _remember(self, **changes: object) -> None:
        document = {**self._remembered(), **changes}
        atomic.write_if_changed(self.folder / "listener.json", json.dumps(document).encode())
