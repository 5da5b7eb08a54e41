"""A second listening socket on Envoy's port: whoever connects while Envoy is gone waits there, and the kernel hands them on
when it is back. So the end of an Envoy costs what it was working on, and nobody who came after.

It takes a kernel that hands on connections of a socket that is closed (`net.ipv4.tcp_migrate_req=1`, Linux 5.14), which is
the machine's owner's to say; without it there is no doorstep. It must not know what Envoy is.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import Callable
from pathlib import Path

_SETTING = Path("/proc/sys/net/ipv4/tcp_migrate_req")
_TABLES = {socket.AF_INET: Path("/proc/net/tcp"), socket.AF_INET6: Path("/proc/net/tcp6")}
_LISTEN = "0A"
_SO_ATTACH_REUSEPORT_CBPF = 51
_RETURN = 0x06
"""BPF: the verdict is a constant."""
_WAITING = 4096


def possible() -> bool:
    """Whether this machine hands on connections."""
    try:
        return _SETTING.read_text().strip() == "1"
    except OSError:
        return False


class Doorstep:
    """`visited()` is called when somebody waits, once for each opening. Belongs to one event loop."""

    def __init__(self, bind: str, port: int, visited: Callable[[], None]) -> None:
        self._where = (bind, port)
        self._visited = visited
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def open(self) -> None:
        """Listen beside the one that listens already, who is to get all as long as it does. Where that is not possible,
        nothing happens."""
        if self._socket is not None or not possible():
            return
        made = socket.socket(socket.AF_INET6 if ":" in self._where[0] else socket.AF_INET)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.bind(self._where)
            made.listen(_WAITING)
            _first_gets_all(made)
        except OSError:
            made.close()
            return
        asyncio.get_running_loop().add_reader(made, self._somebody)
        self._socket = made

    def close(self) -> None:
        """Whoever waits is handed on to the one that listens on the port, and told that nobody does where that is so."""
        if self._socket is None:
            return
        with contextlib.suppress(ValueError):
            asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None

    def is_alone(self) -> bool:
        """Whether nobody else listens on the port."""
        return listening(*self._where) < 2

    def _somebody(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._visited()


def listening(bind: str, port: int) -> int:
    """How many sockets of this machine listen there."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    packed = socket.inet_pton(family, bind)
    where = "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", packed)) + f":{port:04X}"
    count = 0
    with contextlib.suppress(OSError):
        for line in _TABLES[family].read_text().splitlines()[1:]:
            fields = line.split()
            count += fields[3] == _LISTEN and fields[1] == where
    return count


def _first_gets_all(made: socket.socket) -> None:
    """Of the sockets that listen on this port the oldest gets every connection."""
    program = struct.pack("@HBBI", _RETURN, 0, 0, 0)
    buffer = ctypes.create_string_buffer(program, len(program))
    made.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", 1, ctypes.addressof(buffer))
    )
