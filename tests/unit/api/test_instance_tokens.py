"""Tokens for instances: who gets one, and who does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moorings.api.instance_tokens import InstanceTokens
from moorings.security.identity_tokens import ISSUER, LIFETIME_S, IdentityTokens
from moorings.security.instances import InstanceOf, seal
from moorings.security.tokens import TokenIssuer
from moorings.state.transaction import ENDPOINT


@pytest.fixture
def tokens(shop: Any, tmp_path: Path) -> InstanceTokens:
    issuer = TokenIssuer(tmp_path / "identity-keys.json", shop.clock, issuer=ISSUER, lifetime_s=LIFETIME_S)
    return InstanceTokens(shop.database, shop.vault, IdentityTokens(issuer), tmp_path)


def line(credential: str, resource: str = "https://x/.default") -> bytes:
    return json.dumps({"credential": credential, "resource": resource}).encode()


def uid_of(shop: Any) -> str:
    with shop.database.read() as tx:
        row = tx.resource(ENDPOINT, "shop")
        assert row is not None
        return str(row.uid)


async def test_an_instance_gets_a_token_of_its_endpoints_identity(shop: Any, tokens: InstanceTokens) -> None:
    await shop.deployment()
    credential = seal(shop.vault, InstanceOf("shop", uid_of(shop), "blue"))
    body = tokens.answer(line(credential))["token"]
    identity = (await shop.ask("GET", "/onlineEndpoints/shop")).json()["identity"]
    assert tokens.tokens.principal_of(body["access_token"]) == identity["principalId"]
    assert float(body["expires_on"]) == int(shop.clock.now() + LIFETIME_S)
    shop.clock.advance(LIFETIME_S + 1)
    assert tokens.tokens.principal_of(body["access_token"]) is None


async def test_who_is_no_instance_of_what_is_there_gets_none(shop: Any, tokens: InstanceTokens) -> None:
    await shop.deployment()
    uid = uid_of(shop)
    wrong = [
        "guessed",
        seal(shop.vault, InstanceOf("shop", "another-uid", "blue")),
        seal(shop.vault, InstanceOf("shop", uid, "green")),
        seal(shop.vault, InstanceOf("other", uid, "blue")),
        shop.vault.encrypt(json.dumps({"for": "else", "endpoint": "shop", "uid": uid, "deployment": "blue"})),
        shop.vault.encrypt("a secret of the vault"),
    ]
    for credential in wrong:
        assert "error" in tokens.answer(line(credential)), credential
    for said in (b"", b"{}", b"[]", b"nonsense", line(wrong[1], ""), line(wrong[1], "x" * 2000)):
        assert "error" in tokens.answer(said)


async def test_a_token_altered_or_of_another_issuer_is_nobodys(shop: Any, tokens: InstanceTokens) -> None:
    good = tokens.tokens.issue("principal", "client", "audience").text
    head, body, signature = good.split(".")
    assert tokens.tokens.principal_of(good) == "principal"
    other = shop.tokens.issue("audience", "principal", more={"oid": "principal"}).text
    for text in (
        f"{head}.{body}x.{signature}",
        f"{head}.{body}.{signature[:-4]}",
        f"{head}..",
        "",
        "a.b.c",
        other,
    ):
        assert tokens.tokens.principal_of(text) is None
