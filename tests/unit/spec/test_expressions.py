"""`--set`, `--add`, `--remove` on a plain document."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.errors.exceptions import SpecInvalid
from moorings.spec.expressions import ExpressionError, apply_changes, parse_path
from moorings.spec.problems import path_text

BASE: dict[str, Any] = {"a": {"b": 1, "l": [1, {"x": 2}]}, "s": "text", "n": None}


@pytest.mark.parametrize(
    ("expression", "path", "value"),
    [
        ("a.b=2", ("a", "b"), 2),
        ("a.c.d=x", ("a", "c", "d"), "x"),
        ("n.k=1.5", ("n", "k"), 1.5),
        ("a.l[1].x=3", ("a", "l", 1, "x"), 3),
        ("a.l[-1].x=3", ("a", "l", 1, "x"), 3),
        ('tags."x.y"=1', ("tags", "x.y"), 1),
        ("tags['x.y']=1", ("tags", "x.y"), 1),
        ("s=a=b", ("s",), "a=b"),
        ("s=", ("s",), ""),
        ("s='5'", ("s",), "5"),
        ("s=true", ("s",), True),
        ("s=null", ("s",), None),
        ("s=azureml:m:1", ("s",), "azureml:m:1"),
        ("s=note: this", ("s",), "note: this"),
        ("s=[1, x]", ("s",), [1, "x"]),
        ("s={k: v}", ("s",), {"k": "v"}),
        ("s=*x", ("s",), "*x"),
    ],
)
def test_set(expression: str, path: tuple[str | int, ...], value: Any) -> None:
    at: Any = apply_changes(BASE, set_=[expression])
    for part in path:
        at = at[part]
    assert at == value


def test_strings_can_be_forced() -> None:
    assert apply_changes({}, set_=["v=1.10", "w=[x]"], force_string=True) == {"v": "1.10", "w": "[x]"}


def test_add_appends_merges_and_creates() -> None:
    changed = apply_changes(BASE, add=["a.l=9", "a={c: 3}", "tags.team=x"])
    assert changed["a"] == {"b": 1, "c": 3, "l": [1, {"x": 2}, 9]}
    assert changed["tags"] == {"team": "x"}


def test_remove_takes_keys_and_items() -> None:
    assert apply_changes(BASE, remove=["a.b", "a.l[0]", "s", "n"]) == {"a": {"l": [{"x": 2}]}}


def test_set_comes_before_add_and_remove() -> None:
    assert apply_changes({}, set_=["a.x=1"], add=["a.y=2"], remove=["a.x"]) == {"a": {"y": 2}}


def test_the_document_itself_is_left_alone() -> None:
    before = copy.deepcopy(BASE)
    apply_changes(BASE, set_=["a.l[1].x=3"], add=["a.l=9"], remove=["a.b"])
    assert before == BASE


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"set_": ["a"]}, "--set a"),
        ({"set_": ["=1"]}, "--set =1"),
        ({"set_": ["[0]=1"]}, "--set [0]=1"),
        ({"set_": ["a..b=1"]}, "--set a..b=1"),
        ({"set_": ["a.b.=1"]}, "--set a.b.=1"),
        ({"set_": ["a.l[7]=1"]}, "--set a.l[7]=1"),
        ({"set_": ["a.l.x=1"]}, "--set a.l.x=1"),
        ({"set_": ["s.x=1"]}, "--set s.x=1"),
        ({"set_": ["new[0]=1"]}, "--set new[0]=1"),
        ({"set_": ["a=[1"]}, "--set a=[1"),
        ({"add": ["s=1"]}, "--add s=1"),
        ({"add": ["a=1"]}, "--add a=1"),
        ({"remove": ["a.nope"]}, "--remove a.nope"),
        ({"remove": ["x.y"]}, "--remove x.y"),
    ],
)
def test_expressions_that_do_not_fit(changes: dict[str, list[str]], target: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        apply_changes(BASE, **changes)
    assert [(d.code, d.target) for d in refused.value.failure.details] == [
        ("ChangeExpressionInvalid", target)
    ]


def test_all_expressions_are_tried() -> None:
    with pytest.raises(SpecInvalid) as refused:
        apply_changes(BASE, set_=["x", "a.b=1", "y"], remove=["tag"])
    assert len(refused.value.failure.details) == 3


def test_a_near_key_is_suggested() -> None:
    with pytest.raises(SpecInvalid, match="did you mean `team`"):
        apply_changes({"tags": {"team": 1}}, remove=["tags.teem"])


PARTS = st.lists(
    st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5) | st.integers(0, 9),
    min_size=1,
    max_size=5,
).filter(lambda parts: isinstance(parts[0], str))


@given(PARTS)
def test_paths_are_read_as_they_are_shown(parts: list[str | int]) -> None:
    assert parse_path(path_text(tuple(parts))) == tuple(parts)


@given(st.text(max_size=20))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        assert parse_path(text)
    except ExpressionError as wrong:
        assert str(wrong)


NAMES = st.sampled_from(["a", "b", "c"])
DOCUMENTS = st.recursive(
    st.integers() | st.text(max_size=3) | st.none(),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, DOCUMENTS, max_size=3), st.lists(NAMES, min_size=1, max_size=4), st.integers())
def test_what_was_set_is_there_and_can_be_removed(
    document: dict[str, Any], path: list[str], value: int
) -> None:
    expression = ".".join(path)
    try:
        changed = apply_changes(document, set_=[f"{expression}={value}"])
    except SpecInvalid:
        return
    at: Any = changed
    for part in path:
        at = at[part]
    assert at == (value if abs(value) < 1 << 63 else str(value))
    removed: Any = apply_changes(changed, remove=[expression])
    for part in path[:-1]:
        removed = removed[part]
    assert path[-1] not in removed
