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
LAST_WORDS_BYTES = 64 * 1024
"""The end of what was dropped is kept: often it says what went wrong."""

_HELD_BYTES = LINE_BYTES + MARGIN_BYTES
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
        if self._rest:
            self._end_rest(now)

    # --- lines ---

    def _take(self, data: bytes, now: float) -> None:
        end = data.rfind(b"\n") + 1
        if end and self._cut:
            first = data.index(b"\n")
            self._hold(data[:first])
            self._end_rest(now)
            data, end = data[first + 1 :], end - first - 1
        if end:
            whole, self._rest = self._rest + data[:end], b""
            self._write(self._shortened(self._redact(whole)), now)
        self._hold(data[end:])

    def _hold(self, data: bytes) -> None:
        room = _HELD_BYTES - len(self._rest)
        self._rest += data[:room]
        self._cut += max(0, len(data) - room)

    def _end_rest(self, now: float) -> None:
        line, cut = self._redact(self._rest), self._cut
        self._rest, self._cut = b"", 0
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


def _mark(cut: int) -> bytes:
    return b" [moorings: line cut, %d more bytes]" % cut
