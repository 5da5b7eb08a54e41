"""Signed tokens: their claims, the life of the signer's keys, what is valid after a switch of the mode."""

from __future__ import annotations

import base64
import json
import stat
import tempfile
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import ManualClock
from moorings.security import credentials, tokens
from moorings.spec.endpoint import AuthMode

DAY_S = 24 * 3600.0


def part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verify(token: str, key_set: str) -> dict:
    """The claims, checked by the published keys as any library would. Raises KeyError, InvalidSignature."""
    head, body, signature = token.split(".")
    header = json.loads(part(head))
    assert header["alg"] == "ES256"
    key = {k["kid"]: k for k in json.loads(key_set)["keys"]}[header["kid"]]
    x, y = (int.from_bytes(part(key[c]), "big") for c in "xy")
    raw = part(signature)
    assert len(raw) == 64
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    public.verify(der, f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    return json.loads(part(body))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def issuer(tmp_path: Path, clock: ManualClock) -> tokens.TokenIssuer:
    return tokens.TokenIssuer(tmp_path / "keys.json", clock)


def test_a_token_says_for_whom_and_until_when(issuer, clock):
    token = issuer.issue("endpoint:a", "shop")
    claims = verify(token.text, issuer.public_keys())
    assert (claims["aud"], claims["sub"], claims["exp"]) == ("endpoint:a", "shop", token.expires_at)
    assert clock.now() < token.refresh_after < token.expires_at <= clock.now() + 3600


def test_a_changed_payload_does_not_verify(issuer):
    head, _, signature = issuer.issue("a", "s").text.split(".")
    other = issuer.issue("b", "s").text.split(".")[1]
    with pytest.raises(InvalidSignature):
        verify(f"{head}.{other}.{signature}", issuer.public_keys())


def test_private_keys_stay_in_a_file_of_the_user_alone(issuer, tmp_path):
    published = issuer.public_keys()
    assert set(json.loads(published)["keys"][0]) == {"kty", "crv", "alg", "use", "kid", "x", "y"}
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600


def test_another_issuer_of_the_same_file_has_the_same_keys(issuer, tmp_path, clock):
    token = issuer.issue("a", "s").text
    verify(token, tokens.TokenIssuer(tmp_path / "keys.json", clock).public_keys())


@given(st.lists(st.floats(60, 40 * DAY_S), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
def test_every_token_verifies_all_its_life_by_keys_that_were_published_before(steps):
    """Whoever checks may have keys that are minutes old: rotation must not depend on anybody being quick."""
    with tempfile.TemporaryDirectory() as folder:
        clock = ManualClock()
        issuer = tokens.TokenIssuer(Path(folder) / "keys.json", clock)
        out = []
        for step in steps:
            seen_before = issuer.public_keys()
            clock.advance(step if step > tokens.SHOWN_BEFORE_S else 0)
            token = issuer.issue("a", "s")
            out.append(token)
            now_seen = issuer.public_keys()
            for each in out:
                if each.expires_at > clock.now():
                    verify(each.text, now_seen)
            verify(token.text, seen_before)
            assert 1 <= len(json.loads(now_seen)["keys"]) <= 3


def test_keys_change_when_they_are_old_and_go_when_their_tokens_have_ended(issuer, clock):
    first = issuer.public_keys()
    due_at = issuer.next_change_at()
    clock.advance(due_at - clock.now() - 1)
    assert issuer.public_keys() == first
    clock.advance(1)
    assert len(json.loads(issuer.public_keys())["keys"]) == 2
    clock.advance(issuer.next_change_at() - clock.now())
    left = json.loads(issuer.public_keys())["keys"]
    assert len(left) == 1
    assert left[0]["kid"] not in first


def test_a_key_made_by_hand_signs_only_after_it_was_shown(issuer, clock):
    before = json.loads(issuer.public_keys())["keys"][0]["kid"]
    issuer.rotate()
    assert len(json.loads(issuer.public_keys())["keys"]) == 2
    assert json.loads(part(issuer.issue("a", "s").text.split(".")[0]))["kid"] == before
    clock.advance(tokens.SHOWN_BEFORE_S)
    assert json.loads(part(issuer.issue("a", "s").text.split(".")[0]))["kid"] != before


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"keys": [{"kid": 1}]}', "\x00"])
def test_a_file_that_holds_no_keys_is_said_and_not_replaced(tmp_path, clock, content):
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(MooringsError) as refused:
        tokens.TokenIssuer(path, clock).issue("a", "s")
    assert refused.value.failure.code == "TokenKeysUnreadable"
    assert path.read_text() == content


KEY, TOKEN, DIRECTORY = AuthMode.KEY, AuthMode.AML_TOKEN, AuthMode.AAD_TOKEN


def test_after_a_switch_both_kinds_are_valid_for_a_while():
    switch = credentials.switched(KEY, TOKEN, now=100.0)
    assert credentials.Switch.from_text(switch.to_text()) == switch
    assert credentials.valid_kinds(TOKEN, switch, now=100.0) == {KEY, TOKEN}
    assert credentials.valid_kinds(TOKEN, switch, now=switch.until) == {TOKEN}
    assert credentials.valid_kinds(KEY, switch, now=100.0) == {KEY}


def test_no_switch_and_no_kind_where_nothing_is_served():
    assert credentials.switched(KEY, KEY, 1.0) is None
    assert credentials.switched(DIRECTORY, KEY, 1.0) is None
    assert credentials.valid_kinds(DIRECTORY, None, 1.0) == frozenset()


@given(st.text())
def test_any_stored_text_is_a_switch_or_none(text):
    found = credentials.Switch.from_text(text)
    assert found is None or credentials.Switch.from_text(found.to_text()) == found
