"""The agent's own listening socket on Envoy's port. As long as Envoy lives the kernel gives it nobody. Whoever connects while
Envoy is gone is kept waiting here, and carried to the next Envoy when that listens: the end of an Envoy costs what it was
working on, and nobody who came after.

It must not know what Envoy serves, nor read what it carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
from pathlib import Path

_SO_ATTACH_REUSEPORT_CBPF = 51
_RETURN = 0x06
"""BPF: the verdict is a constant."""
_BACKLOG = 4096
_CHUNK_BYTES = 65_536
_KNOCK_S = 0.01
_AGAIN_S = 0.1
"""Until a caller is looked for again when we had no file left for one."""
_FAREWELL_S = 1.0
"""How long a caller may take to close a connection that Envoy has closed."""


class Doorstep:
    """Callers of `bind:port` are carried to the Unix socket `envoy`, each with a line of the PROXY protocol before what it
    says, so that Envoy knows its address. Nobody waits for longer than `patience_s` after the end of an Envoy; at most
    `most` are here at once, the others stay in the kernel's queue. Belongs to one event loop.
    """

    def __init__(self, bind: str, port: int, envoy: Path, *, patience_s: float, most: int) -> None:
        self._where = (bind, port)
        self._envoy = envoy
        self._patience_s = patience_s
        self._most = most
        self._socket: socket.socket | None = None
        self._alone_until_s: float | None = None
        self._carried: set[asyncio.Task[None]] = set()
        self._knocking: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the port is held, so that an Envoy may be started beside."""
        return self._socket is not None

    def claim(self) -> None:
        """Take the port before an Envoy is started; no second gateway can take it then, though Envoy can share it.

        Raises OSError: somebody has the port, or it cannot be had.
        """
        if self._socket is None:
            self._open(shared=False, gets_all=1)
            self.left_alone()

    def join(self) -> None:
        """Listen beside an Envoy that runs already. Where that is not possible there is no doorstep until the next start."""
        if self._socket is None:
            with contextlib.suppress(OSError):
                self._open(shared=True, gets_all=0)

    def left_alone(self) -> None:
        """Envoy is gone: whoever comes waits, until patience ends, and the next Envoy is to get everybody."""
        if self._socket is not None:
            # Of the sockets on the port ours is the oldest from now on, and Envoy's the one after it. Where there is none
            # yet the kernel takes ours.
            _give_all_to(self._socket, 1)
            self._alone_until_s = asyncio.get_running_loop().time() + self._patience_s

    def attended(self) -> None:
        """Envoy answers."""
        self._alone_until_s = None

    def close(self) -> None:
        """Listen no more. Those who are here are carried on."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    async def end(self) -> None:
        """`close`, and let go of whoever is still here."""
        self.close()
        tasks = [*self._carried, *([self._knocking] if self._knocking is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _open(self, *, shared: bool, gets_all: int) -> None:
        made = _bound(*self._where, shared=shared)
        try:
            made.setblocking(False)
            made.listen(_BACKLOG)
            _give_all_to(made, gets_all)
        except OSError:
            made.close()
            raise
        self._socket = made
        self._listen()

    def _listen(self) -> None:
        if self._socket is not None and len(self._carried) < self._most:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        while self._socket is not None:
            if len(self._carried) >= self._most:
                asyncio.get_running_loop().remove_reader(self._socket)
                return
            try:
                caller, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as problem:
                if problem.errno in (errno.EMFILE, errno.ENFILE):
                    loop = asyncio.get_running_loop()
                    loop.remove_reader(self._socket)
                    loop.call_later(_AGAIN_S, self._listen)
                    return
                continue  # that caller has left
            task = asyncio.create_task(self._attend(caller))
            self._carried.add(task)
            task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._carried.discard(task)
        self._listen()

    async def _attend(self, caller: socket.socket) -> None:
        with caller, contextlib.suppress(OSError, TimeoutError):
            caller.setblocking(False)
            said = proxy_line(caller.getpeername(), caller.getsockname())
            with await self._reached() as envoy:
                await asyncio.get_running_loop().sock_sendall(envoy, said)
                await _carry(caller, envoy)

    async def _reached(self) -> socket.socket:
        """A connection to Envoy. Raises TimeoutError when patience has ended."""
        now_s = asyncio.get_running_loop().time()
        until_s = self._alone_until_s if self._alone_until_s is not None else now_s + self._patience_s
        while True:
            if (reached := self._try()) is not None:
                return reached
            async with asyncio.timeout_at(max(until_s, now_s)):
                await self._somebody_listens()

    def _try(self) -> socket.socket | None:
        """A Unix socket is connected at once or not at all."""
        made = socket.socket(socket.AF_UNIX)
        try:
            made.setblocking(False)
            made.connect(str(self._envoy))
        except OSError:
            made.close()
            return None
        return made

    async def _somebody_listens(self) -> None:
        """All who wait share the one who knocks."""
        if self._knocking is None or self._knocking.done():
            self._knocking = asyncio.create_task(self._knock())
        await asyncio.shield(self._knocking)

    async def _knock(self) -> None:
        while True:
            await asyncio.sleep(_KNOCK_S)
            if (reached := self._try()) is not None:
                reached.close()
                return
            if not self._carried:
                return


def proxy_line(peer: tuple[object, ...], own: tuple[object, ...]) -> bytes:
    """What the PROXY protocol (version 1) says of a caller; both addresses as the system gives them."""
    source, target = (str(address[0]).partition("%")[0] for address in (peer, own))
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {target} {peer[1]} {own[1]}\r\n".encode()


async def _carry(caller: socket.socket, envoy: socket.socket) -> None:
    """Until Envoy has said all it has to say."""
    asking = asyncio.create_task(_pump(caller, envoy))
    try:
        await _pump(envoy, caller)
        async with asyncio.timeout(_FAREWELL_S):
            await asking
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def _pump(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK_BYTES):
        await loop.sock_sendall(target, data)
    target.shutdown(socket.SHUT_WR)


def _bound(bind: str, port: int, *, shared: bool) -> socket.socket:
    """Bound, unless `shared`, as the only one; either way others of this user may share it from now on."""
    made = socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET)
    try:
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as Envoy does
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        made.bind((bind, port))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        made.close()
        raise
    return made


def _give_all_to(made: socket.socket, index: int) -> None:
    """Of the sockets that listen on this port, oldest first, the one at `index` gets every connection; with fewer sockets
    the kernel chooses."""
    program = struct.pack("@HBBI", _RETURN, 0, 0, index)
    buffer = ctypes.create_string_buffer(program, len(program))
    # Where the kernel knows no such program it shares callers out: we carry our part, and nobody is lost.
    with contextlib.suppress(OSError):
        made.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", 1, ctypes.addressof(buffer))
        )
