"""The troubleshooting guide in every language is the English page with its texts translated, and nothing else."""

from __future__ import annotations

import re

import pytest

from moorings.errors.guide import KIND, PAGE, SOURCE, anchor, others, pages, texts, translated
from moorings.errors.language import ENGLISH, LANGUAGES, context
from moorings.errors.translate import english_texts

ENGLISH_PAGE = SOURCE.read_text(encoding="utf-8")
OTHERS = [language for language in LANGUAGES if language != ENGLISH]
BLOCK = re.compile(r"^```bash\n.*?^```$", re.M | re.S)


def test_the_pages_are_what_is_made_of_the_english_one_and_the_catalogues():
    for name, text in pages(ENGLISH_PAGE).items():
        assert (SOURCE.parent / name).read_text(encoding="utf-8") == text, (
            f"{name}: run python -m moorings.errors.guide docs/how-to"
        )
    assert others(ENGLISH) in ENGLISH_PAGE


@pytest.mark.parametrize("language", OTHERS)
def test_commands_are_the_same_and_links_lead_within_the_language(language):
    page = pages(ENGLISH_PAGE)[f"{PAGE}.{language}.md"]
    assert BLOCK.findall(page) == BLOCK.findall(ENGLISH_PAGE)
    anchors = {anchor(line.lstrip("# ")) for line in page.splitlines() if re.match(r"#+ [^!]", line)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors
    assert "/errors/en/" not in page
    assert page.count("\n| ") == ENGLISH_PAGE.count("\n| ")


def test_a_changed_paragraph_is_a_new_text_that_has_to_be_translated():
    changed = ENGLISH_PAGE.replace("The faults that are met most often:", "The faults that one meets:")
    known = {where for where, _ in english_texts()}
    assert [text for text in texts(changed) if context(KIND, text) not in known] == [
        "The faults that one meets:"
    ]


def test_what_is_translated_and_what_stays():
    table = "| `code` | words | [X](x.md) |\n|---|---|---|\n"
    page = (
        f"# A title\n\n<!-- note -->\n\nTwo lines\nof text.\n\n```bash\nmoor x\n```\n\n- an item\n\n{table}"
    )
    assert texts(page) == ["A title", "Two lines of text.", "an item", "words"]
    said = translated(page, str.upper, "xx")
    wanted = "# A TITLE\n\nTWO LINES OF TEXT.\n\n```bash\nmoor x\n```\n\n- AN ITEM\n\n"
    assert said.rstrip() == (wanted + table.replace("words", "WORDS")).rstrip()
