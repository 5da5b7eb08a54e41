"""By what an instance is known when it asks for tokens: a sealed note that only the workspace can read. Keeps nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass

from moorings.errors.exceptions import MooringsError
from moorings.security.vault import Vault

_PURPOSE = "instance"


@dataclass(frozen=True)
class InstanceOf:
    """Whose instance it is; the uid tells an endpoint from one that was made anew under its name."""

    endpoint: str
    uid: str
    deployment: str


def seal(cipher: Vault, instance: InstanceOf) -> str:
    """The credential of an instance. Raises `VaultKeyMismatch`."""
    note = {
        "for": _PURPOSE,
        "endpoint": instance.endpoint,
        "uid": instance.uid,
        "deployment": instance.deployment,
    }
    return cipher.encrypt(json.dumps(note))


def unseal(cipher: Vault, credential: str) -> InstanceOf | None:
    """Whose it is; None for what the workspace did not seal for this."""
    try:
        note = json.loads(cipher.decrypt(credential))
        if note["for"] != _PURPOSE:
            return None
        return InstanceOf(str(note["endpoint"]), str(note["uid"]), str(note["deployment"]))
    except (MooringsError, ValueError, KeyError, TypeError):
        return None
