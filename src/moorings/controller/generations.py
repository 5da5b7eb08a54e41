"""Which generation of a deployment serves, and which one failed: written down when a rollout is complete, and asked for
while the next one goes on or after it has failed. Pure; works on stored statuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moorings.controller.plan import Good

_KEY = "served"


def note_served(
    status: dict[str, Any], generation: int, revision: str, spec: Mapping[str, Any], count: int, now: float
) -> None:
    """The whole of this generation serves, with `count` instances (which scaling changes without another generation). What
    was its limits and times is kept with it: they hold for its instances for as long as they are the ones that serve."""
    known = status.get(_KEY)
    same = known is not None and (known["generation"], known["revision"]) == (generation, revision)
    if known is not None and same and known["count"] == count:
        return
    status[_KEY] = {
        "generation": generation,
        "revision": revision,
        "count": count,
        "since": known["since"] if known is not None and same else now,
        "spec": dict(spec),
    }


def good_of(status: Mapping[str, Any]) -> Good | None:
    """What served last, whole; None: nothing has yet."""
    known = status.get(_KEY)
    return Good(known["revision"], known["count"]) if known else None


def has_served(status: Mapping[str, Any], revision: str) -> bool:
    """Whether this revision is what served last, whole."""
    good = good_of(status)
    return good is not None and good.revision == revision


def bounds_of(status: Mapping[str, Any], generation: int, revision: str) -> Mapping[str, Any] | None:
    """The spec whose limits and times hold while another generation than `generation` serves; None: its own.

    A generation of the same revision changes nothing that runs: it holds from the beginning.
    """
    known = status.get(_KEY)
    if not known or known["generation"] == generation or (revision and known["revision"] == revision):
        return None
    spec: Mapping[str, Any] = known["spec"]
    return spec
