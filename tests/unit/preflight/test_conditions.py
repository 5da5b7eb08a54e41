"""What a condition comes to is told only where every instance would agree; held against Python itself where it can be."""

from __future__ import annotations

import ast
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.preflight.conditions import asks, told

OURS = "{}.{}".format(*sys.version_info)


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("TYPE_CHECKING", False),
        ("not t.TYPE_CHECKING", True),
        ("__name__ == '__main__'", False),
        ("__name__ != '__main__'", True),
        ("sys.platform == 'win32'", False),
        ("sys.platform.startswith('linux')", True),
        ("os.name == 'nt' or platform.system() == 'Windows'", False),
        ("os.name == 'posix' and anything", None),
        ("os.name == 'nt' and anything", False),
        ("sys.version_info >= (3, 9)", True),
        ("sys.version_info < (3, 12)", False),
        ("sys.version_info[0] == 2", False),
        ("sys.version_info.major < 3", False),
        ("sys.version_info[:2] == (3, 12)", True),
        ("sys.version_info >= (3, 12, 1)", None),
        ("sys.version_info > (3, 12)", True),
        ("anything", None),
        ("a < b < c", None),
        ("sys.platform == name", None),
        ("sys.version_info >= '3'", None),
    ],
)
def test_what_is_told(text: str, value: bool | None) -> None:
    assert told(expression(text), "3.12") is value


@given(
    left=st.sampled_from(
        ("sys.version_info", "sys.version_info[0]", "sys.version_info[:2]", "sys.version_info.minor")
    ),
    operator=st.sampled_from(("==", "!=", "<", "<=", ">", ">=")),
    right=st.one_of(
        st.integers(0, 20), st.tuples(st.integers(2, 4)), st.tuples(st.integers(2, 4), st.integers(0, 20))
    ),
)
def test_a_version_is_compared_as_python_does(left: str, operator: str, right: object) -> None:
    text = f"{left} {operator} {right!r}"
    try:
        real = bool(eval(text, {"sys": sys}))
    except TypeError:
        real = None
    value = told(expression(text), OURS)
    assert value is None or value is real, text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("importlib.util.find_spec('torch')", True),
        ("'torch' in sys.modules", True),
        ("is_torch_available()", True),
        ("sys.version_info >= (3, 9)", True),
        ("os.environ.get('TORCH')", False),
    ],
)
def test_a_condition_that_asks_whether_something_is_there(text: str, value: bool) -> None:
    assert asks(expression(text)) is value
