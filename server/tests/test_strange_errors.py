"""Exceptions that are made to do harm, or that happen to: a report of each comes out, soon, of bounded size."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from moorings_server import contract, report

LONG = 100_000


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Leaves(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class NoText(Exception):
    def __str__(self) -> Any:
        return None


class Words(str):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __len__ = encode = __format__ = __getitem__ = __str__  # type: ignore[assignment]


class OwnText(Exception):
    def __str__(self) -> str:
        return Words("evil")


class OwnClass(Exception):
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class OwnName(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class Nameless(Exception, metaclass=OwnName):
    pass


class OwnCause(Exception):
    @property
    def __cause__(self) -> Any:
        raise RuntimeError("no cause")

    __context__ = __traceback__ = __cause__  # type: ignore[assignment]


class Unlike(Exception):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not equal")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


class Long(Exception):
    def __str__(self) -> str:
        return "x" * 50_000_000


def chain(link: str, count: int) -> BaseException:
    failure: BaseException | None = None
    for number in range(count):
        following = ValueError(f"link {number}")
        setattr(following, link, failure)
        failure = following
    assert failure is not None
    return failure


def loop() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def syntax(**parts: Any) -> BaseException:
    failure = SyntaxError("bad", ("f.py", -5, 10**9, "text\n" * 1000))
    for name, value in parts.items():
        setattr(failure, name, value)
    return failure


def group(depth: int, width: int) -> BaseException:
    failure: Any = ValueError("leaf")
    for _ in range(depth):
        failure = ExceptionGroup("inner", [failure])
    return ExceptionGroup("outer", [failure, *(ValueError(str(n)) for n in range(width))])


def noted(notes: Any) -> BaseException:
    failure = ValueError("noted")
    failure.__notes__ = notes
    return failure


STRANGE = {
    "mute": lambda: Mute("x"),
    "leaves": lambda: Leaves("x"),
    "no text": lambda: NoText("x"),
    "own text": lambda: OwnText("x"),
    "own class": lambda: OwnClass("x"),
    "nameless": lambda: Nameless("x"),
    "own cause": lambda: OwnCause("x"),
    "unlike": lambda: Unlike("x"),
    "long": lambda: Long("x"),
    "loop": loop,
    "causes": lambda: chain("__cause__", LONG),
    "contexts": lambda: chain("__context__", LONG),
    "deep group": lambda: group(2000, 0),
    "wide group": lambda: group(0, LONG),
    "notes": lambda: noted(["n" * 1000] * 1000),
    "no notes": lambda: noted(5),
    "syntax": syntax,
    "strange syntax": lambda: syntax(filename=5, lineno="x", text=b"bytes", offset=None),
    "no encoding": lambda: ValueError("\udcff \x00 \x1b]0;x\x07 \u2028 \u00e9"),
    "encoding": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    "interrupt": lambda: KeyboardInterrupt(),
    "exit": lambda: SystemExit("bye"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_report_comes_out_of_it(kind: str, tmp_path: Any) -> None:
    failure = STRANGE[kind]()
    try:
        raise failure
    except BaseException as raised:
        caught = raised
    began = time.process_time()
    told = report.BootFailure(contract.KIND_INIT_RAISED, report.said(caught), cause=caught)
    content = report.failed(told, 7, 0.1, (str(tmp_path),))
    report.write(str(tmp_path / "report.json"), content)
    assert time.process_time() - began < 10
    read = json.loads((tmp_path / "report.json").read_text())
    assert read["message"] and "Traceback" in read["traceback"]
    assert len(read["traceback"]) < report.TRACEBACK_LIMIT_CHARS + 100
    assert len(report.words_of(caught)) <= report.WORDS_LIMIT_CHARS
    assert __file__ in read["traceback"], "where it was raised"


def test_of_a_long_chain_the_newest_are_shown() -> None:
    text = report.users_traceback(chain("__cause__", 5000))
    assert "link 4999" in text and "link 4990" in text and "link 4989" not in text
    assert text.index("link 4990") < text.index("link 4999")


def test_of_a_long_text_its_beginning_and_its_end_are_kept() -> None:
    try:
        raise ValueError("begin" + "x" * LONG + "end")
    except ValueError as raised:
        text = report.users_traceback(raised)
    assert "test_strange_errors.py" in text and "left out" in text
