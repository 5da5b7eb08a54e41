"""All containers of a workspace at once, for whoever ends a workspace without knowing what runs in it."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from moorings.containers.host import DockerHost

LABEL_HOME = "moorings.home"
_POLL_S = 0.1


def home_digest(home: Path) -> str:
    """Names the workspace of a folder without telling where it is."""
    return hashlib.sha256(os.fsencode(home)).hexdigest()[:16]


def stop_containers(host: DockerHost, home: Path, *, patience_s: float) -> tuple[int, int]:
    """Ask every container of the workspace to end, and kill what has not after `patience_s`: (how many, killed).

    They stay as they are, ended; who starts the workspace again starts them anew. Blocking.
    """
    labels = {LABEL_HOME: home_digest(home)}
    running = [c for c in host.containers(labels) if c["State"]["Running"] or c["State"]["Restarting"]]
    for container in running:
        host.signal(container["Id"], "SIGTERM")
    deadline = time.monotonic() + patience_s
    left = running
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [c for c in host.containers(labels) if c["State"]["Running"] or c["State"]["Restarting"]]
    for container in left:
        host.signal(container["Id"], "SIGKILL")
    return len(running), len(left)
