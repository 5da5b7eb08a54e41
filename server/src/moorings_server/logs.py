"""The worker's log: its line format, the batch of request lines, `print()` of user code, and the defaults of
`logging`.

Request lines are collected and written within 50 ms; every other line is written at once (after what was
collected), so that the last words of a script are in the log even when the next instruction kills the
process.
"""

from __future__ import annotations

import builtins
import fcntl
import json
import logging
import logging.config
import os
import sys
import threading
import time
from time import perf_counter
from typing import Any, Callable, Dict, List, Optional, Tuple

LOGGER_NAME = "azmlinfsrv"
PRINT_LOGGER_NAME = "azmlinfsrv.print"
BATCH_DELAY_S = 0.05
BATCH_LIMIT_LINES = 4096
SLICE_LINES = 64  # rendered at a stretch: the event loop's thread waits for no more than that
STARTS_LIMIT = 256
TARGET_LIMIT_CHARS = 2048
OWN_FDS = 200
"""Descriptors of ours are at least this: those below are what scripts and their libraries take for granted."""

RequestLine = Tuple[float, bytes, bytes, int, float, Optional[int], bytes]
"""When it was answered (perf_counter), method, target, status, milliseconds, body length (None: streamed), request
id."""


class LineFormatter(logging.Formatter):
    """`2026-11-21 01:33:03,307 I [8742] logger - message`, in UTC."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(initial)s [%(process)d] %(name)s - %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.initial = record.levelname[:1]
        return super().format(record)


class LineWriter:
    """Lines on their way to one file descriptor. `collect` is for the hot path, `write` for everything else;
    both may be called from any thread. `render` makes the text of what was collected, when it is written. A reader
    that has gone away, or a full disk, loses lines and disturbs nobody."""

    def __init__(self, fd: int, render: Callable[[List[Any]], str] = "".join) -> None:
        self._fd = fd
        self._render = render
        self._lines: List[Any] = []
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._pending = False
        self._thread: Optional[threading.Thread] = None
        os.register_at_fork(after_in_child=self._forked)

    def start(self) -> None:
        """Begin to write collected lines in the background; in a forked process, anew."""
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._pending = False
        self._thread = threading.Thread(target=self._run, name="moorings-log", daemon=True)
        self._thread.start()

    def _forked(self) -> None:
        """A child that user code has forked: what was collected is its parent's, and a lock may be nobody's."""
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._pending = False
        self._lines = []

    def collect(self, line: Any) -> None:
        """Take a line that may be written up to BATCH_DELAY_S later."""
        self._lines.append(line)
        if not self._pending:
            self._pending = True
            self._wake.set()
        elif len(self._lines) > BATCH_LIMIT_LINES:
            self.flush()

    def write(self, text: str) -> None:
        """Write what was collected and then `text`, now."""
        with self._lock:
            self.flush()
            self._put(text)

    def flush(self) -> None:
        """Write what was collected, now."""
        with self._lock:
            lines = self._lines
            while lines:
                batch = lines[:SLICE_LINES]
                del lines[: len(batch)]  # others only append, so these are still the first
                self._put(self._render(batch))

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(BATCH_DELAY_S)
            self._wake.clear()
            self._pending = False
            self.flush()

    def _put(self, text: str) -> None:
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # somebody made the pipe non-blocking
                time.sleep(0.005)
            except OSError:
                return


class LineHandler(logging.Handler):
    """A logging handler on a LineWriter; `before` is flushed first, which keeps stdout and stderr in
    order."""

    def __init__(
        self, writer: LineWriter, before: Optional[LineWriter] = None, level: int = logging.NOTSET
    ) -> None:
        super().__init__(level)
        self._writer = writer
        self._before = before
        self.setFormatter(LineFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record) + "\n"
        except Exception:  # a message of user code that cannot be formatted must not end a request
            self.handleError(record)
            return
        if self._before is not None:
            self._before.flush()
        self._writer.write(text)


class RequestLines:
    """The text of request lines: `<stamp> I [<pid>] azmlinfsrv - POST /score 200 0.400ms 28 request_id=<id>`."""

    def __init__(self) -> None:
        self._second = 0
        self._stamp = ""
        self._starts: Dict[Tuple[bytes, bytes, int], str] = {}

    def __call__(self, lines: List[RequestLine]) -> str:
        """The lines as they are written, each with its newline."""
        wall = time.time() - perf_counter()
        starts = self._starts
        text: List[str] = []
        for at, method, target, status, ms, length, request_id in lines:
            moment = wall + at
            second = int(moment)
            if second != self._second:
                self._stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
                self._second = second
            start = starts.get((method, target, status)) or self._start(method, target, status)
            text.append(
                "%s,%03d%s%.3fms %s%s\n"
                % (
                    self._stamp,
                    (moment - second) * 1000,
                    start,
                    ms,
                    "N/A" if length is None else length,
                    " request_id=" + request_id.decode("latin-1") if request_id else "",
                )
            )
        return "".join(text)

    def _start(self, method: bytes, target: bytes, status: int) -> str:
        """What lines about the same thing have in common; kept for the few targets that most requests name."""
        made = " I [%d] %s - %s %s %d " % (
            os.getpid(),
            LOGGER_NAME,
            method.decode("latin-1"),
            target[:TARGET_LIMIT_CHARS].decode("latin-1"),
            status,
        )
        if len(self._starts) < STARTS_LIMIT and len(target) < 100:
            self._starts[method, target, status] = made
        return made


def describe(line: RequestLine) -> str:
    """What one line says of its request; a streamed body has the length N/A."""
    _, method, target, status, ms, length, request_id = line
    said = "%s %s %d %.3fms %s" % (
        method.decode("latin-1"),
        target[:TARGET_LIMIT_CHARS].decode("latin-1"),
        status,
        ms,
        "N/A" if length is None else length,
    )
    return said + " request_id=" + request_id.decode("latin-1") if request_id else said


class Log:
    """Everything the worker writes. Made once per process by `install`."""

    def __init__(self, out: LineWriter) -> None:
        self.out = out
        self.logger = logging.getLogger(LOGGER_NAME)
        self.request: Callable[[RequestLine], None] = out.collect
        """Takes one line for one answered request."""

    def info(self, message: str) -> None:
        self.logger.info("%s", message)

    def warning(self, message: str) -> None:
        self.logger.warning("%s", message)

    def error(self, message: str) -> None:
        self.logger.error("%s", message)

    def _through_logging(self, line: RequestLine) -> None:
        self.logger.info("%s", describe(line))

    def use_config(self, path: str) -> None:
        """Let the dictConfig in the JSON file `path` replace the set-up. Raises OSError or ValueError: the
        file's author's fault (logging.config raises ValueError for what it cannot use)."""
        with open(path, encoding="utf-8") as handle:
            config = json.load(handle)
        if not isinstance(config, dict):
            raise ValueError("it holds no JSON object")  # noqa: TRY004 - as for text that is no JSON
        own = [logging.getLogger(LOGGER_NAME), logging.getLogger(PRINT_LOGGER_NAME)]
        for logger in own:
            for handler in list(logger.handlers):
                logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
            logger.propagate = True
        logging.config.dictConfig(config)
        for logger in own:
            logger.disabled = False  # dictConfig switches off every logger it was not told about
        self.request = self._through_logging

    def flush(self) -> None:
        self.out.flush()


def install(*, background: bool = True) -> Log:
    """Set up the log of this process: own loggers to stdout, messages of other loggers from WARNING up to
    stderr.

    Without `background` nothing that is collected is written until `start` of its writer is called. The root logger
    gets no handler: `logging.basicConfig()` in a script then works as it does everywhere
    else.
    """
    out = LineWriter(kept(1), RequestLines())
    if background:
        out.start()
    log = Log(out)
    for name in (LOGGER_NAME, PRINT_LOGGER_NAME):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(LineHandler(out))
    logging.lastResort = LineHandler(LineWriter(kept(2)), before=out, level=logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    builtins.print = capturing_print(builtins.print, logging.getLogger(PRINT_LOGGER_NAME), sys.stdout)
    return log


def kept(fd: int) -> int:
    """A descriptor of our own for the same output. A script may close the usual one, and its number is then that of the
    next file or connection, which our lines must not get into. `fd` itself when there is no other."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OWN_FDS)
    except OSError:
        return fd


def capturing_print(
    original: Callable[..., None], logger: logging.Logger, stdout: Any
) -> Callable[..., None]:
    """A `print` that sends what would go to `stdout` to `logger`, one record a call. What a script has redirected goes
    where it wants it, unless that is the same output again (in another encoding, for instance)."""

    def captured(
        *values: Any,
        sep: Optional[str] = " ",
        end: Optional[str] = "\n",
        file: Any = None,
        flush: bool = False,
    ) -> None:
        target = sys.stdout if file is None else file
        if target is not None and target is not stdout and not _is_stdout(target):
            original(*values, sep=sep, end=end, file=file, flush=flush)
            return
        text = (" " if sep is None else sep).join(map(str, values)) + ("\n" if end is None else end)
        logger.info("%s", text[:-1] if text.endswith("\n") else text)

    return captured


def _is_stdout(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == 1)
    except Exception:  # whatever a stream of user code raises: it has no descriptor
        return False
