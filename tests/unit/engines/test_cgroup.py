"""What is written where, on folders shaped like both versions of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from moorings.engines.cgroup import Group

GIB = 2**30


def shaped(parent: Path, *names: str) -> Path:
    folder = parent / "moorings" / "i-0"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("")
    return folder


def test_version_2(tmp_path):
    folder = shaped(tmp_path, "memory.max", "memory.swap.max", "cpu.max")
    group = Group([tmp_path], "i-0", memory_bytes=GIB, cpus=1.5)
    assert group.limits == {"memory": "cgroup", "cpu": "cgroup"}
    assert [(folder / n).read_text() for n in ("memory.max", "memory.swap.max", "cpu.max")] == [
        str(GIB),
        "0",
        "150000 100000",
    ]


def test_version_1_has_a_group_per_controller(tmp_path):
    memory, cpu = tmp_path / "memory", tmp_path / "cpu"
    one = shaped(memory, "memory.limit_in_bytes")
    two = shaped(cpu, "cpu.cfs_period_us", "cpu.cfs_quota_us")
    group = Group([memory, cpu], "i-0", memory_bytes=GIB, cpus=2)
    assert group.limits == {"memory": "cgroup", "cpu": "cgroup"}
    assert (one / "memory.limit_in_bytes").read_text() == str(GIB)
    assert (two / "cpu.cfs_quota_us").read_text() == "200000"


def test_what_is_not_held_is_said(tmp_path):
    shaped(tmp_path, "memory.max")
    group = Group([tmp_path], "i-0", memory_bytes=GIB, cpus=2)
    assert group.limits == {"memory": "cgroup", "cpu": "none"}
    nowhere = Group([tmp_path / "absent"], "i-0", memory_bytes=GIB, cpus=None)
    assert (nowhere.limits, nowhere.folders) == ({"memory": "none"}, [])


def test_no_limits_no_group(tmp_path):
    group = Group([tmp_path], "i-0", memory_bytes=None, cpus=None)
    assert (group.limits, list(tmp_path.iterdir())) == ({}, [])


@pytest.mark.parametrize(
    ("name", "text"),
    [("memory.events", "low 0\noom 3\noom_kill 2\n"), ("memory.oom_control", "under_oom 0\noom_kill 2\n")],
)
def test_kills_are_counted(tmp_path, name, text):
    folder = shaped(tmp_path, "memory.max")
    (folder / name).write_text(text)
    assert Group([tmp_path], "i-0", memory_bytes=GIB, cpus=None).oom_kills() == 2
