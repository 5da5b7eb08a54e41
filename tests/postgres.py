"""A real PostgreSQL for tests: Debian's package, a cluster of its own in a folder of its own, run as an unprivileged user."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

BINARIES = Path("/usr/lib/postgresql")
PATIENCE_S = 60.0
USER = "moorings"


def binaries(install: Callable[[str, str], None]) -> Path:
    """The folder with `initdb` and `postgres` of the newest version there is; installed when there is none."""

    def found() -> list[Path]:
        return sorted(BINARIES.glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))

    if not found():
        install("/usr/lib/postgresql/*/bin/initdb", "postgresql")
    assert found(), "the package postgresql is installed and has no initdb"
    return found()[-1].parent


class Postgres:
    """One server on loopback, which wants a password. Everything of it is below `folder`."""

    def __init__(self, bin_folder: Path) -> None:
        self.bin = bin_folder
        self.folder = Path(tempfile.mkdtemp(prefix="mpg-"))
        self.password = "p@ss/" + secrets.token_hex(8)
        self.process: subprocess.Popen[bytes] | None = None
        self.account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self.account is not None:
            os.chown(self.folder, self.account.pw_uid, self.account.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._made = 0

    def start(self) -> None:
        data = self.folder / "data"
        if not data.exists():
            secret = self.folder / "password"
            secret.write_text(self.password)
            secret.chmod(0o644)  # the folder is closed
            argv = [str(self.bin / "initdb"), "-D", str(data), "-U", USER, "--auth=scram-sha-256"]
            # Not in C: the order of text must not depend on what the server was set up with.
            self._run([*argv, f"--pwfile={secret}", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"])
            secret.unlink()
        argv = [str(self.bin / "postgres"), "-D", str(data), "-p", str(self.port), "-k", str(self.folder)]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*argv, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB"],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **self._as_user(),  # type: ignore[call-overload]
            )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self._conninfo("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError as problem:
                assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
                assert time.monotonic() < deadline, problem
                time.sleep(0.05)

    def _as_user(self) -> dict[str, object]:
        if self.account is None:
            return {"cwd": self.folder}
        return {
            "user": self.account.pw_uid,
            "group": self.account.pw_gid,
            "extra_groups": [],
            "cwd": self.folder,
        }

    def _run(self, argv: list[str]) -> None:
        done = subprocess.run(
            argv,
            capture_output=True,
            timeout=120,
            check=False,
            **self._as_user(),  # type: ignore[call-overload]
        )
        assert done.returncode == 0, done.stderr.decode()

    def _conninfo(self, database: str) -> str:
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname=database
        )

    def connect(self, url_or_name: str) -> psycopg.Connection:
        """A connection of the test's own, to a database of `new_url` or of that name."""
        name = url_or_name.rpartition("/")[2].partition("?")[0]
        return psycopg.connect(self._conninfo(name), autocommit=True)

    def new_url(self) -> str:
        """The address of a new, empty database, with the password in it."""
        self._made += 1
        name = f"w{self._made}"
        with self.connect("postgres") as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        password = self.password.replace("@", "%40").replace("/", "%2F")
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{name}"

    def variables(self) -> dict[str, str]:
        """With these PostgreSQL's own programs and its library find the server."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": USER,
            "PGPASSWORD": self.password,
        }

    def stop(self, signum: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: a fast shutdown; SIGQUIT: at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signum)
            self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)
