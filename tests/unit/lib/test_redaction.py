"""Secrets are taken out; what people need to find a fault stays."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.lib.redaction import Redactor, secret_values

KEY = "Zx9" + "k" * 40


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f"Authorization: Bearer {KEY}", "Authorization: Bearer ***"),
        (f"{{'Authorization': 'Bearer {KEY}', 'a': 1}}", "{'Authorization': 'Bearer ***', 'a': 1}"),
        ("authorization: Basic dXNlcjpwYXNzd29yZA==", "authorization: Basic ***"),
        ("(b'authorization', b'dXNlcjpwYXNzd29yZA==')", "(b'authorization', b'***')"),
        ("DB_PASSWORD=hunter2hunter2", "DB_PASSWORD=***"),
        ('{"api_key": "abcd1234efgh", "n": 3}', '{"api_key": "***", "n": 3}'),
        ("AccountKey=abc123DEF456==;EndpointSuffix=x", "AccountKey=***;EndpointSuffix=x"),
        ("postgres://scott:tiger@db:5432/x", "postgres://***@db:5432/x"),
        ("GET https://h/c/b?sv=2024&sig=abcDEF123%2Fabcdefg%3D&se=1", "GET https://h/c/b?sv=2024&sig=***&se=1"),
        ("AKIAIOSFODNN7EXAMPLE in ~/.aws", "*** in ~/.aws"),
        ("ghp_" + "a1" * 20, "***"),
        ("sk-proj-" + "a1" * 20, "***"),
        ("hf_" + "Ab1" * 12, "***"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "***"),
    ],
)  # fmt: skip
def test_what_can_only_be_a_secret_goes(said, kept):
    assert Redactor().text(said) == kept


@pytest.mark.parametrize(
    "said",
    [
        '    password=os.environ["DB_PASSWORD"],',
        "KeyError: 'api_key'",
        "eos_token=<|endoftext|> pad_token: [PAD] max_tokens=100000000",
        "token: tokenizer_config.json",
        "2026-11-21 01:33:03,307 I [8742] azmlinfsrv - POST /score 200 0.400ms 28 request_id=7d2f-11",
        '  File "/app/src/score.py", line 12, in init',
        "ModuleNotFoundError: No module named 'sklearn'",
        "loading https://host/models/a.bin sha256=" + "ab12" * 16,
        "task-based-scheduling-and-more-words-1",
        "secret santa; keys: 12345678",
    ],
)
def test_what_helps_to_find_a_fault_stays(said):
    assert Redactor().text(said) == said


def test_known_values_go_in_every_form_they_are_written_in():
    redactor = Redactor(['p@ss w/ord"1', "short", "p@ss w/ord"])
    assert (
        redactor.text('a p@ss w/ord"1 b p%40ss%20w%2Ford%221 c p@ss w/ord\\"1 d short')
        == "a *** b *** c *** d short"
    )


def test_a_private_key_goes_whatever_the_pieces():
    redactor = Redactor()
    text = "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabcd\n"
    assert redactor.text(text) == "a\n***\n***\n***\n"
    assert redactor.text("efgh\n-----END RSA PRIVATE KEY-----\nb\n") == "***\n***\nb\n"
    assert redactor.text("c\n") == "c\n"
    endless = Redactor()
    endless.text("-----BEGIN PRIVATE KEY-----\n")
    assert endless.text("x\n" * 300).splitlines()[-1] == "x"


@given(st.text())
def test_lines_stay_lines(text):
    encoded = text.encode(errors="surrogatepass")
    assert Redactor().redact(encoded).count(b"\n") == encoded.count(b"\n")


@pytest.mark.parametrize(
    "word", ["sk-", "eyJ-", "-eyJ", "apikey=", "://", "bearer ", "sig=", "authorization:", "xoxb-"]
)
def test_no_text_makes_it_slow(word):
    data = word.encode() * (262_144 // len(word))
    began = time.process_time()
    Redactor(["s3cret-value"]).redact(data)
    assert time.process_time() - began < 5.0, "more than linear"


def test_variables_that_are_named_like_secrets():
    given_ = {
        "DB_PASSWORD": "a",
        "API_KEY": "b",
        "KEY": "c",
        "MONKEY": "d",
        "PATH": "e",
        "HF_TOKEN": "f",
        "TOKENS": "g",
    }
    assert secret_values(given_) == ["a", "b", "c", "f"]
