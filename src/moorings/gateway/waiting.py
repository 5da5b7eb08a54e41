"""Waiting rooms: where requests wait for the first instance of a deployment that has none.

A room is a unix socket that Envoy uses when no worker of the deployment is healthy. It answers nothing while there is
none; then it tells Envoy to send the request again, which finds the worker. So no byte of a request or answer passes
through here, and a caller who leaves is gone from here too. It must not know snapshots, Envoy's resources or the state.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

HELD_HEADER = "x-moorings-held"
"""On answers of a room: `again` (send the request once more) or `late` (it has waited long enough)."""
LIMIT_HEADER = "x-moorings-hold-ms"
"""On requests to a room: how long they may wait."""
AGAIN, LATE = "again", "late"
CHECK_HOST = "waiting-room"
"""Host of the health checks of rooms."""
FOLDER = "hold"
DEFAULT_HOLD_MS = 5000
RETRY_AFTER_S = 5
_HEAD_BYTES = 1 << 17
_HOLD = re.compile(rb"\r\n" + LIMIT_HEADER.encode() + rb": *([0-9]{1,7})\r\n", re.IGNORECASE)
_ID = re.compile(rb"\r\nx-request-id: *([0-9a-zA-Z-]{1,64})\r\n", re.IGNORECASE)
_CHECK = b"\r\nhost: " + CHECK_HOST.encode() + b"\r\n"


def room_path(run_dir: Path, cluster: str) -> Path:
    """The socket of a cluster's room; short, whatever the names."""
    return run_dir / FOLDER / f"{hashlib.sha256(cluster.encode()).hexdigest()[:16]}.sock"


def is_room(address: str) -> bool:
    """Whether an address of a cluster is its waiting room and no worker."""
    path = Path(address)
    return path.parent.name == FOLDER and path.suffix == ".sock"


def late_answer(request_id: str) -> dict[str, object]:
    """The body for who has waited in vain; its code is in the error catalogue (area autoscale)."""
    code = "ActivationTimeout"
    message = (
        "the deployment had no instance, and the first one was not there in time; to change how long is waited: "
        "properties.moorings.activation_timeout_s of the deployment"
    )
    return {
        "error": {
            "code": code,
            "message": message,
            "request_id": request_id,
            "explain": f"moor explain {code}",
        }
    }


@dataclass
class _Room:
    server: asyncio.Server
    open: asyncio.Event
    """Set while a worker is there."""


class WaitingRooms:
    """The rooms of one gateway. All methods belong to one event loop."""

    def __init__(self) -> None:
        self._rooms: dict[str, _Room] = {}

    async def serve(self, wanted: Iterable[str]) -> None:
        """Listen on these sockets and on no others. Raises OSError."""
        paths = set(wanted)
        for path in [known for known in self._rooms if known not in paths]:
            await self._end(path)
        for path in sorted(paths - set(self._rooms)):
            place = Path(path)
            place.parent.mkdir(mode=0o700, exist_ok=True)
            place.unlink(missing_ok=True)
            opened = asyncio.Event()
            room = _Room(await self._listen(path, opened), opened)
            self._rooms[path] = room

    def let_in(self, ready: Mapping[str, bool]) -> None:
        """Path -> whether a worker is there: then whoever waits goes on."""
        for path, room in self._rooms.items():
            if ready.get(path):
                room.open.set()
            else:
                room.open.clear()

    async def close(self) -> None:
        for path in list(self._rooms):
            await self._end(path)

    async def _listen(self, path: str, opened: asyncio.Event) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
                await _hold(reader, writer, opened)
            writer.close()

        return await asyncio.start_unix_server(serve, path, limit=_HEAD_BYTES, backlog=1024)

    async def _end(self, path: str) -> None:
        room = self._rooms.pop(path)
        room.server.close()
        room.open.set()
        Path(path).unlink(missing_ok=True)


async def _hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opened: asyncio.Event) -> None:
    """One connection, one request: a health check is answered, all others wait."""
    head = await reader.readuntil(b"\r\n\r\n")
    if _CHECK in head.lower():
        await _answer(writer, "200 OK", {}, b"ok")
        return
    found, named = _HOLD.search(head), _ID.search(head)
    hold_s = (int(found[1]) if found else DEFAULT_HOLD_MS) / 1000
    waiting = asyncio.ensure_future(opened.wait())
    leaving = asyncio.ensure_future(_until_left(reader))
    try:
        await asyncio.wait({waiting, leaving}, timeout=hold_s, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done() and not waiting.done():
            return
        held = AGAIN if waiting.done() else LATE
    finally:
        waiting.cancel()
        leaving.cancel()
    body = json.dumps(late_answer(named[1].decode() if named else "")).encode()
    headers = {
        HELD_HEADER: held,
        "content-type": "application/json",
        "retry-after": str(RETRY_AFTER_S),
        "ms-azureml-reject-reason": "activation_timeout",
    }
    await _answer(writer, "503 Service Unavailable", headers, body)


async def _until_left(reader: asyncio.StreamReader) -> None:
    """Read away the body until the caller closes; an answer ends this first."""
    with contextlib.suppress(OSError):
        while await reader.read(1 << 16):
            pass


async def _answer(writer: asyncio.StreamWriter, status: str, headers: Mapping[str, str], body: bytes) -> None:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()
