"""YAML text -> plain values with the place of every key and value, within firm bounds. Knows no spec and no
file system.

Only the event stream of the YAML library is used: values are put together here, so that the depth, the number
of values
and what aliases multiply to are bounded before anything is built, and no tag can name a Python object.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from moorings.spec.places import Place, Places, Source
from moorings.spec.problems import FieldPath, Problem, shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_VALUES = 20_000
"""Values of one document, aliases counted as often as they stand for something."""

MAX_WHOLE = (1 << 63) - 1

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq")}


@dataclass(frozen=True)
class YamlProblem(Exception):  # noqa: N818 - carried to the caller, who makes it a coded failure
    """Why a text is no document; raised by `parse_yaml`."""

    problem: Problem
    place: Place


@dataclass(frozen=True)
class Document:
    value: Any
    places: Places
    problems: tuple[tuple[Problem, Place], ...] = ()
    """What is wrong although the rest could be read: keys given twice, scalars that cannot be kept."""


def parse_yaml(data: bytes, name: str) -> Document:
    """The one document in `data`, which its user calls `name`.

    Raises YamlProblem when it is too large, no UTF-8, no YAML, holds several documents or tags, or nests too deep.
    Any bytes give a Document or a YamlProblem.
    """
    whole = Place(Source(name))
    if len(data) > MAX_BYTES:
        _refuse(whole, f"{len(data)} bytes; a spec is at most {MAX_BYTES}", "SpecTooLarge")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = data.count(b"\n", 0, wrong.start) + 1
        place = Place(Source(name), line, wrong.start - data.rfind(b"\n", 0, wrong.start))
        _refuse(place, f"byte 0x{data[wrong.start]:02x} is not UTF-8 text", "SpecNotYaml")
    source = Source(name, tuple(text.splitlines()))
    return _Reader(source).read(text)


def _refuse(place: Place, message: str, code: str) -> NoReturn:
    raise YamlProblem(Problem((), message, code), place)


@dataclass(frozen=True)
class _Node:
    """A value that was read. `size` is how many values it stands for, with its aliases unfolded."""

    place: Place
    size: int


@dataclass(frozen=True)
class _Scalar(_Node):
    value: Any
    raw: str | None
    """Its text, where YAML took it for something else than text."""


@dataclass(frozen=True)
class _List(_Node):
    items: tuple[_Node, ...]


@dataclass(frozen=True)
class _Map(_Node):
    entries: tuple[tuple[str, Place, _Node], ...]


@dataclass
class _Reader:
    source: Source
    anchors: dict[str, _Node | None] = field(default_factory=dict)
    """Anchor -> node; None while the node is being read."""
    problems: list[tuple[Problem, Place]] = field(default_factory=list)
    values: int = 0

    def read(self, text: str) -> Document:
        try:
            events = yaml.parse(text, Loader=_LOADER)
            root = self._document(events)
        except yaml.MarkedYAMLError as wrong:
            place = self._place(wrong.problem_mark or wrong.context_mark)
            parts = [part for part in (wrong.context, wrong.problem) if part]
            _refuse(place, f"this is not YAML: {', '.join(parts)}", "SpecNotYaml")
        except yaml.reader.ReaderError as wrong:
            place = self._place_at(text, wrong.position)
            _refuse(place, f"this is not YAML: {wrong.reason}", "SpecNotYaml")
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as wrong:
            reason = str(wrong).splitlines()[0] if str(wrong) else type(wrong).__name__
            _refuse(Place(self.source), f"this is not YAML: {reason}", "SpecNotYaml")
        place = root.place if root is not None else Place(self.source)
        places = Places(Place(self.source, 1, 1) if root is not None else place)
        value = _unfold(root, (), places) if root is not None else None
        return Document(value, places, tuple(self.problems))

    def _place(self, mark: Any) -> Place:
        return Place(self.source, mark.line + 1, mark.column + 1) if mark is not None else Place(self.source)

    def _place_at(self, text: str, position: Any) -> Place:
        if not isinstance(position, int) or not 0 <= position <= len(text):
            return Place(self.source)
        before = text[:position]
        return Place(self.source, before.count("\n") + 1, position - before.rfind("\n"))

    def _document(self, events: Iterator[Any]) -> _Node | None:
        root: _Node | None = None
        seen = False
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    _refuse(
                        self._place(event.start_mark),
                        "a second document begins here; give one",
                        "SpecNotYaml",
                    )
                seen = True
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, 0)
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> _Node:
        place = self._place(event.start_mark)
        if depth > MAX_DEPTH:
            _refuse(place, f"nested more than {MAX_DEPTH} levels deep", "SpecTooLarge")
        if isinstance(event, yaml.AliasEvent):
            return self._bounded(self._alias(event.anchor, place), place)
        self._check_tag(event, place)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        node: _Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(events, place, depth)
        else:
            node = self._map(events, place, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        self.values += 1
        return self._bounded(node, place)

    def _bounded(self, node: _Node, place: Place) -> _Node:
        if max(node.size, self.values) > MAX_VALUES:
            _refuse(
                place,
                f"more than {MAX_VALUES} values (aliases counted as what they stand for)",
                "SpecTooLarge",
            )
        return node

    def _alias(self, anchor: str | None, place: Place) -> _Node:
        if anchor is None or anchor not in self.anchors:
            _refuse(place, f"this is not YAML: the alias *{anchor} has no anchor before it", "SpecNotYaml")
        node = self.anchors[anchor]
        if node is None:
            _refuse(place, f"the alias *{anchor} contains itself", "SpecNotYaml")
        return node

    def _check_tag(self, event: Any, place: Place) -> None:
        if event.tag is not None and event.tag != "!" and event.tag not in _TAGS:
            tag = event.tag.replace(_TAG, "!!")
            _refuse(place, f"the tag {shown(tag)} is not taken; write the value without a tag", "SpecNotYaml")

    def _list(self, events: Iterator[Any], place: Place, depth: int) -> _List:
        items: list[_Node] = []
        size = 1
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events, depth + 1))
            size += items[-1].size
        return _List(place, size, tuple(items))

    def _map(self, events: Iterator[Any], place: Place, depth: int) -> _Map:
        own: dict[str, tuple[Place, _Node]] = {}
        merged: dict[str, tuple[Place, _Node]] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key_place = self._place(event.start_mark)
            key_node = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(key_node, _Scalar):
                self._note("a key is text, not a list or a mapping", key_place)
                continue
            plain = key_node.raw if key_node.raw is not None else str(key_node.value)
            if plain == "<<" and _is_plain(event):
                self._merge(value, merged)
            elif plain in own:
                first = own[plain][0]
                self._note(
                    f"the key {shown(plain)} is given twice (first in line {first.line})",
                    key_place,
                    "SpecKeyTwice",
                )
            else:
                own[plain] = (key_place, value)
        entries = tuple((key, at, node) for key, (at, node) in {**merged, **own}.items())
        return _Map(place, 1 + sum(node.size for _, _, node in entries), entries)

    def _merge(self, value: _Node, merged: dict[str, tuple[Place, _Node]]) -> None:
        for node in value.items if isinstance(value, _List) else (value,):
            if not isinstance(node, _Map):
                self._note("`<<` takes a mapping or a list of mappings", node.place)
                continue
            for key, at, item in node.entries:
                merged.setdefault(key, (at, item))

    def _note(self, message: str, place: Place, code: str = "SpecNotYaml") -> None:
        self.problems.append((Problem((), message, code), place))

    def _scalar(self, event: Any, place: Place) -> _Scalar:
        text: str = event.value
        bad = next((c for c in text if 0xD800 <= ord(c) <= 0xDFFF), None)
        if bad is not None:
            self._note(
                f"the text has half a surrogate pair (\\u{ord(bad):04x}), which is no character", place
            )
            return _Scalar(place, 1, text.encode("utf-8", "replace").decode(), None)
        if event.tag not in (None, "!"):
            kind = event.tag.removeprefix(_TAG)
        elif event.tag is None and _is_plain(event):
            kind = _plain_kind(text)
        else:
            kind = "str"
        value = _value_of(kind, text)
        return _Scalar(place, 1, value, None if isinstance(value, str) or value is None else text)


_RESOLVER: Any = yaml.resolver.Resolver()
_CONSTRUCTOR: Any = yaml.constructor.SafeConstructor()


def _is_plain(event: Any) -> bool:
    """Whether the event is a scalar written without quotes."""
    return isinstance(event, yaml.ScalarEvent) and not event.style


def scalar_value(text: str) -> Any:
    """What `text` stands for as a plain scalar: a number, true or false, nothing, else the text itself."""
    return _value_of(_plain_kind(text), text)


def _plain_kind(text: str) -> str:
    return str(_RESOLVER.resolve(yaml.ScalarNode, text, (True, False))).removeprefix(_TAG)


def _value_of(kind: str, text: str) -> Any:
    """The value of a scalar. Whatever JSON cannot carry (dates, not-a-number, huge numbers) stays its
    text."""
    node = yaml.ScalarNode(_TAG + kind, text)
    try:
        if kind == "null":
            return None
        if kind == "bool":
            return _CONSTRUCTOR.construct_yaml_bool(node)
        if kind == "int":
            number = _CONSTRUCTOR.construct_yaml_int(node)
            return number if -MAX_WHOLE <= number <= MAX_WHOLE else text
        if kind == "float":
            number = _CONSTRUCTOR.construct_yaml_float(node)
            return number if math.isfinite(number) else text
    except (ValueError, OverflowError, KeyError, IndexError):
        return text
    return text


def _unfold(node: _Node, path: FieldPath, places: Places) -> Any:
    places.values[path] = node.place
    if isinstance(node, _Scalar):
        if node.raw is not None:
            places.raw[path] = node.raw
        return node.value
    if isinstance(node, _List):
        return [_unfold(item, (*path, index), places) for index, item in enumerate(node.items)]
    assert isinstance(node, _Map)
    value: dict[str, Any] = {}
    for key, at, item in node.entries:
        places.keys[(*path, key)] = at
        value[key] = _unfold(item, (*path, key), places)
    return value
