"""Users of a directory elsewhere: whose token is good, and what is done about its keys."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from moorings.lib.timing import ManualClock
from moorings.security.directory import AT_MOST_EVERY_S, SKEW_S, Directory
from moorings.security.tokens import TokenIssuer

ISSUER, AUDIENCE = "https://login.example", "https://ml.azure.com"


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Login:
    """A directory that signs with RSA and may be away."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kid = "one"
        self.away = False
        self.asked: list[str] = []

    def keys(self) -> bytes:
        numbers = self.key.public_key().public_numbers()
        size = (numbers.n.bit_length() + 7) // 8
        key = {"kty": "RSA", "kid": self.kid, "alg": "RS256", "n": text(numbers.n.to_bytes(size, "big"))}
        return json.dumps({"keys": [{**key, "e": text(b"\x01\x00\x01")}]}).encode()

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if self.away:
            raise OSError("away")
        if url.endswith("openid-configuration"):
            return json.dumps({"jwks_uri": f"{ISSUER}/keys"}).encode()
        return self.keys()

    def token(self, head: dict[str, Any] | None = None, **claims: Any) -> str:
        given = {"iss": ISSUER, "aud": AUDIENCE, "exp": 2_000_000.0, "email": "anna@example", **claims}
        parts = ({"alg": "RS256", "kid": self.kid, **(head or {})}, given)
        body = ".".join(text(json.dumps(part).encode()) for part in parts)
        return f"{body}.{text(self.key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@pytest.fixture(scope="module")
def login() -> Login:
    return Login()


@pytest.fixture
def directory(login: Login, tmp_path: Path) -> Directory:
    login.away = False
    login.asked.clear()
    cache = tmp_path / "keys.json"
    return Directory(ISSUER, AUDIENCE, "", "email", cache, ManualClock(1_000_000.0), login.fetch)


def test_a_good_token_names_its_user(directory: Directory, login: Login) -> None:
    assert directory.principal_name(login.token()) == "anna@example"
    assert directory.principal_name(login.token(aud=["x", AUDIENCE])) == "anna@example"
    assert login.asked == [f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/keys"]
    assert directory.cache.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://evil.example"},
        {"aud": "https://other"},
        {"aud": None},
        {"exp": 1_000_000.0 - SKEW_S},
        {"exp": "soon"},
        {"nbf": 1_000_000.0 + SKEW_S + 1},
        {"head": {"alg": "none"}},
        {"head": {"alg": "HS256"}},
        {"head": {"alg": "ES256"}},
        {"head": {"kid": "unknown"}},
        {"head": {"kid": None}},
    ],
)
def test_any_other_token_names_nobody(directory: Directory, login: Login, changed: dict[str, Any]) -> None:
    assert directory.principal_name(login.token(**changed)) is None


def test_text_that_is_no_token_names_nobody(directory: Directory, login: Login) -> None:
    good = login.token()
    head, body, signature = good.split(".")
    other = text(json.dumps({"iss": ISSUER, "aud": AUDIENCE, "exp": 2e6, "email": "root"}).encode())
    for said in (
        "",
        "a",
        "a.b.c",
        f"{head}.{other}.{signature}",
        f"{head}.{body}.",
        good[:-5],
        f"{head}.{body}",
    ):
        assert directory.principal_name(said) is None
    no_name = login.token(email=None)
    assert directory.principal_name(no_name) in (None, "None")


def test_keys_are_kept_while_the_directory_is_away(directory: Directory, login: Login) -> None:
    directory.refresh()
    login.away = True
    again = Directory(ISSUER, AUDIENCE, "", "email", directory.cache, directory.clock, login.fetch)
    assert again.principal_name(login.token()) == "anna@example"
    with pytest.raises(OSError, match="away"):
        again.refresh()
    assert again.principal_name(login.token()) == "anna@example"


def test_an_unknown_key_is_asked_for_at_most_once_a_minute(directory: Directory, login: Login) -> None:
    directory.refresh()
    login.asked.clear()
    stranger = login.token(head={"kid": "two"})
    for _ in range(5):
        assert directory.principal_name(stranger) is None
    assert login.asked == []
    login.kid = "two"
    try:
        directory.clock.advance(AT_MOST_EVERY_S)  # type: ignore[attr-defined]
        assert directory.principal_name(login.token()) == "anna@example"
        assert len(login.asked) == 2
    finally:
        login.kid = "one"


def test_es256_and_a_file_of_keys(tmp_path: Path) -> None:
    clock = ManualClock(1_000_000.0)
    issuer = TokenIssuer(tmp_path / "theirs.json", clock, issuer=ISSUER)
    (tmp_path / "jwks.json").write_text(issuer.public_keys())
    cache = tmp_path / "keys.json"
    directory = Directory(ISSUER, AUDIENCE, str(tmp_path / "jwks.json"), "sub", cache, clock, lambda _: b"")
    assert directory.principal_name(issuer.issue(AUDIENCE, "anna").text) == "anna"
    assert directory.principal_name(issuer.issue("other", "anna").text) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys": 1}', b"x" * 300_000])
def test_what_is_no_set_of_keys_is_refused_and_nothing_is_lost(
    directory: Directory, login: Login, content: bytes
) -> None:
    directory.refresh()
    before = directory.keys()
    (directory.cache.parent / "bad.json").write_bytes(content)
    directory.keys_url = str(directory.cache.parent / "bad.json")
    with pytest.raises(ValueError):
        directory.refresh()
    assert directory.keys() == before
