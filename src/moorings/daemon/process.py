"""The control process as a program: one for each home and name, its log, and what is said when it cannot start. It must not
know what it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from pathlib import Path

from moorings.daemon.running import Daemon
from moorings.errors.exceptions import Failure, MooringsError, failure
from moorings.lib import procs
from moorings.security.folders import private
from moorings.settings import STATE_URL_VARIABLE, Settings

EXIT_ALREADY_RUNNING = 4
EXIT_CANNOT_START = 5
KEEP_LOG_BYTES = 8 * 1024 * 1024


def _trim_log(path: Path) -> None:
    """Our output is appended to `path` by whoever started us; start it anew when it has grown large."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > KEEP_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            os.close(fd)


def _unusable(problem: OSError) -> Failure:
    """What the machine does not let us do with the workspace folder."""
    path = problem.filename or os.environ.get("MOORINGS_HOME") or "~/.moorings"
    message = f"the workspace cannot be used: {problem}"
    return failure("FolderNotPrivate", message, target=str(path), fields={"path": path})


def main() -> int:
    """`python -m moorings.daemon`: run in the foreground, log to stdout. Exit 4: one is running already."""
    os.umask(0o077)
    try:
        settings = Settings.load()
        environ = dict(os.environ)
        os.environ.pop(STATE_URL_VARIABLE, None)  # no process that we start is to find the password in there
        private(settings.home)
        procs.reap_inherited()
        held = procs.try_lock(settings.daemon_lock)
        if held is None:
            named = f" under the name {settings.daemon_name}" if settings.daemon_name else ""
            print(f"a daemon of {settings.home} is running already{named}", file=sys.stderr)
            return EXIT_ALREADY_RUNNING
        _trim_log(settings.daemon_log)
        os.write(held.fd, f"{os.getpid()}\n".encode())
        logging.Formatter.converter = time.gmtime
        logging.basicConfig(
            level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        asyncio.run(Daemon(settings, environ).run())
    except (MooringsError, OSError) as problem:
        failed = problem.failure if isinstance(problem, MooringsError) else _unusable(problem)
        lines = [f"({failed.code}) {failed.message}", *failed.evidence, failed.fix]
        print("\n".join(filter(None, lines)), file=sys.stderr)
        return EXIT_CANNOT_START
    return 0
