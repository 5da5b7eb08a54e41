"""A failure as text for a person at a terminal: what, why, the evidence, what to type next. Raises and
decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from moorings.cli.terminal import clean
from moorings.errors.catalogue import CATALOGUE
from moorings.errors.exceptions import Confidence, Failure, MooringsError
from moorings.errors.language import ENGLISH, label, texts_of, word
from moorings.errors.sentence import sentence

MOST_DETAILS = 50


class Described(Protocol):
    """What is said about a code by a server whose catalogue may be newer."""

    @property
    def title(self) -> str: ...
    @property
    def cause(self) -> str: ...
    @property
    def numeric(self) -> str | None: ...


def render(problem: MooringsError, language: str = ENGLISH, *, with_request_id: bool = False) -> str:
    """The whole text of a failure, ending in a line break. The first line is `ERROR: (Code) message`. What a server says
    of its codes is already in the language that it was asked for."""
    failed = problem.failure
    title, cause, numeric = _described(failed, getattr(problem, "described", None), language)
    code = f"{failed.code}, {numeric}" if numeric else failed.code
    lines = [f"ERROR: ({code}) {clean(failed.message)}"]
    if title:
        lines += ["", f"  {clean(title)}"]
    if cause:
        lines.append(f"  {clean(cause)}")
    if failed.target and failed.target not in failed.message:
        lines += ["", f"  {label('where', language)} {clean(failed.target)}"]
    lines += _block(label("proof", language), failed.evidence)
    for detail in failed.details[:MOST_DETAILS]:
        lines += _detail(detail, failed, language)
    if len(failed.details) > MOST_DETAILS:
        more = sentence("... and {count} more", count=len(failed.details) - MOST_DETAILS)
        lines.append(f"  {more.said(language)}")
    if failed.confidence and failed.confidence != Confidence.CERTAIN:
        lines += ["", f"  {label('confidence', language)} {clean(sureness(failed.confidence, language))}"]
    if failed.fix:
        lines += ["", f"  {label('fix_short', language)} {_indented(failed.remedy.said(language))}"]
    request_id = getattr(problem, "request_id", None)
    if request_id and (with_request_id or failed.code == "InternalServerError"):
        lines += ["", f"  {label('request_id', language)} {request_id}"]
    return "\n".join(lines) + "\n"


def sureness(confidence: str, language: str) -> str:
    """How sure a verdict is, in that language; as it is where it comes from a newer server."""
    return word(f"confidence.{confidence}", language) if confidence in set(Confidence) else confidence


def _described(failed: Failure, described: Described | None, language: str) -> tuple[str, str, str | None]:
    if described is not None:
        return described.title, described.cause, described.numeric
    entry = CATALOGUE.get(failed.code)
    if entry is None:
        return "", "", None
    texts = texts_of(entry, language)
    return texts.title, texts.cause, entry.numeric


def _detail(detail: Failure, parent: Failure, language: str) -> list[str]:
    where = f"{detail.target}: " if detail.target else ""
    entry = CATALOGUE.get(detail.code)
    numeric = f", {entry.numeric}" if entry is not None and entry.numeric else ""
    code = f" ({detail.code}{numeric})" if detail.code != parent.code else ""
    lines = ["", f"  - {clean(where + detail.message)}{code}"]
    lines += [f"      {clean(line)}" for line in detail.evidence]
    if detail.fix and detail.fix != parent.fix:
        lines.append(f"      {label('fix_short', language)} {clean(detail.remedy.said(language))}")
    return lines


def _block(heading: str, content: Iterable[str]) -> list[str]:
    body = [f"    {clean(line)}" for text in content for line in text.splitlines() or [""]]
    return ["", f"  {heading}", *body] if body else []


def _indented(text: str) -> str:
    return clean(text).replace("\n", "\n       ")
