"""Rotation keeps its bounds and loses only the oldest; readers see whole lines in order."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from moorings.lib.logfile import Follower, Line, RotatingWriter, backwards, numbered, parsed, stamp, tail


def kept(path: Path) -> bytes:
    index, data = 0, b""
    while numbered(path, index).exists():
        data = numbered(path, index).read_bytes() + data
        index += 1
    return data


def texts(follower: Follower) -> list[str]:
    return [line.text for line in follower.poll()]


@given(st.lists(st.binary(max_size=300), max_size=40), st.integers(1, 100), st.integers(1, 4))
def test_bounded_and_a_suffix_of_what_was_written(chunks, file_bytes, files):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.log"
        writer = RotatingWriter(path, file_bytes=file_bytes, files=files)
        for chunk in chunks:
            writer.write(chunk)
        writer.close()
        existing = list(Path(folder).iterdir())
        assert len(existing) <= files
        assert all(p.stat().st_size <= file_bytes for p in existing)
        written = b"".join(chunks)
        assert written.endswith(kept(path))
        if len(written) <= file_bytes:
            assert kept(path) == written


@given(
    st.lists(st.text(alphabet="abc é", max_size=12), max_size=60), st.integers(0, 70), st.integers(20, 200)
)
def test_tail_is_the_last_lines_over_all_files(lines, count, file_bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.log"
        writer = RotatingWriter(path, file_bytes=file_bytes, files=1000)
        for line in lines:
            writer.write(line.encode() + b"\n")
        writer.close()
        expected = "".join(f"{line}\n" for line in lines[-count:]) if count else ""
        assert tail(path, count) == expected


def test_tail_of_nothing_and_of_garbage(tmp_path):
    assert tail(tmp_path / "a.log", 5) is None
    (tmp_path / "a.log").write_bytes(b"\xff\x00half")
    assert tail(tmp_path / "a.log", 5) == "\ufffd\x00half\n"
    (tmp_path / "b.log").write_bytes(b"one\r\ntwo")
    assert tail(tmp_path / "b.log", 1) == "two\n"


def test_a_writer_goes_on_where_it_was(tmp_path):
    path = tmp_path / "a.log"
    for word in (b"one\n", b"two\n"):
        writer = RotatingWriter(path, file_bytes=100, files=2)
        writer.write(word)
        writer.close()
    assert tail(path, 5) == "one\ntwo\n"


def test_a_full_disk_loses_whole_lines_and_a_line_says_so(tmp_path, monkeypatch):
    path = tmp_path / "a.log"
    writer = RotatingWriter(path, file_bytes=10_000, files=2)
    writer.write(b"before\n")
    write, room = os.write, [10]

    def limited(fd, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "no space left")
        written = write(fd, bytes(data[: room[0]]))
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", limited)
    for _ in range(3):
        writer.write(b"a line that does not fit\n")
    assert tail(path, 9) == "before\n"
    room[0] = 1000
    writer.write(b"after\n")
    assert tail(path, 9) == "before\nmoorings: 75 bytes of output could not be written\nafter\n"
    writer.write(b"more\n")
    assert tail(path, 1) == "more\n"


def test_a_file_that_could_not_be_made_is_made_later(tmp_path):
    path = tmp_path / "folder" / "a.log"
    writer = RotatingWriter(path, file_bytes=100, files=2)
    writer.write(b"lost\n")
    path.parent.mkdir()
    writer.write(b"kept\n")
    assert tail(path, 9) == "moorings: 5 bytes of output could not be written\nkept\n"


def test_follow_sees_every_line_once_across_rotations(tmp_path):
    path = tmp_path / "a.log"
    writer = RotatingWriter(path, file_bytes=200, files=100)
    now = time.time()
    writer.write(stamp(now) + b"old\n")
    follower = Follower(path, after=now)
    seen, expected = [], [f"line number {n}" for n in range(60)]
    for number, line in enumerate(expected):
        writer.write(stamp(now + 1 + number) + line.encode() + b"\n")
        if number % 17 == 0:
            seen += texts(follower)
    assert seen + texts(follower) == expected
    follower.close()
    whole = Follower(path, after=0.0)
    assert texts(whole) == ["old", *expected]
    whole.close()
    writer.close()


def test_follow_waits_for_the_end_of_a_line_but_not_for_ever(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"")
    follower = Follower(path, after=0.0)
    with path.open("ab", buffering=0) as handle:
        handle.write(b"half")
        assert follower.poll() == []
        handle.write(b" whole\n")
        assert texts(follower) == ["half whole"]
        handle.write(b"x" * 200_000)
        assert sum(map(len, texts(follower))) > 0
    follower.close()


def test_follow_of_a_file_that_is_not_there_yet(tmp_path):
    follower = Follower(tmp_path / "a.log", after=time.time())
    assert follower.poll() == []
    (tmp_path / "a.log").write_bytes(stamp(time.time() + 1) + b"first\n")
    assert texts(follower) == ["first"]
    follower.close()


@given(st.floats(0, 4e9), st.text())
def test_a_stamp_comes_back(now, text):
    text = text.replace("\n", " ").encode(errors="replace").decode()
    line = parsed(stamp(now) + text.encode())
    assert line.text == text
    assert line.at.encode() + b" " == stamp(now)


@given(st.lists(st.floats(0, 4e9), min_size=2, max_size=2))
def test_stamps_sort_as_times_do(moments):
    early, late = sorted(moments)
    assert stamp(early) <= stamp(late)


def test_stamps_of_a_container_runtime_have_the_same_length():
    assert parsed(b"2026-11-25T16:46:52.123456789Z hello") == Line("2026-11-25T16:46:52.123456Z", "hello")
    assert parsed(b"2026-11-25T16:46:52Z hello") == Line("2026-11-25T16:46:52.000000Z", "hello")
    assert parsed(b"2026-11-25 16:46:52,123 I hello").at == ""


@given(st.lists(st.text(alphabet="ab ", max_size=9), max_size=40), st.integers(5, 60), st.booleans())
def test_backwards_gives_every_line_the_last_first(lines, file_bytes, ended):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.log"
        writer = RotatingWriter(path, file_bytes=file_bytes, files=1000)
        data = "\n".join(lines).encode() + (b"\n" if ended and lines else b"")
        writer.write(data)
        writer.close()
        expected = data.decode().split("\n")
        if expected[-1] == "":
            expected.pop()
        assert [line.text for line in backwards(path)] == expected[::-1]


def test_a_follower_far_behind_takes_a_bounded_part_at_once(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 99 + b"\n")
    path.write_bytes((b"x" * 99 + b"\n") * 50_000)
    follower = Follower(path, after=0.0)
    first = len(follower.poll())
    assert 0 < first < 20_000
    rest = 0
    while lines := follower.poll():
        rest += len(lines)
    assert first + rest == 50_000
    follower.close()
