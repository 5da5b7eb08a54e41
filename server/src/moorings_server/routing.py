"""The mark by which a scoring script serves other paths than /score: `from moorings_server import routes`.

Knows nothing of the server: it only writes what was asked for on the function, where the server reads it at boot.
"""

from __future__ import annotations

from typing import Any, Callable, Tuple

MARK = "__moorings_routes__"


def routes(*prefixes: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a `run()` that has `@rawhttp`: it also gets the requests, of every method, for each of these paths
    and for everything below them. `@routes("/v2")` serves `/v2` and `/v2/models/m/infer`, and not `/v20`.

    The paths of the server itself (`/`, `/score`, `/swagger.json`) stay what they are. Raises ValueError for what
    is no path: the script's fault.
    """
    for prefix in prefixes:
        clean = isinstance(prefix, str) and prefix.isascii() and not set(prefix) & set(" ?#%\r\n")
        if not clean or not prefix.startswith("/") or prefix.endswith("/"):
            raise ValueError("a route is a path like /v2, without a slash at its end, not %r" % (prefix,))

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(function, MARK, tuple(prefixes))
        return function

    return mark


def routes_of(function: Callable[..., Any]) -> Tuple[bytes, ...]:
    """The paths that a function was marked with, as they are compared with a request's."""
    marked: Tuple[str, ...] = getattr(function, MARK, ())
    return tuple(prefix.encode("ascii") for prefix in marked)


def is_routed(path: bytes, prefixes: Tuple[bytes, ...]) -> bool:
    """Whether a path is one of `prefixes` or lies below one."""
    return any(
        path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == 47)
        for prefix in prefixes
    )
