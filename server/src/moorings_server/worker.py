"""One worker process: settings, script, `init()`, socket, serving, drain. The place where everything is put
together.

Ends with one of the exit codes of `contract.py`; whoever started it reads the boot report and the log.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import os
import platform
import signal
import socket
import sys
import threading
from time import perf_counter
from typing import Any, Callable, Mapping, Optional, Set, Tuple

from moorings_server import __version__, contract, report, script
from moorings_server.gate import AsyncGate, InlineGate, ThreadGate
from moorings_server.http import HttpConnection, Service
from moorings_server.logs import Log, install
from moorings_server.parser import choose
from moorings_server.report import BootFailure
from moorings_server.scoring import Scorer
from moorings_server.sentinel import RunWatch, Sentinel, leave_now
from moorings_server.settings import Settings, SettingsError, read
from moorings_server.swagger import SwaggerDocuments
from moorings_server.wire import healthy_response

BACKLOG = 4096
ACCEPTS_PER_TURN = 128
PR_SET_PDEATHSIG = 1
EXIT_PATIENCE_S = 5.0


def main(environ: Mapping[str, str], listen_fd: Optional[int] = None) -> int:
    """Run a worker; returns its exit code. `listen_fd` is a bound TCP socket inherited from a parent process;
    without it the worker appears on the unix socket that the environment names."""
    started = perf_counter()
    die_with_parent()
    faulthandler.enable()
    log = install()
    try:
        settings = read(environ, os.getcwd())
    except SettingsError as failure:
        bad = BootFailure(contract.KIND_BAD_SETTINGS, str(failure))
        return _report_failure(bad, log, environ.get(contract.ENV_BOOT_REPORT) or None, None, started)
    try:
        worker = Worker(settings, log, listen_fd)
        worker.boot()
    except BootFailure as failure:
        return _report_failure(failure, log, settings.boot_report, settings, started)
    if settings.boot_report:
        report.write(settings.boot_report, report.ready(os.getpid(), perf_counter() - started))
    log.info("Worker with pid %d ready for serving traffic" % os.getpid())
    return worker.serve()


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, where the kernel can (Linux)."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        return


def _report_failure(
    failure: BootFailure, log: Log, path: Optional[str], settings: Optional[Settings], started: float
) -> int:
    """Say in the log and in the boot report why there is no worker."""
    in_init = failure.cause is not None and failure.kind in (
        contract.KIND_INIT_RAISED,
        contract.KIND_MODEL_PATH,
    )
    if in_init:
        log.error("User's init function failed")
    if failure.cause is not None:
        log.error("Encountered Exception %s" % report.users_traceback(failure.cause))
    log.error(failure.message)
    if in_init and settings is not None and settings.model_dir:
        log.info("Model Directory Contents:\n%s" % "\n".join(report.tree(settings.model_dir)))
    folders = _user_folders(settings) if settings is not None else ()
    if path is not None:
        try:
            report.write(path, report.failed(failure, os.getpid(), perf_counter() - started, folders))
        except OSError as trouble:
            log.error("The boot report %s cannot be written: %s" % (path, trouble))
    log.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    _leave_in_time(EXIT_PATIENCE_S, contract.EXIT_BOOT_FAILED)
    return contract.EXIT_BOOT_FAILED


def _user_folders(settings: Settings) -> Tuple[str, ...]:
    return tuple(
        folder for folder in (settings.script_folder, settings.source_directory, settings.app_root) if folder
    )


def _leave_in_time(seconds: float, code: int) -> None:
    """End the process with `code` after `seconds`, in case threads of user code keep the interpreter from
    ending."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()


def new_loop(wanted: str) -> Tuple[str, asyncio.AbstractEventLoop]:
    """(name, loop); `wanted` is "auto", "uvloop" or "asyncio". Without uvloop it is asyncio's."""
    if wanted != "asyncio":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            return "uvloop", uvloop.new_event_loop()
    return "asyncio", asyncio.new_event_loop()


class UnixListener:
    """A listening unix socket that appears on its path in one step, once it is ready."""

    def __init__(self, path: str) -> None:
        self._path = path
        temporary = os.path.join(os.path.dirname(path), ".%d" % os.getpid())
        if os.path.lexists(temporary):
            os.unlink(temporary)  # of a process with our id that was killed between bind and rename
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self.socket.bind(temporary)
        finally:
            os.umask(before)
        self.socket.listen(BACKLOG)
        self._identity = _identity(temporary)
        os.rename(temporary, path)

    def unlink(self) -> None:
        """Remove the path, if it is still this socket's."""
        try:
            if _identity(self._path) == self._identity:
                os.unlink(self._path)
        except OSError:
            return


def _identity(path: str) -> Tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


class Worker:
    """The parts of one worker. `boot` raises BootFailure; `serve` returns the exit code."""

    def __init__(self, settings: Settings, log: Log, listen_fd: Optional[int]) -> None:
        self._settings = settings
        self._log = log
        self._listen_fd = listen_fd
        self._unix: Optional[UnixListener] = None
        self._tasks: Set[Any] = set()
        self._watch = RunWatch()
        self._drain_started = 0.0

    def boot(self) -> None:
        """Load the script, call `init()`, open the socket."""
        settings, log = self._settings, self._log
        if settings.socket_path is None and self._listen_fd is None:
            raise BootFailure(contract.KIND_BAD_SETTINGS, "%s is not set" % contract.ENV_SOCKET)
        os.environ.update(settings.exports)
        self._use_logging_config()
        loop_name, self._loop = new_loop(settings.event_loop)
        parser_name, self._new_parser = choose(settings.parser)
        asyncio.set_event_loop(self._loop)
        log.info(
            "moorings-server %s on Python %s, %s, %s"
            % (__version__, platform.python_version(), loop_name, parser_name)
        )
        if settings.model_dir is None:
            log.info("AZUREML_MODEL_DIR is not set")
        user = script.load(settings)
        log.info("Found user script at %s" % user.path)
        how = "await it with" if user.is_async else "call it with"
        log.info("run() is not decorated. The server will %s the request's body as text" % how)
        signal.signal(signal.SIGALRM, self._watch.on_signal)
        log.info("Invoking user's init function")
        began = perf_counter()
        script.call_init(user, settings, self._loop.run_until_complete)
        log.info("User's init has completed in %.3f s" % (perf_counter() - began))
        gc.collect()
        gc.freeze()  # what init() made lives as long as the process: no collection need ever look at it again
        log.info("Scoring timeout is set to %d ms" % settings.scoring_timeout_ms)
        self._build(user)
        self._listen()

    def _use_logging_config(self) -> None:
        for folder in (self._settings.app_root, self._settings.script_folder):
            path = os.path.join(folder, "logging.json")
            if os.path.isfile(path):
                try:
                    self._log.use_config(path)
                except (OSError, ValueError) as failure:
                    raise BootFailure(
                        contract.KIND_BAD_SETTINGS,
                        "%s is no logging configuration that can be used: %s" % (path, failure),
                        file=path,
                    ) from failure
                return

    def _build(self, user: script.UserScript) -> None:
        settings = self._settings
        self._scorer = Scorer(user, self._log, settings.scoring_timeout_ms)
        self._service = Service(
            self._loop,
            self._new_parser,
            SwaggerDocuments(settings),
            self._log,
            wants_headers=user.wants_headers,
            version_header=settings.version_header,
        )
        on_idle = self._service.check_drained
        if user.is_async:
            self._service.gate = AsyncGate(self._loop, self._scorer, settings.max_concurrent, on_idle)
        elif settings.max_concurrent > 1:
            self._service.gate = ThreadGate(self._loop, self._scorer, settings.max_concurrent, on_idle)
        else:
            self._service.gate = InlineGate(self._loop, self._scorer, self._watch, on_idle)
        self._service.on_drained = self._loop.stop

    def _listen(self) -> None:
        try:
            if self._listen_fd is not None:
                self._listener = socket.socket(fileno=self._listen_fd)
                self._listener.listen(BACKLOG)
            else:
                assert self._settings.socket_path is not None
                self._unix = UnixListener(self._settings.socket_path)
                self._listener = self._unix.socket
        except OSError as failure:
            raise BootFailure(
                contract.KIND_BAD_SETTINGS,
                "The socket %s cannot be opened: %s" % (self._settings.socket_path, failure),
            ) from failure
        self._listener.setblocking(False)

    def serve(self) -> int:
        """Serve until a drain has ended."""
        loop = self._loop
        self._sentinel = Sentinel(
            self._watch,
            self._listener,
            healthy_response(self._service.version),
            lambda client: _ignore_closed(loop.call_soon_threadsafe, self._adopt, client),
            self._scorer.timeout_s,
            shared=self._listen_fd is not None,
        )
        self._sentinel.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not the loop's own handlers: these must also be heard while run() occupies the loop.
            signal.signal(number, self._on_stop_signal)
        loop.add_reader(self._listener.fileno(), self._accept)
        try:
            loop.run_forever()
        finally:
            self._sentinel.stop()
            self._log.flush()
        if self._unix is not None:
            self._unix.unlink()
        left_s = self._settings.drain_s - (perf_counter() - self._drain_started)
        _leave_in_time(max(0.1, min(EXIT_PATIENCE_S, left_s)), contract.EXIT_OK)
        return contract.EXIT_OK

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                client, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return  # the sentinel, or another process on the same socket, was first
            except OSError as failure:  # out of file descriptors: what is open goes on
                self._log.error("A connection could not be accepted: %s" % failure)
                self._loop.remove_reader(self._listener.fileno())
                self._loop.call_later(0.1, self._accept_again)
                return
            self._adopt(client)

    def _accept_again(self) -> None:
        if not self._service.draining:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _adopt(self, client: socket.socket) -> None:
        """Serve an accepted socket."""
        client.setblocking(False)
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._service.arriving += 1
        task = self._loop.create_task(self._connect(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: HttpConnection(self._service), client)
        except OSError:
            client.close()  # the client left while it was being taken in
        finally:
            self._service.arriving -= 1
            self._service.check_drained()

    # --- drain ----------------------------------------------------------------------------------------------

    def _on_stop_signal(self, number: int, frame: object) -> None:
        """Runs between two bytecodes of whatever the main thread does, which may be a run()."""
        if not self._drain_started:
            self._drain_started = perf_counter()
            deadline = self._drain_started + self._settings.drain_s
            self._service.closing = True
            self._sentinel.stop_accepting()
            self._sentinel.exit_at(deadline, lambda: leave_now(self._log.flush))
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        """Stop listening, let everything that has arrived be answered, then stop the loop."""
        self._log.info(
            "Stopping: no new connections, at most %g s for what is running" % self._settings.drain_s
        )
        self._loop.remove_reader(self._listener.fileno())
        if self._unix is not None:
            self._unix.unlink()
            self._accept()  # who connected before the path was gone is served
        left_s = self._settings.drain_s - (perf_counter() - self._drain_started)
        self._loop.call_later(max(0.0, left_s), self._loop.stop)
        self._loop.call_soon(self._service.begin_drain)


def _ignore_closed(call: Callable[..., Any], *arguments: Any) -> None:
    """Hand something to a loop that may have been closed meanwhile."""
    try:
        call(*arguments)
    except RuntimeError:
        return
