"""Answers to copies beside live ones, from the lines that the inference server writes."""

from __future__ import annotations

from moorings.lib.logfile import Line
from moorings.observe.pairs import answers_of, compare


def line(second: int, request_id: str, status: int = 200, ms: float = 1.5, length: str = "28") -> Line:
    at = f"2026-11-25T10:00:{second:02d}.000000Z"
    said = f"POST /score {status} {ms:.3f}ms {length} request_id={request_id}"
    return Line(at, f"2026-11-25 10:00:{second:02d},000 I [42] azmlinfsrv - {said}")


def read(*lines: Line) -> dict[str, object]:
    """Oldest first, as they are written."""
    return dict(answers_of(reversed(lines), "2026-11-25T10:00:10.000000Z", "2026-11-25T10:00:20.000000Z"))


def test_only_lines_of_requests_in_the_time_count() -> None:
    other = Line(
        "2026-11-25T10:00:12.000000Z", "2026-11-25 10:00:12,000 I [42] root - predicting request_id=x"
    )
    assert set(read(line(5, "early"), line(11, "a"), other, line(20, "b"), line(21, "late"))) == {"a", "b"}


def test_pairs_are_compared_by_request() -> None:
    live = answers_of([line(11, n) for n in ("a", "b", "c", "d")], "", "9")
    copies = answers_of(
        [line(11, "a", ms=3.0), line(12, "b", 500, length="9"), line(12, "c", length="29"), line(12, "lost")],
        "",
        "9",
    )
    found = compare(live, copies)
    assert (found["pairs"], found["unmatched"], found["sameStatus"], found["sameLength"]) == (3, 1, 2, 1)
    assert found["statuses"] == [
        {"live": 200, "copy": 200, "count": 2},
        {"live": 200, "copy": 500, "count": 1},
    ]
    assert [each["requestId"] for each in found["examples"]] == ["b", "c"]
    assert found["latencyMs"]["live"]["p50"] == 1.5
    assert found["latencyMs"]["copy"]["p99"] == 3.0


def test_without_pairs_there_is_still_a_report() -> None:
    found = compare({}, {})
    assert found["pairs"] == 0
    assert found["latencyMs"]["copy"] == {"p50": None, "p90": None, "p99": None}
