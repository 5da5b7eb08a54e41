"""Where things of one instance are on disk, and the words its files use. Shared by the engines of one machine and
their supervisor.

    <root>/<endpoint>.<deployment>/           one folder per owner, 0700
      <instance id>/                          while the instance is anything but stopped
        instance.json  stop.json  status.json  lock  supervisor.log
        plan.json      boot-<w>.json
        app/<code folder>/  app/azureml-models/<name>/<version>/
    <logs root>/<endpoint>.<deployment>/<instance id>/<container>.log[.n]  outlives the instance

It must stay quick and small to import (every supervisor does), so: standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOCK = "lock"
INSTANCE = "instance.json"
STATUS = "status.json"
STOP = "stop.json"
"""`{"grace_s": seconds}`: the instance is to end. Written before anybody is told, so the wish survives
every crash."""
PLAN = "plan.json"
PRIVATE = "private.json"
"""Secrets of an instance in a container (0600): it starts again without us. On processes they are in no file."""
OWN_LOG = "supervisor.log"
NEW_PREFIX = ".new-"
"""A folder that was being made: garbage when nobody holds its lock."""
OLD_PREFIX = ".old-"
"""A folder that is being removed."""

PHASE_STOPPED = "stopped"
"""In `status.json` beside the values of `engines.base.Phase`: everything has ended as it should."""

LOG_BYTES_PER_S = 4 * 1024 * 1024
"""What an instance may write into its log in the long run, where the settings say nothing else."""

KIND_BOOT_TIMEOUT = "boot_timeout"
"""A worker was not ready in time and was killed. (Kinds of `Exit.report` that only a supervisor can know.)"""
KIND_LIVENESS = "liveness"
"""A worker did not answer its liveness probe and was killed."""
KIND_CANNOT_START = "cannot_start"
"""The operating system refused to start the process."""
KIND_INITIALIZER = "initializer"
"""Model or code could not be laid out; `code` holds the catalogue code, `message` what it said."""


def owner_folder(root: Path, owner: str) -> Path:
    """Names have neither dots nor slashes, so no two owners share a folder."""
    return root / owner.replace("/", ".")


def instance_id(owner: str, revision: str, ordinal: int) -> str:
    return f"{owner.replace('/', '-')}-{revision}-{ordinal}"


def worker_count(variables: dict[str, str], name: str, max_concurrent: int) -> int:
    """How many worker processes: what the user's variable says (1 without), never more than may run at
    once."""
    text = str(variables.get(name, "1")).strip()
    wanted = int(text) if text.isdigit() else 1
    return max(1, min(wanted, max_concurrent))


def shares(total: int, workers: int) -> tuple[int, ...]:
    """`total` permits over `workers` (<= total), as even as it goes: the sum is exactly `total`."""
    each, rest = divmod(total, workers)
    return tuple(each + (1 if index < rest else 0) for index in range(workers))


def socket_paths(run_dir: Path, instance: str, workers: int) -> tuple[Path, ...]:
    """One stable path per worker, short whatever the names are."""
    digest = hashlib.sha256(os.fsencode(instance)).hexdigest()[:12]
    return tuple(run_dir / f"{digest}-{index}.sock" for index in range(workers))


def read(path: Path) -> dict[str, Any]:
    """A file of ours; empty when it is not there (yet, any more) or was never finished."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def folders(owner_dir: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Instance folders of an owner with what they are, by revision and ordinal."""
    if not owner_dir.is_dir():
        return
    found = []
    for folder in owner_dir.iterdir():
        if not folder.name.startswith("."):
            data = read(folder / INSTANCE)
            if data:
                found.append((folder, data))
    yield from sorted(found, key=lambda item: (item[1]["revision"], item[1]["ordinal"]))
