"""What a process has said, on its way into a log: lines get stamps and a greatest length, secrets are taken out, and a
flood is dropped and counted.

Bytes in, bytes out, `now` and `clock` are arguments: it neither waits nor looks at a clock, and must not know who
writes. It runs inside containers as well: standard library only, Python 3.8.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from moorings.lib.logfile import stamp

LINE_BYTES = 16 * 1024
"""A line is kept up to here; how much was cut off stands in its place."""
MARGIN_BYTES = 1024
"""More of a line is held than is kept, so that a secret across the cut is seen whole."""
BURST_SECONDS = 2.0
"""An allowance of so many seconds may be used at once: a long traceback, the start of a model."""
RESUME_SECONDS = 0.25
"""After it is used up, output is dropped until there is this much of it again."""
REDRAWN_S = 10.0
"""A line that is drawn over itself (a progress bar) is kept as it stands this often, and at its end."""
LAST_WORDS_BYTES = 64 * 1024
"""The end of what was dropped is kept: often it says what went wrong."""

_HELD_BYTES = LINE_BYTES + MARGIN_BYTES
_OVERWRITTEN = re.compile(rb"^[^\n]*\r(?=[^\r\n])", re.M)
_RETURNS = re.compile(rb"\r+$", re.M)
_LONG = re.compile(rb"^([^\n]{%d})([^\n]+)" % LINE_BYTES, re.M)


class Intake:
    """The state between two reads of one process's output. At most `LINE_BYTES` + `LAST_WORDS_BYTES` are held."""

    def __init__(
        self,
        put: Callable[[bytes], None],
        *,
        redact: Callable[[bytes], bytes],
        bytes_per_s: int,
        stamped: bool = True,
    ) -> None:
        """`put` takes whole lines; it must not block. `bytes_per_s`: what may be written in the long run."""
        self._put = put
        self._redact = redact
        self._rate = float(bytes_per_s)
        self._stamped = stamped
        self._rest = b""
        self._cut = 0
        """Bytes of the line that is being read which were not held."""
        self._returned = False
        """Whether its last character so far led back to its beginning."""
        self._redrawn_at: float | None = None
        """Since when it has been drawn over itself, by the clock."""
        self._left = self._rate * BURST_SECONDS
        self._at: float | None = None
        self._dropping = False
        self._dropped_bytes = 0
        self._dropped_lines = 0
        self._last = b""
        self._last_now = 0.0

    @property
    def pending(self) -> bool:
        """Whether something waits to be written: `settle` does so."""
        return self._dropping or bool(self._rest)

    def feed(self, data: bytes, now: float, clock: float) -> None:
        """Take what was read at `now` (Unix seconds), `clock` being monotonic seconds."""
        self._earn(clock)
        if self._dropping and self._left >= self._rate * RESUME_SECONDS:
            self._resume(now)
        if not self._dropping and self._left <= 0:
            self._dropping = True
            self.flush(now)
        if self._dropping:
            self._drop(data, now)
            return
        self._left -= len(data)
        self._take(data, now)
        if self._redrawn_at is not None and clock - self._redrawn_at >= REDRAWN_S:
            self.flush(now)

    def settle(self, now: float, clock: float) -> None:
        """Nothing has come for a while: write what is held."""
        self._earn(clock)
        if self._dropping and self._left >= self._rate * RESUME_SECONDS:
            self._resume(now)
        self.flush(now)

    def line(self, text: str, now: float) -> None:
        """A line of our own: never dropped, and after what was said before it."""
        if self._dropping:
            self._resume(now)
        self.flush(now)
        self._write(text.encode(errors="replace") + b"\n", now)

    def flush(self, now: float) -> None:
        """Write a line that has not ended as if it had."""
        if self._cut or self._rest.strip(b"\r"):
            self._end_rest(now)
        else:
            self._begin_line()

    # --- lines ---

    def _take(self, data: bytes, now: float) -> None:
        end = data.rfind(b"\n") + 1
        if end and self._cut:
            first = data.index(b"\n")
            self._hold(data[:first])
            self._end_rest(now)
            data, end = data[first + 1 :], end - first - 1
        if end:
            whole = self._rest + data[:end]
            self._begin_line()
            self._write(self._shortened(self._redact(_as_seen(whole))), now)
        self._hold(data[end:])

    def _begin_line(self) -> None:
        self._rest, self._cut, self._returned, self._redrawn_at = b"", 0, False, None

    def _hold(self, data: bytes) -> None:
        """More of the line that has no end yet. What is drawn over is not held: progress bars have no end for long."""
        seen = data.rstrip(b"\r")
        start = seen.rfind(b"\r") + 1
        if start or (self._returned and seen):
            self._rest, self._cut, data = b"", 0, data[start:]
            self._redrawn_at = self._at if self._redrawn_at is None else self._redrawn_at
        if data:
            self._returned = data.endswith(b"\r")
        room = _HELD_BYTES - len(self._rest)
        self._rest += data[:room]
        self._cut += max(0, len(data) - room)

    def _end_rest(self, now: float) -> None:
        line, cut = self._redact(_as_seen(self._rest)), self._cut
        self._begin_line()
        if cut or len(line) > LINE_BYTES:
            line = line[:LINE_BYTES] + _mark(cut + max(0, len(line) - LINE_BYTES))
        self._write(line + b"\n", now)

    def _shortened(self, lines: bytes) -> bytes:
        if len(lines) <= LINE_BYTES:
            return lines
        return _LONG.sub(lambda found: found[1] + _mark(len(found[2])), lines)

    def _write(self, lines: bytes, now: float) -> None:
        """Whole lines, each with its newline."""
        if self._stamped:
            mark = stamp(now)
            lines = mark + lines[:-1].replace(b"\n", b"\n" + mark) + b"\n"
        self._put(lines)

    # --- floods ---

    def _earn(self, clock: float) -> None:
        if self._at is not None:
            self._left = min(self._rate * BURST_SECONDS, self._left + (clock - self._at) * self._rate)
        self._at = clock

    def _drop(self, data: bytes, now: float) -> None:
        self._dropped_bytes += len(data)
        self._dropped_lines += data.count(b"\n")
        self._last = data if len(data) >= LAST_WORDS_BYTES else (self._last + data)[-LAST_WORDS_BYTES:]
        self._last_now = now

    def _resume(self, now: float) -> None:
        """Say what was dropped, then its end."""
        last = self._last[-LAST_WORDS_BYTES:]
        if len(last) < self._dropped_bytes:
            last = last[last.find(b"\n") + 1 :]
        lost = self._dropped_bytes - len(last)
        lines = self._dropped_lines - last.count(b"\n")
        self._dropping, self._dropped_bytes, self._dropped_lines, self._last = False, 0, 0, b""
        if lost > 0:
            text = (
                f"moorings: {lost:,} bytes of output ({lines:,} lines) were dropped: it wrote more than "
                f"{int(self._rate):,} bytes a second"
            )
            self._write(text.encode() + b"\n", now)
        self._left -= len(last)
        self._take(last, self._last_now)


def _as_seen(lines: bytes) -> bytes:
    """The same without what a carriage return led back over: of a progress bar what it showed last."""
    if b"\r" not in lines:
        return lines
    return _RETURNS.sub(b"", _OVERWRITTEN.sub(b"", lines))


def _mark(cut: int) -> bytes:
    return b" [moorings: line cut, %d more bytes]" % cut
