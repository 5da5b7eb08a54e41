"""YAML within bounds: places of keys and values, aliases, tags, duplicates, depth."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from moorings.spec import yamltext
from moorings.spec.yamltext import MAX_DEPTH, MAX_VALUES, YamlProblem, parse_yaml


@pytest.fixture(params=["SafeLoader", "CSafeLoader"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parsers of the YAML library: the one in C is not there on every machine."""
    monkeypatch.setattr(yamltext, "_LOADER", getattr(yaml, request.param, yaml.SafeLoader))


def refused(data: bytes) -> tuple[str, str, str]:
    with pytest.raises(YamlProblem) as wrong:
        parse_yaml(data, "f")
    return str(wrong.value.place), wrong.value.problem.code, wrong.value.problem.message


def test_every_key_and_value_has_its_place() -> None:
    places = parse_yaml(b"a: 1\nb:\n  - x\n  - {c: 'y'}\n", "f").places
    assert str(places.keys[("a",)]) == "f:1:1"
    assert str(places.values[("a",)]) == "f:1:4"
    assert str(places.values[("b", 0)]) == "f:3:5"
    assert str(places.keys[("b", 1, "c")]) == "f:4:6"
    assert str(places.values[("b", 1, "c")]) == "f:4:9"
    assert str(places.find(("b", 1, "nothing", "below"))) == "f:4:5"


def test_the_offending_line_has_a_caret_under_the_place() -> None:
    place = parse_yaml("grüße: 1\nb: {c: x}\n".encode(), "f").places.values[("b", "c")]
    line, caret = place.evidence()
    assert line[caret.index("^")] == "x"


def test_carets_of_long_lines_still_fit() -> None:
    place = parse_yaml(b"a: [" + b"x, " * 500 + b"y]", "f").places.values[("a", 500)]
    line, caret = place.evidence()
    assert len(line) < 200
    assert line[caret.index("^")] == "y"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("'1'", "1"),
        ("yes", True),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        (".nan", ".nan"),
        ("0x" + "f" * 5000, "0x" + "f" * 5000),
        ("9" * 5000, "9" * 5000),
        ("!!str 1", "1"),
        ("! 1", "1"),
        ("|\n  x", "x"),
        ("0b_", "0b_"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    assert parse_yaml(f"a: {text}".encode(), "f").value == {"a": value}


def test_aliases_stand_for_their_anchor() -> None:
    document = parse_yaml(b"a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\nd: {<<: [*x, {r: 4}]}", "f")
    assert document.value["b"] == {"p": 1, "q": 2}
    assert document.value["c"] == {"p": 1, "q": 3}
    assert document.value["d"] == {"p": 1, "q": 2, "r": 4}
    assert document.value["a"] is not document.value["b"]


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    place, code, _ = refused("\n".join(lines).encode())
    assert (place.split(":")[1], code) == ("5", "SpecTooLarge")


@pytest.mark.parametrize(
    ("data", "place", "code"),
    [
        (b"a: !!python/object/apply:os.system [x]", "f:1:4", "SpecNotYaml"),
        (b"a: !!binary aGk=", "f:1:4", "SpecNotYaml"),
        (b"a: !own x", "f:1:4", "SpecNotYaml"),
        (b"a: &a [*a]", "f:1:8", "SpecNotYaml"),
        (b"a: *b", "f:1:4", "SpecNotYaml"),
        (b"---\na: 1\n---\nb: 2", "f:3:1", "SpecNotYaml"),
        (b"a: b: c", "f:1:5", "SpecNotYaml"),
        (b"a: 1\nb: \xff", "f:2:4", "SpecNotYaml"),
        (b"a: [" * (MAX_DEPTH + 1), None, "SpecTooLarge"),
        (b"- x\n" * (MAX_VALUES + 1), None, "SpecTooLarge"),
        (b"x" * ((1 << 20) + 1), "f", "SpecTooLarge"),
    ],
)
def test_refused_texts(data: bytes, place: str | None, code: str) -> None:
    found = refused(data)
    assert found[1] == code
    assert place in (None, found[0])


def test_keys_given_twice_are_all_told() -> None:
    document = parse_yaml(b"a: 1\nb: {c: 1, c: 2}\na: 3\n", "f")
    assert [(str(place), problem.code) for problem, place in document.problems] == [
        ("f:2:11", "SpecKeyTwice"),
        ("f:3:1", "SpecKeyTwice"),
    ]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_document_or_a_problem(data: bytes) -> None:
    try:
        document = parse_yaml(data, "f")
    except YamlProblem as wrong:
        wrong.problem.message.encode()
    else:
        repr(document.value).encode()


YAMLISH = st.text("ab:-[]{},&*!<>|'\"#%@ \n\t\\x0?~.1", max_size=60)


@given(YAMLISH)
def test_texts_that_are_nearly_yaml(text: str) -> None:
    try:
        parse_yaml(text.encode(), "f")
    except YamlProblem as wrong:
        wrong.problem.message.encode()


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc<", min_size=1), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(PLAIN)
def test_plain_values_are_read_as_the_library_reads_them(value: object) -> None:
    text = yaml.safe_dump(value)
    assert parse_yaml(text.encode(), "f").value == yaml.safe_load(text)
