"""One worker process: settings, script, `init()`, socket, serving, drain. The place where everything is put
together.

Ends with one of the exit codes of `contract.py`; whoever started it reads the boot report and the log.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from typing import Any, Callable, List, Mapping, Optional, Sequence, Set, Tuple

from moorings_server import __version__, contract, report, script
from moorings_server.asyncgate import AsyncGate
from moorings_server.attach import attach
from moorings_server.batchgate import BatchGate
from moorings_server.cors import Cors
from moorings_server.gate import InlineGate
from moorings_server.http import HttpConnection
from moorings_server.logs import Log, install, kept
from moorings_server.parser import choose
from moorings_server.report import BootFailure
from moorings_server.results import Answer
from moorings_server.scheduling import interrupt_nobody
from moorings_server.scoring import Scorer, message_body
from moorings_server.sentinel import RunWatch, Sentinel, leave_now
from moorings_server.service import Service
from moorings_server.settings import Settings, SettingsError, read
from moorings_server.swagger import NO_SCHEMA, SwaggerDocuments, schema_of
from moorings_server.threadgate import ThreadGate
from moorings_server.wire import probe_response

BACKLOG = 4096
ACCEPTS_PER_TURN = 128
PR_SET_PDEATHSIG = 1
EXIT_PATIENCE_S = 5.0
STUCK_PATIENCE_S = 2.0
GC_THRESHOLDS = (10_000, 20, 20)  # a request leaves next to no cycles, and a collection is a pause


def main(environ: Mapping[str, str], listen_fds: Sequence[int] = ()) -> int:
    """Run a worker; returns its exit code. `listen_fds` are bound TCP sockets inherited from a parent process;
    without one the worker appears on the unix socket that the environment names."""
    started = perf_counter()
    die_with_parent()
    interrupt_nobody()
    worker, code = load(environ, started)
    return code if worker is None else worker.main(listen_fds, worker.boot_report, started)


def load(
    environ: Mapping[str, str], started: float, *, to_be_copied: bool = False
) -> Tuple[Optional["Worker"], int]:
    """A worker with its script loaded and `init()` called, or None and the exit code. One `to_be_copied` has no threads
    of this server yet."""
    # Some systems have no such signal, some processes no stderr.
    with contextlib.suppress(AttributeError, ValueError, OSError, RuntimeError):
        stderr = kept(2)
        faulthandler.enable(stderr)
        faulthandler.register(getattr(signal, contract.STACKS_SIGNAL), stderr, all_threads=True)
    log = install(background=not to_be_copied)
    try:
        settings = read(environ, os.getcwd())
    except SettingsError as failure:
        bad = BootFailure(contract.KIND_BAD_SETTINGS, str(failure))
        return None, _report_failure(bad, log, environ.get(contract.ENV_BOOT_REPORT) or None, None, started)
    worker = Worker(settings, log)
    try:
        worker.load()
    except BootFailure as failure:
        return None, _report_failure(failure, log, settings.boot_report, settings, started)
    return worker, contract.EXIT_OK


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
    """The parts of one worker. `load` raises BootFailure; `main` returns the exit code."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._unix: Optional[UnixListener] = None
        self._listeners: List[socket.socket] = []
        self._tasks: Set[Any] = set()
        self._watch = RunWatch()
        self._drain_started = 0.0
        self._loop: Any = None

    @property
    def boot_report(self) -> Optional[str]:
        return self._settings.boot_report

    def load(self) -> None:
        """Load the script and call `init()`."""
        settings, log = self._settings, self._log
        os.environ.update(settings.exports)
        self._use_logging_config()
        loop_name, self._loop = new_loop(settings.event_loop)
        self._loop_is_uv = loop_name == "uvloop"
        self._parser_name, self._new_parser = choose(settings.parser)
        asyncio.set_event_loop(self._loop)
        log.info(
            "moorings-server %s on Python %s, %s, %s"
            % (__version__, platform.python_version(), loop_name, self._parser_name)
        )
        self._say_what_was_set()
        if settings.debug_port is not None:
            log.info("Waiting for the debugger on port %d" % settings.debug_port)
            attach(settings.debug_port)
        self._user = user = script.load(settings)
        log.info("Found user script at %s" % user.path)
        log.info(user.described())
        signal.signal(signal.SIGALRM, self._watch.on_signal)
        log.info("Invoking user's init function")
        began = perf_counter()
        script.call_init(user, settings, self._loop.run_until_complete)
        log.info("User's init has completed in %.3f s" % (perf_counter() - began))
        gc.collect()
        gc.freeze()  # what init() made lives as long as the process: no collection need ever look at it again
        gc.set_threshold(*GC_THRESHOLDS)
        log.info("Scoring timeout is set to %d ms" % settings.scoring_timeout_ms)

    def _say_what_was_set(self) -> None:
        """Lines about settings that could surprise."""
        settings, log = self._settings, self._log
        if settings.model_dir is None:
            log.info("AZUREML_MODEL_DIR is not set")
        if settings.config_path is not None and settings.ignored_keys:
            log.info(
                "The config file %s has keys that are not settings of this server; they are ignored: %s"
                % (settings.config_path, ", ".join(settings.ignored_keys))
            )
        if settings.insights:
            log.info(
                "AML_APP_INSIGHTS_ENABLED is true: accepted, but this server exports nothing to Application Insights"
            )

    def main(self, listen_fds: Sequence[int], boot_report: Optional[str], started: float) -> int:
        """Open the sockets, say that the worker is ready, serve."""
        try:
            self._build()
            self._listen(listen_fds)
            self._attend()
        except BootFailure as failure:
            return _report_failure(failure, self._log, boot_report, self._settings, started)
        if boot_report:
            report.write(boot_report, report.ready(os.getpid(), perf_counter() - started))
        self._log.info("Worker with pid %d ready for serving traffic" % os.getpid())
        return self.serve()

    def after_fork(self) -> None:
        """Make anew what a forked process has not got from the one that loaded the script: threads and the loop."""
        self._log.out.start()
        self._watch = RunWatch()
        signal.signal(signal.SIGALRM, self._watch.on_signal)
        _, self._loop = new_loop(self._settings.event_loop)
        asyncio.set_event_loop(self._loop)

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

    def _build(self) -> None:
        settings, user = self._settings, self._user
        self._scorer = Scorer(user, self._log, settings.scoring_timeout_ms)
        schema = NO_SCHEMA
        if user.mode == script.SCHEMA:
            schema = schema_of(user.run, sys.modules[script.SCHEMA_MODULE])
        self._service = Service(
            self._loop,
            self._new_parser,
            SwaggerDocuments(settings, schema),
            self._log,
            user.prepare(),
            wants_headers=user.wants_headers,
            version_header=settings.version_header,
            raw=user.mode == script.RAW,
            routes=user.routes,
            wants_type=user.mode == script.SCHEMA,
            cors=Cors(settings.cors_origins) if settings.cors_origins else None,
        )
        self._service.gate = self._gate(user)
        self._service.on_drained = self._loop.stop

    def _gate(self, user: script.UserScript) -> Any:
        """The gate that fits the script; `self._ping` when its runs do not occupy the loop."""
        loop, scorer, watch, limit = self._loop, self._scorer, self._watch, self._settings.max_concurrent
        on_idle = self._service.check_drained

        def ping() -> None:
            _ignore_closed(loop.call_soon_threadsafe, watch.end)

        self._ping: Optional[Callable[[], None]] = ping
        if user.batch is not None:
            if limit < user.batch.max_size:
                self._log.warning(
                    "A batch may hold %d requests, but this worker may have only %d at once "
                    "(max_concurrent_requests_per_instance)" % (user.batch.max_size, limit)
                )
            return BatchGate(
                loop,
                scorer,
                watch,
                user.batch,
                limit,
                on_idle,
                is_async=user.is_async,
                wants_headers=user.wants_headers,
            )
        if user.is_async:
            return AsyncGate(loop, scorer, watch, limit, on_idle)
        if limit > 1:
            return ThreadGate(loop, scorer, watch, limit, on_idle)
        self._ping = None
        return InlineGate(loop, scorer, watch, on_idle)

    def _listen(self, listen_fds: Sequence[int]) -> None:
        path = self._settings.socket_path
        if path is None and not listen_fds:
            raise BootFailure(contract.KIND_BAD_SETTINGS, "%s is not set" % contract.ENV_SOCKET)
        try:
            if listen_fds:
                self._listeners = [socket.socket(fileno=fd) for fd in listen_fds]
                for listener in self._listeners:
                    listener.listen(BACKLOG)
            else:
                assert path is not None
                self._unix = UnixListener(path)
                self._listeners = [self._unix.socket]
        except OSError as failure:
            raise BootFailure(
                contract.KIND_BAD_SETTINGS, "The socket %s cannot be opened: %s" % (path, failure)
            ) from failure
        for listener in self._listeners:
            listener.setblocking(False)

    def _attend(self) -> None:
        """From here on the process can be told to stop, and shows signs of life."""
        loop, settings = self._loop, self._settings
        self._sentinel = Sentinel(
            self._watch,
            self._listeners,
            probe_response(self._service.version, 200, contract.HEALTHY_BODY),
            probe_response(self._service.version, 503, contract.HUNG_BODY),
            lambda client: _ignore_closed(loop.call_soon_threadsafe, self._adopt, client),
            self._scorer.timeout_s,
            oldest=self._service.gate.oldest,
            stuck_after_s=settings.worker_timeout_s,
            on_stuck=lambda: self._stuck("WORKER_TIMEOUT", settings.worker_timeout_s),
            full_since=self._service.gate.full_since,
            hung_after_s=settings.hung_after_s,
            on_hung=lambda: self._stuck(
                "anybody waits for it, in every place there is", settings.hung_after_s
            ),
            ping=self._ping,
            shared=self._unix is None,
        )
        self._service.is_hung = self._sentinel.is_hung
        self._sentinel.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not the loop's own handlers: these must also be heard while run() occupies the loop.
            signal.signal(number, self._on_stop_signal)

    def _wake_for_signals(self) -> None:
        """A signal that arrives right before asyncio's loop falls asleep would be noticed with the next event only:
        have it be an event. (uvloop does so itself.)"""
        self._signalled, write_end = socket.socketpair()
        for end in (self._signalled, write_end):
            end.setblocking(False)
        self._signal_end = write_end
        signal.set_wakeup_fd(write_end.fileno(), warn_on_full_buffer=False)
        self._loop.add_reader(self._signalled.fileno(), self._signalled.recv, 4096)

    def serve(self) -> int:
        """Serve until a drain has ended."""
        loop = self._loop
        if not self._loop_is_uv:
            self._wake_for_signals()
        for listener in self._listeners:
            loop.add_reader(listener.fileno(), self._accept, listener)
        if not self._user.is_async:
            # A script may run a loop of its own in `run()`, as it may in other servers: `asyncio.run` refuses to where
            # it sees one running. Nothing of ours looks for it.
            loop.call_soon(asyncio._set_running_loop, None)
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

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                client, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return  # the sentinel, or another process on the same socket, was first
            except OSError as failure:  # out of file descriptors: what is open goes on
                self._log.error("A connection could not be accepted: %s" % failure)
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(0.1, self._accept_again, listener)
                return
            self._adopt(client)

    def _accept_again(self, listener: socket.socket) -> None:
        if not self._service.draining:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

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

    # --- a run() without end --------------------------------------------------------------------------------

    def _stuck(self, limit: str, limit_s: Optional[float]) -> None:
        """Called on the sentinel's thread: say where run() is, answer who waits for it, and end the process. `limit`: what
        it was longer than."""
        _leave_in_time(STUCK_PATIENCE_S, contract.EXIT_RUN_STUCK)  # whatever below may be blocked as well
        gate = self._service.gate
        tasks = gate.tasks() if hasattr(gate, "tasks") else []
        self._log.error(
            "run() has taken longer than %s (%g s). This worker ends with exit code %d, so that it can be "
            "replaced. Where its threads are:\n%s"
            % (limit, limit_s or 0.0, contract.EXIT_RUN_STUCK, report.stacks(sys._current_frames(), tasks))
        )
        answer = Answer(500, message_body("Worker timeout after %g s" % (limit_s or 0.0)), failed=True)
        for request in gate.running():
            request.client.last_words(request, answer)
        if self._unix is not None:
            self._unix.unlink()
        self._log.flush()
        os._exit(contract.EXIT_RUN_STUCK)

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
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
        if self._unix is not None:
            self._unix.unlink()
            self._accept(self._unix.socket)  # who connected before the path was gone is served
        left_s = self._settings.drain_s - (perf_counter() - self._drain_started)
        self._loop.call_later(max(0.0, left_s), self._loop.stop)
        self._loop.call_soon(self._service.begin_drain)


def _ignore_closed(call: Callable[..., Any], *arguments: Any) -> None:
    """Hand something to a loop that may have been closed meanwhile."""
    try:
        call(*arguments)
    except RuntimeError:
        return
