"""Writing states as snapshots, again and again: what has not changed since the last time is neither made nor put into words
again. It must not know what a state means, nor who reads the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from moorings.gateway import snapshot
from moorings.gateway.envoy import Part, hosts_of, parts
from moorings.gateway.state import GatewayState, Published
from moorings.lib import atomic


@dataclass(frozen=True)
class _Made:
    """A bundle as it was written, and what it was made of."""

    part: Part
    version: str
    text: bytes


@dataclass
class Publication:
    """One snapshot file. Blocks; not for two threads at once."""

    path: Path
    _made: Mapping[str, _Made] = field(default_factory=dict)
    _names: tuple[str, ...] = ()
    _hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of these names: which hosts an endpoint has depends on what the others are called."""
    _published: Published | None = None
    _signature: tuple[int, ...] | None = None
    """Of the file that holds what was published: another one means that another process has written it."""

    def put(self, state: GatewayState) -> tuple[Published, bool]:
        """Make the file hold `state`; returns what was published, and whether the file had to be written.

        Raises ValueError for a rate limit out of range, OSError when the file cannot be written.
        """
        before = self._last()
        names = tuple(endpoint.name for endpoint in state.endpoints)
        if names != self._names:
            self._names, self._hosts = names, hosts_of(names)
        made = parts(state, self._hosts)
        self._made = {name: self._of(name, part) for name, part in sorted(made.items())}
        endpoints = {name: made.version for name, made in self._made.items()}
        version = snapshot.next_version(endpoints, before.version if before is not None else "")
        published = Published.after(before, version, endpoints)
        written = before is None or version != before.version
        if written:
            atomic.write(self.path, snapshot.joined(version, (made.text for made in self._made.values())))
        self._published, self._signature = published, snapshot.signature(self.path)
        return published, written

    def _of(self, name: str, part: Part) -> _Made:
        known = self._made.get(name)
        if known is not None and known.part == part:
            return known
        bundle = part.bundle()
        return _Made(part, bundle.version, snapshot.bundle_text(bundle))

    def _last(self) -> Published | None:
        """What the file holds."""
        if self._published is not None and snapshot.signature(self.path) == self._signature:
            return self._published
        found = snapshot.read(self.path)
        return None if found is None else Published(found.version, found.endpoints)
