"""The gateway's keeper: a tiny process that starts the agent again whenever it dies. It must import nothing
heavy.

Keeper and agent share the descriptor that holds `agent.lock`. The agent notices the keeper's death by the end
of a pipe and becomes the keeper itself, so no single kill leaves the gateway without one, and the lock is
never free meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from moorings.gateway import locks
from moorings.lib import procs
from moorings.lib.timing import Backoff
from moorings.spec.limits import MAX_CONNECTIONS

_BACKOFF = Backoff(first_s=0.1, cap_s=5.0)
_STEADY_S = 10.0
_LOCK_WAIT_S = 2.0
EXIT_TAKEN = 17
"""Another gateway holds the lock: nothing to do."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m moorings.gateway", description="The gateway of a workspace."
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--max-connections", type=int, default=MAX_CONNECTIONS)
    parser.add_argument("--lock-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--keeper-fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.umask(0o077)
    if options.keeper_fd is not None:
        from moorings.gateway import agent

        agent.main(options)
        return 0
    return keep(options)


def keep(options: argparse.Namespace) -> int:
    """Hold the lock and an agent until SIGTERM, which the agent gets too and obeys gracefully."""
    lock_fd = options.lock_fd if options.lock_fd is not None else _lock(options.dir / "agent.lock")
    if lock_fd is None:
        return EXIT_TAKEN
    os.environ["MOORINGS_HOME"] = str(options.home)
    # Agents notice the end of this pipe: nobody ever writes to it.
    reader, writer = os.pipe()
    os.set_inheritable(writer, False)
    keeper = _Keeper()
    signal.signal(signal.SIGTERM, keeper.stop)
    signal.signal(signal.SIGINT, keeper.stop)
    failures = 0
    while not keeper.stopping:
        began_s = time.monotonic()
        keeper.start(agent_argv(options, lock_fd, reader), pass_fds=(lock_fd, reader))
        keeper.wait()
        failures = 1 if time.monotonic() - began_s > _STEADY_S else failures + 1
        if not keeper.stopping:
            time.sleep(_BACKOFF.delay_s(failures))
    return 0


def agent_argv(options: argparse.Namespace, lock_fd: int, keeper_fd: int) -> list[str]:
    """The command of an agent that shares the lock and watches the pipe."""
    return [*keeper_argv(options, lock_fd), "--keeper-fd", str(keeper_fd)]


def keeper_argv(options: argparse.Namespace, lock_fd: int) -> list[str]:
    """The command of a keeper that holds the lock already."""
    return [
        sys.executable, "-m", "moorings.gateway", "--home", str(options.home), "--dir", str(options.dir),
        "--run-dir", str(options.run_dir), "--port", str(options.port), "--bind", options.bind,
        "--max-connections", str(options.max_connections),
        "--lock-fd", str(lock_fd),
    ]  # fmt: skip


class _Keeper:
    def __init__(self) -> None:
        self.stopping = False
        self._agent: subprocess.Popen[bytes] | None = None

    def start(self, argv: list[str], *, pass_fds: tuple[int, ...]) -> None:
        env = {**os.environ, "MOORINGS_ROLE": locks.ROLE_AGENT}
        self._agent = subprocess.Popen(argv, env=env, pass_fds=pass_fds, stdin=subprocess.DEVNULL)
        if self.stopping:
            self._agent.terminate()

    def wait(self) -> None:
        """Return when the agent has ended. Other children are reaped too: a keeper that was an agent has an Envoy."""
        assert self._agent is not None
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self._agent.pid:
                self._agent.returncode = os.waitstatus_to_exitcode(status)
                return

    def stop(self, signum: int, frame: object) -> None:
        self.stopping = True
        if self._agent is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._agent.pid, signal.SIGTERM)


def _lock(path: Path) -> int | None:
    """Take the lock; somebody who only looks whether it is free holds it for a moment, so try for a while."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        held = procs.try_lock(path)
        if held is not None:
            return held.fd
        if time.monotonic() > deadline:
            return None
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
