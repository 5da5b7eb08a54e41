"""ISO 8601 durations as the control API writes them, to and from whole milliseconds. Exact: no floating
point."""

from __future__ import annotations

import re
from decimal import Decimal

_DURATION = re.compile(
    r"P(?:(?P<weeks>\d{1,9})W)?(?:(?P<days>\d{1,9})D)?"
    r"(?:T(?=[\d])(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,12}(?:[.,]\d{1,9})?)S)?)?",
    re.ASCII | re.IGNORECASE,
)
_UNIT_MS = {"weeks": 604_800_000, "days": 86_400_000, "hours": 3_600_000, "minutes": 60_000, "seconds": 1000}


def parse_duration_ms(text: str) -> int:
    """Milliseconds of a duration such as `PT5S`, `PT0.5S`, `PT1H3M` or `P1D`.

    Raises ValueError, with a sentence for the user, for any other text, for years and months (their length is
    not
    fixed) and for parts below a millisecond.
    """
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groupdict().values()):
        raise ValueError(f"found {text[:60]!r}; expected an ISO 8601 duration such as PT5S, PT0.5S or PT3M")
    total = Decimal(0)
    for unit, amount in found.groupdict().items():
        if amount:
            total += Decimal(amount.replace(",", ".")) * _UNIT_MS[unit]
    if total != int(total):
        raise ValueError(f"found {text[:60]!r}; the finest unit is one millisecond (PT0.001S)")
    return int(total)


def parse_duration_s(text: str) -> int:
    """Seconds of a duration; raises ValueError as `parse_duration_ms`, and for parts of a second."""
    milliseconds = parse_duration_ms(text)
    if milliseconds % 1000:
        raise ValueError(f"found {text[:60]!r}; expected whole seconds")
    return milliseconds // 1000


def format_duration_ms(milliseconds: int) -> str:
    """The canonical text: `PT0S`, `PT0.5S`, `PT1M30S`, `PT26H`. Raises ValueError below 0: a defect of the
    caller."""
    if milliseconds < 0:
        raise ValueError("a duration is not negative")
    minutes, rest_ms = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, fraction_ms = divmod(rest_ms, 1000)
    text = f"{hours}H" * bool(hours) + f"{minutes}M" * bool(minutes)
    if rest_ms or not text:
        fraction = f".{fraction_ms:03d}".rstrip("0") if fraction_ms else ""
        text += f"{seconds}{fraction}S"
    return f"PT{text}"


def format_duration_s(seconds: int) -> str:
    return format_duration_ms(seconds * 1000)
