"""Takes secrets out of text before it is kept or shown: values that are known to be secrets, and texts that can hardly be
anything else.

The one way to do so, for logs and whatever else is shown to people: `Redactor(values).redact(data)`. Pure; it must not
know where secrets come from. It runs inside containers as well: standard library only, Python 3.8.

A rule is here only if it is safe: what it takes out is not needed to find a fault. So `token=...` alone is no rule
(tokenizers), and the value after `password=` has to hold a digit (source lines of tracebacks do not).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

HIDDEN = b"***"
SHORTEST_BYTES = 8
"""A known value shorter than this is left: taking `test` or `1234` out of everything would make a log useless."""

_NAMES = (
    rb"password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|account[_-]?key|shared[_-]?key|private[_-]?key"
    rb"|signing[_-]?key|auth[_-]?token|access[_-]?token|refresh[_-]?token|sas[_-]?token|id[_-]?token"
)
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:PASS|PASSWD|PASSWORD|PASSPHRASE|PWD|SECRET|TOKEN|KEY|APIKEY|CREDENTIALS?|SAS|CONNECTION_STRING|DSN)$"
)


def _rule(pattern: bytes, replacement: bytes, flags: int = 0) -> Callable[[bytes], bytes]:
    compiled = re.compile(pattern, flags)
    return lambda data: compiled.sub(replacement, data)


_RULES = (
    # (texts one of which is there, in lower case, when the rule has anything to do; the rule)
    ((b"bearer",), _rule(rb"(bearer\s+)[A-Za-z0-9\-._~+/]{16,}=*", rb"\1" + HIDDEN, re.I)),
    (
        (b"authorization",),
        _rule(
            rb"(authorization['\"]?\s*[:=,]\s*b?['\"]?(?:basic\s+)?)(?!bearer\b)[^\s'\",;]{8,}",
            rb"\1" + HIDDEN,
            re.I,
        ),
    ),
    (
        (b"pass", b"secret", b"key", b"token"),
        _rule(
            rb"((?:" + _NAMES + rb")['\"]?\s*[:=]\s*b?['\"]?)(?=[^\s'\"&;,]{0,64}\d)[^\s'\"&;,(){}\[\]]{8,}",
            rb"\1" + HIDDEN,
            re.I,
        ),
    ),
    ((b"://",), _rule(rb"(://)[^\s/@'\"<>]+@", rb"\1" + HIDDEN + b"@")),
    ((b"sig=",), _rule(rb"([?&;]sig=)[A-Za-z0-9%+/=_-]{16,}", rb"\1" + HIDDEN)),
    ((b"eyj",), _rule(rb"(?<![\w-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}", HIDDEN)),
    ((b"akia", b"asia"), _rule(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", HIDDEN)),
    (
        (b"gh", b"github_pat"),
        _rule(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})", HIDDEN),
    ),
    ((b"xox",), _rule(rb"(?<![\w-])xox[abprs]-[A-Za-z0-9-]{10,}", HIDDEN)),
    ((b"sk-",), _rule(rb"(?<![\w-])sk-(?=[A-Za-z0-9_-]{0,64}\d)[A-Za-z0-9_-]{20,}", HIDDEN)),
    ((b"hf_",), _rule(rb"\bhf_[A-Za-z0-9]{30,}", HIDDEN)),
    ((b"aiza",), _rule(rb"\bAIza[0-9A-Za-z_-]{35}", HIDDEN)),
)
_KEY_BEGINS = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_KEY_ENDS = re.compile(rb"-----END [A-Z ]*PRIVATE KEY-----")
_KEY_LINES = 200
"""A private key has no more lines: one that never ends must not hide the rest of a log."""


class Redactor:
    """Knows the values of one place; remembers between calls only whether it is inside a private key."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._known = _pattern(values)
        self._key_lines_left = 0

    def redact(self, data: bytes) -> bytes:
        """`data` (whole lines) with `***` in the place of secrets; as many lines as before."""
        if self._known is not None:
            data = self._known.sub(HIDDEN, data)
        if self._key_lines_left or b"PRIVATE KEY-----" in data:
            data = self._without_keys(data)
        lower = data.lower()
        for signs, rule in _RULES:
            if any(sign in lower for sign in signs):
                data = rule(data)
        return data

    def text(self, text: str) -> str:
        """The same for text."""
        return self.redact(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")

    def within(self, value: Any) -> Any:
        """The same for all texts of a JSON value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.within(item) for key, item in value.items()}
        return [self.within(item) for item in value] if isinstance(value, list) else value

    def _without_keys(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        for number, line in enumerate(lines):
            if not self._key_lines_left:
                begins = _KEY_BEGINS.search(line)
                if begins is None:
                    continue
                self._key_lines_left = 0 if _KEY_ENDS.search(line) else _KEY_LINES
                lines[number] = line[: begins.start()] + HIDDEN
                continue
            self._key_lines_left -= 1
            if _KEY_ENDS.search(line):
                self._key_lines_left = 0
            if line:
                lines[number] = HIDDEN
        return b"\n".join(lines)


def secret_values(variables: Mapping[str, str]) -> list[str]:
    """The values of environment variables whose names say that they are secrets (`DB_PASSWORD`, `API_KEY`, ...)."""
    return [value for name, value in variables.items() if _SECRET_NAME.search(name.upper())]


def with_their_lines(values: Iterable[str]) -> list[str]:
    """Values of several lines are hidden line by line, too: logs are read so."""
    found = list(values)
    return [*found, *(line for value in found for line in value.splitlines())]


def _pattern(values: Iterable[str]) -> re.Pattern[bytes] | None:
    """Each value as it is, as it stands in addresses, and as it stands in JSON."""
    forms = set()
    for value in values:
        for form in (value, quote(value, safe=""), json.dumps(value)[1:-1]):
            raw = form.encode("utf-8", "surrogatepass")
            if len(raw) >= SHORTEST_BYTES:
                forms.add(raw)
    if not forms:
        return None
    ordered = sorted(forms, key=len, reverse=True)  # the longer first: one may begin with another
    return re.compile(b"|".join(re.escape(form) for form in ordered))
