"""The processes of one server: found, weighed (CPU, memory), pinned, ended. Linux only.

A server's processes are the descendants of the one that was started and all that carry its mark in their
environment (servers put processes into the background).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

END_S = 15.0
SAMPLE_S = 0.25


def all_cpus() -> list[int]:
    """The CPUs this process may use; ask before it is pinned to some of them."""
    return sorted(psutil.Process().cpu_affinity() or []) or list(range(os.cpu_count() or 1))


def cpus(every: list[int], workers: int) -> tuple[list[int], list[int]]:
    """CPUs of the server and of the client out of `every`; the same ones (all) where there are too few to keep them
    apart."""
    if len(every) <= workers:
        return every, every
    return every[:workers], every[workers:]


def pinned(argv: list[str], on: list[int]) -> list[str]:
    return ["taskset", "-c", ",".join(str(each) for each in on), *argv]


class Tree:
    """The processes of one server. `mark` is a `NAME=value` of their environment; `root` may be missing."""

    def __init__(self, root: subprocess.Popen[bytes] | None, mark: str) -> None:
        self._root = root
        self._mark = mark.encode()

    def processes(self) -> list[psutil.Process]:
        found: dict[int, psutil.Process] = {}
        if self._root is not None and self._root.poll() is None:
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(self._root.pid)
                found.update((each.pid, each) for each in [root, *root.children(recursive=True)])
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in found and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError, psutil.Error):
                    if self._mark in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = psutil.Process(int(entry.name))
        return list(found.values())

    def cpu_s(self) -> float:
        """CPU seconds so far, with those of children that have ended."""
        total = 0.0
        for each in self.processes():
            with contextlib.suppress(psutil.Error):
                times = each.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def pss_mb(self) -> float:
        """Memory, pages that processes share counted once."""
        total = 0
        for each in self.processes():
            with contextlib.suppress(psutil.Error):
                total += each.memory_full_info().pss
        return total / 1e6

    def end(self) -> None:
        """SIGTERM to the root, then SIGKILL to what is left; exactly the processes that were found."""
        every = self.processes()
        if self._root is not None and self._root.poll() is None:
            self._root.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._root.wait(END_S)
        else:
            for each in every:
                with contextlib.suppress(psutil.Error):
                    each.terminate()
            psutil.wait_procs(every, timeout=END_S)
        for each in {*every, *self.processes()}:
            with contextlib.suppress(psutil.Error):
                each.kill()
        if self._root is not None:
            self._root.wait(END_S)


class Peak:
    """The most resident memory (MB, summed over processes) while the block ran."""

    def __init__(self) -> None:
        self.rss_mb = 0.0


@contextlib.contextmanager
def memory(tree: Tree) -> Iterator[Peak]:
    peak, over = Peak(), threading.Event()
    processes = tree.processes()

    def sample() -> None:
        while True:
            total = 0
            for each in processes:
                with contextlib.suppress(psutil.Error):
                    total += each.memory_info().rss
            peak.rss_mb = max(peak.rss_mb, total / 1e6)
            if over.wait(SAMPLE_S):
                return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def others_cpu_s(own: float) -> float:
    """CPU seconds of this machine that were busy, less `own`: what anything else used."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice + times.softirq + times.irq) - own


def wait_until(deadline_s: float) -> Iterator[float]:
    """Yield the seconds since the start every 20 ms until `deadline_s` have passed."""
    began = time.monotonic()
    while (spent := time.monotonic() - began) < deadline_s:
        yield spent
        time.sleep(0.02)
