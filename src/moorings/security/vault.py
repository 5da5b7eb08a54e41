"""Encryption of small secrets at rest with a key file of the workspace (0600). Must not know what the secrets are."""

from __future__ import annotations

import secrets
import threading
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from moorings.errors.exceptions import error
from moorings.lib import atomic


class Vault:
    """Encrypts with the workspace's key; made at first use. Safe to use from several threads."""

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file
        self._fernet: Fernet | None = None
        self._lock = threading.Lock()

    def encrypt(self, text: str) -> str:
        """Raises `VaultKeyMismatch` when the key file cannot be used."""
        return self._cipher().encrypt(text.encode()).decode()

    def decrypt(self, token: str) -> str:
        """Raises `VaultKeyMismatch` when the key file is not the one the secret was encrypted with."""
        try:
            return self._cipher().decrypt(token.encode()).decode()
        except InvalidToken:
            raise error(
                "VaultKeyMismatch",
                f"a stored secret cannot be read with {self._key_file}",
                target=str(self._key_file),
            ) from None

    def _cipher(self) -> Fernet:
        with self._lock:
            if self._fernet is None:
                if not self._key_file.exists():
                    atomic.write(self._key_file, Fernet.generate_key(), mode=0o600)
                try:
                    self._fernet = Fernet(self._key_file.read_bytes())
                except (OSError, ValueError) as problem:
                    raise error(
                        "VaultKeyMismatch",
                        f"{self._key_file} is no key file: {problem}",
                        target=str(self._key_file),
                    ) from None
            return self._fernet


def new_key() -> str:
    """A fresh endpoint key: 32 random bytes as URL-safe text without padding; never begins like a command's flag."""
    while True:
        key = secrets.token_urlsafe(32)
        if key[0].isalnum():
            return key
