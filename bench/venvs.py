"""An environment for each peer, below a cache folder, built once for its list of requirements."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.peers import ADAPTERS, Peer

COMMON = ("numpy", "scikit-learn")
BUILD_S = 900
UV = Path(sys.executable).parent / "uv"


@dataclass(frozen=True)
class Built:
    """`python` of an environment that is ready, or the sentence why there is none."""

    python: Path | None
    versions: dict[str, str]
    problem: str = ""


def cache_folder() -> Path:
    named = os.environ.get("MOORINGS_BENCH_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else base / "moorings-bench"


def build(peer: Peer, cache: Path) -> Built:
    """The environment of `peer`, from the cache where it is there. A path in its requirements (our own server) is
    installed anew each time, editable, so that the sources of this tree are what runs."""
    folder = cache / peer.venv
    python = folder / "bin" / "python"
    stamp = folder / "bench-requirements"
    wanted = hashlib.sha256(json.dumps([peer.requires, COMMON, sys.version]).encode()).hexdigest()
    try:
        if not stamp.is_file() or stamp.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            cache.mkdir(parents=True, exist_ok=True)
            _run([str(UV), "venv", "--quiet", "--python", sys.executable, str(folder)])
            install = [str(UV), "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
            requires = [f"-e{each}" if each.startswith("/") else each for each in peer.requires]
            _run([*install, *requires, *COMMON])
            stamp.write_text(wanted)
        names = (peer.package, *COMMON)
        code = "import sys, json; from importlib.metadata import version as v; print(json.dumps({n: v(n) for n in sys.argv[1:]}))"
        versions = json.loads(_run([str(python), "-c", code, *names]))
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as problem:
        said = str(getattr(problem, "stderr", "") or problem).strip().splitlines()
        return Built(None, {}, f"does not install: {' '.join(said[-3:])[:300]}")
    return Built(python, versions)


def answers(python: Path, cache: Path) -> dict[str, list[list[object]]]:
    """Workload -> [input, right answer] pairs, computed by the model itself in the environment of `python`."""
    out = cache / "answers.json"
    _run([str(python), str(ADAPTERS / "model.py"), str(out)])
    found: dict[str, list[list[object]]] = json.loads(out.read_text())
    return found


def _run(argv: list[str]) -> str:
    env = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=BUILD_S, check=True, env=env)
    return done.stdout
