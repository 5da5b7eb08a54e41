"""Which exception of a chain says why: tracebacks of real Python, read again."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.errors.diagnosis.raised import chain_of, telling, trace_in

HERE = __file__.rpartition("/")[0]
ELSEWHERE = "/nowhere"


def trace_of(fails: Callable[[], object]) -> list[str]:
    try:
        fails()
    except Exception as problem:
        return "".join(traceback.format_exception(problem)).splitlines()
    raise AssertionError("it does not fail")


def explicitly() -> None:
    try:
        {}["weights"]
    except KeyError as problem:
        raise RuntimeError("the model cannot be loaded\nask Ann") from problem


def meanwhile() -> None:
    try:
        int("x")
    except ValueError:
        raise RuntimeError("no number")  # noqa: B904 - as people write it


def afterwards() -> None:
    try:
        int("x")
    except ValueError:
        {}["other"]


def test_a_chain_is_read_from_its_root_to_its_end() -> None:
    root, end = chain_of(trace_of(explicitly))
    assert (root.name, root.words) == ("KeyError", "KeyError: 'weights'")
    assert end.words == "RuntimeError: the model cannot be loaded\nask Ann"
    assert (root.is_from, end.is_from) == (False, True)
    assert root.inner is not None
    assert root.inner.function == "explicitly"
    assert root.inner.text == '{}["weights"]'


@pytest.mark.parametrize(
    ("fails", "root", "names"),
    [
        (explicitly, HERE, ["KeyError"]),
        (explicitly, ELSEWHERE, ["RuntimeError", "KeyError"]),
        (meanwhile, HERE, ["ValueError"]),
        (meanwhile, ELSEWHERE, ["RuntimeError"]),
        (afterwards, HERE, ["KeyError"]),
        (afterwards, ELSEWHERE, ["KeyError"]),
    ],
)
def test_what_the_script_says_itself_is_looked_through(
    fails: Callable[[], object], root: str, names: list[str]
) -> None:
    assert [each.name for each in telling(root, chain_of(trace_of(fails)))] == names


def test_what_is_no_python_is_known_with_its_place() -> None:
    (found,) = chain_of(trace_of(lambda: compile("def run(:", "/app/helper.py", "exec")))
    assert found.syntax_at == ("/app/helper.py", 1)
    (found,) = chain_of(trace_of(lambda: eval("1 +")))
    assert found.syntax_at is None


def test_in_a_log_a_traceback_ends_with_its_words() -> None:
    trace = trace_of(explicitly)
    shown = [line for line in trace if line.strip() and line != "ask Ann"]
    assert list(trace_in([*trace[:-1], "POST /score 500", "RuntimeError: not this one"])) == shown


def test_an_exception_without_frames_is_one_too() -> None:
    trace = trace_of(explicitly)
    root, end = chain_of(["OSError: [Errno 28] full", "", *trace[-len(trace) + trace.index("") + 1 :]])
    assert (root.name, root.frames, end.name) == ("OSError", (), "RuntimeError")


@given(st.lists(st.text("\n :Ta()'x", max_size=20) | st.sampled_from(trace_of(explicitly)), max_size=40))
def test_any_text_can_be_read(text: list[str]) -> None:
    found = chain_of(text)
    assert len(telling(HERE, found)) <= len(found)
    assert len(trace_in(text)) <= len(text)
