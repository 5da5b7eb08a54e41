"""Who we are to an image registry. The seam for identities: whoever has them gives a function of this shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from moorings.containers.reading import registry_of
from moorings.errors.exceptions import error


@dataclass(frozen=True)
class Login:
    user: str
    password: str = field(repr=False)
    is_identity: bool = False
    """The password is an identity token: only a token server takes it, for tokens that open the registry."""


Credentials = Callable[[str], Login | None]
"""Registry (`host[:port]`) -> who we are there; None: what Docker's own configuration says (`docker login`)."""


def from_settings(repository: str, user: str, password_file: str) -> Credentials:
    """The login of the workspace's registry as its settings name it; Docker's own configuration for all others.

    The password is read when it is needed, so it can be exchanged without a restart. Raises `SettingsInvalid` then.
    """
    registry = registry_of(f"{repository}/x") if repository else ""

    def credentials(wanted: str) -> Login | None:
        if not user or not registry or wanted != registry:
            return None
        try:
            path = Path(password_file)
            if path.stat().st_mode & 0o077:
                message = f"registry.password_file: others may read {path}; correct it with: chmod 600 {path}"
                raise error("SettingsInvalid", message, target="registry.password_file")
            password = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as problem:
            message = f"registry.password_file cannot be read: {problem}"
            raise error("SettingsInvalid", message, target="registry.password_file") from None
        return Login(user, password)

    return credentials
