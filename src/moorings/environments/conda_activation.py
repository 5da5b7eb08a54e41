"""What activating a conda environment would set: its variables, found once, after it has been installed.

Packages bring scripts for that (`etc/conda/activate.d`), which tell libraries where their data lies. They are run here, by
a shell of their own, and what they export is kept; instances start without a shell.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

TIMEOUT_S = 60.0
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_OF_SHELLS = frozenset({"PATH", "PWD", "OLDPWD", "SHLVL", "_", "HOME", "PS1", "CONDA_PROMPT_MODIFIER"})
"""Not of the environment: PATH is set for each instance, the rest is the shell's own."""
_SCRIPT = 'for script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do . "$script" >&2; done; env -0'


def activation_variables(prefix: Path, say: Callable[[str], None]) -> dict[str, str]:
    """Name -> value. `say` gets a line for whatever goes wrong: an environment works without, mostly."""
    found = {
        "CONDA_PREFIX": str(prefix),
        "CONDA_DEFAULT_ENV": str(prefix),
        "CONDA_SHLVL": "1",
        **_of_files(prefix, say),
    }
    if not any((prefix / "etc" / "conda" / "activate.d").glob("*.sh")):
        return found
    try:
        found |= _exported(prefix, found)
    except (OSError, subprocess.SubprocessError) as failure:
        say(f"note: the scripts for activation could not be run: {failure}")
    return found


def _of_files(prefix: Path, say: Callable[[str], None]) -> dict[str, str]:
    """Variables that packages list in files, by name of the file."""
    found: dict[str, str] = {}
    for path in sorted((prefix / "etc" / "conda" / "env_vars.d").glob("*.json")):
        try:
            listed = json.loads(path.read_bytes())
        except (OSError, ValueError) as failure:
            say(f"note: {path.name}: not read: {failure}")
            continue
        if isinstance(listed, dict):
            found |= {name: str(value) for name, value in listed.items() if _NAME.match(name)}
    return found


def _exported(prefix: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Raises OSError, subprocess.SubprocessError."""
    shell = shutil.which("bash") or "/bin/sh"
    path = f"{prefix / 'bin'}:{os.environ.get('PATH', os.defpath)}"
    outer = {"HOME": os.environ.get("HOME", "/"), "PATH": path, **given}
    process = subprocess.Popen(
        [shell, "-c", _SCRIPT],
        env=outer,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode != 0:
        raise subprocess.SubprocessError(f"exit status {process.returncode}")
    pairs = (one.partition("=") for one in out.decode("utf-8", "replace").split("\0"))
    return {name: value for name, _, value in pairs if _NAME.match(name) and name not in _OF_SHELLS}
