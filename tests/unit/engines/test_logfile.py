"""Rotation keeps its bounds and loses only the oldest; readers see whole lines in order."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from moorings.engines.logfile import Follower, RotatingWriter, numbered, tail


def kept(path: Path) -> bytes:
    index, data = 0, b""
    while numbered(path, index).exists():
        data = numbered(path, index).read_bytes() + data
        index += 1
    return data


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


def test_follow_sees_every_line_once_across_rotations(tmp_path):
    path = tmp_path / "a.log"
    writer = RotatingWriter(path, file_bytes=50, files=100)
    writer.write(b"old\n")
    follower = Follower(path)
    seen, expected = [], [f"line number {n}" for n in range(60)]
    for number, line in enumerate(expected):
        writer.write(line.encode() + b"\n")
        if number % 17 == 0:
            seen += follower.poll()
    assert seen + follower.poll() == expected
    follower.close()
    writer.close()


def test_follow_waits_for_the_end_of_a_line_but_not_for_ever(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"")
    follower = Follower(path)
    with path.open("ab", buffering=0) as handle:
        handle.write(b"half")
        assert follower.poll() == []
        handle.write(b" whole\n")
        assert follower.poll() == ["half whole"]
        handle.write(b"x" * 200_000)
        assert sum(map(len, follower.poll())) > 0
    follower.close()


def test_follow_of_a_file_that_is_not_there_yet(tmp_path):
    follower = Follower(tmp_path / "a.log")
    assert follower.poll() == []
    (tmp_path / "a.log").write_text("first\n")
    assert follower.poll() == ["first"]
    follower.close()
