"""Every text of the catalogue is there in every language, holds the same fields and commands, and no file holds more."""

from __future__ import annotations

import ast
import functools
import re
import string

import polib
import pytest

from moorings.errors.catalogue import CATALOGUE
from moorings.errors.entry import Entry
from moorings.errors.language import (
    ENGLISH,
    FOLDER,
    LANGUAGES,
    NAMES,
    from_environment,
    from_header,
    texts_of,
    title_of,
    word,
)
from moorings.errors.translate import (
    SOURCES,
    commands,
    english_texts,
    sentences,
    template_of,
    untouchable,
    update,
)

TRANSLATED = [language for language in LANGUAGES if language != ENGLISH]
AGAIN = "run: python -m moorings.errors.translate, and translate what is new"
SAME_IN = {
    "fr": {"Cause", "Code", "Titre", "Moorings", "certain", "possible"},
    "de": {"Code", "Moorings", ":"},
    "es": {"Moorings", ":"},
    "ja": {"Moorings", ":"},
}
"""Translations that may be equal to the English."""


@functools.cache
def file_of(language: str) -> polib.POFile:
    return polib.pofile(str(FOLDER / f"{language}.po"))


def is_command_alone(text: str) -> bool:
    return re.match(r"moor (storage|acr) ", text) is not None


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_has_a_translation(language: str) -> None:
    there = {entry.msgctxt: entry for entry in file_of(language)}
    for context, english in english_texts():
        entry = there.get(context)
        assert entry is not None, f"{language}: {context} is missing: {AGAIN}"
        assert entry.msgid == english, f"{language}: the English of {context} has changed: {AGAIN}"
        assert entry.msgstr.strip(), f"{language}: {context} is not translated: {AGAIN}"
        assert "fuzzy" not in entry.flags, f"{language}: {context} is of an older English text: {AGAIN}"
        if not is_command_alone(english):
            assert entry.msgstr != english or english in SAME_IN[language], (
                f"{language}: {context} is English"
            )


def test_every_sentence_is_written_out_where_it_is_said_and_gets_the_values_it_names() -> None:
    found = sentences()
    assert len(found) > 80, "the scan finds next to nothing: it is broken"
    for path, call in found:
        where, template = f"{path}:{call.lineno}", template_of(call)
        assert template is not None, f"{where}: a template that is put together cannot be translated"
        assert len(call.args) == 1, where
        assert {keyword.arg for keyword in call.keywords} == fields_of(template), where


def test_only_commands_are_said_as_they_are() -> None:
    """What `verbatim` is given is not translated."""
    literal = [
        (str(path), call.lineno, text)
        for path in sorted(SOURCES.rglob("*.py"))
        if "verbatim(" in path.read_text()
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "verbatim"
        if (text := literal_start(call.args[0])) is not None
    ]
    assert len(literal) >= 4, "the scan finds next to nothing: it is broken"
    assert [one for one in literal if not one[2].startswith(("moor ", "chmod ", "environment."))] == []


def literal_start(value: ast.expr) -> str | None:
    """The text that a literal, an f-string or either branch of a choice begins with; None for what is none."""
    if isinstance(value, ast.JoinedStr) and value.values:
        value = value.values[0]
    if isinstance(value, ast.IfExp):
        value = value.body
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def fields_of(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


@pytest.mark.parametrize("language", TRANSLATED)
def test_no_file_holds_a_text_that_is_gone(language: str) -> None:
    known = {context for context, _ in english_texts()}
    contexts = [entry.msgctxt for entry in file_of(language)]
    assert sorted(set(contexts) - known) == [], AGAIN
    assert len(set(contexts)) == len(contexts), "a text is there twice"


@pytest.mark.parametrize("language", TRANSLATED)
def test_fields_code_flags_and_commands_stay_as_they_are(language: str) -> None:
    for entry in file_of(language):
        assert untouchable(entry.msgstr) == untouchable(entry.msgid), (language, entry.msgctxt)
        assert commands(entry.msgstr) == commands(entry.msgid), (language, entry.msgctxt)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda e: e.code)
def test_a_fix_can_be_filled_in_every_language(entry: Entry, language: str) -> None:
    fields = fields_of(entry.fix)
    texts = texts_of(entry, language)
    filled = texts.fix.format_map(
        {name: f"\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}{name}" for name in fields}
    )
    for name in fields:
        assert f"\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}{name}" in filled
    assert not texts.title.endswith((".", "。"))
    assert texts.cause.endswith((".", "。"))


def test_what_translations_must_keep_is_seen() -> None:
    kept = untouchable("set `a: b` to {name} with --set x, see <path> and {{{name}: 1}} of ERR_1350")
    assert kept == sorted(["`a: b`", "{name}", "--set", "<path>", "{{{name}: 1}}", "ERR_1350"])
    assert commands("first moor model list -o table, then docker pull {image}") == [
        "docker pull",
        "moor model list",
    ]


def test_a_changed_text_is_marked_and_a_gone_one_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [(context, english) for context, english in english_texts() if context != "SpecInvalid.cause"]
    texts = [(c, "Other words") if c == "SpecInvalid.title" else (c, e) for c, e in texts]
    monkeypatch.setattr(
        "moorings.errors.translate.english_texts", lambda: iter([*texts, ("New.title", "New")])
    )
    there = {entry.msgctxt: entry for entry in update("fr")}
    assert "fuzzy" in there["SpecInvalid.title"].flags
    assert there["SpecInvalid.title"].msgstr
    assert there["New.title"].msgstr == ""
    assert "SpecInvalid.cause" not in there
    assert "fuzzy" not in there["SpecInvalid.fix"].flags


@pytest.mark.parametrize("language", TRANSLATED)
def test_texts_are_said_in_the_language(language: str) -> None:
    entry = CATALOGUE["OutOfMemory"]
    assert texts_of(entry, language).title != entry.title
    assert word("fix", language) != word("fix", ENGLISH)
    assert title_of("ERR_2200", language) != title_of("ERR_2200", ENGLISH)
    assert NAMES[language]


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "de"}, "de"),
        ({"LC_ALL": "ja_JP.UTF-8", "LANG": "fr_FR.UTF-8"}, "ja"),
        ({"LC_ALL": "C", "LANG": "fr_FR.UTF-8"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "es_MX@x", "LANG": "fr"}, "es"),
        ({"LANG": "pt_BR.UTF-8"}, "en"),
        ({"LANG": "\N{SNOWMAN}"}, "en"),
    ],
)
def test_the_language_of_a_terminal(environ: dict[str, str], language: str) -> None:
    assert from_environment(environ) == language


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("*", "en"),
        ("fr", "fr"),
        ("FR-ca", "fr"),
        ("pt, de;q=0.8, fr;q=0.9", "fr"),
        ("ja;q=0, de;q=0.1", "de"),
        ("en, fr", "en"),
        ("fr;q=x, de", "de"),
        ("fr;q=-1, es", "es"),
        ("fr;q=nan, es;q=0.5", "es"),
        (",;,;q=1," * 1000, "en"),
    ],
)
def test_the_language_of_a_request(header: str | None, language: str) -> None:
    assert from_header(header) == language
