"""`moor workspace env`: what it prints, and in which form."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from moorings.cli.main import run
from moorings.cli.session import Session
from moorings.client import clients
from moorings.client.client import Client

ACCESS = {
    "on": True,
    "baseUrl": "https://localhost:8651",
    "caBundle": "/a folder/ca's.pem",
    "identityEndpoint": "https://localhost:8651/msi/token",
    "identityHeader": "the-secret",
}
EXPECTED = {
    "AZUREML_DEV_URL_MFE": "https://localhost:8651",
    "REQUESTS_CA_BUNDLE": "/a folder/ca's.pem",
    "IDENTITY_ENDPOINT": "https://localhost:8651/msi/token",
    "IDENTITY_HEADER": "the-secret",
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the listener was asked to be on or off, in order."""
    found: list[bool] = []

    def access(self: Client, *, on: bool) -> dict[str, Any]:
        found.append(on)
        return dict(ACCESS)

    monkeypatch.setattr(Client, "client_access", access)
    monkeypatch.setattr(clients, "wait_until_answered", lambda _: None)
    return found


def moor(tmp_path: Any, *argv: str) -> int:
    return run(
        ["workspace", "env", *argv], Session(environ={"MOORINGS_HOME": str(tmp_path), "HOME": str(tmp_path)})
    )


def test_a_shell_can_take_it_whatever_the_folder_is_called(
    asked: list[bool], tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert moor(tmp_path) == 0 and asked == [True]
    script = capsys.readouterr().out + "env -0"
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    found = dict(line.partition("=")[::2] for line in done.stdout.split("\0") if line)
    assert {name: found.get(name) for name in EXPECTED} == EXPECTED


def test_as_json(asked: list[bool], tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert moor(tmp_path, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == EXPECTED
    assert moor(tmp_path, "--query", "IDENTITY_HEADER", "-o", "tsv") == 0
    assert capsys.readouterr().out == "the-secret\n"


def test_off(asked: list[bool], tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert moor(tmp_path, "--off") == 0 and asked == [False]
    found = capsys.readouterr()
    assert found.out == "" and "opens nothing" in found.err
