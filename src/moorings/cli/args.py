"""Rewrite command-line words before they are parsed: abbreviated flags, several values after one flag,
typographic dashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"


@dataclass(frozen=True)
class Flag:
    """What rewriting needs to know of one option."""

    names: tuple[str, ...]
    takes_value: bool = True
    takes_several: bool = False
    """Every following word up to the next flag is a value of it."""


class FlagError(Exception):
    """A flag that is ambiguous or lacks its value; the text is for the user."""


def expand(words: Sequence[str], flags: Sequence[Flag]) -> list[str]:
    """`words` with full flag names, and one flag for each value of flags that take several.

    Words that are no flag of ours stay as they are: the parser has the say about them.
    """
    out: list[str] = []
    i = 0
    while i < len(words):
        word = straighten(words[i])
        i += 1
        if word == "--":
            out.append(word)
            out.extend(words[i:])
            break
        name, attached = _split(word)
        found = _match(name, flags)
        if found is None:
            out.append(word)
            continue
        name, flag = found
        if not flag.takes_value:
            out.append(word if attached is not None else name)
            continue
        values = [] if attached is None else [attached]
        while i < len(words) and (not values or flag.takes_several):
            if _looks_like_flag(words[i], flags, has_value=bool(values)):
                break
            values.append(words[i])
            i += 1
        if not values:
            raise FlagError(f"{name} needs a value")
        for value in values:
            out += [name, value]
    return out


def straighten(word: str) -> str:
    """Dashes that a text processor made pretty, at the start of a word, as the plain ones that were meant."""
    rest = word.lstrip(_DASHES)
    dashes = word[: len(word) - len(rest)]
    if not rest or dashes == "-" * len(dashes):
        return word
    # One long dash is what `--` is turned into; a mixed pair (`–-`) stands for `--` too.
    return ("--" if len(rest) > 1 else "-") + rest


def _split(word: str) -> tuple[str, str | None]:
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    return word, None


def _match(name: str, flags: Sequence[Flag]) -> tuple[str, Flag] | None:
    for flag in flags:
        if name in flag.names:
            return name, flag
    if not name.startswith("--") or len(name) < 3:
        return None
    hits = [(full, flag) for flag in flags for full in flag.names if full.startswith(name)]
    if len({id(flag) for _, flag in hits}) > 1:
        raise FlagError(f"{name} could be {', '.join(sorted(full for full, _ in hits))}")
    return hits[0] if hits else None


def _looks_like_flag(word: str, flags: Sequence[Flag], *, has_value: bool) -> bool:
    if has_value:
        return straighten(word).startswith("-")
    # The value of a flag may begin with a dash, unless it is the name of another flag.
    return any(straighten(word).partition("=")[0] in flag.names for flag in flags)
