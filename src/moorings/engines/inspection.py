"""What this machine's `/proc` says of the processes of one instance: processor time, ports. Reads only; Linux.

Every answer is None where it cannot be known (another user's process, another machine's).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from moorings.engines.base import DUMP_PATIENCE_S, Inspection

_LISTEN = "0A"


async def watched(
    root: int, ask: Callable[[], Awaitable[None]] | None = None, *, itself: bool = False
) -> Inspection:
    """Look at the descendants of `root` (and at `itself`) for a while, in which they may be asked where they are."""
    before, began = await asyncio.to_thread(processor_s, root, itself=itself), time.monotonic()
    if ask is not None:
        await ask()
    await asyncio.sleep(DUMP_PATIENCE_S)
    after = await asyncio.to_thread(processor_s, root, itself=itself)
    share = None
    if before is not None and after is not None:
        share = max(0.0, after - before) / (time.monotonic() - began)
    return Inspection(processor_s=after, processor_share=share)


def processor_s(root: int, *, itself: bool = False) -> float | None:
    """Seconds of processor time that all living descendants of `root` (and `itself`) have used."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                parents[int(path.name)] = int(fields[1])
                used[int(path.name)] = (int(fields[11]) + int(fields[12])) / tick
    if root not in parents:
        return None
    found, waiting = used[root] if itself else 0.0, [root]
    while waiting:
        pid = waiting.pop()
        mine = [child for child, parent in parents.items() if parent == pid]
        found += sum(used[child] for child in mine)
        waiting += mine
    return found


def listening(pid: int) -> tuple[str, ...] | None:
    """`address:port` of every TCP socket that listens in the network of process `pid`, sorted by port."""
    found: set[tuple[int, str]] = set()
    try:
        own = Path("/proc/self/ns/net").stat().st_ino
        if Path(f"/proc/{pid}/ns/net").stat().st_ino == own:
            return None  # it shares this machine's network: what listens there may be anybody's
        for name in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError):
                for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == _LISTEN:
                        address, _, port = fields[1].partition(":")
                        found.add((int(port, 16), _address(address)))
    except (OSError, ValueError, IndexError):
        return None
    return tuple(f"{address}:{port}" for port, address in sorted(found))


def _address(text: str) -> str:
    """The kernel's spelling: words of four bytes, each in this machine's byte order."""
    data = b"".join(int(text[at : at + 8], 16).to_bytes(4, "little") for at in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)
