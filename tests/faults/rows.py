"""What the suite has seen, kept: one row for each fault and size, each with the commit, machine and date of its own run, and
the page that is made of them. Nothing is run here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scene import Outcome

HEAD = """\
# Reliability: what faults cost

Written by `make faults` from `tests/faults/results.json`; do not edit it. Load comes at a fixed rate whatever the answers
do, from a client that tries nothing again; a request's time counts from when it was due. *Failed* is every request that was
not answered 200; what it was told stands below the table. *95 % bound*: the share of failing requests that is not exceeded
with 95 % confidence (3 / total where none failed). Memory is resident MiB; a slope is given
with its 95 % interval. Rows that did not hold are shown as they are.
"""
HIDDEN = ("samples",)


@dataclass(frozen=True)
class Run:
    """Where and when rows come from."""

    size: str
    began: str
    commit: str
    machine: str


def row(outcome: Outcome, run: Run, minutes: float) -> dict[str, Any]:
    """As it is kept."""
    return {**asdict(run), "minutes": round(minutes, 1), **asdict(outcome), "bound": outcome.bound}


def merged(old: Iterable[Mapping[str, Any]], new: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """With the new row in place of the one of the same fault and size."""
    key = new["fault"], new["size"]
    return sorted(
        [*(each for each in old if (each["fault"], each["size"]) != key), new],
        key=lambda each: (each["fault"], each["size"]),
    )


def keep(path: Path, new: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Put the row into the file; returns all rows."""
    rows = merged(read(path), new)
    path.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def read(path: Path) -> list[Mapping[str, Any]]:
    return list(json.loads(path.read_text())) if path.exists() else []


def page(rows: Iterable[Mapping[str, Any]]) -> str:
    """The page of the docs."""
    rows = list(rows)
    machines = sorted({str(each["machine"]) for each in rows})
    lines = [
        HEAD,
        *(f"Machine {number}: {machine}.\n" for number, machine in enumerate(machines, 1)),
        "| fault | times | failed / total | 95 % bound | promise | held | run |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        requests = f"{each['failed']:,} / {each['sent']:,}" if each["sent"] else ""
        bound = f"{each['bound']:.1e}" if each["sent"] else ""
        lines.append(
            f"| {each['title']} | {each['times']} | {requests} | {bound} | {each['promise']} "
            f"| {'yes' if each['held'] else '**no**'} | {each['size']}, {each['began'][:10]}, "
            f"`{each['commit']}`, {each['minutes']:g} min, machine {machines.index(each['machine']) + 1} |"
        )
    return "\n".join([*lines, "", "## What was seen", "", *map(_seen, rows)]) + "\n"


def _seen(row: Mapping[str, Any]) -> str:
    """What else a run has noted, as an item of a list."""
    notes = {
        name: value
        for name, value in row["notes"].items()
        if name not in HIDDEN and value not in ([], {}, "")
    }
    told = "".join(f"\n  - {name.replace('_', ' ')}: {_told(value)}" for name, value in notes.items())
    return f"- **{row['title']}** (`{row['commit']}`){told}"


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_told(one)}" for name, one in value.items() if one not in ([], ""))
    return ", ".join(_told(each) for each in value) if isinstance(value, list) else str(value)
