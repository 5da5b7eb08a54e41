"""Entries and words in the language of whoever reads them. The texts of a language are in `locale/<language>.po`, which
is read when somebody first asks for that language; English needs no file. Knows neither terminal nor HTTP."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from moorings.errors.entry import Entry
from moorings.errors.find import GROUPS
from moorings.errors.words import WORDS

ENGLISH = "en"
LANGUAGES = (ENGLISH, "fr", "de", "es", "ja")
NAMES: Mapping[str, str] = MappingProxyType(
    {"en": "English", "fr": "Français", "de": "Deutsch", "es": "Español", "ja": "日本語"}
)
FOLDER = Path(__file__).with_name("locale")


@dataclass(frozen=True)
class Texts:
    """The texts of an entry in one language; `fix` has its `{name}` fields still in it."""

    title: str
    cause: str
    fix: str


def texts_of(entry: Entry, language: str) -> Texts:
    """The entry in that language; what has no translation is in English."""
    return Texts(
        *(said(language, f"{entry.code}.{part}", getattr(entry, part)) for part in ("title", "cause", "fix"))
    )


def word(name: str, language: str) -> str:
    """One of `WORDS` in that language."""
    return said(language, f"word.{name}", WORDS[name])


def label(name: str, language: str) -> str:
    """One of `WORDS` before what it is the name of: `Fix:`, with the colon as the language sets it."""
    return f"{word(name, language)}{word('colon', language)}"


def title_of(group: str, language: str) -> str:
    """What a group of `GROUPS` says, in that language."""
    return said(language, f"{group}.title", GROUPS[group])


def from_environment(environ: Mapping[str, str]) -> str:
    """The language of a terminal: the first of LC_ALL, LC_MESSAGES and LANG that is set counts; English where it names
    none of ours."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = environ.get(name)
        if value:
            return _known([value]) or ENGLISH
    return ENGLISH


def from_header(accept_language: str | None) -> str:
    """The language of an HTTP request by its `Accept-Language`; English where it names none of ours."""
    wanted: list[tuple[float, str]] = []
    for part in (accept_language or "").split(",")[:50]:
        tag, _, parameter = part.partition(";")
        try:
            quality = float(parameter.strip().removeprefix("q=") or 1) if parameter else 1.0
        except ValueError:
            continue
        if quality > 0:
            wanted.append((-quality, tag))
    return _known(tag for _, tag in sorted(wanted, key=lambda one: one[0])) or ENGLISH


def _known(tags: Iterable[str]) -> str | None:
    """The first of these tags that is one of ours: `fr`, `fr-CA`, `fr_FR.UTF-8`."""
    for tag in tags:
        language = tag.strip().replace("_", "-").partition(".")[0].partition("-")[0].lower()
        if language in LANGUAGES:
            return language
    return None


def context(kind: str, english: str) -> str:
    """Under what a text that has no name stands in the catalogues: `kind` and a hash, so that a changed text is a new one."""
    return f"{kind}.{hashlib.sha256(english.encode()).hexdigest()[:10]}"


def said(language: str, context: str, english: str) -> str:
    """A text of the catalogues in that language; in English where it has no translation."""
    if language == ENGLISH:
        return english
    return _catalogue(language).get((context, english)) or english


@functools.cache
def _catalogue(language: str) -> Mapping[tuple[str, str], str]:
    """(context, English) -> translation. A text whose English has changed since is not found, and stays English."""
    import polib  # 10 ms, and only for those who read another language

    file = FOLDER / f"{language}.po"
    if language not in LANGUAGES or not file.is_file():
        return MappingProxyType({})
    return MappingProxyType({(e.msgctxt or "", e.msgid): e.msgstr for e in polib.pofile(str(file))})
