"""References to secrets as values of environment variables (behaviour reference, section 11.5). Pure; knows no secret.

${{keyvault:https://<vault>.<any suffix>/secrets/<name>[/<version>]}}
${{azureml://connections/<name>}}                        the whole connection, as JSON
${{azureml://connections/<name>/credentials/<key>}}
${{azureml://connections/<name>/metadata/<key>}}
${{azureml://connections/<name>/target}}
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

VAULT_SUFFIX = "vault.azure.net"
"""What the name of a vault is followed by in addresses that are shown."""
FORMS = (
    "${{keyvault:https://<vault>.vault.azure.net/secrets/<name>}}, ${{azureml://connections/<name>/credentials/<key>}}, "
    "${{azureml://connections/<name>/metadata/<key>}}, ${{azureml://connections/<name>/target}} or "
    "${{azureml://connections/<name>}}"
)
_NAME = r"[A-Za-z0-9][A-Za-z0-9\-_.]{0,126}"
_REFERENCE = re.compile(r"\$\{\{(?P<inner>.*)\}\}", re.DOTALL)
_VAULT = re.compile(
    r"keyvault:https://(?P<vault>[A-Za-z0-9\-]{1,63})(?:\.[A-Za-z0-9\-.]+)?(?::[0-9]+)?"
    rf"/secrets/(?P<name>{_NAME})(?:/(?P<version>{_NAME}))?/?"
)
_CONNECTION = re.compile(
    rf"azureml://connections/(?P<name>{_NAME})(?:/(?P<part>credentials|metadata)/(?P<key>{_NAME})|/(?P<target>target))?"
)


@dataclass(frozen=True)
class VaultSecret:
    """A secret of a vault. `vault` is lower case; without a version the newest one that is enabled is meant."""

    vault: str
    name: str
    version: str | None = None

    @property
    def text(self) -> str:
        tail = f"/{self.version}" if self.version else ""
        return f"${{{{keyvault:{secret_uri(self.vault, self.name)}{tail}}}}}"

    def at(self, version: str) -> VaultSecret:
        return replace(self, version=version)


@dataclass(frozen=True)
class ConnectionPart:
    """A part of a connection: `credentials`, `metadata` (with a key), `target`, or all of it (None)."""

    name: str
    part: str | None = None
    key: str | None = None


SecretReference = VaultSecret | ConnectionPart


def is_reference(value: str) -> bool:
    """Whether the whole value claims to be a reference; text that merely contains one is not."""
    return _REFERENCE.fullmatch(value.strip()) is not None


def parse(value: str) -> SecretReference | None:
    """What `value` refers to; None for text that is no reference. Raises ValueError for one in no known form."""
    found = _REFERENCE.fullmatch(value.strip())
    if found is None:
        return None
    inner = found["inner"].strip()
    vault = _VAULT.fullmatch(inner)
    if vault is not None:
        return VaultSecret(vault["vault"].lower(), vault["name"], vault["version"])
    connection = _CONNECTION.fullmatch(inner)
    if connection is not None:
        return ConnectionPart(
            connection["name"], connection["part"] or connection["target"], connection["key"]
        )
    raise ValueError(f"the secret reference {value.strip()} has none of the known forms: {FORMS}")


def vault_uri(vault: str) -> str:
    return f"https://{vault}.{VAULT_SUFFIX}/"


def secret_uri(vault: str, name: str) -> str:
    return f"{vault_uri(vault)}secrets/{name}"
