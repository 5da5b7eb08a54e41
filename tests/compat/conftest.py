"""The ecosystem's own client, as its users install it: in an environment of its own, at the versions of `client.lock`.

The environment is made once and kept in the user's cache folder under the hash of what is in it; it is no part of this
project's environment. A workspace is one of `tests/e2e`.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
LOCK = HERE / "client.lock"
SCOPE = ("3f4a", "my-resources", "my-workspace")


def _module(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


e2e = _module("moorings_e2e", HERE.parent / "e2e" / "conftest.py")


def client_python() -> Path:
    """The interpreter of the client's environment, which is made when it is not there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moorings-tests"
    cache.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache / f"client-{key}"
    with (cache / f"client-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            uv = str(Path(sys.executable).parent / "uv")
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
            argv = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
            subprocess.run([*argv, "--require-hashes", "-r", str(LOCK)], check=True)
            (folder / "complete").touch()
    return folder / "bin" / "python"


@dataclass
class Client:
    """Runs scripts of users, in a folder of their own, with the variables of `moor workspace env` and no others."""

    workspace: Any
    python: Path
    folder: Path
    variables: dict[str, str]

    @property
    def preamble(self) -> str:
        return PREAMBLE

    def run(
        self, script: str | Path, *, check: bool = True, timeout_s: float = 240, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`script`: a file, or the text that follows the construction of `ml_client`."""
        if isinstance(script, str):
            path = self.folder / "script.py"
            path.write_text(PREAMBLE + script)
        else:
            path = script
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("MOORINGS_", "AZURE", "IDENTITY_"))}
        done = subprocess.run(
            [str(self.python), str(path)],
            env={**keep, **self.variables},
            cwd=folder or self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def value(self, script: str) -> Any:
        """What the script hands to `give(...)`, through JSON."""
        self.run(script)
        return json.loads((self.folder / "given.json").read_text())


PREAMBLE = f"""
import json, pathlib, sys, time
from azure.ai.ml import MLClient
from azure.ai.ml.entities import *
from azure.core.exceptions import *
from azure.identity import DefaultAzureCredential

ml_client = MLClient(DefaultAzureCredential(), {", ".join(map(repr, SCOPE))})

def give(value):
    pathlib.Path("given.json").write_text(json.dumps(value))

"""


def exported(workspace: Any) -> dict[str, str]:
    """What `eval "$(moor workspace env)"` puts into a shell."""
    script = f'eval "$({e2e.BIN / "moor"} workspace env)" && env -0'
    done = subprocess.run(
        ["bash", "-c", script], env=workspace.env, capture_output=True, text=True, check=True, timeout=60
    )
    found = dict(line.partition("=")[::2] for line in done.stdout.split("\0") if line)
    shell = ("_", "SHLVL", "PWD", "OLDPWD")
    return {k: v for k, v in found.items() if workspace.env.get(k) != v and k not in shell}


@pytest.fixture(scope="session")
def python() -> Path:
    return client_python()


@pytest.fixture(scope="module")
def client(python: Path) -> Iterator[Client]:
    """A client of a new workspace."""
    yield from _client(python, {})


@pytest.fixture(scope="module")
def docker_client(python: Path, dockerd: Any) -> Iterator[Client]:
    """A client of a new workspace whose instances are containers."""
    aliases = dict.fromkeys(("mcr.microsoft.com/*", "local/base", "python:*"), "moorings.test/python:base")
    yield from _client(
        python, {"engine": "docker", "docker": {"host": dockerd.host}, "image_aliases": aliases}
    )


def _client(python: Path, settings: dict[str, Any]) -> Iterator[Client]:
    base = Path(tempfile.mkdtemp(prefix="moor-compat-"))
    workspace = e2e.make_workspace(base, settings)
    folder = base / "user"
    folder.mkdir()
    try:
        yield Client(workspace, python, folder, exported(workspace))
        e2e.end(workspace)
    finally:
        shutil.rmtree(base, ignore_errors=True)
