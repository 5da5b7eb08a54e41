"""What real processes use of this machine, as the scaler sees it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from moorings.autoscale.usage import InstanceUsage
from moorings.engines.base import Instance, Phase

# The worker starts a child that computes: both count, and so does what they hold in memory.
WORKER = """
import subprocess, sys
code = "import sys; b = bytearray(30 << 20); sys.stdin.readline(); "
code += "print(sum(range(6_000_000)), flush=True); sys.stdin.readline()"
child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print("up", flush=True)
for line in sys.stdin:
    child.stdin.write(line); child.stdin.flush()
    if line.strip() == "end": break
    child.stdout.readline(); print("done", flush=True)
child.wait()
"""


class OneInstance:
    def __init__(self, pid: int, phase: Phase = Phase.RUNNING) -> None:
        self.pid, self.phase = pid, phase

    async def observe(self, owner: str | None = None) -> Sequence[Instance]:
        pids = {"supervisor": 1, "worker-0": self.pid}
        return [Instance("i", "shop/blue", "r", 0, self.phase, (), 0.0, 0, pids=pids)]


async def test_time_and_memory_of_a_worker_and_its_children() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin and worker.stdout
        worker.stdout.readline()
        engine: Any = OneInstance(worker.pid)
        usage = InstanceUsage(engine)
        assert await usage.of("shop/blue") is None, "there is nothing to compare with yet"
        worker.stdin.write("go\n")
        worker.stdin.flush()
        worker.stdout.readline()
        found = await usage.of("shop/blue")
        assert found is not None
        assert found.processor_s >= 0.05
        assert found.memory_bytes > 30 << 20
        assert found.instances == 1
        idle = await usage.of("shop/blue")
        assert idle is not None
        assert idle.processor_s < found.processor_s
        engine.phase = Phase.STARTING
        assert await usage.of("shop/blue") is None, "what does not run is not measured"
        worker.stdin.write("end\n")
        worker.stdin.flush()
