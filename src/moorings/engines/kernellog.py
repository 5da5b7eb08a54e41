"""Which processes the kernel says it has ended for want of memory, read from its log as it goes on.

It must not know what these processes are. It runs inside containers as well: standard library only, Python 3.8.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

LOG = Path("/dev/kmsg")
RECORD_BYTES = 8192
FIRST_NAMESPACE = "pid:[4026531836]"
"""Of process numbers: the one that those in the log are of."""
_KILLED = re.compile(r"\bKilled process (\d+)\b|\boom-kill:.*,pid=(\d+),")


class KernelLog:
    """What comes into the log from now on; one that cannot be read says None, and None again."""

    def __init__(self, path: Path = LOG, namespace: Path = Path("/proc/self/ns/pid")) -> None:
        self._fd: int | None = None
        with contextlib.suppress(OSError):
            if os.readlink(namespace) == FIRST_NAMESPACE:  # noqa: PTH115 - Path.readlink is younger than 3.8
                self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.lseek(self._fd, 0, os.SEEK_END)

    def killed(self) -> dict[int, str] | None:
        """Since the last time this was asked: pid -> the kernel's own line."""
        if self._fd is None:
            return None
        found: dict[int, str] = {}
        while True:
            try:
                record = os.read(self._fd, RECORD_BYTES)
            except BrokenPipeError:  # overwritten before it was read
                continue
            except OSError:  # no more now
                return found
            if not record:
                return found
            found.update(named_in(record))


def named_in(record: bytes) -> dict[int, str]:
    """Of one record, `level,number,time,flags;text`, and lines of its own fields after that."""
    text = record.decode(errors="replace").partition(";")[2].partition("\n")[0]
    match = _KILLED.search(text)
    return {int(match[1] or match[2]): text} if match else {}
