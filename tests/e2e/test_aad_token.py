"""Endpoints with `auth_mode: aad_token`: who has the role calls, with a token of the workspace or of a directory of users."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from moorings.lib.timing import SystemClock
from moorings.security.tokens import TokenIssuer

THEIRS = "https://login.example"
ML = "https://ml.azure.com"


@pytest.fixture(scope="module")
def shop(workspace: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("login")
    workspace.login = TokenIssuer(folder / "keys.json", SystemClock(), issuer=THEIRS)
    (folder / "jwks.json").write_text(workspace.login.public_keys())
    settings = json.loads((workspace.home / "settings.json").read_text())
    settings["directory"] = {"issuer": THEIRS, "keys": str(folder / "jwks.json")}
    Path(workspace.home / "settings.json").write_text(json.dumps(settings))
    workspace.moor("online-endpoint", "create", "-n", "shop", "--auth-mode", "aad_token")
    code = workspace.script("plain", "def init(): ...\ndef run(data): return 1\n")
    workspace.deploy(workspace.spec("shop", "blue", code), "--all-traffic")
    workspace.moor("ad", "sp", "create", "-n", "caller", "-o", "none")
    workspace.moor("ad", "user", "create", "-n", "anna", "-o", "none")
    return workspace


def token(shop: Any, who: str, resource: str = ML) -> str:
    command = ("account", "get-access-token", "--principal", who, "--resource", resource)
    return str(shop.json(*command)["accessToken"])


def role(shop: Any, verb: str, who: str, name: str = "AzureML Data Scientist") -> None:
    flags = ("--assignee", who, "--role", name, "--scope", "endpoint/shop")
    shop.moor("role", "assignment", verb, *flags)


def becomes(shop: Any, status: int, key: str) -> None:
    deadline = time.monotonic() + 60
    while (found := shop.score("shop", {}, key=key).status) != status:
        assert time.monotonic() < deadline, f"{found}, not {status}"
        time.sleep(0.1)


def test_a_role_opens_the_endpoint_and_taking_it_away_closes_it(shop: Any) -> None:
    mine = token(shop, "caller")
    assert shop.score("shop", {}, key=mine).status == 401
    role(shop, "create", "caller")
    becomes(shop, 200, mine)
    assert shop.score("shop", {}, key=token(shop, "caller", "https://management.azure.com")).status == 401
    assert shop.score("shop", {}, key=token(shop, "anna")).status == 401
    role(shop, "delete", "caller")
    becomes(shop, 401, mine)


def test_reading_is_not_scoring(shop: Any) -> None:
    role(shop, "create", "caller", "Reader")
    assert shop.score("shop", {}, key=token(shop, "caller")).status == 401


def test_a_user_of_the_directory_calls_with_its_token(shop: Any) -> None:
    theirs = shop.login.issue(ML, "anna").text
    assert shop.score("shop", {}, key=theirs).status == 401
    role(shop, "create", "anna")
    becomes(shop, 200, theirs)
    assert shop.score("shop", {}, key=token(shop, "anna")).status == 200
    principal = shop.json("ad", "user", "show", "-n", "anna")["id"]
    # A claim counts only where its own issuer has signed it.
    forged = shop.login.issue(ML, "nobody", more={"oid": principal}).text
    for bad in (
        forged,
        shop.login.issue(ML, "bert").text,
        shop.login.issue("https://other", "anna").text,
        "",
        "x",
    ):
        assert shop.score("shop", {}, key=bad).status == 401
    shop.moor("ad", "user", "delete", "-n", "anna", "--yes")
    becomes(shop, 401, theirs)


def test_such_an_endpoint_has_no_keys_and_says_where_tokens_are(shop: Any) -> None:
    refused = shop.moor("online-endpoint", "get-credentials", "-n", "shop", check=False)
    assert "(WrongCredentialKind)" in refused.stderr
    assert "moor account get-access-token" in refused.stderr
