"""The audit log: appended to, rotated, and a changed line is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from moorings.security.audit import AuditLog


def log(tmp_path: Path, **changes: int) -> AuditLog:
    return AuditLog(tmp_path, **changes)


def test_records_are_kept_in_order_across_restarts(tmp_path: Path) -> None:
    for number in range(3):
        log(tmp_path).add({"n": number})
    assert [each["n"] for each in log(tmp_path).tail(2)] == [1, 2]
    assert log(tmp_path).broken_at() is None
    assert log(tmp_path).path.stat().st_mode & 0o777 == 0o600


def test_a_large_file_is_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    made = log(tmp_path, file_bytes=200, files=3)
    for number in range(40):
        made.add({"n": number})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "audit.1.jsonl",
        "audit.2.jsonl",
        "audit.jsonl",
    ]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3 * 300
    numbers = [each["n"] for each in made.tail(1000)]
    assert numbers == list(range(numbers[0], 40))
    assert made.broken_at() is None


@pytest.mark.parametrize("change", ["edit", "remove", "swap"])
def test_a_line_that_was_changed_or_taken_out_is_noticed(tmp_path: Path, change: str) -> None:
    made = log(tmp_path)
    for number in range(4):
        made.add({"n": number})
    lines = made.path.read_bytes().splitlines(keepends=True)
    if change == "edit":
        lines[1] = lines[1].replace(b'"n":1', b'"n":7')
    elif change == "remove":
        del lines[1]
    else:
        lines[1], lines[2] = lines[2], lines[1]
    made.path.write_bytes(b"".join(lines))
    assert made.broken_at() is not None


def test_a_line_cut_short_by_a_kill_does_not_eat_the_next_one(tmp_path: Path) -> None:
    log(tmp_path).add({"n": 1})
    with log(tmp_path).path.open("ab") as handle:
        handle.write(b'{"n": 2, "half')
    again = log(tmp_path)
    again.add({"n": 3})
    assert [each["n"] for each in again.tail(10)] == [1, 3]
