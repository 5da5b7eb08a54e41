"""Whether a Dockerfile copies what is in its build context. Reads the Dockerfile and looks for the files; builds nothing,
and leaves alone what only a build knows: variables, patterns, other stages, addresses, texts within."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from moorings.errors.sentence import sentence
from moorings.preflight.code_folder import shown
from moorings.preflight.findings import Finding, Place, Severity, finding, line_evidence

MOST_BYTES = 1 << 20
_TEXT_WITHIN = re.compile(r"<<-?[\"']?(\w+)[\"']?")
_OTHER_ESCAPE = re.compile(r"^#\s*escape\s*=\s*[^\\\s]", re.IGNORECASE)
_KNOWN_LATER = re.compile(r"[$*?\[\]<]|://|^git@")


@dataclass(frozen=True)
class Copy:
    """A source of a `COPY` or `ADD`. `line` counts from 1."""

    line: int
    text: str
    source: str


def copy_findings(context: Path, dockerfile: str, *, again: str) -> list[Finding]:
    """What is copied and not there. `dockerfile`: its path below the context."""
    path = context / dockerfile
    try:
        with path.open("rb") as handle:
            text = handle.read(MOST_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return []  # that it is not there was said when the spec was read
    # Of several stages only those are built that the last one needs.
    severity = (
        Severity.ERROR
        if len(re.findall(r"^\s*FROM\s", text, re.IGNORECASE | re.MULTILINE)) == 1
        else Severity.WARNING
    )
    found = []
    for one in copies(text):
        inside = posixpath.normpath(one.source.lstrip("/") or ".")
        if inside.startswith("..") or _there(context / inside):
            continue
        message = f"`{one.text}`: the build context {shown(context)} has no {inside}"
        place = Place(shown(path), one.line)
        fix = sentence("Put {path} there, or correct the line, then: {again}", path=inside, again=again)
        evidence = line_evidence(one.line, None, one.text)
        found.append(finding(severity, "ImageBuildFailure", message, place=place, evidence=evidence, fix=fix))
    return found


def copies(dockerfile: str) -> Iterator[Copy]:
    """The sources that are plain paths into the build context."""
    for line, text in _instructions(dockerfile):
        word, _, rest = text.partition(" ")
        if word.upper() not in ("COPY", "ADD"):
            continue
        words = _words(rest.strip())
        flags = [each for each in words if each.startswith("--")]
        if any(each.startswith("--from") for each in flags):
            continue
        for source in words[len(flags) : -1]:
            if source and not _KNOWN_LATER.search(source):
                yield Copy(line, text, source)


def _instructions(dockerfile: str) -> Iterator[tuple[int, str]]:
    """The first line and the text of each, its lines joined; nothing of a Dockerfile with an escape of its own."""
    lines = dockerfile.splitlines()
    if any(_OTHER_ESCAPE.match(line) for line in lines[:3]):
        return
    begun, parts, until = 0, list[str](), ""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if until:
            until = "" if text == until else until
            continue
        if text.startswith("#") or (not text and parts):
            continue
        begun = begun if parts else number
        goes_on = text.endswith("\\")
        parts.append(text.removesuffix("\\").strip())
        if goes_on:
            continue
        whole, parts = " ".join(parts), []
        within = _TEXT_WITHIN.search(whole)
        until = within[1] if within and whole.partition(" ")[0].upper() in ("RUN", "COPY", "ADD") else ""
        yield begun, whole


def _words(text: str) -> list[str]:
    flags = re.match(r"(?:--\S+\s+)*", text)
    start = flags.end() if flags else 0
    rest = text[start:]
    if rest.startswith("["):
        try:
            listed = json.loads(rest)
        except ValueError:
            return []
        return [*text[:start].split(), *map(str, listed)] if isinstance(listed, list) else []
    return [] if any(quote in rest for quote in "\"'\\") else text.split()


def _there(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except (OSError, ValueError):
        return True  # a name that cannot be looked at
