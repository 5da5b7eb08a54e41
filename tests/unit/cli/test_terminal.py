"""What other people have written cannot drive the terminal of who reads it."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.cli.terminal import clean, clean_json, clean_line

ATTACKS = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "cursor": "\x1b[2A\x1b[2K",
    "eight-bit": "\x9b2J\x9d0;owned\x9c",
    "overwritten": "ERROR\rfine!",
    "backspace": "rm\x08\x08ls",
    "bell": "\x07",
    "nul": "a\x00b",
    "delete": "a\x7fb",
    "turned": "access\u202egpj.exe",
    "isolate": "\u2066if admin\u2069",
    "line": "one\u2028ERROR: (Forged) two",
    "surrogate": "\udcff",
    "unseen": "\U000e0041",
}
MOVES = ("Cc", "Cs", "Zl", "Zp")


@pytest.mark.parametrize("kind", ATTACKS)
def test_what_drives_a_terminal_is_shown_instead(kind: str) -> None:
    for colours in (True, False):
        shown = clean_line(ATTACKS[kind], colours=colours)
        assert shown != ATTACKS[kind]
        assert not [
            c for c in shown if unicodedata.category(c) in MOVES or c in "\u202e\u2066\u2069\U000e0041"
        ]
        shown.encode()


@given(st.text())
def test_nothing_gets_through(text: str) -> None:
    for shown in (clean(text), clean_line(text, colours=False)):
        assert not [c for c in shown if unicodedata.category(c) in MOVES and c not in "\t\n"]
        assert len(shown) <= len(text)


@given(
    st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_json_means_the_same(value: Any) -> None:
    shown = clean_json(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(shown) == value
    assert clean(shown) == shown


@pytest.mark.parametrize(
    "text", ["où est « il » ?", "こんにちは　世界", "👩\u200d🔬 ✓ ─┬─", "naïve\tcol", "שלום"]
)
def test_words_of_all_languages_stay(text: str) -> None:
    assert clean_line(text, colours=False) == text


def test_colours_are_for_terminals_and_end_with_their_line() -> None:
    line = "\x1b[1;31mERROR\x1b[0m it \x1b[38:2::1:2:3mfailed\x1b[2J"
    assert clean_line(line, colours=False) == "ERROR it failed\ufffd[2J"
    assert (
        clean_line(line, colours=True) == "\x1b[1;31mERROR\x1b[0m it \x1b[38:2::1:2:3mfailed\ufffd[2J\x1b[0m"
    )


def test_every_way_out_of_the_command_line_is_covered(moor: Any, workspace: Any) -> None:
    nasty = "".join(ATTACKS.values())
    line = {
        "time": "",
        "phase": "serve",
        "container": "inference-server",
        "instance": "a-b-c-0",
        "text": nasty,
    }
    end = {"end": "deleted"}
    for form in ((), ("-o", "json"), ("-o", "table"), ("-o", "yaml"), ("-c", "inference-server")):
        workspace.lines = [line]
        workspace.streams = [[line, end]]
        for more in ((), ("--follow",)):
            code, out, err = moor("online-deployment", "get-logs", "-n", "blue", "-e", "shop", *form, *more)
            assert code == 0, err
            assert not [c for c in out + err if unicodedata.category(c) in MOVES and c not in "\t\n"], (
                form,
                more,
            )
    workspace.failing = {"blue": {"code": "InferenceServerError", "message": nasty}}
    code, out, err = moor("environment", "build-log", "--key", nasty)
    assert code == 1
    assert not [c for c in out + err if unicodedata.category(c) in MOVES and c not in "\t\n"]
