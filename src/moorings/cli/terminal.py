"""Text of other people (logs, answers, evidence) on its way to a terminal: nothing in it may drive that. Prints nothing."""

from __future__ import annotations

import re

SHOWN_AS = "\N{REPLACEMENT CHARACTER}"
_DANGEROUS = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters: escape sequences begin with one
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # those that turn the direction of writing, and so hide what is there
    "\u2028\u2029\ufff9-\ufffb\ufeff\U000e0000-\U000e007f"  # lines of their own, annotations, and what nobody can see
    "\ud800-\udfff"  # halves of characters, which cannot be written
    "]"
)
_COLOUR = re.compile("\x1b\\[[0-9;:]*m")
_PLAIN = "\x1b[0m"


def clean(text: str) -> str:
    """`text` with `\ufffd` for what could move the cursor, recolour the terminal, or do worse."""
    return _DANGEROUS.sub(SHOWN_AS, text)


def clean_line(text: str, *, colours: bool) -> str:
    """One line of a log. Its colours stay where they are seen, and end with the line; elsewhere they are left out."""
    if "\x1b[" not in text:
        return clean(text)
    if not colours:
        return clean(_COLOUR.sub("", text))
    pieces, at = [], 0
    for found in _COLOUR.finditer(text):
        pieces += [clean(text[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*pieces, clean(text[at:]), _PLAIN if at else ""])


def clean_json(text: str) -> str:
    """A JSON document with the same meaning, in which such characters are escapes. (Line breaks and tabs in `text` are layout:
    within its strings they are escapes already.)"""
    return _DANGEROUS.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
