"""Which Pythons this machine has, and which of them an environment gets.

Must not know how environments are built.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import Specifier, SpecifierSet
from packaging.version import Version

PREFERRED_MINORS = ("3.12", "3.11", "3.10", "3.13", "3.14", "3.9", "3.8")
"""Order of choice where the environment leaves room: widely supported by packages first, then what else
there is.
"""
OLDEST = Version("3.8")
"""What the inference server needs."""
QUERY_TIMEOUT_S = 15.0

_NAME = re.compile(r"^python(3(\.\d+)?)?$")
_QUERY = (
    "import json,sys;"
    "print(json.dumps([getattr(sys,'_base_executable',None) or sys.executable,"
    "list(sys.version_info[:3]),sys.version_info[3],sys.implementation.name,"
    "bool(__import__('sysconfig').get_config_var('Py_GIL_DISABLED'))]))"
)


@dataclass(frozen=True)
class Interpreter:
    """A CPython release of this machine."""

    path: Path
    """The real binary, outside of any virtual environment."""
    version: str
    """For instance `3.12.1`."""

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])


class Interpreters:
    """Finds interpreters; asks each binary once for as long as its file stays the same. Safe to ask from several
    threads."""

    def __init__(self, environ: Mapping[str, str], *, patience_s: float = QUERY_TIMEOUT_S) -> None:
        """`patience_s`: how long each binary has to answer."""
        self._environ = environ
        self._patience_s = patience_s
        self._asked: dict[tuple[str, int], Interpreter | None] = {}
        self.silent: set[Path] = set()
        """Binaries that did not answer in time, the last time: what they are is not known."""
        self._lock = threading.Lock()

    def find(self) -> list[Interpreter]:
        """All usable interpreters, in the order of search: PATH, pyenv, uv.

        Blocking; binaries that fail, or are silent, are skipped.
        """
        candidates = list(dict.fromkeys(self._candidates()))
        with self._lock, ThreadPoolExecutor(max_workers=4) as pool:
            self.silent.clear()
            answers = list(pool.map(self._ask, candidates))
        found: dict[Path, Interpreter] = {}
        for interpreter in answers:
            if interpreter is not None and Version(interpreter.version) >= OLDEST:
                found.setdefault(interpreter.path, interpreter)
        return list(found.values())

    def _candidates(self) -> Iterator[Path]:
        env = self._environ
        home = Path(env.get("HOME", "/"))
        pyenv_roots = [Path(root) for root in (env.get("PYENV_ROOT"), str(home / ".pyenv")) if root]
        shims = {root / "shims" for root in pyenv_roots}
        for folder in env.get("PATH", "").split(os.pathsep):
            # The shims of pyenv only start what is looked at below, slowly.
            if folder and Path(folder) not in shims:
                yield from _named_python(Path(folder))
        for root in pyenv_roots:
            yield from _each_version(root / "versions")
        managed = env.get("UV_PYTHON_INSTALL_DIR")
        shared = Path(env.get("XDG_DATA_HOME") or home / ".local" / "share")
        yield from _each_version(Path(managed) if managed else shared / "uv" / "python")
        yield Path(sys.executable)

    def _ask(self, candidate: Path) -> Interpreter | None:
        try:
            real = candidate.resolve(strict=True)
            # What a link in a virtual environment leads to is the base itself: ask that.
            key = (str(real), real.stat().st_mtime_ns)
        except (OSError, RuntimeError):
            return None
        if key not in self._asked:
            try:
                self._asked[key] = query(real, timeout_s=self._patience_s)
            except TimeoutError:  # it may answer the next time
                self.silent.add(real)
                return None
        return self._asked[key]


def query(path: Path, *, timeout_s: float = QUERY_TIMEOUT_S) -> Interpreter | None:
    """Ask a binary what it is; None when it is no CPython release. Raises TimeoutError when it does not answer."""
    try:
        answer = subprocess.run(
            [str(path), "-I", "-S", "-c", _QUERY],
            capture_output=True,
            timeout=timeout_s,
            check=True,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin"},
        ).stdout
        base, version, level, implementation, free_threaded = json.loads(answer)
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if implementation != "cpython" or level != "final" or free_threaded:
        return None
    return Interpreter(Path(base).resolve(), ".".join(str(part) for part in version))


def choose(requirement: str, found: Sequence[Interpreter]) -> tuple[Interpreter, str | None] | None:
    """The best of `found` for version specifiers (PEP 440; empty for any), and a note where it is not exact.

    An exact patch release (`==3.8.13`) that is not there gives way to another patch of the same minor
    version: those are compatible, and model files often name the patch they were saved with. Newest patch
    first; among minor versions the order of `PREFERRED_MINORS`. None when nothing fits.
    """
    wanted = SpecifierSet(requirement)
    fitting = [one for one in found if wanted.contains(one.version)]
    if fitting:
        return min(fitting, key=_rank), None
    loose = SpecifierSet(",".join(_without_patch(one) for one in wanted))
    fitting = [one for one in found if loose.contains(one.version)]
    if loose == wanted or not fitting:
        return None
    best = min(fitting, key=_rank)
    note = f"Python {requirement} is not on this machine: {best.version}, of the same minor version, is used"
    return best, note


def minor_of(requirement: str) -> str | None:
    """`3.12` where the specifiers name one minor version, for messages and downloads."""
    for one in SpecifierSet(requirement):
        match = re.match(r"^(\d+\.\d+)", one.version)
        if match and one.operator in ("==", "===", "~="):
            return match[1]
    return None


def _rank(interpreter: Interpreter) -> tuple[int, tuple[int, ...]]:
    minor = interpreter.minor
    order = PREFERRED_MINORS.index(minor) if minor in PREFERRED_MINORS else len(PREFERRED_MINORS)
    return order, tuple(-part for part in Version(interpreter.version).release)


def _without_patch(one: Specifier) -> str:
    release = one.version.removesuffix(".*").split(".")
    if one.operator in ("==", "===") and len(release) >= 3:
        return f"=={release[0]}.{release[1]}.*"
    return str(one)


def _named_python(folder: Path) -> list[Path]:
    try:
        return sorted((path for path in folder.iterdir() if _NAME.match(path.name)), reverse=True)
    except OSError:
        return []


def _each_version(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/bin/python3"), reverse=True)
