"""The pages in the repository are those that the catalogue makes."""

from __future__ import annotations

from pathlib import Path

from moorings.errors.catalogue import CATALOGUE
from moorings.errors.entry import Step
from moorings.errors.reference import ANSWERS, pages

DOCS = Path(__file__).parents[3] / "docs" / "reference"


def test_the_pages_are_up_to_date() -> None:
    for name, text in pages().items():
        assert (DOCS / name).read_text() == text, "run: python -m moorings.errors.reference docs/reference"


def test_every_answer_of_the_gateway_is_explained() -> None:
    text = pages()[ANSWERS]
    scoring = [code for code, entry in CATALOGUE.items() if entry.step is Step.SCORING]
    assert len(scoring) >= 10
    for code in scoring:
        assert f"### {code}\n" in text
        assert f"({'#' + code.lower()})" in text
