"""A trace of load as people write it (CSV) -> stretches of constant rate. Pure; all that is wrong is told at once."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from datetime import UTC, datetime

from moorings.autoscale.simulation import MAX_REQUESTS, Stretch, total_requests
from moorings.errors.exceptions import error

TIMES = ("seconds", "time", "timestamp", "t", "s")
RATES = ("rps", "rate", "requests_per_second")
COUNTS = ("requests", "count")
MAX_ROWS, MAX_TOLD = 200_000, 20


def parse(text: str, name: str) -> list[Stretch]:
    """Rows of a time (seconds, or a date and time) and a rate (`rps`), or a number of requests since the row before
    (`requests`). A row holds until the next one; the last for as long as the one before it.

    Raises TraceInvalid naming every wrong line (the user's fault).
    """
    try:
        lines = list(csv.reader(io.StringIO(text)))
    except csv.Error as problem:
        raise _invalid(name, [f"{name}: {problem}"]) from None
    heading = [cell.strip().lower() for cell in lines[0]] if lines else []
    time_at = next((heading.index(key) for key in TIMES if key in heading), None)
    rate_at = next((heading.index(key) for key in (*RATES, *COUNTS) if key in heading), None)
    if time_at is None or rate_at is None:
        found = ", ".join(heading)[:80] or "nothing"
        raise _invalid(name, [f"{name}:1: found the columns {found}; expected `seconds,rps`"])
    wrong: list[str] = []
    rows = _rows(lines[1:], (time_at, rate_at), name, wrong)
    if not wrong and len(rows) < 2:
        wrong.append(f"{name}: found {len(rows)} rows; expected two or more")
    if len(rows) > MAX_ROWS:
        wrong.append(f"{name}: {len(rows)} rows; at most {MAX_ROWS} are read")
    if wrong:
        raise _invalid(name, wrong)
    return _checked(_stretches(rows, counted=heading[rate_at] in COUNTS), name)


def _rows(
    lines: Sequence[Sequence[str]], columns: tuple[int, int], name: str, wrong: list[str]
) -> list[tuple[float, float]]:
    """Time and value of each line that has both; `wrong` gets what is wrong with the others."""
    rows: list[tuple[float, float]] = []
    for number, line in enumerate(lines, 2):
        if not any(cell.strip() for cell in line):
            continue
        cells = [line[at].strip() if at < len(line) else "" for at in columns]
        at_s, value = _time(cells[0]), _number(cells[1])
        if at_s is None:
            wrong.append(f"{name}:{number}: found {cells[0][:40]!r}; expected seconds or a date and time")
        if value is None:
            wrong.append(f"{name}:{number}: found {cells[1][:40]!r}; expected a number, 0 or more")
        if at_s is not None and value is not None:
            if rows and at_s <= rows[-1][0]:
                wrong.append(f"{name}:{number}: this time is not after the one before it")
            rows.append((at_s, value))
    return rows


def _stretches(rows: list[tuple[float, float]], *, counted: bool) -> list[Stretch]:
    first_s = rows[0][0]
    ends = [at_s for at_s, _ in rows[1:]]
    ends.append(2 * rows[-1][0] - rows[-2][0])
    if not counted:
        return [
            Stretch(at - first_s, end - first_s, rate) for (at, rate), end in zip(rows, ends, strict=True)
        ]
    return [
        Stretch(at - first_s, end - first_s, n / (end - at)) for (at, n), end in zip(rows, ends, strict=True)
    ]


def _checked(trace: list[Stretch], name: str) -> list[Stretch]:
    total = total_requests(trace)
    if total > MAX_REQUESTS:
        text = f"{name}: {total:.0f} requests in all; at most {MAX_REQUESTS} are played: cut out a part"
        raise _invalid(name, [text])
    return trace


def _invalid(name: str, wrong: list[str]) -> Exception:
    message = wrong[0] if len(wrong) == 1 else f"{name} has {len(wrong)} wrong lines"
    told = wrong[:MAX_TOLD] + [f"... and {len(wrong) - MAX_TOLD} more"] * (len(wrong) > MAX_TOLD)
    return error("TraceInvalid", message, target=name, evidence=told, fields={"name": name})


def _time(text: str) -> float | None:
    number = _number(text)
    if number is not None:
        return number
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None
