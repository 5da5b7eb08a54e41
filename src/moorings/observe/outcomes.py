"""What became of the requests of one deployment in one stretch of time, as figures: counts by status, and latencies in a
histogram whose size does not grow with them. Pure: entries of the gateway's access log go in.

Latency is what deployment and gateway can answer for: waiting in the gateway and the model's own time to the first byte
of its answer. How fast a caller sends or reads is not in it. It is taken of requests that were answered well (2xx) or too
late (408): an answer that refuses is quick, and would flatter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

GROWTH = 1.02
"""Two latencies of one bucket differ by 2 % at most."""
_LOG = math.log(GROWTH)
_LATE = 408
GOOD, MODEL_FAILED = 200, 424
THROTTLED = 429


@dataclass
class Outcomes:
    """Figures that grow by `add`. Times in microseconds."""

    codes: dict[int, int] = field(default_factory=dict)
    """Status that the caller saw -> requests; 0: the caller was gone before there was one."""
    latencies: dict[int, int] = field(default_factory=dict)
    """Bucket -> requests."""

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count one entry of the access log."""
        code = _whole(entry.get("code"))
        self.codes[code] = self.codes.get(code, 0) + 1
        if 200 <= code < 300 or code == _LATE:
            bucket = _bucket(_latency_us(entry))
            self.latencies[bucket] = self.latencies.get(bucket, 0) + 1

    @property
    def requests(self) -> int:
        """All that somebody waited for."""
        return sum(count for code, count in self.codes.items() if code)

    @property
    def measured(self) -> int:
        """Those with a latency."""
        return sum(self.latencies.values())

    def count(self, metric: str) -> int:
        """How many of `requests` fall under a rate of the guard: `error_rate`, `4xx`, `5xx` or a status."""
        return sum(count for code, count in self.codes.items() if counts_as(code, metric))

    def above(self, limit_us: float) -> int:
        """How many took longer than `limit_us`."""
        edge = _bucket(limit_us)
        return sum(count for bucket, count in self.latencies.items() if bucket > edge)

    def quantile_us(self, q: float) -> float | None:
        """The latency that a share `q` of the measured requests does not exceed; None without any."""
        wanted, seen = q * self.measured, 0
        for bucket in sorted(self.latencies):
            seen += self.latencies[bucket]
            if seen >= wanted:
                return GROWTH ** (bucket + 1)
        return None


def counts_as(code: int, metric: str) -> bool:
    """Whether a status falls under a rate of the guard."""
    if metric == "error_rate":
        return code >= 500 or code in (_LATE, MODEL_FAILED)
    if metric in ("4xx", "5xx"):
        return code // 100 == int(metric[0])
    return code == int(metric)


def _latency_us(entry: Mapping[str, Any]) -> float:
    model = entry.get("model_us")
    if _whole(entry.get("code")) == _LATE or not isinstance(model, int | float):
        return _whole(entry.get("total_ms")) * 1000.0
    return float(model) + max(0.0, float(_whole(entry.get("wait_us"))))


def _bucket(latency_us: float) -> int:
    return int(math.log(max(latency_us, 1.0)) / _LOG)


def _whole(value: object) -> int:
    """A number of the log; 0 for what is none (`-`, null)."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0


def total(outcomes: Iterable[Outcomes]) -> Outcomes:
    """All together."""
    found = Outcomes()
    for each in outcomes:
        for mine, theirs in ((found.codes, each.codes), (found.latencies, each.latencies)):
            for key, count in theirs.items():
                mine[key] = mine.get(key, 0) + count
    return found
