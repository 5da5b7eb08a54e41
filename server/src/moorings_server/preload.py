"""Standalone mode with `WORKER_PRELOAD`: the parent loads the script and calls `init()` once, and the workers are
copies of it.

Copies share the memory of what `init()` made; they have none of the threads it started.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from time import perf_counter
from typing import Any, Mapping, Optional, Sequence

from moorings_server import contract, worker
from moorings_server.parent import Parent, Slot
from moorings_server.scheduling import interrupt_nobody

WAIT_STEP_S = 0.01


def run(
    environ: Mapping[str, str], listeners: Sequence[socket.socket], worker_count: int, folder: str
) -> int:
    """Load, then keep copies running until a signal; returns the exit code."""
    os.environ.update(environ)
    os.environ.pop(contract.ENV_SOCKET, None)
    os.environ.pop(contract.ENV_BOOT_REPORT, None)
    loaded, code = worker.load(os.environ, perf_counter(), to_be_copied=True)
    if loaded is None:
        sys.stderr.write("The script failed to boot; the lines above say why.\n")
        return code
    return _Parent(environ, listeners, worker_count, folder, loaded).run()


class Copy:
    """A forked process, with the methods of a Popen that a parent of workers uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: Optional[int] = None

    def poll(self) -> Optional[int]:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.returncode = contract.EXIT_OK
                return self.returncode
            if pid:
                self.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
            time.sleep(WAIT_STEP_S)
        assert self.returncode is not None
        return self.returncode

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class _Parent(Parent):
    """Starts workers by copying the process that has the script loaded."""

    def __init__(
        self,
        environ: Mapping[str, str],
        listeners: Sequence[socket.socket],
        worker_count: int,
        folder: str,
        loaded: worker.Worker,
    ) -> None:
        super().__init__(environ, listeners, worker_count, folder)
        self._loaded = loaded

    def _launch(self, slot: Slot) -> Any:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return Copy(pid)
        code = 70  # what remains when the copy ends by an exception
        try:
            code = self._serve(slot)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _serve(self, slot: Slot) -> int:
        """The life of a copy."""
        started = perf_counter()
        worker.die_with_parent()
        interrupt_nobody()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ[contract.ENV_WORKER_INDEX] = str(slot.index)
        os.environ["MOORINGS_ROLE"] = "worker-%d" % slot.index
        self._loaded.after_fork()
        fds = [os.dup(listener.fileno()) for listener in self._listeners]
        return self._loaded.main(fds, slot.report_path, started)
