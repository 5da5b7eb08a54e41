"""Which end of a worker was for want of memory, by what the kernel has counted and said."""

from __future__ import annotations

from pathlib import Path
from signal import SIGKILL

import pytest

from moorings.engines.cgroup import MACHINE, Group
from moorings.engines.ends import RECENT_S, Ends
from moorings.engines.kernellog import FIRST_NAMESPACE, KernelLog, named_in


class Counted(Group):
    """A group whose counter the test turns."""

    def __init__(self, counter: Path = Path("memory.events")) -> None:
        super().__init__([], "", memory_bytes=None, cpus=None)
        self.count, self.counter = 7, counter

    @property
    def holds_memory(self) -> bool:
        return True

    def oom_counter(self) -> Path:
        return self.counter

    def oom_kills(self) -> int:
        return self.count


class Log(KernelLog):
    def __init__(self, *named: int) -> None:
        self.named = {pid: f"Out of memory: Killed process {pid} (python)" for pid in named}

    def killed(self):
        found, self.named = self.named, {}
        return found


def killed(ends: Ends, now: float, pid: int = 10) -> str:
    ends.note("inference-server", None, SIGKILL, None, pid=pid, now=now)
    assert ends.last is not None
    return str(ends.last["oom_sign"])


def test_a_kill_that_the_kernel_has_counted_is_for_want_of_memory():
    group = Counted()
    ends = Ends(group, 0.0)
    assert not killed(ends, 1.0)
    group.count += 1
    assert killed(ends, 2.0)
    assert ends.over_memory
    assert not killed(ends, 3.0)


def test_what_was_counted_long_ago_was_another_process():
    group = Counted()
    ends = Ends(group, 0.0)
    group.count += 1  # a process that run() had started; the worker lived on
    for now in range(1, 100):
        ends.look(float(now))
    assert not killed(ends, 100.0)


def test_an_end_may_be_seen_a_while_after_it_was_counted():
    group = Counted()
    ends = Ends(group, 0.0)
    for now in range(1, 100):
        ends.look(float(now))
    group.count += 1
    ends.look(100.0)
    assert killed(ends, 100.0 + RECENT_S / 2)


def test_two_workers_killed_at_once_are_both_told():
    group = Counted()
    ends = Ends(group, 0.0)
    group.count += 2
    assert killed(ends, 1.0, pid=10)
    assert killed(ends, 1.0, pid=11)
    assert not killed(ends, 1.0, pid=12)


@pytest.mark.parametrize(
    ("log", "sign"),
    [
        (None, "vmstat of the whole machine: oom_kill 8, 1 more than before"),
        (Log(), "vmstat of the whole machine: oom_kill 8, 1 more than before"),
        (Log(10), "the kernel's log: Out of memory: Killed process 10 (python)"),
        (Log(99), ""),
    ],
    ids=["there is none", "it is silent", "this one", "another"],
)
def test_of_the_whole_machine_the_kernel_log_says_who_it_was(log, sign):
    group = Counted(MACHINE)
    ends = Ends(group, 0.0, log)
    group.count += 1
    assert killed(ends, 1.0) == sign
    assert ends.last["oom_certain"] is ("vmstat" not in sign)


def test_a_log_that_names_another_does_not_speak_for_a_group_of_its_own():
    group = Counted()
    ends = Ends(group, 0.0, Log(99))
    group.count += 1
    assert killed(ends, 1.0) == "memory.events of its control group: oom_kill 8, 1 more than before"


@pytest.mark.parametrize(
    ("text", "pids"),
    [
        (
            "oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/m,task_memcg=/m,task=python3,pid=236,uid=0",
            [236],
        ),
        ("Memory cgroup out of memory: Killed process 2360 (python3) total-vm:78064kB, anon-rss:1kB", [2360]),
        ("[  23600]     0 23600    19516    17928 python3", []),
    ],
)
def test_the_kernel_names_a_process(text, pids):
    record = f"3,1242,64205879186,-;{text}\n SUBSYSTEM=none\n"
    assert list(named_in(record.encode())) == pids


def test_a_log_that_cannot_be_read_says_nothing(tmp_path):
    here = tmp_path / "namespace"
    here.symlink_to(FIRST_NAMESPACE)
    assert KernelLog(tmp_path / "absent", here).killed() is None
    (tmp_path / "log").write_bytes(b"")
    assert KernelLog(tmp_path / "log", here).killed() == {}
    assert KernelLog(tmp_path / "log", tmp_path).killed() is None
