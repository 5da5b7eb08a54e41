"""`moor explain [CODE]`: what an error code means, who has to act, and what to do. Asks nobody: all of it is in the
catalogue that is installed with the command."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

import click

from moorings.cli.framework import leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.errors.catalogue import CATALOGUE
from moorings.errors.entry import Entry
from moorings.errors.exceptions import error
from moorings.errors.find import GROUPS, Found, find, members, related, suggest
from moorings.errors.language import label, texts_of, title_of, word
from moorings.errors.pages import facts, fix_text, link

LISTED: Columns = (
    ("Code", lambda e: e["code"]),
    ("Numeric", lambda e: e["numeric_code"]),
    ("Status", lambda e: e["http_status"]),
    ("Raised by", lambda e: e["raised_by"]),
    ("Title", lambda e: e["title"]),
)
MOST_RELATED = 8
"""More are a list of their own, which the number or the group names."""
WIDEST = 100
"""Columns; longer lines are hard to read."""


@leaf(
    "explain",
    "Say what an error code means and what to do: its name, its number of 2021 (ERR_2200, 2200), or the name of a group. "
    "Without one, list all.",
    click.Argument(["code"], required=False, nargs=-1),
)
def explain(session: Session, code: tuple[str, ...]) -> None:
    language = session.language
    if not code:
        everything = [document(entry, language) for entry in CATALOGUE.values()]
        session.emit(sorted(everything, key=lambda e: str(e["code"]).lower()), LISTED, usual="table")
        return
    name = " ".join(code)
    found = find(name)
    if found is None:
        raise _unknown(name, language)
    if session.options.output is None and session.options.query is None:
        width = min(shutil.get_terminal_size().columns, WIDEST)
        click.echo(_text(found, language, width), nl=False)
    elif found.is_group:
        listed = [document(entry, language) for entry in found.entries]
        session.emit(
            listed if session.options.output == "table" else _group(found, listed, language),
            LISTED,
            usual="json",
        )
    else:
        session.emit(document(found.entries[0], language), LISTED)


def document(entry: Entry, language: str) -> dict[str, Any]:
    """An entry as JSON."""
    texts = texts_of(entry, language)
    return {
        "code": entry.code,
        "numeric_code": entry.numeric,
        "title": texts.title,
        "cause": texts.cause,
        "fix": fix_text(texts),
        "fault": str(entry.fault),
        "retryable": entry.retryable,
        "http_status": entry.http_status,
        "step": str(entry.step),
        "evidence": [str(kind) for kind in entry.evidence],
        "raised_by": str(entry.origin),
        "family": entry.family,
        "aliases": list(entry.aliases),
        "docs": link(entry.code),
    }


def _group(found: Found, listed: list[dict[str, Any]], language: str) -> Mapping[str, Any]:
    title = title_of(found.name, language) if found.name in GROUPS else None
    return {"code": found.name, "title": title, "entries": listed}


def _text(found: Found, language: str, width: int) -> str:
    if not found.is_group:
        return "\n".join(_entry(found.entries[0], language, width)) + "\n"
    title = title_of(found.name, language) if found.name in GROUPS else ""
    lines = [click.style(found.name, bold=True) + (f"  {title}" if title else ""), ""]
    lines += [*textwrap.wrap(word("group", language), width), "", *_listed(found.entries, language), ""]
    return "\n".join([*lines, f"{label('more', language)} moor explain {found.entries[0].code}"]) + "\n"


def _entry(entry: Entry, language: str, width: int) -> list[str]:
    texts = texts_of(entry, language)
    number = f" ({entry.numeric})" if entry.numeric else ""
    lines = [click.style(entry.code, bold=True) + f"{number}  {texts.title}"]
    lines += ["", click.style(word("cause", language), bold=True)]
    lines += textwrap.wrap(texts.cause, width, initial_indent="  ", subsequent_indent="  ")
    # Commands are copied from it, so its lines are broken by the terminal alone.
    lines += ["", click.style(word("fix", language), bold=True), f"  {fix_text(texts)}"]
    lines.append("")
    for name, value in facts(entry, language):
        lines += textwrap.wrap(
            f"{name}{word('colon', language)} {value}",
            width,
            subsequent_indent="    ",
            break_on_hyphens=False,
        )
    others = [other for other in related(entry) if other.origin == entry.origin]
    if 0 < len(others) <= MOST_RELATED:
        return [
            *lines,
            "",
            click.style(word("related", language), bold=True),
            *_listed(tuple(others), language),
        ]
    group = entry.numeric or entry.family
    if group and (others or any(e.code != entry.code for e in members(group))):
        lines += ["", f"{label('related', language)} moor explain {group}"]
    return lines


def _listed(entries: tuple[Entry, ...], language: str) -> list[str]:
    longest = max(len(entry.code) for entry in entries)
    return [f"  {entry.code:<{longest}}  {texts_of(entry, language).title}" for entry in entries]


def _unknown(name: str, language: str) -> Exception:
    near = suggest(name)
    hint = f"; did you mean {' or '.join(near[:3])}?" if near else ""
    return error(
        "CodeUnknown",
        f"no error is called {name!r}{hint}",
        target=name,
        evidence=[f"{code}: {_title(code, language)}" for code in near],
        fields={"code": near[0] if near else "ERR_2200"},
    )


def _title(code: str, language: str) -> str:
    return texts_of(CATALOGUE[code], language).title if code in CATALOGUE else title_of(code, language)
