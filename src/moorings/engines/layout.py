"""Where things of one instance are on disk, and the words its files use. Shared by the process engine and
its supervisor.

    <root>/<endpoint>.<deployment>/           one folder per owner, 0700
      <instance id>/                          while the instance is anything but stopped
        instance.json  stop.json  status.json  lock  supervisor.log
        plan.json      boot-<w>.json
        app/<code folder>/  app/azureml-models/<name>/<version>/
      logs/<instance id>/<container>.log[.n]  outlives the instance, until its owner is forgotten

It must stay quick and small to import (every supervisor does), so: standard library only.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

LOGS = "logs"
LOCK = "lock"
INSTANCE = "instance.json"
STATUS = "status.json"
STOP = "stop.json"
"""`{"grace_s": seconds}`: the instance is to end. Written before anybody is told, so the wish survives
every crash."""
PLAN = "plan.json"
OWN_LOG = "supervisor.log"
NEW_PREFIX = ".new-"
"""A folder that was being made: garbage when nobody holds its lock."""
OLD_PREFIX = ".old-"
"""A folder that is being removed."""

PHASE_STOPPED = "stopped"
"""In `status.json` beside the values of `engines.base.Phase`: everything has ended as it should."""

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
