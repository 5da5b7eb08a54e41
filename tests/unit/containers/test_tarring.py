"""A folder as a stream of an archive."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from moorings.containers.tarring import CHUNK_BYTES, UnreadableError, tar_stream


def test_everything_is_in_it_and_belongs_to_root(tmp_path: Path) -> None:
    folder = tmp_path / "env"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "tool").write_bytes(b"x" * (CHUNK_BYTES + 1))
    (folder / "bin" / "tool").chmod(0o755)
    (folder / "bin" / "link").symlink_to("tool")
    (folder / "bin" / "same").hardlink_to(folder / "bin" / "tool")
    with tar_stream(folder, "/opt/place") as chunks:
        data = io.BytesIO(b"".join(chunks))
    with tarfile.open(fileobj=data) as archive:
        found = {entry.name: entry for entry in archive.getmembers()}
        read = archive.extractfile("opt/place/bin/tool")
        assert read is not None
        content = read.read()
    assert set(found) == {
        *("opt/place", "opt/place/bin", "opt/place/bin/link", "opt/place/bin/same", "opt/place/bin/tool")
    }
    assert {(e.uid, e.gid, e.uname, e.gname) for e in found.values()} == {(0, 0, "root", "root")}
    assert content == b"x" * (CHUNK_BYTES + 1)
    assert found["opt/place/bin/link"].linkname == "tool"


def test_a_reader_that_gives_up_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(4 * CHUNK_BYTES))
    with tar_stream(tmp_path, "/x") as chunks:
        next(chunks)


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(UnreadableError) as caught, tar_stream(gone, "/x") as chunks:
        list(chunks)
    assert isinstance(caught.value.problem, FileNotFoundError)
