"""The control process on an engine in memory: everything of it is real but the instances. For tests alone; run as a program,
it takes the place of `python -m moorings.daemon`.

All instances are one small server (`python hollow.py serve SOCKET`): each address is a link to its socket, so whoever probes
them, the daemon and Envoy, has as much to do as with real ones. Instances outlive the daemon, as real ones do.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import pickle
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from moorings.api import resources
from moorings.daemon import process, running
from moorings.engines.base import GroupSpec, Instance
from moorings.engines.fake import FakeEngine
from moorings.lib.timing import SystemClock

FOLDER = "HOLLOW_FOLDER"
"""Variable: where the links, what instances there are, and what was measured are."""
SERVER, KEPT, PASSES = "all.sock", "instances", "passes.jsonl"
MANY = 100_000
"""In place of the limits of a workspace, which are those of the ecosystem and lower than what is to be shown."""
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nHealthy"


class HollowEngine(FakeEngine):
    """Notes how long the daemon takes to look at every deployment once, as a line of JSON for each pass."""

    def __init__(self, folder: Path) -> None:
        super().__init__(SystemClock(), run_dir=str(folder))
        self._folder = folder
        self._seen: set[str] = set()
        self._began, self._cpu = time.monotonic(), psutil.Process().cpu_times()
        if (folder / KEPT).exists():
            self._instances, self._owned = pickle.loads((folder / KEPT).read_bytes())

    async def apply(self, group: GroupSpec) -> None:
        await super().apply(group)
        for instance in await super().observe(group.owner):
            for address in instance.addresses:
                if not os.path.lexists(address):
                    os.symlink(self._folder / SERVER, address)

    def keep(self) -> None:
        """For the engine of the next daemon."""
        (self._folder / KEPT).write_bytes(pickle.dumps((self._instances, self._owned)))

    async def observe(self, owner: str | None = None) -> Sequence[Instance]:
        found = await super().observe(owner)
        if owner is not None and found:
            self._note(owner)
        return found

    def _note(self, owner: str) -> None:
        self._seen.add(owner)
        if len(self._seen) < len(self._instances):
            return
        now, cpu = time.monotonic(), psutil.Process().cpu_times()
        spent = cpu.user + cpu.system - self._cpu.user - self._cpu.system
        line = {"at": now, "looked_at": len(self._seen), "seconds": now - self._began, "cpu_s": spent}
        with (self._folder / PASSES).open("a") as out:
            out.write(json.dumps(line) + "\n")
        self._seen, self._began, self._cpu = set(), now, cpu


class HollowDaemon(running.Daemon):
    def _engine(self, workspace_id: str) -> HollowEngine:
        engine = HollowEngine(Path(os.environ[FOLDER]))
        atexit.register(engine.keep)
        return engine


async def _serve(path: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        await reader.readexactly(int(line.partition(b":")[2]))
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, path, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(_serve(sys.argv[2]))
    else:
        process.Daemon = HollowDaemon  # type: ignore[misc]
        resources.MAX_ENDPOINTS = resources.MAX_DEPLOYMENTS = MANY  # type: ignore[attr-defined]
        sys.exit(process.main())
