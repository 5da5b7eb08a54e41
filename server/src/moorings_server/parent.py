"""Standalone mode: a parent that opens one TCP port, starts workers on it, restarts those that crash, and
stops them.

Knows processes and signals; a script is only ever loaded by the workers.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set

from moorings_server import __version__, contract
from moorings_server.settings import DEFAULT_DRAIN_S

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
HEALTHY_AFTER_S = 60.0
STOP_MARGIN_S = 2.0
SHOWN = (
    contract.ENV_APP_ROOT,
    contract.ENV_ENTRY_SCRIPT,
    "AZUREML_SOURCE_DIRECTORY",
    contract.ENV_MODEL_DIR,
    "AZUREML_CONFIG_FILE",
    contract.ENV_MAX_CONCURRENT,
    contract.ENV_SCORING_TIMEOUT_MS,
)


def restart_delay_s(crashes: int) -> float:
    """How long to wait before the next start after `crashes` (>= 1) crashes in a row."""
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(crashes - 1, 10))


def main(
    environ: Mapping[str, str], host: str, port: int, worker_count: int, health_port: Optional[int] = None
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. `health_port`: a second port for probes."""
    listeners: List[socket.socket] = []
    for number, option in ((port, "--port"), (health_port, "--health-port")):
        if number is None or (listeners and number == port != 0):
            continue
        try:
            listeners.append(_bind(host, number))
        except OSError as failure:
            sys.stderr.write(
                "error: cannot listen on %s port %d: %s\nChoose another one with %s N.\n"
                % (host, number, failure.strerror or failure, option)
            )
            return contract.EXIT_USAGE
    ports = [listener.getsockname()[1] for listener in listeners]
    changed = dict(environ)
    changed["SERVER_PORT"], changed["HEALTH_PORT"] = str(ports[0]), str(ports[-1])
    sys.stdout.write(banner(changed, host, ports[0], worker_count, ports[-1]))
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="moorings-server-") as folder:
        if environ.get("WORKER_PRELOAD", "").strip().lower() not in ("true", "1"):
            return Parent(changed, listeners, worker_count, folder).run()
        from moorings_server import preload

        return preload.run(changed, listeners, worker_count, folder)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def banner(environ: Mapping[str, str], host: str, port: int, worker_count: int, health_port: int) -> str:
    """What is about to be served, for people."""
    name = "[%s]" % host if ":" in host else host
    url, health_url = "http://%s:%d" % (name, port), "http://%s:%d" % (name, health_port)
    lines = ["moorings-server %s" % __version__, "", "Settings", "  worker processes: %d" % worker_count]
    lines += ["  %s: %s" % (name, environ[name]) for name in SHOWN if environ.get(name)]
    lines += [
        "",
        "Routes",
        "  liveness: GET   %s/" % health_url,
        "  score:    POST  %s/score" % url,
        "  OpenAPI:  GET   %s/swagger.json" % url,
        "",
    ]
    return "\n".join(lines) + "\n"


class Slot:
    """One worker's place: the process that fills it, or when to start the next one (monotonic seconds)."""

    def __init__(self, index: int, report_path: str) -> None:
        self.index = index
        self.report_path = report_path
        self.process: Any = None
        self.started = 0.0
        self.start_at = 0.0
        self.crashes = 0

    def was_ready(self) -> bool:
        """Whether the process that has just ended had begun to serve."""
        try:
            with open(self.report_path, "rb") as handle:
                return bool(json.loads(handle.read().decode("ascii"))["outcome"] == contract.BOOT_READY)
        except (OSError, ValueError, KeyError):
            return False


class Parent:
    """Keeps `worker_count` workers running on the same listening sockets."""

    def __init__(
        self, environ: Mapping[str, str], listeners: Sequence[socket.socket], worker_count: int, folder: str
    ) -> None:
        self._environ = environ
        self._listeners = listeners
        self._slots = [Slot(n, os.path.join(folder, "worker-%d.json" % n)) for n in range(worker_count)]
        self._signals: Set[int] = set()

    def run(self) -> int:
        """Until a signal or a failed boot; returns the exit code."""
        reader, writer = os.pipe()
        for fd in (reader, writer):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        while not self._signals & {signal.SIGTERM, signal.SIGINT}:
            now = time.monotonic()
            for slot in self._slots:
                if slot.process is None and now >= slot.start_at:
                    self._start(slot, now)
                if slot.process is not None and slot.process.poll() is not None and self._ended(slot, now):
                    self._stop()
                    return contract.EXIT_BOOT_FAILED
            due = [slot.start_at - now for slot in self._slots if slot.process is None]
            select.select([reader], [], [], max(0.0, min(due)) if due else 5.0)
            self._empty(reader)
        self._stop()
        return contract.EXIT_OK

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals.add(number)

    @staticmethod
    def _empty(reader: int) -> None:
        try:
            os.read(reader, 4096)
        except BlockingIOError:
            return

    def _start(self, slot: Slot, now: float) -> None:
        if os.path.exists(slot.report_path):
            os.unlink(slot.report_path)
        slot.process = self._launch(slot)
        slot.started = now

    def _launch(self, slot: Slot) -> Any:
        """Start a worker; what comes back has `poll`, `wait`, `terminate`, `kill` and `returncode`."""
        environ: Dict[str, str] = dict(self._environ)
        environ.pop(contract.ENV_SOCKET, None)
        environ[contract.ENV_BOOT_REPORT] = slot.report_path
        environ[contract.ENV_WORKER_INDEX] = str(slot.index)
        environ["MOORINGS_ROLE"] = "worker-%d" % slot.index
        fds = [listener.fileno() for listener in self._listeners]
        argv: List[str] = [sys.executable, "-m", "moorings_server", "--worker"]
        for fd in fds:
            argv += ["--listen-fd", str(fd)]
        return subprocess.Popen(argv, env=environ, pass_fds=fds)

    def _ended(self, slot: Slot, now: float) -> bool:
        """Note the end of a worker; True when it could not boot, which another start would not mend."""
        assert slot.process is not None
        code = slot.process.returncode
        slot.process = None
        if code == contract.EXIT_BOOT_FAILED and not slot.was_ready():
            sys.stderr.write("Worker %d failed to boot; the lines above say why.\n" % slot.index)
            return True
        slot.crashes = 1 if now - slot.started > HEALTHY_AFTER_S else slot.crashes + 1
        delay_s = restart_delay_s(slot.crashes)
        slot.start_at = now + delay_s
        how = "was killed by signal %d" % -code if code < 0 else "exited with code %d" % code
        sys.stderr.write("Worker %d %s; it is started again in %g s.\n" % (slot.index, how, delay_s))
        sys.stderr.flush()
        return False

    def _stop(self) -> None:
        """Have every worker finish what it does, and end those that do not in time."""
        running = [slot.process for slot in self._slots if slot.process is not None]
        for process in running:
            process.terminate()
        try:
            drain_s = float(self._environ.get(contract.ENV_DRAIN_S) or DEFAULT_DRAIN_S)
        except ValueError:
            drain_s = DEFAULT_DRAIN_S
        deadline = time.monotonic() + drain_s + STOP_MARGIN_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
