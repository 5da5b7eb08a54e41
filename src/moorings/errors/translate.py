"""Brings the translation files up to date with the catalogue: `python -m moorings.errors.translate`. A new text is added
without a translation, one whose English has changed keeps its old translation marked fuzzy, one that is gone goes. A test
fails until every text has a translation that is not fuzzy."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import polib

from moorings.errors import guide
from moorings.errors.catalogue import CATALOGUE
from moorings.errors.find import GROUPS
from moorings.errors.language import ENGLISH, FOLDER, LANGUAGES, context
from moorings.errors.sentence import KIND, sentence
from moorings.errors.words import WORDS

WIDTH = 110
SOURCES = Path(__file__).parents[1]
_SAME = re.compile(r"{{.*?}}|{\w+}|`[^`]+`|<[^<>]+>|https?://\S+|\B--[a-z][a-z-]*|\bERR_\d+")
_COMMAND = re.compile(
    r"\b(?:moor|kubectl|docker|uv) [a-z][a-z-]*(?: [a-z][a-z-]*)?|\bpip (?:install|freeze)|\b(?:df|ls|find|lsof|chmod) -\w+"
)


def english_texts() -> Iterator[tuple[str, str]]:
    """(context, English) of everything that is translated."""
    for entry in CATALOGUE.values():
        for part in ("title", "cause", "fix"):
            yield f"{entry.code}.{part}", getattr(entry, part)
    for group, title in GROUPS.items():
        yield f"{group}.title", title
    for name, text in WORDS.items():
        yield f"word.{name}", text
    for text in dict.fromkeys(filter(None, (template_of(call) for _, call in sentences()))):
        yield context(KIND, text), text
    for text in guide.texts(guide.SOURCE.read_text(encoding="utf-8")):
        yield context(guide.KIND, text), text


@functools.cache
def sentences() -> tuple[tuple[Path, ast.Call], ...]:
    """(file, call) of every `sentence(...)` in the sources."""
    return tuple(
        (path, node)
        for path in sorted(SOURCES.rglob("*.py"))
        if f"{sentence.__name__}(" in (text := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == sentence.__name__
    )


def template_of(call: ast.Call) -> str | None:
    """The template that is written out in a call of `sentence`; None where something else stands there."""
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def untouchable(text: str) -> list[str]:
    """What a translation has to hold as it is, sorted: fields, code between backticks, flags, and names in angle brackets."""
    return sorted(_SAME.findall(text))


def commands(text: str) -> list[str]:
    """The commands of a text, the first two words of each, sorted; a translation has the same."""
    return sorted(_COMMAND.findall(text))


def update(language: str) -> polib.POFile:
    """The file of this language with every text in it, in the order of the catalogue."""
    path = FOLDER / f"{language}.po"
    old = polib.pofile(str(path)) if path.is_file() else polib.POFile()
    known: Mapping[str, polib.POEntry] = {e.msgctxt: e for e in old if not e.obsolete and e.msgctxt}
    new = polib.POFile(wrapwidth=WIDTH)
    new.header = (
        "Translations of the error catalogue. New and changed texts: python -m moorings.errors.translate"
    )
    new.metadata = {
        "Language": language,
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=UTF-8",
        "Content-Transfer-Encoding": "8bit",
    }
    for name, english in english_texts():
        entry = known.get(name) or polib.POEntry(msgctxt=name, msgid=english, msgstr="")
        if entry.msgid != english:
            entry.previous_msgid, entry.msgid = entry.msgid, english
            if entry.msgstr and "fuzzy" not in entry.flags:
                entry.flags.append("fuzzy")
        new.append(entry)
    return new


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for language in LANGUAGES:
        if language != ENGLISH:
            file = update(language)
            file.save(str(FOLDER / f"{language}.po"))
            print(
                f"{language}: {file.percent_translated()} % of {len(file)} texts; {len(file.fuzzy_entries())} fuzzy"
            )


if __name__ == "__main__":
    main()
