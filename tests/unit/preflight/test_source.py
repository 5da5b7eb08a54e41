"""A script that is no Python is one finding, and nothing of it runs."""

from __future__ import annotations

import pytest

from moorings.preflight.findings import Finding, Place, Severity
from moorings.preflight.source import Source, parse

AGAIN = "moor check -f d.yml"


@pytest.mark.parametrize(
    "source",
    [b"def init(:\n", b"x = 1\0", b"\xff\xfe", b"(" * 5000, b"# coding: nonsense\n", b"x = '\xff'\n"],
)
def test_a_script_that_cannot_be_parsed_is_a_coded_finding(source: bytes) -> None:
    found = parse(source, "src/score.py", again=AGAIN)
    assert isinstance(found, Finding)
    assert (found.severity, found.failure.code) == (Severity.ERROR, "UserScriptSyntaxError")
    assert "src/score.py" in found.failure.message


def test_the_line_is_shown_with_a_caret() -> None:
    found = parse(b"def init():\n    x = (1,\n\ndef run(data)\n", "score.py", again=AGAIN)
    assert isinstance(found, Finding)
    assert found.place == Place("score.py", 2, 9)
    assert found.failure.evidence == ("2 |     x = (1,", "            ^")


def test_a_script_is_parsed_and_never_run() -> None:
    text = "raise SystemExit('ran')\n" + r"x = '\d'" + "\n"
    assert isinstance(parse(text.encode(), "score.py", again=AGAIN), Source)


def test_a_script_for_a_newer_python_is_doubtful_only() -> None:
    found = parse(b"type X = = int\n", "score.py", again=AGAIN, python="3.99")
    assert isinstance(found, Finding)
    assert found.severity is Severity.WARNING
    assert "--skip-script-validation" in found.failure.fix


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("match x:\n    case 1: pass\n", "3.9"),
        ("with (a as b, c as d): pass\n", "3.8"),
        ("x = = 1\n", "3.99"),
    ],
)
def test_what_the_python_of_the_environment_does_not_take_is_an_error(text: str, python: str) -> None:
    found = parse(text.encode(), "score.py", again=AGAIN, python=python)
    assert isinstance(found, Finding)
    assert found.severity is Severity.ERROR


def test_a_place_is_read_back_from_the_target_of_a_failure() -> None:
    for place in (
        Place("a b.yml", 3, 7, "environment.conda_file.dependencies[0]"),
        Place("x.py", 3),
        Place("y.yml"),
        Place("", field="model.path"),
    ):
        assert Place.parse(str(place)) == place
