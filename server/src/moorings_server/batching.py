"""The mark by which a scoring script opts in to batching: `from moorings_server import batch`.

Knows nothing of the server: it only writes what was asked for on the function, where the server reads it at boot.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

MARK = "__moorings_batch__"
DEFAULT_MAX_SIZE = 32


class BatchOptions:
    """At most `max_size` requests in one call of `run()`; `max_wait_s` is the longest that a request may be held
    back for others that are on their way (0: never)."""

    __slots__ = ("max_size", "max_wait_s")

    def __init__(self, max_size: int = DEFAULT_MAX_SIZE, max_wait_s: float = 0.0) -> None:
        self.max_size = max_size
        self.max_wait_s = max_wait_s


def batch(
    run: Optional[Callable[..., Any]] = None, *, max_size: int = DEFAULT_MAX_SIZE, max_wait_ms: float = 0
) -> Any:
    """Decorate `run()` so that it gets a list of inputs and returns a list of as many results, in the same order.

    An exception instance in the list is the failure of that one request. Use it as `@batch` or as
    `@batch(max_size=64, max_wait_ms=2)`. Raises ValueError for values that make no sense: the script's fault.
    """
    if isinstance(max_size, bool) or not isinstance(max_size, int) or max_size < 1:
        raise ValueError("max_size must be a whole number of at least 1, not %r" % (max_size,))
    if (
        isinstance(max_wait_ms, bool)
        or not isinstance(max_wait_ms, (int, float))
        or not 0 <= max_wait_ms <= 60_000
    ):
        raise ValueError("max_wait_ms must be a number from 0 to 60000, not %r" % (max_wait_ms,))

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(function, MARK, BatchOptions(max_size, max_wait_ms / 1000))
        return function

    return mark if run is None else mark(run)
