"""Which files of a home are a part of a backup, told by their names alone. Pure.

Left out is what the workspace makes again (environments, instances, gateway, sockets) and the logs of deployments.
"""

from __future__ import annotations

import re

SETTINGS = "settings.json"
SECRETS = ("secret.key", "token-keys.json", "identity-keys.json")
_FILES = (*SECRETS, SETTINGS, "defaults.json", "datastores.json", "directory-keys.json")
FOLDERS = ("assets/objects", "assets/trees", "uploads/data", "audit", "access")
"""Looked through from top to bottom."""
_BELOW = (
    re.compile(r"assets/objects/[0-9a-f]{2}/[0-9a-f]{64}"),
    re.compile(r"assets/trees/[0-9a-f]{64}\.json"),
    re.compile(r"uploads/data/[0-9a-f]{2}/[0-9a-f]{1,64}"),
    re.compile(r"audit/audit(\.\d{1,4})?\.jsonl"),
    re.compile(r"access/[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
)
OBJECT = re.compile(r"assets/objects/[0-9a-f]{2}/([0-9a-f]{64})")


def kept(name: str) -> bool:
    """Whether a file of this name, relative to the home, is a part of a backup. Nothing else is ever written by one."""
    return name in _FILES or any(pattern.fullmatch(name) for pattern in _BELOW)


def single_files() -> tuple[str, ...]:
    return _FILES


def mode_of(name: str) -> int:
    if OBJECT.fullmatch(name):
        return 0o444
    return 0o400 if name.startswith("assets/trees/") else 0o600
