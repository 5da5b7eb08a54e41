"""The file between who decides and who serves: all resources of the data plane, replaced in one step. Knows
no Envoy.

The controller writes `snapshot.json`; the agent reads it and keeps `serving.json`, the last good resources
per endpoint, in the same form. Both hold keys: 0600.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from moorings.errors.exceptions import Failure
from moorings.gateway.envoy import Bundle, Resource, content_hash
from moorings.gateway.state import GatewayStatus
from moorings.lib import atomic

_HEAD, _BETWEEN, _TAIL = b'{"bundles": [\n', b",\n", b"\n], "
_TICK_S = 0.1
"""Longer than any tick of the clock of a file system."""


@dataclass(frozen=True)
class Snapshot:
    """Bundles sorted by endpoint; `version` is `<hash of their versions>-<serial>`."""

    version: str
    bundles: tuple[Bundle, ...]

    @property
    def endpoints(self) -> dict[str, str]:
        """Endpoint name -> version of its bundle."""
        return {bundle.endpoint: bundle.version for bundle in self.bundles}


def of(bundles: Iterable[Bundle], *, after: Snapshot | None = None) -> Snapshot:
    """The snapshot of exactly these bundles; `after` itself when it holds just them, else with the next serial."""
    ordered = tuple(sorted(bundles, key=lambda bundle: bundle.endpoint))
    endpoints = {bundle.endpoint: bundle.version for bundle in ordered}
    version = next_version(endpoints, after.version if after is not None else "")
    return after if after is not None and version == after.version else Snapshot(version, ordered)


def next_version(endpoints: Mapping[str, str], after: str) -> str:
    """The version of a snapshot of these bundles (endpoint -> version); `after` itself where it is of just them, else with
    the next serial."""
    content = content_hash(sorted([name, version] for name, version in endpoints.items()))
    before, _, serial = after.partition("-")
    return after if before == content else f"{content}-{int(serial or 0) + 1}"


def write(path: Path, snapshot: Snapshot) -> bool:
    """Make `path` hold the snapshot (0600). True when it was written, False when it held it already."""
    return SnapshotFile(path).write(snapshot)


def read(path: Path) -> Snapshot | None:
    """The snapshot of `path`, or None when the file is absent or is no snapshot."""
    return SnapshotFile(path).read()


class SnapshotFile:
    """One file that is read, or written, again and again: bundles that are as they were are neither decoded nor encoded
    again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decoded: dict[bytes, Bundle] = {}
        """By a hash of their text."""
        self._encoded: dict[str, tuple[str, bytes]] = {}
        """Version and text by endpoint."""

    def read(self) -> Snapshot | None:
        """None when the file is absent or is no snapshot."""
        try:
            return self._decode(self._path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, snapshot: Snapshot) -> bool:
        """Make the file hold the snapshot (0600). True when it was written, False when it held it already."""
        known = self._encoded
        self._encoded = {
            bundle.endpoint: found
            if (found := known.get(bundle.endpoint)) is not None and found[0] == bundle.version
            else (bundle.version, bundle_text(bundle))
            for bundle in snapshot.bundles
        }
        texts = (self._encoded[bundle.endpoint][1] for bundle in snapshot.bundles)
        return atomic.write_if_changed(self._path, joined(snapshot.version, texts))

    def _decode(self, data: bytes) -> Snapshot:
        if not data.startswith(_HEAD):  # none in it, or written by an older version
            found = json.loads(data)
            return Snapshot(found["version"], tuple(map(_bundle, found["bundles"])))
        body, _, tail = data[len(_HEAD) :].rpartition(_TAIL)
        version = json.loads(b"{" + tail)["version"]
        decoded: dict[bytes, Bundle] = {}
        for text in body.split(_BETWEEN):
            key = hashlib.blake2b(text, digest_size=16).digest()
            decoded[key] = self._decoded.get(key) or _bundle(json.loads(text))
        self._decoded = decoded
        return Snapshot(version, tuple(decoded.values()))


def signature(path: Path) -> tuple[int, ...]:
    """Differs whenever another file has been put at `path`."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - asked for thousands of times a second, at half the price
    except FileNotFoundError:
        return (0,)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def workers(bundles: Iterable[Bundle]) -> Iterator[tuple[str, str]]:
    """Cluster (`<endpoint>~<deployment>`) and address of every worker that takes traffic."""
    return chain.from_iterable(bundle.workers for bundle in bundles)


def rooms(bundles: Iterable[Bundle]) -> Iterator[tuple[str, str]]:
    """Cluster and socket of every waiting room."""
    return chain.from_iterable(bundle.rooms for bundle in bundles)


def write_status(path: Path, status: GatewayStatus) -> None:
    """Replace the status file. It is not synced to disk: after a power cut the agent writes a new one
    anyway."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(_status_json(status), sort_keys=True))
    temporary.chmod(0o600)
    temporary.replace(path)


def read_status(path: Path) -> GatewayStatus | None:
    """The status of `path`, or None when the file is absent or is no status."""
    return StatusFile(path).read()


class StatusFile:
    """A status that is read far more often than it changes: each text is decoded once. For any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[tuple[int, ...] | None, bytes, GatewayStatus | None] = (None, b"", None)
        """The signature of a file that is old enough to be told from any other by it, its text, and what that says."""

    def read(self) -> GatewayStatus | None:
        """None when the file is absent or is no status."""
        known, text, decoded = self._known
        seen = signature(self._path)
        if seen == known:
            return decoded
        try:
            found = self._path.read_bytes()
        except OSError:
            found = b""
        if found != text:
            decoded = _status(found)
        # The signature was taken first, so an older file is never kept for a newer one; and a file that is this young may
        # be replaced by another that looks the same, within one tick of the clock of the file system.
        old = time.time() - seen[0] / 1e9 > _TICK_S
        self._known = (seen if old else None, found, decoded)
        return decoded


def _status(text: bytes) -> GatewayStatus | None:
    try:
        data = json.loads(text)
        return GatewayStatus(
            snapshot_version=data["snapshot_version"],
            accepted=data["accepted"],
            rejected=data["rejected"],
            healthy={cluster: tuple(workers) for cluster, workers in data["healthy"].items()},
            envoy_pid=data["envoy_pid"],
            ready=data["ready"],
            failure=data["failure"],
            problem=Failure.from_json(data["problem"]) if data["problem"] else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _status_json(status: GatewayStatus) -> dict[str, Any]:
    return {
        "snapshot_version": status.snapshot_version,
        "accepted": dict(status.accepted),
        "rejected": dict(status.rejected),
        "healthy": {cluster: list(workers) for cluster, workers in status.healthy.items()},
        "envoy_pid": status.envoy_pid,
        "ready": status.ready,
        "failure": status.failure,
        "problem": status.problem.to_json() if status.problem else None,
    }


def joined(version: str, bundles: Iterable[bytes]) -> bytes:
    """A snapshot of bundles that are in their text form: JSON with a line for each, for texts hold no line break."""
    tail = json.dumps({"version": version}).encode()[1:]
    pieces = list(bundles)
    if not pieces:
        return b'{"bundles": [], ' + tail
    pieces[0] = _HEAD + pieces[0]
    pieces[-1] += _TAIL + tail
    return _BETWEEN.join(pieces)  # once: there may be very many


def bundle_text(bundle: Bundle) -> bytes:
    """A bundle as it is in the file."""
    data = {
        "endpoint": bundle.endpoint,
        "version": bundle.version,
        "caps": dict(bundle.caps),
        "resources": [[r.type, r.name, r.version, r.body] for r in bundle.resources],
    }
    return json.dumps(data, sort_keys=True).encode()


def _bundle(item: Mapping[str, Any]) -> Bundle:
    return Bundle(
        endpoint=item["endpoint"],
        resources=tuple(
            Resource(kind, name, body, version) for kind, name, version, body in item["resources"]
        ),
        caps=item["caps"],
        version=item["version"],
    )
