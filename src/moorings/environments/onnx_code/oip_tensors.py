"""Tensors of the Open Inference Protocol (v2) to numpy and back: as JSON numbers, or as binary data behind the JSON.

Knows shapes and types; nothing of models and of HTTP.
"""

from __future__ import annotations

import struct
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

DTYPES = {
    "BOOL": np.dtype("bool"),
    "UINT8": np.dtype("uint8"),
    "UINT16": np.dtype("uint16"),
    "UINT32": np.dtype("uint32"),
    "UINT64": np.dtype("uint64"),
    "INT8": np.dtype("int8"),
    "INT16": np.dtype("int16"),
    "INT32": np.dtype("int32"),
    "INT64": np.dtype("int64"),
    "FP16": np.dtype("float16"),
    "FP32": np.dtype("float32"),
    "FP64": np.dtype("float64"),
    "BYTES": np.dtype(object),
}
OF_ONNX = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
LONGEST_DIMENSION = 2**31


class TensorError(ValueError):
    """The tensor of a request cannot be taken. The caller's fault; the text names the tensor."""


def shape_of(name: str, given: Any) -> Tuple[int, ...]:
    """Raises TensorError."""
    if not isinstance(given, list) or not all(
        type(size) is int and 0 <= size < LONGEST_DIMENSION for size in given
    ):
        raise TensorError("input %r: shape is a list of whole numbers of 0 or more, not %r" % (name, given))
    return tuple(given)


def fits(shape: Sequence[int], dims: Sequence[int]) -> bool:
    """Whether a shape is one of those that `dims` allows; -1 stands for any size."""
    return len(shape) == len(dims) and all(want in (-1, size) for size, want in zip(shape, dims))


def count(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def from_json(name: str, data: Any, datatype: str, shape: Tuple[int, ...]) -> Any:
    """The array of `data`, a list that is nested as the shape is, or flat. Raises TensorError."""
    if not isinstance(data, list):
        raise TensorError("input %r: data is a list, not %s" % (name, type(data).__name__))
    try:
        array = np.array(data, dtype=object) if datatype == "BYTES" else np.array(data)
    except (ValueError, OverflowError) as failure:
        raise TensorError("input %r: data is not a regular list: %s" % (name, failure)) from failure
    if array.size != count(shape):
        message = "input %r: shape %s has %d elements, and data has %d"
        raise TensorError(message % (name, list(shape), count(shape), array.size))
    if array.ndim > 1 and array.shape != shape:
        raise TensorError(
            "input %r: data is nested as %s, and shape is %s" % (name, list(array.shape), list(shape))
        )
    if datatype == "BYTES":
        if not all(isinstance(value, str) for value in array.flat):
            raise TensorError("input %r: BYTES data in JSON is texts" % name)
        return array.reshape(shape)
    return _typed(name, array, datatype).reshape(shape)


def _typed(name: str, array: Any, datatype: str) -> Any:
    wanted = DTYPES[datatype]
    if array.size == 0:
        return np.zeros(0, wanted)
    kind = array.dtype.kind
    if datatype == "BOOL":
        if kind == "b" or (kind in "iu" and bool(np.isin(array, (0, 1)).all())):
            return array.astype(wanted)
        raise TensorError("input %r: BOOL data is true or false" % name)
    if wanted.kind == "f":
        if kind in "iuf":
            return array.astype(wanted)
        raise TensorError(
            "input %r: %s data is numbers, and there is something else in it" % (name, datatype)
        )
    if kind not in "iu":
        raise TensorError(
            "input %r: %s data is whole numbers, and there is something else in it" % (name, datatype)
        )
    limits = np.iinfo(wanted)
    if int(array.min()) < limits.min or int(array.max()) > limits.max:
        message = "input %r: %s data is from %d to %d, and there is another number in it"
        raise TensorError(message % (name, datatype, limits.min, limits.max))
    return array.astype(wanted)


def from_binary(name: str, data: memoryview, datatype: str, shape: Tuple[int, ...]) -> Any:
    """The array of little-endian, row-major bytes. Raises TensorError."""
    if datatype == "BYTES":
        return _texts(name, data, shape)
    wanted = DTYPES[datatype].newbyteorder("<")
    if len(data) != count(shape) * wanted.itemsize:
        message = "input %r: shape %s of %s has %d bytes, and binary_data_size is %d"
        raise TensorError(message % (name, list(shape), datatype, count(shape) * wanted.itemsize, len(data)))
    if datatype == "BOOL":
        return (np.frombuffer(data, "uint8") != 0).reshape(shape)
    return np.frombuffer(data, wanted).reshape(shape)


def _texts(name: str, data: memoryview, shape: Tuple[int, ...]) -> Any:
    """Each element: its length in four bytes, then itself."""
    found: List[str] = []
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise TensorError("input %r: the binary data ends within a length" % name)
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + length > len(data):
            raise TensorError("input %r: the binary data ends within an element" % name)
        try:
            found.append(bytes(data[at : at + length]).decode("utf-8"))
        except UnicodeDecodeError as failure:
            raise TensorError("input %r: element %d is not UTF-8" % (name, len(found))) from failure
        at += length
    if len(found) != count(shape):
        message = "input %r: shape %s has %d elements, and the binary data has %d"
        raise TensorError(message % (name, list(shape), count(shape), len(found)))
    array = np.empty(len(found), dtype=object)
    array[:] = found
    return array.reshape(shape)


def to_json(name: str, array: Any, datatype: str) -> List[Any]:
    """The elements in row-major order. Raises TensorError for what JSON has no word for."""
    if DTYPES[datatype].kind == "f" and not bool(np.isfinite(array).all()):
        raise TensorError(
            "output %r holds values that JSON has no number for (NaN or infinite): ask for it as binary data"
            % name
        )
    return [_text(value) for value in array.flat] if datatype == "BYTES" else array.ravel().tolist()


def to_binary(array: Any, datatype: str) -> bytes:
    """Little-endian, row-major; texts with their length in front."""
    if datatype == "BYTES":
        encoded = [_text(value).encode("utf-8") for value in array.flat]
        return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
    return np.ascontiguousarray(array, DTYPES[datatype].newbyteorder("<")).tobytes()


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def model_dims(shape: Optional[Sequence[Any]]) -> List[int]:
    """A shape as ONNX has it: sizes that are named or open are -1."""
    return [size if isinstance(size, int) and size >= 0 else -1 for size in shape or []]
