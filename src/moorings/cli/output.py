"""Turn a result into text on stdout: JMESPath first, then json, yaml, table or tsv. Knows no resources."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moorings.cli.terminal import clean, clean_json
from moorings.errors.exceptions import error

FORMATS = ("json", "jsonc", "yaml", "yamlc", "table", "tsv", "none")
WIDE = 500
"""Columns of a table that is not written to a terminal: nothing is cut off."""

Columns = Sequence[tuple[str, Callable[[Mapping[str, Any]], Any]]]
"""Heading and cell of each column of the table of one kind of result."""


def query(value: Any, expression: str) -> Any:
    """The part of `value` that a JMESPath expression selects. Raises `QueryInvalid`: the user's fault."""
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return jmespath.search(expression, value)
    except JMESPathError as problem:
        lines = tuple(str(problem).splitlines())
        message = f"--query {expression!r}: {lines[0] if lines else type(problem).__name__}"
        raise error("QueryInvalid", message, target="--query", evidence=lines[1:]) from None


def render(value: Any, form: str, *, columns: Columns | None = None, width: int | None = None) -> str:
    """`value` as text in the format `form`, ending in a line break unless empty.

    `width` is that of the terminal, None when there is none (then nothing is coloured or cut). `columns`
    are the table's columns; without them a table shows the plain values of each item.
    """
    if form == "none" or value is None:
        return ""
    if form in ("yaml", "yamlc"):
        import yaml

        text = str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False))
        return text if width is None else clean(text)
    if form == "tsv":
        text = "".join(f"{line}\n" for line in _tsv(value))
        return text if width is None else clean(text)
    if form == "table":
        return _table(value, columns, width)
    text = clean_json(json.dumps(value, indent=2, ensure_ascii=False))
    if form == "jsonc" and width is not None:
        return _coloured(text, width)
    return text + "\n"


def _tsv(value: Any) -> list[str]:
    """One line an item; values of an item beside one another. Like the usual tools: nested values are left
    empty."""
    if not isinstance(value, list):
        return [_tsv_row(value)]
    return [_tsv_row(item) for item in value]


def _tsv_row(item: Any) -> str:
    if isinstance(item, dict):
        return "\t".join(_tsv_cell(v) for v in item.values())
    if isinstance(item, list):
        return "\t".join(_tsv_cell(v) for v in item)
    return _tsv_cell(item)


def _tsv_cell(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    return str(value).replace("\t", " ").replace("\n", " ")


def _table(value: Any, columns: Columns | None, width: int | None) -> str:
    rows = [
        v if isinstance(v, dict) else {"Result": v} for v in (value if isinstance(value, list) else [value])
    ]
    if not rows:
        return ""
    chosen = columns or _plain_columns(rows)
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading, _ in chosen:
        table.add_column(heading, overflow="fold" if width else "ignore", no_wrap=width is None)
    for row in rows:
        table.add_row(*(Text(clean(_cell(cell(row)))) for _, cell in chosen))
    out = io.StringIO()
    console = Console(file=out, width=width or WIDE, force_terminal=width is not None, highlight=False)
    console.print(table)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _plain_columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(k for k, v in row.items() if not isinstance(v, dict | list)))
    return [(name, _getter(name)) for name in names]


def _getter(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda row: row.get(name)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items())
    return str(value)


def _coloured(text: str, width: int) -> str:
    from rich.console import Console
    from rich.json import JSON

    out = io.StringIO()
    Console(file=out, width=max(width, WIDE), force_terminal=True).print(JSON(text))
    return out.getvalue()
