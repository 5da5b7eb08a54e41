"""Tokens of the listener and signed addresses: what opens, what does not."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.security.access import (
    ALL_RIGHTS,
    LIST,
    READ,
    TOKEN_LIFETIME_S,
    WRITE,
    AccessKeys,
    issue,
    knows_identity,
    refusal,
    signed_query,
    token_holds,
)

NOW = 1_800_000_000.0
KEYS = AccessKeys.new()


def query(
    container: str = "box", *, rights: str = ALL_RIGHTS, expires_at: float = NOW + 60
) -> dict[str, str]:
    return dict(
        parse_qsl(signed_query(KEYS, container, rights=rights, expires_at=expires_at), strict_parsing=True)
    )


def test_secrets_are_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first = AccessKeys.kept(path)
    assert AccessKeys.kept(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(set(vars(first).values())) == 3


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"identity": "x"}', '{"identity": "", "tokens": "", "addresses": ""}']
)
def test_damaged_secrets_are_replaced_not_used(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    assert all(len(key) >= 43 for key in vars(AccessKeys.kept(path)).values())


def test_only_the_secret_earns_tokens() -> None:
    assert knows_identity(KEYS, KEYS.identity)
    for wrong in (None, "", KEYS.identity[:-1], KEYS.identity + "x", KEYS.tokens, "ü" * 43):
        assert not knows_identity(KEYS, wrong)


def test_a_token_holds_until_its_time_and_only_with_the_key_it_was_made_with() -> None:
    token = issue(KEYS, "https://management.azure.com", NOW)
    assert token.expires_at == int(NOW) + TOKEN_LIFETIME_S
    assert token_holds(KEYS, token.text, NOW)
    assert token_holds(KEYS, token.text, token.expires_at - 1)
    assert not token_holds(KEYS, token.text, token.expires_at)
    assert not token_holds(AccessKeys.new(), token.text, NOW)


def test_a_token_can_be_looked_into_as_clients_do() -> None:
    head, body, _ = issue(KEYS, "https://ml.azure.com", NOW).text.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    assert claims["aud"] == "https://ml.azure.com" and claims["exp"] > claims["iat"]
    assert json.loads(base64.urlsafe_b64decode(head + "=="))["alg"] == "HS256"


@given(st.integers(0, 400), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_token_with_another_character_anywhere_does_not_hold(at: int, other: str) -> None:
    text = issue(KEYS, "a", NOW).text
    at %= len(text)
    if text[at] != other:
        assert not token_holds(KEYS, text[:at] + other + text[at + 1 :], NOW)


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "a" * 5000, "ü.ü.ü"])
def test_what_is_no_token_does_not_hold(text: str) -> None:
    assert not token_holds(KEYS, text, NOW)


def test_a_token_without_algorithm_does_not_hold() -> None:
    _, body, _ = issue(KEYS, "a", NOW).text.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    assert not token_holds(KEYS, f"{none}.{body}.", NOW)


def test_an_address_opens_its_container_until_its_time() -> None:
    signed = query()
    for right in (READ, WRITE, LIST):
        assert refusal(KEYS, signed, "box", right=right, now=NOW) is None
    assert "ended" in str(refusal(KEYS, signed, "box", right=READ, now=NOW + 60))
    assert "another path" in str(refusal(KEYS, signed, "other", right=READ, now=NOW))
    assert refusal(AccessKeys.new(), signed, "box", right=READ, now=NOW)


def test_rights_are_only_those_that_were_given() -> None:
    signed = query(rights="r")
    assert refusal(KEYS, signed, "box", right=READ, now=NOW) is None
    assert "rights" in str(refusal(KEYS, signed, "box", right=WRITE, now=NOW))
    assert "rights" in str(refusal(KEYS, signed, "box", right=LIST, now=NOW))
    assert refusal(KEYS, query(rights="c"), "box", right=WRITE, now=NOW) is None


@pytest.mark.parametrize("part", ["sv", "se", "sr", "sp", "spr", "sig"])
def test_an_address_altered_in_any_part_opens_nothing(part: str) -> None:
    signed = query()
    later = {"se": "2099-01-01T00:00:00Z", "sp": "racwdlmeop"}
    for altered in (
        {**signed, part: later.get(part, signed[part] + "x")},
        {k: v for k, v in signed.items() if k != part},
        {**signed, part: ""},
    ):
        assert refusal(KEYS, altered, "box", right=READ, now=NOW) is not None


@pytest.mark.parametrize("ends", ["", "tomorrow", "2099-01-01", "2099-01-01T00:00:00", "9" * 400])
def test_an_expiry_in_another_form_opens_nothing(ends: str) -> None:
    assert refusal(KEYS, {**query(), "se": ends}, "box", right=READ, now=NOW)


@given(st.text(max_size=20), st.text(max_size=20))
def test_parts_cannot_be_moved_across_their_borders(left: str, right: str) -> None:
    """What is signed is a list, not a text that could be cut otherwise."""
    signed = query()
    moved = {**signed, "sp": signed["sp"] + "\n" + left, "spr": right}
    assert refusal(KEYS, moved, "box", right=READ, now=NOW)


def test_the_file_of_secrets_is_never_readable_by_others_even_under_a_lax_mask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        AccessKeys.kept(tmp_path / "keys.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
