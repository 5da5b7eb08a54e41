"""Log files of bounded size: a writer that rotates them, readers that go back from the last line and follow new ones.

`name.log` is the newest, `name.log.1` the one before. A line is `<stamp> <text>`, the stamp being the UTC time at which
it was taken in (`2026-11-25T16:46:52.123456Z`); lines without one, of other writers, are read too. Knows nothing of who
writes. It runs inside containers as well: standard library only, Python 3.8.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

LONGEST_LINE_BYTES = 64 * 1024
"""A longer line is handed out in pieces: a reader's memory is bounded whatever is in a file."""
BLOCK_BYTES = 64 * 1024
ROTATION_S = 0.002
"""A rotation takes less."""
POLL_BYTES = 1024 * 1024
"""About how much a follower takes at once: it may be far behind."""
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z ")


class Line(NamedTuple):
    """One line of a log."""

    at: str
    """UTC, `2026-11-25T16:46:52.123456Z`, so that texts compare as times do; "" when the line had none."""
    text: str


class LogSource(NamedTuple):
    """One log of one instance: what one container of it has said."""

    instance: str
    container: str
    running: bool = False
    """Whether the instance serves now."""
    ended: bool = False
    """Whether its instance is gone: it has said all it will."""
    last_at: float = 0.0
    """When it was written last, or its container began, as far as that is known; Unix seconds."""


def most_telling(
    sources: Iterable[LogSource], container: str, instance: str | None = None
) -> LogSource | None:
    """The log of the named instance, else of one that runs, else the one that was written last."""
    found = [s for s in sources if s.container == container and instance in (None, s.instance)]
    return max(found, key=lambda s: (s.running, s.last_at), default=None)


def stamp(now: float) -> bytes:
    """The stamp of a line taken in at `now` (Unix seconds), with the space after it."""
    micros = int(now * 1_000_000)
    seconds, micros = divmod(micros, 1_000_000)
    return b"%s.%06dZ " % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode(), micros)


def parsed(raw: bytes) -> Line:
    """A line as it is in a file (or comes from a container runtime, which stamps alike), without its newline."""
    found = _STAMP.match(raw)
    if found is None:
        return Line("", raw.decode(errors="replace"))
    fraction = (found[2] or b"")[:6].ljust(6, b"0")
    return Line(f"{found[1].decode()}.{fraction.decode()}Z", raw[found.end() :].decode(errors="replace"))


class RotatingWriter:
    """Appends bytes to `path`; keeps at most `files` files of `file_bytes` each."""

    def __init__(self, path: Path, *, file_bytes: int, files: int) -> None:
        self._path = path
        self._file_bytes = file_bytes
        self._files = max(1, files)
        self._fd = -1
        self._size = 0
        self._nowhere = False
        """Whether there is no file for now: what is written is lost."""
        self.lost_bytes = 0
        """What could not be written (disk full) and was not told of yet: a log never stops the process it is about."""
        self._open()

    def write(self, data: bytes) -> None:
        """Whole lines, so that readers see nothing else; after a loss a line says how much that was."""
        if self._nowhere:
            self.close()
            self._open()
        note = b""
        if self.lost_bytes and data:
            note = b"moorings: %d bytes of output could not be written\n" % self.lost_bytes
        before, self.lost_bytes = self.lost_bytes, 0
        self._put(note + data)
        if self.lost_bytes:
            self.lost_bytes = before + max(0, self.lost_bytes - len(note))

    def _put(self, data: bytes) -> None:
        while data:
            room = self._file_bytes - self._size
            if len(data) <= room:
                self._append(data)
                return
            # Cut after a line where one ends within the room, so that files begin with whole lines.
            cut = data.rfind(b"\n", 0, max(room, 0)) + 1
            if cut == 0 and self._size == 0:
                cut = max(room, 1)
            self._append(data[:cut])
            data = data[cut:]
            self._rotate()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, data: bytes) -> None:
        view, before = memoryview(data), self._size
        while view and not self._nowhere:
            try:
                written = os.write(self._fd, view)
            except OSError:
                with contextlib.suppress(OSError):  # half a line would become one with the next
                    os.ftruncate(self._fd, before)
                self._size = before
                break
            self._size += written
            view = view[written:]
        if view:
            self.lost_bytes += len(data)

    def _rotate(self) -> None:
        self.close()
        with contextlib.suppress(OSError):
            if self._files == 1:
                self._path.unlink()
            for index in range(self._files - 1, 0, -1):
                source = numbered(self._path, index - 1)
                if source.exists():
                    source.replace(numbered(self._path, index))
        self._open()
        if self._size:  # the old file is still in place: better an empty log than one without a bound
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            self._size = 0

    def _open(self) -> None:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o600)
            self._size = os.fstat(self._fd).st_size
            self._nowhere = False
        except OSError:
            self._nowhere = True
            self._fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            self._size = 0


def numbered(path: Path, index: int) -> Path:
    """File number `index` of a rotated log, 0 the newest."""
    return path if index == 0 else path.with_name(f"{path.name}.{index}")


def backwards(path: Path) -> Iterator[Line]:
    """The lines of all rotated files, the newest first. Lazy: whoever stops has read no more than that."""
    rest: bytes | None = None
    for block in _blocks_backwards(path):
        if rest is None:  # the last of all: what follows the final newline is no line
            block = block[:-1] if block.endswith(b"\n") else block
        rest, *whole = (block + (rest or b"")).split(b"\n")
        yield from (parsed(raw) for raw in reversed(whole))
        if len(rest) > LONGEST_LINE_BYTES:
            yield parsed(rest)
            rest = b""
    if rest is not None:
        yield parsed(rest)


def tail(path: Path, lines: int) -> str | None:
    """The last `lines` lines over all rotated files, oldest first, without stamps, each ended by a newline; None
    without a file."""
    if not path.exists():
        return None
    found: list[str] = []
    for line in backwards(path):
        if len(found) >= lines:
            break
        found.append(f"{line.text}\n")
    return "".join(reversed(found))


class Follower:
    """Reads what is appended to a rotated log: lines taken in later than `after` (Unix seconds; 0: all there are)."""

    def __init__(self, path: Path, *, after: float) -> None:
        self._path = path
        self._after = stamp(after).decode().strip() if after > 0 else ""
        self._fd = -1
        self._rest = b""
        files = [f for f in _existing(path) if f.exists() and f.stat().st_mtime >= after - 1]
        self._open(files[-1] if files else path)

    def poll(self) -> list[Line]:
        """Whole lines that came since the last call, or the first of them; never blocks."""
        lines: list[Line] = []
        taken = 0
        for data in self._new_data():
            taken += len(data)
            self._rest += data
            *whole, self._rest = self._rest.split(b"\n")
            if len(self._rest) > LONGEST_LINE_BYTES:
                whole.append(self._rest)
                self._rest = b""
            lines += [line for line in map(parsed, whole) if self._is_new(line)]
            if taken > POLL_BYTES:
                break
        return lines

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_new(self, line: Line) -> bool:
        """Once one line is, all that follow are."""
        if self._after and line.at > self._after:
            self._after = ""
        return not self._after

    def _new_data(self) -> Iterator[bytes]:
        if self._fd < 0 and not self._open(self._path):
            return
        while True:
            newer = (
                self._newer()
            )  # looked up before reading: what is read after is all there will be in this file
            while data := os.read(self._fd, BLOCK_BYTES):
                yield data
            if newer is None or not self._open(newer):
                return

    def _newer(self) -> Path | None:
        """The file after the one that is open, once the log was rotated."""
        mine = os.fstat(self._fd).st_ino
        names = _existing(self._path)
        for index, name in enumerate(names):
            with contextlib.suppress(OSError):
                if name.stat().st_ino == mine:
                    return names[index - 1] if index else None
        return names[-1] if names else None

    def _open(self, path: Path) -> bool:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        self.close()
        self._fd = fd
        return True


def _existing(path: Path) -> list[Path]:
    """All files of a log, newest first."""
    names = [path]
    index = 1
    while (name := numbered(path, index)).exists():
        names.append(name)
        index += 1
    return names


def _opened(path: Path) -> list[BinaryIO]:
    """All files of a log, newest first, as they are at one moment: none twice and none left out by a rotation meanwhile."""
    for last in (False, False, False, True):
        handles: list[BinaryIO] = []
        for name in _existing(path):
            with contextlib.suppress(OSError):
                handles.append(name.open("rb"))
        known = [os.fstat(handle.fileno()).st_ino for handle in handles]
        whole = last or not handles
        with contextlib.suppress(OSError):
            whole = whole or (len(set(known)) == len(known) and path.stat().st_ino == known[0])
        if whole:
            break
        for handle in handles:
            handle.close()
        time.sleep(ROTATION_S)
    return handles


def _blocks_backwards(path: Path) -> Iterator[bytes]:
    with contextlib.ExitStack() as opened:
        for handle in [opened.enter_context(handle) for handle in _opened(path)]:
            position = handle.seek(0, os.SEEK_END)
            while position > 0:
                size = min(BLOCK_BYTES, position)
                position -= size
                handle.seek(position)
                yield handle.read(size)
