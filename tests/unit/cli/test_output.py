"""Results as text."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from moorings.cli.output import query, render
from moorings.errors.exceptions import MooringsError

VALUE = [{"name": "blue", "count": 2, "tags": {"a": "b"}, "none": None}, {"name": "grün", "count": 1}]


@pytest.mark.parametrize(
    ("form", "load"), [("json", json.loads), ("jsonc", json.loads), ("yaml", yaml.safe_load)]
)
def test_structured_formats_read_back_as_they_were(form: str, load: Any) -> None:
    assert load(render(VALUE, form)) == VALUE


def test_colours_are_for_terminals_only() -> None:
    assert "\x1b[" in render(VALUE, "jsonc", width=80)
    assert "\x1b[" not in render(VALUE, "jsonc")


def test_tsv_is_one_line_an_item_and_one_cell_a_value() -> None:
    assert render(VALUE, "tsv") == "blue\t2\t\t\ngrün\t1\n"
    assert render("x", "tsv") == "x\n"
    assert render(["a", "b"], "tsv") == "a\nb\n"
    assert render("a\tb\nc", "tsv") == "a b c\n"


def test_a_table_has_the_columns_asked_for() -> None:
    columns = (("Name", lambda r: r["name"]), ("Tags", lambda r: r.get("tags")))
    lines = render(VALUE, "table", columns=columns).splitlines()
    assert lines[0].split() == ["Name", "Tags"]
    assert lines[2].split() == ["blue", "a=b"]


def test_a_table_of_anything_shows_its_plain_values() -> None:
    lines = render({"name": "blue", "tags": {"a": 1}}, "table").splitlines()
    assert lines[0].split() == ["name"]
    assert render("x", "table").split()[-1] == "x"
    assert render([], "table") == ""


def test_a_table_off_the_terminal_is_not_cut() -> None:
    long = "x" * 300
    assert long in render([{"name": long}], "table")


def test_markup_in_values_is_text() -> None:
    assert "[red]x[/red]" in render([{"name": "[red]x[/red]"}], "table")


def test_none_prints_nothing() -> None:
    assert render(VALUE, "none") == ""
    assert render(None, "json") == ""


def test_query_selects() -> None:
    assert query(VALUE, "[?name=='blue'].count") == [2]


@pytest.mark.parametrize("expression", ["name[", "length(`1`)", "nofunction(@)", ""])
def test_a_wrong_query_is_a_coded_failure(expression: str) -> None:
    with pytest.raises(MooringsError) as caught:
        query(VALUE, expression)
    assert caught.value.failure.code == "QueryInvalid"
