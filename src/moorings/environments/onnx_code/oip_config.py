"""Reading `config.pbtxt` of a model repository: name, batch size, tensors, which versions are served.

The file is protobuf text. All of it is parsed, so that a mistake is found wherever it is; the fields that mean something
here are taken from the outcome. (The protobuf library could only read it with a description of every field there is:
it cannot skip lists of messages that it does not know.)
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional

_TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<word>[A-Za-z_][\w.\-/]*) | (?P<number>-?\s*[0-9.][\w.+\-]*) | (?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE,
)
_CLOSING = {"{": "}", "<": ">"}
_DATA_TYPES = {
    **{"TYPE_" + name: name for name in ("BOOL", "FP16", "FP32", "FP64", "BF16")},
    **{
        "TYPE_%s%d" % (kind, bits): "%s%d" % (kind, bits)
        for kind in ("INT", "UINT")
        for bits in (8, 16, 32, 64)
    },
    "TYPE_STRING": "BYTES",
}
_DEEPEST = 50

Message = Dict[str, List[Any]]
"""Field -> its values in order: texts, whole numbers, words, messages."""


class ConfigError(ValueError):
    """The file cannot be read, or asks for what is not there. The user's fault."""


class Word(str):
    """A value that is a bare word: `true`, `TYPE_FP32`."""


# --- protobuf text --------------------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    def message(self, end: Optional[str], depth: int = 0) -> Message:
        found: Message = {}
        if depth > _DEEPEST:
            raise self._unexpected("less nesting")
        while self._mark() != end:
            kind, name, _ = self._tokens[self._at]
            if kind != "word":
                raise self._unexpected("the name of a field")
            self._at += 1
            colon = self._take(":")
            value = self._values(colon, depth)
            found.setdefault(name, []).extend(value)
            self._take(",") or self._take(";")
        self._at += 1
        return found

    def _values(self, colon: bool, depth: int) -> List[Any]:
        if not self._take("["):
            return [self._value(colon, depth)]
        found: List[Any] = []
        while not self._take("]"):
            found.append(self._value(True, depth))
            if not self._take(",") and self._mark() != "]":
                raise self._unexpected("',' or ']'")
        return found

    def _value(self, scalar: bool, depth: int) -> Any:
        kind, token, _ = self._tokens[self._at]
        if kind == "mark" and token in _CLOSING:
            self._at += 1
            return self.message(_CLOSING[token], depth + 1)
        if not scalar or kind not in ("text", "word", "number"):
            raise self._unexpected("a value")
        self._at += 1
        if kind == "text":
            while self._tokens[self._at][0] == "text":  # texts that stand side by side are one
                token += self._tokens[self._at][1]
                self._at += 1
            return token
        if kind == "number":
            return _number(token)
        return Word(token)

    def _mark(self) -> Optional[str]:
        kind, token, _ = self._tokens[self._at]
        return None if kind == "end" else token if kind == "mark" else ""

    def _take(self, mark: str) -> bool:
        if self._mark() != mark:
            return False
        self._at += 1
        return True

    def _unexpected(self, wanted: str) -> ConfigError:
        kind, token, line = self._tokens[self._at]
        found = "the end of the file" if kind == "end" else repr(token)
        return ConfigError("config.pbtxt line %d: expected %s, found %s" % (line, wanted, found))


def _tokens(text: str) -> Any:
    at, line = 0, 1
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ConfigError("config.pbtxt line %d: %r is not understood" % (line, text[at : at + 10]))
        if found.lastgroup == "text":
            yield "text", re.sub(r"\\(.)", r"\1", found[0][1:-1]), line
        elif found.lastgroup is not None:
            yield found.lastgroup, found[0], line
        line += found[0].count("\n")
        at = found.end()
    yield "end", "", line


def _number(token: str) -> Any:
    try:
        return int(token.replace(" ", ""), 0)
    except ValueError:
        try:
            return float(token.replace(" ", "").rstrip("fF"))
        except ValueError as failure:
            raise ConfigError("config.pbtxt: %s is no number" % token) from failure


def parse(text: str) -> Message:
    """Raises ConfigError with the line of what cannot be understood."""
    return _Reader(text).message(None)


# --- what it means --------------------------------------------------------------------------------------------------


def _one(message: Message, name: str, kind: Any, default: Any) -> Any:
    """The last value of a field. Raises ConfigError for a value of another kind."""
    values = message.get(name, [default])
    if not values or isinstance(values[-1], bool) or not isinstance(values[-1], kind):
        raise ConfigError("config.pbtxt: %s is %r" % (name, values[-1] if values else []))
    return values[-1]


def _sizes(message: Message, name: str) -> List[int]:
    values = message.get(name, [])
    if not all(isinstance(value, int) and value >= -1 for value in values):
        raise ConfigError("config.pbtxt: %s is %r: expected whole numbers of -1 or more" % (name, values))
    return values


class TensorConfig:
    """One input or output. `dims` are without the batch; `datatype` is `FP32` and the like, None where it is left
    open; `reshape`: the shape that the model itself has, where it is another one."""

    def __init__(self, message: Message) -> None:
        self.name: str = _one(message, "name", str, "")
        kind = _one(message, "data_type", str, "TYPE_INVALID")
        if kind not in _DATA_TYPES and kind != "TYPE_INVALID":
            raise ConfigError("config.pbtxt: data_type of %r is %s" % (self.name, kind))
        self.datatype: Optional[str] = _DATA_TYPES.get(kind)
        self.dims = _sizes(message, "dims")
        reshape = _messages(message, "reshape")
        self.reshape: Optional[List[int]] = _sizes(reshape[-1], "shape") if reshape else None


class ModelConfig:
    """What a `config.pbtxt` says; a model without one has the defaults."""

    def __init__(self, message: Message) -> None:
        self.name: str = _one(message, "name", str, "")
        self.max_batch_size: int = _one(message, "max_batch_size", int, 0)
        self.file_name: str = _one(message, "default_model_filename", str, "model.onnx")
        self.inputs = [TensorConfig(one) for one in _messages(message, "input")]
        self.outputs = [TensorConfig(one) for one in _messages(message, "output")]
        self._backend: str = _one(message, "backend", str, "")
        self._platform: str = _one(message, "platform", str, "")
        self._policy = (_messages(message, "version_policy") or [{}])[-1]
        if self.max_batch_size < 0:
            raise ConfigError("config.pbtxt: max_batch_size is %d" % self.max_batch_size)
        if "/" in self.file_name or self.file_name in ("", "..", "."):
            raise ConfigError("config.pbtxt: default_model_filename is %r" % self.file_name)

    def foreign(self) -> Optional[str]:
        """The backend or platform that is asked for, when it is not the one for ONNX files."""
        if self._backend not in ("", "onnxruntime"):
            return "backend %r" % self._backend
        if self._platform not in ("", "onnxruntime_onnx"):
            return "platform %r" % self._platform
        return None

    def served(self, found: List[int]) -> List[int]:
        """Which of the versions that are there are served, ascending: the newest, unless a policy says otherwise.
        Raises ConfigError for a specific version that is not there."""
        if "specific" in self._policy:
            wanted = sorted(set(_sizes(_messages(self._policy, "specific")[-1], "versions")))
            missing = [version for version in wanted if version not in found]
            if missing or not wanted:
                said = "version %d, which is not there" % missing[0] if missing else "no version"
                raise ConfigError("config.pbtxt: version_policy names %s" % said)
            return wanted
        if "all" in self._policy:
            return sorted(found)
        latest = _messages(self._policy, "latest") or [{}]
        return sorted(found)[-max(1, _one(latest[-1], "num_versions", int, 1)) :]


def _messages(message: Message, name: str) -> List[Message]:
    values = message.get(name, [])
    if not all(isinstance(value, dict) for value in values):
        raise ConfigError("config.pbtxt: %s is no message: expected %s { ... }" % (name, name))
    return values


def read_config(text: str) -> ModelConfig:
    """Raises ConfigError."""
    return ModelConfig(parse(text))
