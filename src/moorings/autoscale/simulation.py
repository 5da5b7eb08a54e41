"""A trace of load played through a policy: which instances there would have been, and who would have been turned away.

Request by request, with the policy that decides in the daemon and the caps that the gateway holds. Pure: the arrivals
within a second of the trace are drawn from a seed. Instances are one pool here: a request takes whichever is free.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from moorings.autoscale.policy import Moment, Policy
from moorings.spec.autoscale import CAPACITY, CONCURRENCY, CPU, RATE, REJECTED, UTILIZATION

MAX_REQUESTS = 3_000_000
"""About half a minute of work."""


@dataclass(frozen=True)
class Stretch:
    """So many requests a second from here on until `end_s`."""

    start_s: float
    end_s: float
    rate_per_s: float


@dataclass(frozen=True)
class Workload:
    """What a request costs, and what an instance can."""

    request_s: float
    """How long `run()` takes."""
    slots: int = 1
    """Requests that an instance runs at once."""
    start_s: float = 2.0
    """From the decision to an instance that serves."""
    timeout_s: float = 5.0
    activation_timeout_s: float = 30.0
    seed: int = 1


@dataclass(frozen=True)
class Row:
    """How things stood at one look of the scaler, and what has happened since the look before."""

    at_s: float
    rate_per_s: float
    """Arrivals."""
    in_flight: float
    """Mean since the look before."""
    wanted: int
    serving: int
    rejected: int
    timed_out: int


@dataclass(frozen=True)
class Change:
    at_s: float
    before: int
    after: int
    reason: str
    message: str


@dataclass(frozen=True)
class Outcome:
    rows: tuple[Row, ...]
    changes: tuple[Change, ...]
    requests: int
    served: int
    rejected: int
    """429: more than may run and wait at once."""
    timed_out: int
    """408, or 503 for those that waited for a first instance in vain."""
    instance_seconds: float
    longest_wait_s: float

    @property
    def most(self) -> int:
        return max((row.serving for row in self.rows), default=0)


def total_requests(trace: Sequence[Stretch]) -> float:
    return sum((one.end_s - one.start_s) * one.rate_per_s for one in trace)


def arrivals(trace: Sequence[Stretch], seed: int) -> Iterator[float]:
    """When requests come: independent of one another, at the rate of the trace."""
    dice = random.Random(seed)  # noqa: S311 - the same trace shall always give the same picture
    for one in trace:
        at_s = one.start_s
        while one.rate_per_s > 0:
            at_s += dice.expovariate(one.rate_per_s)
            if at_s >= one.end_s:
                break
            yield at_s


def simulate(
    trace: Sequence[Stretch], workload: Workload, policy: Policy, count: int, unix_s: float = 0.0
) -> Outcome:
    """Play the trace. `count`: instances at its beginning; `unix_s`: when that is, for schedules."""
    run = _Run(workload, policy, count, trace[0].start_s if trace else 0.0, unix_s)
    for at_s in itertools.chain(arrivals(trace, workload.seed), [trace[-1].end_s if trace else 0.0]):
        run.advance(at_s)
        if at_s < trace[-1].end_s:
            run.arrive(at_s)
    return run.outcome()


@dataclass
class _Run:
    workload: Workload
    policy: Policy
    wanted: int
    now_s: float
    unix_s: float
    serving: int = 0
    running: int = 0
    waiting: deque[float] = field(default_factory=deque)
    ends: list[float] = field(default_factory=list)
    """When requests that run will have ended; a heap."""
    starts: list[float] = field(default_factory=list)
    """When instances that start will serve; a heap."""
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    requests: int = 0
    served: int = 0
    rejected: int = 0
    timed_out: int = 0
    busy_s: float = 0.0
    used_s: float = 0.0
    longest_wait_s: float = 0.0
    changed_at: float | None = None
    seen: tuple[int, int, int] = (0, 0, 0)
    """Requests, rejected and timed out at the look before."""
    flight_s: float = 0.0
    """In flight times seconds since the look before."""

    def __post_init__(self) -> None:
        self.serving = self.wanted
        self.began_s = self.now_s
        self.next_look_s = self.now_s + self.policy.period_s
        self.looked_s = self.now_s

    # --- time ---

    def advance(self, until_s: float) -> None:
        while True:
            at_s = min(
                self.ends[0] if self.ends else until_s,
                self.starts[0] if self.starts else until_s,
                self.next_look_s,
                until_s,
            )
            self._pass(at_s)
            if self.ends and self.ends[0] <= at_s:
                heapq.heappop(self.ends)
                self.running -= 1
                self.served += 1
                self._fill()
            elif self.starts and self.starts[0] <= at_s:
                heapq.heappop(self.starts)
                self.serving += 1
                self._fill()
            elif self.next_look_s <= at_s:
                self._look()
            else:
                return

    def _pass(self, at_s: float) -> None:
        passed_s = at_s - self.now_s
        self.flight_s += passed_s * (self.running + len(self.waiting))
        self.busy_s += passed_s * min(self.running, self.serving * self.workload.slots)
        self.used_s += passed_s * (self.serving + len(self.starts))
        self.now_s = at_s

    # --- requests ---

    def arrive(self, at_s: float) -> None:
        self.requests += 1
        # The cap of the gateway: as many as may run on what serves, and the same number waiting.
        if self.running + len(self.waiting) >= 2 * self.workload.slots * max(1, self.serving):
            self.rejected += 1
            return
        self.waiting.append(at_s)
        self._fill()

    def _fill(self) -> None:
        self._give_up()
        while self.waiting and self.running < self.serving * self.workload.slots:
            waited_s = self.now_s - self.waiting.popleft()
            self.longest_wait_s = max(self.longest_wait_s, waited_s)
            self.running += 1
            heapq.heappush(self.ends, self.now_s + self.workload.request_s)

    def _give_up(self) -> None:
        work = self.workload
        patience_s = work.timeout_s - work.request_s if self.serving else work.activation_timeout_s
        while self.waiting and self.now_s - self.waiting[0] > max(patience_s, 0.0):
            self.waiting.popleft()
            self.timed_out += 1

    # --- the scaler ---

    def _look(self) -> None:
        self._give_up()
        since_s = max(self.now_s - self.looked_s, 1e-9)
        requests, rejected, timed_out = self.seen
        in_flight = self.flight_s / since_s
        slots = max(1, self.serving * self.workload.slots)
        busy = 100 * min(self.running, slots) / slots if self.serving else 0.0
        self._note(CONCURRENCY, in_flight)
        self._note(UTILIZATION, 100 * in_flight / slots)
        self._note(CPU, busy)
        self._note(CAPACITY, float(self.serving))
        self._note(RATE, 60 * (self.requests - requests) / since_s)
        self._note(REJECTED, 60 * (self.rejected - rejected) / since_s)
        unix_s = self.unix_s + self.now_s - self.began_s
        decision = self.policy.decide(self.points, Moment(self.now_s, unix_s, self.wanted, self.changed_at))
        if decision.count != self.wanted:
            self.changes.append(
                Change(self.now_s, self.wanted, decision.count, decision.reason, decision.message)
            )
            self.changed_at = unix_s
            self._scale(decision.count)
        self.rows.append(
            Row(
                self.now_s,
                (self.requests - requests) / since_s,
                in_flight,
                self.wanted,
                self.serving,
                self.rejected - rejected,
                self.timed_out - timed_out,
            )
        )
        self.seen = (self.requests, self.rejected, self.timed_out)
        self.flight_s, self.looked_s = 0.0, self.now_s
        self.next_look_s = self.now_s + self.policy.period_s

    def _note(self, metric: str, value: float) -> None:
        points = self.points.setdefault(metric, [])
        points.append((self.now_s, value))
        if len(points) > 2 * self.policy.memory_s / self.policy.period_s + 10:
            del points[: len(points) // 2]

    def _scale(self, count: int) -> None:
        while self.serving + len(self.starts) > count:
            # What has not begun to serve goes first; what serves ends when its requests have.
            if self.starts:
                self.starts.remove(max(self.starts))
                heapq.heapify(self.starts)
            else:
                self.serving -= 1
        while self.serving + len(self.starts) < count:
            heapq.heappush(self.starts, self.now_s + self.workload.start_s)
        self.wanted = count

    def outcome(self) -> Outcome:
        return Outcome(
            tuple(self.rows),
            tuple(self.changes),
            self.requests,
            # What still runs when the trace ends is answered.
            self.served + self.running + len(self.waiting),
            self.rejected,
            self.timed_out,
            self.used_s,
            self.longest_wait_s,
        )
