"""Memory and CPU limits of one instance by control groups, only below a group that is ours to divide.

That is one the operator names, or one that the service manager has delegated to us. Others belong to
whoever made them: a group made there could take processes out of somebody's accounting. Must not know what
an instance is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

FOLDER = "moorings"
CPU_PERIOD_US = 100_000
MACHINE = Path("/proc/vmstat")
HELD, NOT_HELD = "cgroup", "none"
_UNIFIED_MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


def delegated_parent() -> Path | None:
    """The nearest group around this process that carries the service manager's mark of delegation to its
    user."""
    try:
        own = next(
            line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")
        )
    except (OSError, StopIteration):
        return None
    mount = next((m for m in map(Path, _UNIFIED_MOUNTS) if (m / "cgroup.controllers").exists()), None)
    if mount is None:
        return None
    folder = mount / own[3:].lstrip("/")
    for candidate in (folder, *folder.parents):
        if candidate == mount or not candidate.is_relative_to(mount):
            return None
        with contextlib.suppress(OSError):
            if os.getxattr(candidate, "user.delegate") == b"1" and os.access(candidate, os.W_OK):
                return candidate
    return None


class Group:
    """The group of one instance. `limits` says what is really held: `{"memory": "cgroup", "cpu": "none"}`."""

    def __init__(
        self, parents: list[Path], name: str, *, memory_bytes: int | None, cpus: float | None
    ) -> None:
        """Makes the group below each parent (one for version 2, one per controller for version 1).

        Never fails: what the operating system refuses is not held, and `limits` says so.
        """
        self.folders: list[Path] = []
        self.limits: dict[str, str] = {}
        memory = cpu = False
        for parent in parents if memory_bytes or cpus else []:
            with contextlib.suppress(OSError):
                folder = _make(parent, name)
                self.folders.append(folder)
                memory |= memory_bytes is not None and _limit_memory(folder, memory_bytes)
                cpu |= cpus is not None and _limit_cpu(folder, cpus)
        if memory_bytes is not None:
            self.limits["memory"] = HELD if memory else NOT_HELD
        if cpus is not None:
            self.limits["cpu"] = HELD if cpu else NOT_HELD

    @property
    def holds_memory(self) -> bool:
        """Whether the group has a limit of its own: who is ended for want of memory has met that."""
        return self.limits.get("memory") == HELD

    def enter(self) -> None:
        """Put the calling process (a child before exec) into the group. Raises OSError."""
        for folder in self.folders:
            fd = os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, b"0")
            finally:
                os.close(fd)

    def oom_counter(self) -> Path:
        """Where the kernel counts the processes that it has ended for want of memory: those of this group where memory
        is counted for it, else (`MACHINE`) all there are."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                if (folder / name).exists():
                    return folder / name
        return MACHINE

    def oom_kills(self) -> int:
        """How many these are."""
        with contextlib.suppress(OSError):
            return _counter(self.oom_counter().read_text(), "oom_kill")
        return 0

    def memory_peak_bytes(self) -> int | None:
        """The most memory all processes of the group had together, where it is counted."""
        for folder in self.folders:
            for name in ("memory.peak", "memory.max_usage_in_bytes"):
                with contextlib.suppress(OSError, ValueError):
                    return int((folder / name).read_text())
        return None

    def remove(self) -> None:
        """Remove the (empty) group."""
        remove(self.folders)


class ContainerGroup(Group):
    """The group that a container runtime has put us into, with its limits: nothing is made here, only read."""

    def __init__(self) -> None:
        super().__init__([], "", memory_bytes=None, cpus=None)
        self.folders = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")]

    @property
    def holds_memory(self) -> bool:
        return True

    def enter(self) -> None:
        return

    def remove(self) -> None:
        return


def folder_below(parent: Path, name: str) -> Path:
    """Where the group of that name is, if there is one."""
    return parent / FOLDER / name


def remove(folders: Iterable[Path]) -> None:
    """Remove groups that are there and have no process, or lose their last one in a moment."""
    for folder in folders:
        for _ in range(50):
            try:
                folder.rmdir()
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.01)
            else:
                break


def _make(parent: Path, name: str) -> Path:
    ours = parent / FOLDER
    ours.mkdir(exist_ok=True)
    for level in (parent, ours):
        for controller in ("+memory", "+cpu"):
            with contextlib.suppress(OSError):
                if (level / "cgroup.subtree_control").exists():
                    (level / "cgroup.subtree_control").write_text(controller)
    folder = folder_below(parent, name)
    folder.mkdir(exist_ok=True)
    return folder


def _limit_memory(folder: Path, memory_bytes: int) -> bool:
    for name, swap in (
        ("memory.max", "memory.swap.max"),
        ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    ):
        if (folder / name).exists():
            (folder / name).write_text(str(memory_bytes))
            with contextlib.suppress(OSError):  # a kernel without swap accounting has no such file
                if (folder / swap).exists():
                    (folder / swap).write_text("0" if name == "memory.max" else str(memory_bytes))
            return True
    return False


def _limit_cpu(folder: Path, cpus: float) -> bool:
    quota_us = int(cpus * CPU_PERIOD_US)
    if (folder / "cpu.max").exists():
        (folder / "cpu.max").write_text(f"{quota_us} {CPU_PERIOD_US}")
        return True
    if (folder / "cpu.cfs_quota_us").exists():
        (folder / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))
        (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
        return True
    return False


def _counter(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0
