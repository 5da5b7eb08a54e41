"""The page of each code, number and group, and the list of all, in one language, as Markdown. Pure; made from the entries
and their translations alone, so that a page says nothing that `moor explain` does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from moorings.errors.catalogue import CATALOGUE
from moorings.errors.entry import Entry
from moorings.errors.find import GROUPS, members, related
from moorings.errors.language import LANGUAGES, NAMES, Texts, label, texts_of, title_of, word

INDEX = "README.md"


def file_name(code: str) -> str:
    """Of the page of a code or group, within the folder of a language."""
    return f"{code}.md"


def link(code: str) -> str:
    """The address of the page of a code on the control API, from the root of whichever address that was reached by."""
    return f"/docs/errors/{code}"


def pages(language: str) -> Mapping[str, str]:
    """File name -> text, of every page in this language."""
    made = {file_name(entry.code): entry_page(entry, language) for entry in CATALOGUE.values()}
    made |= {file_name(group): group_page(group, members(group), language) for group in GROUPS}
    return {INDEX: index_page(language), **made}


def entry_page(entry: Entry, language: str) -> str:
    texts = texts_of(entry, language)
    heading = f"# {entry.code}\n\n**{_prose(texts.title)}**"
    parts = [
        heading,
        f"## {word('cause', language)}\n\n{_prose(texts.cause)}",
        f"## {word('fix', language)}\n\n{_prose(fix_text(texts))}",
    ]
    if re.search(r"[<{]\w", texts.fix):
        parts.append(word("placeholders", language))
    rows = [f"| {name} | {value} |" for name, value in facts(entry, language, name=_code, page=_link)]
    parts.append("\n".join(["| | |", "|---|---|", *rows]))
    others = related(entry)
    if others:
        parts.append(f"## {word('related', language)}\n\n{_listed(others, language)}")
    return _whole(entry.code, parts, language)


def group_page(group: str, entries: Iterable[Entry], language: str) -> str:
    """The page of a numeric code, a family or another name that stands for these entries."""
    heading = f"# {group}" + (f"\n\n**{title_of(group, language)}**" if group in GROUPS else "")
    parts = [heading, word("group", language), _listed(entries, language)]
    return _whole(group, parts, language)


def index_page(language: str) -> str:
    groups = [
        f"| {_link(group)} | {title_of(group, language)} | {', '.join(_link(e.code) for e in members(group))} |"
        for group in GROUPS
    ]
    entries = [
        f"| {_link(e.code)} | {e.numeric or ''} | {e.http_status} | {_prose(texts_of(e, language).title)} |"
        for e in sorted(CATALOGUE.values(), key=lambda e: e.code.lower())
    ]
    code, number, status, title = (word(w, language) for w in ("code", "numeric", "http_status", "title"))
    parts = [
        f"# {word('all', language)}",
        word("intro", language),
        f"{word('explain', language)}\n\n```bash\nmoor explain --lang {language}\n```",
        "\n".join([f"| {code} | {number} | {status} | {title} |", "|---|---|---|---|", *entries]),
        f"## {word('numbers', language)}",
        "\n".join([f"| {code} | {title} | |", "|---|---|---|", *groups]),
        f"[{word('answers', language)}](../../scoring-answers.md)",
    ]
    return _whole("", parts, language)


def facts(
    entry: Entry,
    language: str,
    *,
    name: Callable[[str], str] = str,
    page: Callable[[str], str] = str,
) -> list[tuple[str, str]]:
    """The attributes of an entry in words: what each is called, and its value. `name` dresses names, `page` what has a
    page of its own."""
    carried = "; ".join(word(f"evidence.{kind}", language) for kind in entry.evidence)
    rows = [
        (word("fault", language), word(f"fault.{entry.fault}", language)),
        (word("retryable", language), word(f"retryable.{'yes' if entry.retryable else 'no'}", language)),
        (word("http_status", language), str(entry.http_status)),
        (word("step", language), word(f"step.{entry.step}", language)),
        (word("evidence", language), carried or word("evidence.none", language)),
        (word("origin", language), word(f"origin.{entry.origin}", language)),
    ]
    if entry.numeric:
        rows.insert(0, (word("numeric", language), page(entry.numeric)))
    if entry.family:
        rows.append((word("family", language), page(entry.family)))
    if entry.aliases:
        rows.append((word("aliases", language), ", ".join(name(alias) for alias in entry.aliases)))
    return rows


def fix_text(texts: Texts) -> str:
    """The fix as it is read without an error at hand: its fields are names in angle brackets."""
    return re.sub(r"{(\w+)}", r"<\1>", texts.fix).replace("{{", "{").replace("}}", "}")


def _listed(entries: Iterable[Entry], language: str) -> str:
    return "\n".join(f"- {_link(e.code)}: {_prose(texts_of(e, language).title)}" for e in entries)


def _whole(code: str, parts: Iterable[str], language: str) -> str:
    others = " · ".join(
        f"[{NAMES[other]}](../{other}/{file_name(code) if code else INDEX})"
        for other in LANGUAGES
        if other != language
    )
    explain = [f"{word('explain', language)} `moor explain {code}`"] if code else []
    foot = [f"[{word('all', language)}]({INDEX})"] if code else []
    if others:
        foot.append(f"{label('languages', language)} {others}")
    ending = ["---", " · ".join(foot)] if foot else []
    return "\n\n".join([*parts, *explain, *ending, word("made", language)]) + "\n"


def _prose(text: str) -> str:
    """Text that holds commands with `<name>` in them, so that no renderer takes those for tags, nor `|` for a cell."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([<*|])", r"\\\1", p) for p in pieces)


def _code(text: str) -> str:
    return f"`{text}`"


def _link(code: str) -> str:
    return f"[{code}]({file_name(code)})"
