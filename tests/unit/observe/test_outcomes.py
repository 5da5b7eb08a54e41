"""Figures of requests, and the access log they are taken from, as it grows and is renamed."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.observe import access_tail
from moorings.observe.access_tail import AccessTail, first_offset
from moorings.observe.comparing import check, shows_more, summary_of, upper_bound
from moorings.observe.outcomes import Outcomes, total
from moorings.spec.guard import parse_guard


def entry(
    at: float, code: int = 200, *, deployment: str = "blue", endpoint: str = "shop", ms: float = 10.0
) -> dict[str, Any]:
    """As Envoy writes it."""
    return {
        "time": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "endpoint": endpoint,
        "deployment": deployment,
        "code": code,
        "total_ms": int(ms),
        "wait_us": 0,
        "model_us": None if code in (408, 429, 503) else int(ms * 1000),
    }


def line(*args: Any, **more: Any) -> str:
    return json.dumps(entry(*args, **more), separators=(",", ":"), sort_keys=True) + "\n"


def of(*codes: int, ms: float = 10.0) -> Outcomes:
    found = Outcomes()
    for code in codes:
        found.add(entry(0.0, code, ms=ms))
    return found


def test_what_counts_as_what() -> None:
    found = of(200, 200, 400, 404, 408, 424, 429, 500, 503)
    counts = {metric: found.count(metric) for metric in ("error_rate", "4xx", "5xx", "429", "404")}
    assert counts == {"error_rate": 4, "4xx": 5, "5xx": 2, "429": 1, "404": 1}
    assert (found.requests, found.measured) == (9, 3), "a refusal is quick and has no latency"


def test_a_caller_that_left_is_no_request() -> None:
    assert of(0, 200).requests == 1


@given(st.lists(st.floats(0.01, 100_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_is_right_within_the_width_of_a_bucket(latencies_ms: list[float], q: float) -> None:
    found = Outcomes()
    for ms in latencies_ms:
        found.add(entry(0.0, ms=ms))
    ordered = sorted(int(ms * 1000) for ms in latencies_ms)
    exact = max(1, ordered[max(0, -(-int(q * 1000) * len(ordered) // 1000) - 1)])
    measured = found.quantile_us(q)
    assert measured is not None
    assert exact / 1.03 <= measured <= exact * 1.05


def test_together_they_are_one() -> None:
    assert total([of(200, 424), of(200)]) == of(200, 424, 200)


@pytest.mark.parametrize(
    "guard, new, holds",
    [
        ("p99<1.2x", of(*[200] * 100, ms=11.0), True),
        ("p99<1.2x", of(*[200] * 100, ms=20.0), False),
        ("p50<15ms", of(*[200] * 100, ms=20.0), False),
        ("error_rate<2x", of(*[200] * 90, *[424] * 10), True),
        ("error_rate<2x", of(*[200] * 70, *[424] * 30), False),
        ("error_rate<=0%", of(*[200] * 99, 424), False),
        ("error_rate<1%", of(*[200] * 99, 424), True),
        ("429<1%", of(*[200] * 90, *[429] * 10), False),
    ],
)
def test_checks_beside_the_running_deployment(guard: str, new: Outcomes, holds: bool) -> None:
    old = summary_of(of(*[200] * 99, 424))
    (found,) = check(parse_guard(guard)[0], new, old)
    assert found.holds is holds
    assert guard in found.said or "limit" in found.said
    (alone,) = check(parse_guard(guard)[0], new, None)
    assert alone.holds or "x" not in guard


def test_looking_often_finds_nothing_that_is_not_there() -> None:
    """At the limit itself, 400 steps of 1,000 requests each, looked at after each 25: chance alone breaks 1 % of them."""
    chance = random.Random(7)
    false = 0
    for _ in range(400):
        count, found = 0, False
        for done in range(25, 1001, 25):
            count += sum(chance.random() < 0.01 for _ in range(25))
            found |= shows_more(count, done, 0.01)
        false += found
    assert false <= 10


@pytest.mark.parametrize("rate, within", [(0.02, 4000), (0.05, 600), (0.2, 100), (1.0, 50)])
def test_what_is_worse_is_found(rate: float, within: int) -> None:
    assert shows_more(round(rate * within), within, 0.01)
    assert not shows_more(round(0.01 * within), within, 0.01)


def test_bounds() -> None:
    assert shows_more(1, 1000, 0.0)
    assert not shows_more(1000, 1000, 1.0)
    assert shows_more(100_000, 100_000, 0.000_001), "no overflow"
    assert 0.01 < upper_bound(1, 100) < 0.1 < upper_bound(0, 10) < 1.0 == upper_bound(0, 0)


def test_what_the_running_one_may_be_is_what_a_factor_is_of() -> None:
    """Fifty requests say little about a p99: the longest of them counts, and of many the 99th of a hundred."""
    few = summary_of(total([of(*[200] * 49), of(200, ms=40.0)]))
    many = summary_of(total([of(*[200] * 99_900), of(*[200] * 100, ms=40.0)]))
    new = of(*[200] * 1000, ms=30.0)
    for old, holds in ((few, True), (many, False)):
        (found,) = check(parse_guard("p99<1.2x")[0], new, old)
        assert found.holds is holds


def test_a_log_is_read_once_from_its_moment_on_across_its_renaming(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("".join(line(n) for n in range(1000, 1100)) + line(1050, endpoint="other"))
    tail = AccessTail(log, "shop", 1090.0)
    assert tail.read()
    assert tail.outcomes["blue"].requests == 10
    with log.open("a") as handle:
        handle.write(line(1100, deployment="green")[:30])
    tail.read()
    with log.open("a") as handle:
        handle.write(line(1100, deployment="green")[30:] + "{broken\n" + line(1101, 424, deployment="green"))
    log.rename(tmp_path / "access.log.1")
    log.write_text(line(1102))
    while not tail.read():
        pass
    assert tail.read()
    assert (tail.outcomes["blue"].requests, tail.outcomes["green"].requests) == (11, 2)
    tail.close()


def test_a_daemon_that_begins_later_reads_the_renamed_log_too(tmp_path: Path) -> None:
    (tmp_path / "access.log.1").write_text(line(1000) + line(1001))
    (tmp_path / "access.log").write_text(line(1002))
    tail = AccessTail(tmp_path / "access.log", "shop", 1001.0)
    tail.read()
    tail.read()
    assert tail.outcomes["blue"].requests == 2
    tail.close()
    assert AccessTail(tmp_path / "none.log", "shop", 0.0).read()


def test_a_log_that_is_renamed_while_the_one_before_is_read_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_tail, "MOST_AT_ONCE_BYTES", 300)
    log, before = tmp_path / "access.log", tmp_path / "access.log.1"
    before.write_text("".join(line(n) for n in range(1000, 1010)))
    log.write_text(line(1010) + line(1011))
    tail = AccessTail(log, "shop", 1000.0)
    assert not tail.read()
    log.rename(before)
    log.write_text(line(1012))
    while not tail.read():
        pass
    assert tail.outcomes["blue"].requests == 13
    tail.close()


def test_a_long_log_is_entered_near_its_moment(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("".join(line(n) for n in range(100_000, 105_000)))
    with log.open("rb") as handle:
        offset = first_offset(handle, 104_000.0)
        handle.seek(offset)
        first = json.loads(handle.readline())["time"]
    assert 0 < offset < log.stat().st_size * 0.81
    at = datetime.strptime(first, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()
    assert 103_000 < at <= 104_000
