"""What `run()` gets and what becomes of its result, without a process around it."""

from __future__ import annotations

import inspect
import json
import math
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings_server import contract
from moorings_server.inputs import BadInputError, body_text, query_text
from moorings_server.rawrequest import header_dict, multipart
from moorings_server.report import BootFailure
from moorings_server.results import result_body, to_answer
from moorings_server.script import check_signature

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("result", "body"),
    [
        (None, b"{}"),
        ("a\u00e9", b'"a\\u00e9"'),
        ('{"a": 1}', b'"{\\"a\\": 1}"'),
        ([1, 2.5, True, None], b"[1, 2.5, true, null]"),
        ({"a": {"b": []}, 1: 2}, b'{"a": {"b": []}, "1": 2}'),
        (math.nan, b"NaN"),
        ([math.inf, -math.inf], b"[Infinity, -Infinity]"),
        (0, b"0"),
        (False, b"false"),
        ("", b'""'),
        ((1, 2), b"[1, 2]"),
    ],
)
def test_results_become_json(result: object, body: bytes) -> None:
    assert result_body(result) == body


@pytest.mark.parametrize("result", [b"bytes", {1}, object(), {(1, 2): 3}, 1j])
def test_what_has_no_json_is_refused(result: object) -> None:
    with pytest.raises(TypeError):
        result_body(result)


@given(JSON_VALUES)
def test_a_result_reads_back_as_itself(value: Any) -> None:
    assert json.loads(result_body(value)) == ({} if value is None else value)


@given(st.text())
def test_a_body_is_the_text_that_was_sent(text: str) -> None:
    encodable = text.encode("utf-8", "ignore").decode()
    assert body_text(encodable.encode()) == encodable


@given(st.binary())
def test_a_body_is_text_or_bad_input(body: bytes) -> None:
    try:
        assert body_text(body).encode() == body
    except BadInputError as failure:
        assert str(failure).startswith("Input cannot be decoded as UTF-8: ")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (b"a=1&b=[1,2]&c=x&c=y&d=null", '{"a": 1, "b": [1, 2], "c": ["x", "y"], "d": null}'),
        (b"", "{}"),
        (b"a=", '{"a": ""}'),
        (b"a=%22x%22&b=%C3%A9", '{"a": "x", "b": "\\u00e9"}'),
        (b"a=1&a=2&b=true", '{"a": [1, 2], "b": true}'),
        (b"a=" + b"[" * 100_000, json.dumps({"a": "[" * 100_000})),
    ],
)
def test_a_query_becomes_json_text(query: bytes, text: str) -> None:
    assert query_text(query) == text


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), JSON_VALUES, max_size=5)
)
def test_json_in_a_query_arrives_as_it_was(values: dict[str, Any]) -> None:
    query = urlencode({name: json.dumps(value) for name, value in values.items()}).encode()
    assert json.loads(query_text(query)) == values


@given(JSON_VALUES | st.binary() | st.sets(st.integers()) | st.complex_numbers())
def test_every_result_has_one_answer_or_none(value: Any) -> None:
    """JSON values become JSON, bytes stay bytes, the rest is refused: nothing is guessed."""
    try:
        answer = to_answer(value, 1.0)
    except (TypeError, ValueError):
        assert not isinstance(value, (str, int, float, bool, bytes, type(None)))
        return
    assert (answer.status, answer.failed, answer.stream) == (200, False, None)
    if isinstance(value, bytes):
        assert answer.body == value
        assert b"application/octet-stream" in (answer.head or b"")
    else:
        assert (answer.body, answer.head) == (result_body(value), None)


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="ascii", exclude_characters='"\\\r\n\0;'), min_size=1), st.binary()
        )
    )
)
def test_parts_of_a_form_arrive_as_they_were(parts: list[tuple[str, bytes]]) -> None:
    boundary = b"xX-boundary-that-no-content-holds-Xx"
    body = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="f"\r\n\r\n%b\r\n'
        % (boundary, name.encode(), content)
        for name, content in parts
    )
    found = [(name, content) for name, _, _, content in multipart(body + b"--%b--\r\n" % boundary, boundary)]
    assert found == parts


def test_request_headers_are_title_case_and_joined() -> None:
    found = header_dict([(b"x-ms-THING", b"1"), (b"Authorization", b"Bearer t"), (b"X-Ms-Thing", b"2")])
    assert found == {"X-Ms-Thing": "1,2", "Authorization": "Bearer t"}


def _parameters(source: str) -> list[inspect.Parameter]:
    space: dict[str, Any] = {}
    exec(f"def run({source}): pass", space)
    return list(inspect.signature(space["run"]).parameters.values())


@pytest.mark.parametrize(
    "source", ["data", "data, request_headers", "*, data", "a, b=1", "request_headers, data", "data=None"]
)
def test_signatures_that_can_be_called(source: str) -> None:
    assert check_signature(_parameters(source), "score.py")[0].name in ("data", "a")


@pytest.mark.parametrize(
    "source", ["", "request_headers", "*args", "data, *args", "data, **kwargs", "data, /"]
)
def test_signatures_that_cannot(source: str) -> None:
    with pytest.raises(BootFailure) as failure:
        check_signature(_parameters(source), "score.py")
    assert failure.value.kind == contract.KIND_BAD_SIGNATURE
