"""What every operation on vaults, secrets and connections means. No HTTP here; values leave it only when asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moorings.errors.exceptions import MooringsError, error
from moorings.security.places import Places
from moorings.security.vault import Vault
from moorings.spec.secret_references import VaultSecret, parse
from moorings.state.database import Database
from moorings.state.identities import find_principal
from moorings.state.secret_rows import ConnectionRow, SecretRow, VaultRow
from moorings.state.transaction import Transaction

PERMISSIONS = ("get", "list", "set", "delete")
MAX_SECRET_BYTES = 25_600
_VAULT = re.compile(r"[a-zA-Z](?:[a-zA-Z0-9]|-(?=[a-zA-Z0-9])){1,62}")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-]{0,126}")
_CONNECTION = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-_.]{0,126}")


@dataclass(frozen=True)
class VaultView:
    """A vault with its policies: principal id -> permissions."""

    row: VaultRow
    policies: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Secrets:
    database: Database
    cipher: Vault
    places: Places

    # --- vaults ---

    def vaults(self) -> list[VaultView]:
        with self.database.read() as tx:
            return [VaultView(row, tx.policies(row.name)) for row in tx.vaults()]

    def vault(self, name: str) -> VaultView:
        with self.database.read() as tx:
            row = self._vault(tx, name)
            return VaultView(row, tx.policies(row.name))

    def changes_how_it_goes(self, name: str, rbac: bool | None) -> bool:
        """Whether a vault that is there would go by roles instead of policies, or the other way round."""
        with self.database.read() as tx:
            row = tx.vault(name.lower())
        return row is not None and rbac is not None and row.rbac != rbac

    def put_vault(
        self,
        name: str,
        *,
        rbac: bool | None,
        tags: Mapping[str, str] | None,
        policies: Mapping[str, Sequence[str]],
        replace: bool,
    ) -> tuple[VaultView, bool]:
        """Make it, or apply the same again: policies that are there stay, those given are added or changed. With
        `replace` those not given go (what repeating a template does elsewhere). Raises `SecretInvalid`,
        `PrincipalNotFound`."""
        if _VAULT.fullmatch(name) is None:
            raise _invalid(f"{name!r} cannot be the name of a vault", "name")
        with self.database.write() as tx:
            row, created = tx.put_vault(name.lower(), rbac=rbac, tags=tags)
            wanted = {find_principal(tx, who).id: _permissions(given) for who, given in policies.items()}
            if replace:
                for principal in tx.policies(row.name).keys() - wanted.keys():
                    tx.set_policy(row.name, principal, ())
            for principal, permissions in wanted.items():
                tx.set_policy(row.name, principal, permissions)
            return VaultView(row, tx.policies(row.name)), created

    def delete_vault(self, name: str) -> bool:
        if name.lower() == self.places.vault_name:
            raise _invalid(f"the vault {name} is the workspace's own and stays with it", "name")
        with self.database.write() as tx:
            return tx.drop_vault(name.lower())

    def set_policy(self, vault: str, principal: str, permissions: Sequence[str]) -> VaultView:
        """In place of what the principal had; none takes it away."""
        with self.database.write() as tx:
            row = self._vault(tx, vault)
            tx.set_policy(row.name, find_principal(tx, principal).id, _permissions(permissions))
            return VaultView(row, tx.policies(row.name))

    # --- secrets ---

    def secrets(self, vault: str) -> list[SecretRow]:
        with self.database.read() as tx:
            return list(tx.vault_secrets(self._vault(tx, vault).name))

    def versions(self, vault: str, name: str) -> list[SecretRow]:
        with self.database.read() as tx:
            found = tx.vault_secret_versions(self._vault(tx, vault).name, name)
        if not found:
            raise _missing(vault, name, None)
        return list(found)

    def secret(self, vault: str, name: str, version: str | None) -> SecretRow:
        """A version, or the newest that is enabled; without its value. Raises `VaultNotFound`, `SecretNotFound`."""
        with self.database.read() as tx:
            row = tx.vault_secret(self._vault(tx, vault).name, name, version)
        if row is None:
            raise _missing(vault, name, version)
        return row

    def value(self, row: SecretRow) -> str:
        """Raises `SecretNotFound` for a version that is disabled, `VaultKeyMismatch`."""
        if not row.enabled:
            raise error(
                "SecretNotFound",
                f"version {row.version} of the secret {row.name} is disabled",
                target=row.name,
                fields={"vault": row.vault, "secret": row.name},
            )
        return self.cipher.decrypt(row.value)

    def set_secret(
        self, vault: str, name: str, value: object, *, content_type: str, tags: Mapping[str, str]
    ) -> SecretRow:
        """A new version. Raises `SecretInvalid`; its message never has the value."""
        if _NAME.fullmatch(name) is None:
            raise _invalid(f"{name!r} cannot be the name of a secret", "name")
        _check_value(value, "value")
        with self.database.write() as tx:
            row = self._vault(tx, vault)
            return tx.add_vault_secret(
                row.name, name, self.cipher.encrypt(str(value)), content_type=content_type, tags=tags
            )

    def enable(self, vault: str, name: str, version: str | None, *, enabled: bool) -> SecretRow:
        with self.database.write() as tx:
            owner = self._vault(tx, vault).name
            versions = tx.vault_secret_versions(owner, name)
            row = next((each for each in versions if version in (None, each.version)), None)
            if row is None:
                raise _missing(vault, name, version)
            return tx.enable_vault_secret(row, enabled=enabled)

    def delete_secret(self, vault: str, name: str) -> bool:
        with self.database.write() as tx:
            return tx.drop_vault_secret(self._vault(tx, vault).name, name)

    # --- connections ---

    def connections(self) -> list[ConnectionRow]:
        with self.database.read() as tx:
            return list(tx.connections())

    def connection(self, name: str) -> ConnectionRow:
        with self.database.read() as tx:
            row = tx.connection(name)
        if row is None:
            raise error(
                "ConnectionNotFound",
                f"the workspace has no connection {name}",
                target=name,
                fields={"name": name},
            )
        return row

    def credentials(self, row: ConnectionRow) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cipher.decrypt(row.credentials))
        return found

    def put_connection(
        self, name: str, body: Mapping[str, Any], credentials: Mapping[str, Any] | None
    ) -> tuple[ConnectionRow, bool]:
        """Make it or replace it; without `credentials` those that are there stay. Raises `SecretInvalid`."""
        if _CONNECTION.fullmatch(name) is None:
            raise _invalid(f"{name!r} cannot be the name of a connection", "name")
        for key, value in (credentials or {}).items():
            if isinstance(value, str):
                _check_value(value, f"credentials.{key}")
        with self.database.write() as tx:
            old = tx.connection(name)
            kept = self.cipher.encrypt("{}") if old is None else old.credentials
            if credentials is not None:
                kept = self.cipher.encrypt(json.dumps(dict(credentials)))
            return tx.put_connection(name, body=body, credentials=kept)

    def delete_connection(self, name: str) -> bool:
        with self.database.write() as tx:
            return tx.drop_connection(name)

    def _vault(self, tx: Transaction, name: str) -> VaultRow:
        row = tx.vault(name.lower())
        if row is None:
            message = f"the workspace has no vault {name}"
            raise error("VaultNotFound", message, target=name, fields={"vault": name})
        return row


def pinner(tx: Transaction) -> Callable[[str], str]:
    """A function that gives references to secrets the version they mean now: a deployment never changes by itself.
    What cannot be found stays as it is, and is told when the deployment is looked at."""

    def pin(text: str) -> str:
        try:
            reference = parse(text)
        except ValueError:
            return text
        if not isinstance(reference, VaultSecret) or reference.version is not None:
            return text
        found = tx.vault_secret(reference.vault, reference.name)
        return text if found is None else reference.at(found.version).text

    return pin


def _permissions(given: Sequence[str]) -> list[str]:
    wanted = {str(each).lower() for each in given}
    if "all" in wanted:
        return list(PERMISSIONS)
    unknown = sorted(wanted - set(PERMISSIONS))
    if unknown:
        raise _invalid(
            f"{', '.join(unknown)}: permissions of secrets are {', '.join(PERMISSIONS)}, all", "permissions"
        )
    return [each for each in PERMISSIONS if each in wanted]


def _check_value(value: object, target: str) -> None:
    if not isinstance(value, str) or not value:
        raise _invalid(f"{target}: a secret is text of at least one character", target)
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > MAX_SECRET_BYTES:
        raise _invalid(f"{target}: {size} bytes; a secret has at most {MAX_SECRET_BYTES}", target)
    if "\x00" in value:
        raise _invalid(f"{target}: has a NUL character, which no environment variable can hold", target)


def _invalid(message: str, target: str) -> MooringsError:
    return error("SecretInvalid", message, target=target)


def _missing(vault: str, name: str, version: str | None) -> MooringsError:
    which = f", version {version}" if version else ""
    message = f"the vault {vault} has no secret {name}{which}"
    return error("SecretNotFound", message, target=name, fields={"vault": vault, "secret": name})
