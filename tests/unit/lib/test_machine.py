"""The size of the machine: what the kernel's files say, also inside a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moorings.lib.machine import this_machine

GIB = 1 << 30


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_of_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_limits_it_is_what_this_process_may_use(tmp_path: Path) -> None:
    found = this_machine(control_groups=tmp_path, devices=tmp_path)
    assert found.vcpus == len(os.sched_getaffinity(0))
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert abs(found.memory_bytes - total) < 1 << 20
    assert found.gpus == 0


@pytest.mark.parametrize(
    "files",
    [
        {"cpu_of_max": "50000 100000\n", "memory_of_max": f"{GIB}\n"},
        {
            "cpu__cpu_of_cfs_quota_us": "50000\n",
            "cpu__cpu_of_cfs_period_us": "100000\n",
            "memory__memory_of_limit_in_bytes": f"{GIB}\n",
        },
    ],
)
def test_the_limits_of_a_container_count(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path, **files)
    found = this_machine(control_groups=tmp_path, devices=tmp_path)
    assert (found.vcpus, found.memory_bytes) == (0.5, GIB)


@pytest.mark.parametrize(
    "files",
    [
        {"cpu_of_max": "max 100000\n", "memory_of_max": "max\n"},
        {
            "cpu__cpu_of_cfs_quota_us": "-1\n",
            "cpu__cpu_of_cfs_period_us": "100000\n",
            "memory__memory_of_limit_in_bytes": "9223372036854771712\n",
        },
        {"cpu_of_max": "1000 0\n", "memory_of_max": "much\n"},
    ],
)
def test_no_limit_is_no_limit_and_nonsense_is_none(tmp_path: Path, files: dict[str, str]) -> None:
    unlimited = this_machine(control_groups=tmp_path, devices=tmp_path)
    write(tmp_path, **files)
    assert this_machine(control_groups=tmp_path, devices=tmp_path) == unlimited


def test_gpus_are_the_devices_of_that_name(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert this_machine(control_groups=tmp_path / "none", devices=tmp_path).gpus == 2
    assert this_machine(control_groups=tmp_path, devices=tmp_path / "missing").gpus == 0
