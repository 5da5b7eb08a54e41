"""Moving a conda environment: every path in it, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moorings.environments.relocation import relocate

TARGET = "/opt/env"


def test_text_binaries_and_links_lead_to_the_new_place(tmp_path: Path) -> None:
    env = tmp_path / "a-long-name-of-a-folder" / "env"
    (env / "bin").mkdir(parents=True)
    old = os.fsencode(env)
    script = env / "bin" / "tool"
    script.write_bytes(b"#!" + old + b"/bin/perl\nopen '" + old + b"/share/x'\n")
    script.chmod(0o755)
    binary = env / "lib.so"
    content = b"\x7fELF\0" + old + b"/lib:" + old + b"/lib64\0next\0" + old + b"\0"
    binary.write_bytes(content)
    (env / "module.pyc").write_bytes(b"\0" + old + b"\0")
    (env / "other").write_bytes(b"/a-long-name-of-a-folder/env")
    (env / "absolute").symlink_to(env / "bin")
    (env / "relative").symlink_to("bin")
    (env / "outside").symlink_to(f"{env}s/bin")

    assert relocate(env, TARGET) == 3
    assert script.read_text() == "#!/opt/env/bin/perl\nopen '/opt/env/share/x'\n"
    assert script.stat().st_mode & 0o777 == 0o755
    moved = binary.read_bytes()
    assert len(moved) == len(content), "offsets in a binary stay what they are"
    assert [part for part in moved.split(b"\0") if part] == [
        *(b"\x7fELF", b"/opt/env/lib:/opt/env/lib64", b"next", b"/opt/env")
    ]
    assert moved.index(b"next") == content.index(b"next")
    assert (env / "module.pyc").read_bytes() == b"\0" + old + b"\0"
    assert (env / "other").read_bytes() == b"/a-long-name-of-a-folder/env"
    links = {name: os.readlink(env / name) for name in ("absolute", "relative", "outside")}
    assert links == {"absolute": "/opt/env/bin", "relative": "bin", "outside": f"{env}s/bin"}


def test_files_that_are_links_into_a_cache_are_not_changed_there(tmp_path: Path) -> None:
    env = tmp_path / "environment"
    env.mkdir()
    cached = tmp_path / "cached"
    cached.write_text(f"{env}/bin\n")
    (env / "file").hardlink_to(cached)
    relocate(env, TARGET)
    assert (env / "file").read_text() == "/opt/env/bin\n"
    assert cached.read_text() == f"{env}/bin\n"


def test_a_longer_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="longer"):
        relocate(tmp_path, f"{tmp_path}/more")
