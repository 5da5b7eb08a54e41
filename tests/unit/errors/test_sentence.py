"""Sentences for people: a template and its values, said in whatever language they are read in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.errors.diagnosis.evidence import InstanceEvidence
from moorings.errors.diagnosis.instance import diagnose_instance
from moorings.errors.exceptions import Failure, failure
from moorings.errors.language import ENGLISH, LANGUAGES
from moorings.errors.sentence import NOTHING, Sentence, listed, sentence, verbatim

OTHERS = [language for language in LANGUAGES if language != ENGLISH]
VALUES = st.recursive(
    st.text(),
    lambda inner: st.builds(
        Sentence, st.text(), st.dictionaries(st.from_regex(r"\w{1,6}", fullmatch=True), inner)
    ),
)


def test_values_come_in_where_their_names_stand() -> None:
    said = Sentence(
        "{{a}} {name}: {other} {missing}", {"name": "x", "other": Sentence("<{name}>", {"name": "y"})}
    )
    assert str(said) == "{a} x: <y> <missing>"


@pytest.mark.parametrize("hostile", ["{x:>99999999}", "{x.__class__}", "{x!r}", "{0}{", "}{x["])
def test_a_template_is_no_format(hostile: str) -> None:
    assert len(str(Sentence(hostile, {"x": "1", "0": "2"}))) < 40


def test_a_value_is_never_taken_for_a_template() -> None:
    assert str(sentence("Correct the file, then: {command}", command="x {command} {{")).endswith(
        "then: x {command} {{"
    )


def test_who_knows_more_names_fills_what_is_open() -> None:
    inner = Sentence("{endpoint}/{deployment}", {"deployment": "blue"})
    said = Sentence("{inner} of {endpoint}", {"inner": inner}).knowing(endpoint="shop", deployment="green")
    assert str(said) == "shop/blue of shop"


def test_values_are_changed_within_inner_sentences_too() -> None:
    said = Sentence("{a} {b}", {"a": "/x/code", "b": Sentence("{c}", {"c": "/x/model"})}).mapped(
        lambda value: value.removeprefix("/x/")
    )
    assert str(said) == "code model"


def test_nothing_is_said() -> None:
    assert not NOTHING
    assert not verbatim("")
    assert str(NOTHING) == ""
    assert verbatim("moor x {y}").said("fr") == "moor x {y}"


def test_names_are_listed() -> None:
    assert str(listed(["a"])) == "a"
    assert str(listed(["a", "b", "c"])) == "a, b and c"
    assert listed(["a", "b"]).said("fr") == "a et b"


@given(VALUES)
def test_a_sentence_survives_json(value: str | Sentence) -> None:
    said = Sentence("{value}", {"value": value})
    again = Sentence.from_json(json.loads(json.dumps(said.to_json())))
    assert again == said
    assert [again.said(language) for language in LANGUAGES] == [said.said(language) for language in LANGUAGES]


@pytest.mark.parametrize(
    "given", [{}, {"template": 1, "values": []}, {"values": {"a": None}, "template": "{a}"}]
)
def test_whatever_was_stored_is_said_somehow(given: dict[str, object]) -> None:
    assert isinstance(str(Sentence.from_json(given)), str)


def test_a_template_that_an_older_version_stored_is_said_in_english() -> None:
    old = Sentence.from_json({"template": "Words of last year: {command}", "values": {"command": "moor x"}})
    assert old.said("ja") == "Words of last year: moor x"


@pytest.mark.parametrize("language", OTHERS)
def test_the_fix_of_a_verdict_is_whole_in_the_language(language: str) -> None:
    report = {
        "kind": "import_error",
        "missing": "cv2",
        "message": "No module named 'cv2'",
        "file": "/app/score.py",
        "line": 3,
    }
    found = diagnose_instance(InstanceEvidence("shop", "blue", "starting", code_root="/app", report=report))
    assert found is not None
    stored = Failure.from_json(json.loads(json.dumps(found.to_json())))
    said = stored.remedy.said(language)
    assert "`opencv-python-headless`" in said
    assert "moor online-deployment update -e shop -n blue -f <deployment.yml>" in said
    assert not [word for word in (" Add ", "then:", " the ", " of ") if word in f" {said}"]


@pytest.mark.parametrize("language", OTHERS)
def test_the_fix_of_an_entry_is_said_in_the_language_with_what_it_was_filled_with(language: str) -> None:
    made = failure("EndpointNotFound", "m", fields={"endpoint": "shop", "unused": "x"})
    assert "unused" not in made.remedy.values
    assert "moor online-endpoint create -n shop" in made.remedy.said(language)
    assert made.remedy.said(language) != made.fix
