"""Who sent a request to the control API, as a value that travels with it. Knows no HTTP library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CALLER = "moorings.caller"
"""Key in the scope of a request."""


@dataclass(frozen=True)
class Caller:
    """The owner of this machine's workspace, or a principal that showed a token."""

    name: str
    principal: str | None = None
    """Principal id; None: the owner, who may do everything."""
    kind: str = "owner"


OWNER_CALLER = Caller("owner")
"""Whoever can open the workspace's socket, or holds its identity secret."""


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """Who a request is from; requests over the unix socket carry nothing, and are its owner's."""
    found = scope.get(CALLER)
    return found if isinstance(found, Caller) else OWNER_CALLER
