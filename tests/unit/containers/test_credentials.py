from __future__ import annotations

from pathlib import Path

import pytest

from moorings.containers.credentials import Login, from_settings
from moorings.errors.exceptions import MooringsError


def test_the_login_is_for_the_workspaces_registry_alone(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    credentials = from_settings("registry.example:5000/team", "ann", str(secret))
    assert credentials("registry.example:5000") == Login("ann", "s3cret")
    assert credentials("docker.io") is None
    assert "s3cret" not in repr(credentials("registry.example:5000"))
    assert from_settings("registry.example:5000/team", "", "")("registry.example:5000") is None
    assert from_settings("", "ann", str(secret))("docker.io") is None


def test_a_password_file_that_others_may_read_or_that_is_not_there(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    credentials = from_settings("registry.example:5000/team", "ann", str(secret))
    for _ in range(2):
        with pytest.raises(MooringsError) as caught:
            credentials("registry.example:5000")
        assert caught.value.failure.code == "SettingsInvalid"
        secret.write_text("s3cret")
        secret.chmod(0o644)
    assert "chmod 600" in str(caught.value)
