"""What the resolver answered: every package with its version and hashes, and the key that names the outcome.

Pure.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Locked:
    """A complete list of what to install."""

    packages: tuple[tuple[str, tuple[str, ...]], ...]
    """(`name==version` or `name @ address`, its hashes), sorted."""

    @property
    def hashed(self) -> bool:
        """Whether every package is held by a hash (a repository address is held by its commit instead)."""
        return all(hashes for _, hashes in self.packages)


def parse_lock(text: str) -> Locked:
    """Read the resolver's output: requirements with `--hash=` continuations."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split("#", 1)[0] if line.lstrip().startswith("#") else line
        head, *hashes = words.split(" --hash=")
        if head.strip():
            found.append((head.strip(), tuple(sorted(one.strip() for one in hashes))))
    return Locked(tuple(sorted(found)))


def build_key(locked: Locked, *, server: str, server_sha256: str, python_version: str, platform: str) -> str:
    """16 hex digits that name an environment by everything that is in it.

    The wheel of the inference server counts by its content, not by where it lies.
    """
    packages = [
        [head, hashes] if head.partition(" @ ")[0] != server else [server, (server_sha256,)]
        for head, hashes in locked.packages
    ]
    content = json.dumps([packages, python_version, platform], separators=(",", ":"))
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:16]
