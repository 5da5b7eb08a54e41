"""Running uv and the like: a bounded environment, every line of output as it comes, and nothing left running when we
are cancelled.

It must not know what is installed or why.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uv

from moorings.errors.exceptions import error

ROLE = "environment-builder"
TIMEOUT_S = 3600.0
"""For one run of uv; large packages over a slow line and compilers take their time."""

_KEPT = frozenset(
    """
    PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR NETRC XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME
    SSL_CERT_FILE SSL_CERT_DIR HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy
    no_proxy CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS CPATH LIBRARY_PATH LD_LIBRARY_PATH PKG_CONFIG_PATH
    CARGO_HOME RUSTUP_HOME CUDA_HOME GIT_SSL_CAINFO RATTLER_AUTH_FILE CONDA_OVERRIDE_CUDA CONDA_OVERRIDE_GLIBC
    """.split()  # noqa: SIM905 - a table of words
)
_REFUSED = frozenset(
    """
    UV_PYTHON UV_SYSTEM_PYTHON UV_BREAK_SYSTEM_PACKAGES UV_PROJECT UV_PROJECT_ENVIRONMENT UV_WORKING_DIRECTORY
    UV_CONSTRAINT UV_BUILD_CONSTRAINT UV_OVERRIDE UV_REQUIRE_HASHES UV_NO_VERIFY_HASHES UV_LINK_MODE
    UV_COMPILE_BYTECODE UV_CUSTOM_COMPILE_COMMAND UV_NO_PROGRESS UV_ENV_FILE UV_VENV_SEED UV_VENV_CLEAR
    UV_VENV_RELOCATABLE UV_PYTHON_DOWNLOADS UV_PYTHON_PREFERENCE UV_QUIET UV_LOG_CONTEXT
    """.split()  # noqa: SIM905 - a table of words
)
"""Settings of uv that would change what we ask of it; its indexes, caches, certificates and time limits are
kept.
"""

_CREDENTIALS = re.compile(r"(://)[^/@\s]+@")
_CHANNEL_TOKEN = re.compile(r"(://[^\s]*?/t/)[^/\s]+")


@dataclass(frozen=True)
class Run:
    """How a run ended."""

    code: int
    out: str
    """Standard output, with secrets."""
    lines: tuple[str, ...]
    """Lines of standard error, without secrets in addresses."""


class Installer:
    """uv, as we use it."""

    def __init__(self, path: Path | None, *, home: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._home = home
        self._environ = environ
        self.conda_cache = conda_cache(environ)

    async def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        on_line: Callable[[str], None],
        keep_open: Sequence[int] = (),
        extra: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Run:
        """Run uv with `arguments`; the rest as for `run_program`.

        Raises `InstallerNotFound` (the installation is at fault), TimeoutError.
        """
        return await self.run_program(
            [str(self._binary()), *arguments],
            cwd=cwd,
            on_line=on_line,
            keep_open=keep_open,
            extra=extra,
            timeout_s=timeout_s,
        )

    async def run_program(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        on_line: Callable[[str], None],
        keep_open: Sequence[int] = (),
        extra: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Run:
        """Run a program; `on_line` gets each line of its standard error.

        `keep_open`: descriptors it inherits, for instance of a lock that has to outlive us with it.
        Raises TimeoutError. Cancelled or timed out, the process and all it started are killed.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env={**bounded(self._environ), **(extra or {}), "MOORINGS_HOME": str(self._home)},
            pass_fds=tuple(keep_open),
            start_new_session=True,
        )
        assert process.stdout is not None and process.stderr is not None
        lines: list[str] = []

        def keep(line: str) -> None:
            lines.append(line)
            on_line(line)

        try:
            async with asyncio.timeout(timeout_s):
                out, _ = await asyncio.gather(process.stdout.read(), _each_line(process.stderr, keep))
                code = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return Run(code, out.decode(errors="replace"), tuple(lines))

    def _binary(self) -> Path:
        if self._path is not None:
            return self._path
        with contextlib.suppress(FileNotFoundError):
            self._path = Path(uv.find_uv_bin())
            return self._path
        found = shutil.which("uv", path=self._environ.get("PATH"))
        if found is None:
            raise error("InstallerNotFound", "the program uv is not installed")
        self._path = Path(found)
        return self._path


def conda_cache(environ: Mapping[str, str]) -> Path:
    """Where downloaded conda packages and the lists of channels are kept."""
    return user_cache(environ) / "conda"


def user_cache(environ: Mapping[str, str]) -> Path:
    """What can be fetched again, for all workspaces of a user."""
    base = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/tmp")) / ".cache"  # noqa: S108
    return Path(base) / "moorings"


def bounded(environ: Mapping[str, str]) -> dict[str, str]:
    """What of our environment uv and the conda solver may see."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in _KEPT or name.startswith("LC_") or (name.startswith("UV_") and name not in _REFUSED)
    }
    return {**kept, "NO_COLOR": "1", "MOORINGS_ROLE": ROLE, "UV_PYTHON_DOWNLOADS": "never"}


def without_credentials(text: str) -> str:
    """User names, passwords and the tokens of conda channels (`/t/<token>/`) in addresses become `***`."""
    return _CHANNEL_TOKEN.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))


async def _each_line(stream: asyncio.StreamReader, keep: Callable[[str], None]) -> None:
    rest = b""
    while chunk := await stream.read(65536):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            keep(without_credentials(line.decode(errors="replace").rstrip()))
    if rest:
        keep(without_credentials(rest.decode(errors="replace").rstrip()))
