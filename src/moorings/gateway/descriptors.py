"""The message types of the pinned Envoy, taken out of its own binary, so that what we send is exactly what it
knows.

Published Python packages of these types lag behind the binary and install top-level packages that clash with
it, so the types live in a private pool instead. This module must not know what a resource means.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, json_format, message, message_factory

from moorings.lib import atomic

_EXT = "envoy/extensions/"
ROOTS: tuple[str, ...] = (
    "envoy/service/discovery/v3/discovery.proto",
    "envoy/service/runtime/v3/rtds.proto",
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/config/route/v3/scoped_route.proto",
    "envoy/config/core/v3/extension.proto",
    "envoy/type/matcher/v3/http_inputs.proto",
    _EXT + "upstreams/http/v3/http_protocol_options.proto",
    _EXT + "load_balancing_policies/least_request/v3/least_request.proto",
    _EXT + "retry/host/previous_hosts/v3/previous_hosts.proto",
    _EXT + "filters/http/rbac/v3/rbac.proto",
    _EXT + "filters/http/buffer/v3/buffer.proto",
    _EXT + "filters/http/jwt_authn/v3/config.proto",
    _EXT + "filters/http/header_to_metadata/v3/header_to_metadata.proto",
)
"""Files whose messages appear in what we send; their imports follow by themselves."""

_NAME = re.compile(rb"\x0a([\x08-\x7f])([a-z0-9_]+/[a-z0-9_./]+\.proto)")
_FIELDS = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14))
"""Field numbers of a FileDescriptorProto: anything else means that we have run past its end."""
_MAX_FIELD_BYTES = 2_000_000


class Messages:
    """Message classes by full name, and JSON-form dicts -> `google.protobuf.Any`."""

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self._pool.Add(file)

    def type(self, full_name: str) -> Any:
        """The class of a message. Raises KeyError for a name the binary does not hold."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(full_name))

    def pack(self, type_name: str, body: Mapping[str, Any]) -> Any:
        """`body` (proto-JSON form) as an Any. Raises ValueError for what it does not know."""
        packed = self.type("google.protobuf.Any")()
        document = {"@type": f"type.googleapis.com/{type_name}", **body}
        try:
            json_format.ParseDict(document, packed, descriptor_pool=self._pool)
        except json_format.ParseError as problem:
            # Its first line names the field; the rest lists all fields there are.
            raise ValueError(str(problem).split("\n", 1)[0]) from problem
        return packed


def load(binary: Path, cache_dir: Path, sha256: str) -> Messages:
    """The types of `binary`, from the cache of an earlier start where there is one.

    The cache is named by the hash of the binary and of what is taken from it, so it can't be out of date; an
    unreadable one is made anew.
    Raises OSError when neither the binary nor the folder can be used: the machine's fault.
    """
    roots = hashlib.sha256("\n".join(ROOTS).encode()).hexdigest()
    cache = cache_dir / f"descriptors-{sha256[:16]}-{roots[:8]}.bin"
    try:
        return Messages(descriptor_pb2.FileDescriptorSet.FromString(cache.read_bytes()))
    except (OSError, message.DecodeError, TypeError, KeyError):
        files = extract(binary)
    atomic.write(cache, files.SerializeToString())
    return Messages(files)


def extract(binary: Path, roots: Sequence[str] = ROOTS) -> descriptor_pb2.FileDescriptorSet:
    """The descriptors of `roots` and all they import, imports first. Raises ValueError when one isn't in the
    binary."""
    with binary.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as image:
        found = {file.name: file for file in _descriptors(image)}
    if any_pb2.DESCRIPTOR.name not in found:
        found[any_pb2.DESCRIPTOR.name] = descriptor_pb2.FileDescriptorProto.FromString(
            any_pb2.DESCRIPTOR.serialized_pb
        )
    ordered: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for root in roots:
        _add(root, found, ordered)
    return descriptor_pb2.FileDescriptorSet(file=ordered.values())


def _add(
    name: str,
    found: Mapping[str, descriptor_pb2.FileDescriptorProto],
    ordered: dict[str, descriptor_pb2.FileDescriptorProto],
) -> None:
    if name in ordered:
        return
    if name not in found:
        raise ValueError(f"the Envoy binary holds no descriptor of {name}")
    for dependency in found[name].dependency:
        _add(dependency, found, ordered)
    ordered[name] = found[name]


def _descriptors(image: mmap.mmap) -> Iterator[descriptor_pb2.FileDescriptorProto]:
    """Every file descriptor in the image: a name that looks like one, then as many well-formed fields as
    follow."""
    for match in _NAME.finditer(image):
        start, name = match.start(), match.group(2)
        if len(name) != match.group(1)[0]:
            continue
        for end in reversed(_field_ends(image, start)[-4:]):
            file = _parse(image[start:end])
            if file is not None and file.name.encode() == name and _has_content(file):
                yield file
                break


def _has_content(file: descriptor_pb2.FileDescriptorProto) -> bool:
    return bool(file.message_type or file.enum_type or file.service or file.extension)


def _parse(data: bytes) -> descriptor_pb2.FileDescriptorProto | None:
    try:
        return descriptor_pb2.FileDescriptorProto.FromString(data)
    except Exception:  # noqa: BLE001 - boundary: arbitrary bytes, and each protobuf runtime has its own error
        return None


def _field_ends(image: mmap.mmap, start: int) -> list[int]:
    """Offsets after each top-level field from `start` on; the last few are candidates for the end of the
    message."""
    ends: list[int] = []
    at = start
    while True:
        try:
            tag, after = _varint(image, at)
            number, wire = tag >> 3, tag & 7
            if number not in _FIELDS or (number == 1 and at != start) or wire not in (0, 2):
                return ends
            value, after = _varint(image, after)
        except (IndexError, ValueError):
            return ends
        if wire == 2:
            if value > _MAX_FIELD_BYTES or after + value > len(image):
                return ends
            after += value
        at = after
        ends.append(at)


def _varint(image: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = image[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("not a varint")
