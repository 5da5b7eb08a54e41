"""The file between who decides and who serves: all resources of the data plane, replaced in one step. Knows
no Envoy.

The controller writes `snapshot.json`; the agent reads it and keeps `serving.json`, the last good resources
per endpoint, in the same form. Both hold keys: 0600.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorings.errors.exceptions import Failure
from moorings.gateway.admin import address_of
from moorings.gateway.envoy import ASSIGNMENT, Bundle, Resource, content_hash
from moorings.gateway.state import GatewayStatus
from moorings.gateway.waiting import is_room
from moorings.lib import atomic


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
    return atomic.write_if_changed(path, _encode(snapshot))


def read(path: Path) -> Snapshot | None:
    """The snapshot of `path`, or None when the file is absent or is no snapshot."""
    try:
        return _decode(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def signature(path: Path) -> tuple[int, ...]:
    """Differs whenever another file has been put at `path`."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return (0,)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def workers(bundles: Iterable[Bundle]) -> Iterator[tuple[str, str]]:
    """Cluster (`<endpoint>~<deployment>`) and address of every worker that takes traffic."""
    return ((cluster, address) for cluster, address in _hosts(bundles) if not is_room(address))


def rooms(bundles: Iterable[Bundle]) -> Iterator[tuple[str, str]]:
    """Cluster and socket of every waiting room."""
    return ((cluster, address) for cluster, address in _hosts(bundles) if is_room(address))


def _hosts(bundles: Iterable[Bundle]) -> Iterator[tuple[str, str]]:
    for bundle in bundles:
        for resource in bundle.resources:
            if resource.type == ASSIGNMENT:
                for group in resource.body["endpoints"]:
                    for host in group["lb_endpoints"]:
                        yield resource.name, address_of(host["endpoint"]["address"])


def write_status(path: Path, status: GatewayStatus) -> None:
    """Replace the status file. It is not synced to disk: after a power cut the agent writes a new one
    anyway."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(_status_json(status), sort_keys=True))
    temporary.chmod(0o600)
    temporary.replace(path)


def read_status(path: Path) -> GatewayStatus | None:
    """The status of `path`, or None when the file is absent or is no status."""
    try:
        data = json.loads(path.read_bytes())
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
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


def _encode(snapshot: Snapshot) -> bytes:
    return joined(snapshot.version, map(bundle_text, snapshot.bundles))


def joined(version: str, bundles: Iterable[bytes]) -> bytes:
    """A snapshot of bundles that are in their text form."""
    head, tail = json.dumps({"bundles": [], "version": version}).encode().split(b"[]", 1)
    return b"".join((head, b"[", b", ".join(bundles), b"]", tail))


def bundle_text(bundle: Bundle) -> bytes:
    """A bundle as it is in the file."""
    data = {
        "endpoint": bundle.endpoint,
        "version": bundle.version,
        "caps": dict(bundle.caps),
        "resources": [[r.type, r.name, r.version, r.body] for r in bundle.resources],
    }
    return json.dumps(data, sort_keys=True).encode()


def _decode(data: Mapping[str, Any]) -> Snapshot:
    bundles = tuple(
        Bundle(
            endpoint=item["endpoint"],
            resources=tuple(
                Resource(kind, name, body, version) for kind, name, version, body in item["resources"]
            ),
            caps=item["caps"],
            version=item["version"],
        )
        for item in data["bundles"]
    )
    return Snapshot(data["version"], bundles)
