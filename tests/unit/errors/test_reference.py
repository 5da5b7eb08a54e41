"""The pages in the repository are those that the catalogue makes."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pytest

from moorings.errors.catalogue import CATALOGUE
from moorings.errors.entry import Step
from moorings.errors.language import LANGUAGES
from moorings.errors.pages import entry_page, pages
from moorings.errors.reference import ANSWERS, CODES, all_pages

DOCS = Path(__file__).parents[3] / "docs" / "reference"


def test_the_pages_are_up_to_date() -> None:
    made = all_pages()
    stale = [
        name
        for name, text in made.items()
        if not (DOCS / name).is_file() or (DOCS / name).read_text() != text
    ]
    assert stale == [], "run: python -m moorings.errors.reference docs/reference"


def test_there_are_no_pages_of_codes_that_are_gone() -> None:
    there = {str(path.relative_to(DOCS)) for path in (DOCS / CODES).rglob("*") if path.is_file()}
    assert there == {name for name in all_pages() if name.startswith(f"{CODES}/")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_links_between_pages_lead_somewhere(language: str) -> None:
    made = set(all_pages())
    for name, text in pages(language).items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            path = posixpath.normpath(f"{CODES}/{language}/{target}")
            assert path in made, (name, target)


def test_a_page_says_all_that_the_entry_says() -> None:
    for entry in CATALOGUE.values():
        page = re.sub(r"\\(.)", r"\1", entry_page(entry, "en"))
        assert entry.title in page
        assert entry.cause in page
        assert f"| {entry.http_status} |" in page
        for command in re.findall(r"moor [a-z-]+ [a-z-]+", entry.fix):
            assert command in page
        if entry.numeric:
            assert f"({entry.numeric}.md)" in page


def test_every_answer_of_the_gateway_is_explained() -> None:
    text = all_pages()[ANSWERS]
    scoring = [code for code, entry in CATALOGUE.items() if entry.step is Step.SCORING]
    assert len(scoring) >= 10
    for code in scoring:
        assert f"### {code}\n" in text
        assert f"({'#' + code.lower()})" in text
