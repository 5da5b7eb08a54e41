"""`GET /` on a new connection is answered while `run()` occupies the event loop."""

from __future__ import annotations

import time
from typing import Any

import pytest

SCRIPT = """
    import time
    def init(): pass
    def run(data):
        if data == "sleep":
            time.sleep(2)
        elif data == "burn":
            until = time.monotonic() + 2
            while time.monotonic() < until:
                sum(range(100))
        return data
"""
HEALTH = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("how", [b"sleep", b"burn"])
def test_probes_are_answered_while_run_is_busy(start: Any, make_post: Any, how: bytes, loop: str) -> None:
    worker = start(SCRIPT, MOORINGS_SERVER_LOOP=loop).ready()
    assert worker.ask(HEALTH).body == b"Healthy"
    busy = worker.connect().send(make_post(how))
    time.sleep(0.1)
    began = time.monotonic()
    for _ in range(10):
        answer = worker.ask(HEALTH)
        assert (answer.status, answer.body, answer.header("Connection")) == (200, b"Healthy", "close")
    head = worker.ask(b"HEAD / HTTP/1.1\r\n\r\n")
    assert (head.status, head.header("Content-Length")) == (200, "7")
    assert time.monotonic() - began < 1.5, "the probes waited for run()"
    busy.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        busy.sock.recv(1)
    busy.sock.settimeout(10)
    assert busy.read().json == how.decode()


def test_everything_else_that_arrives_meanwhile_is_served_after(start: Any, make_post: Any) -> None:
    worker = start(SCRIPT).ready()
    busy = worker.connect().send(make_post(b"sleep"))
    time.sleep(0.1)
    silent = worker.connect()
    score = worker.connect().send(make_post(b"queued"))
    slow = worker.connect().send(HEALTH[:20])
    missing = worker.connect().send(make_post(method="GET", target="/nothing"))
    two = worker.connect().send(HEALTH + HEALTH)
    gone = worker.connect()
    gone.close()
    assert worker.ask(HEALTH).body == b"Healthy"
    assert busy.read().json == "sleep"
    assert score.read().json == "queued"
    assert slow.send(HEALTH[20:]).read().body == b"Healthy"
    assert missing.read().status == 404
    assert [two.read().body, two.read().body] == [b"Healthy", b"Healthy"]
    assert silent.send(HEALTH).read().body == b"Healthy"


def test_an_idle_worker_sleeps(start: Any, make_post: Any) -> None:
    worker = start(SCRIPT).ready()
    worker.score(b"wake the sentinel")
    time.sleep(1.6)  # longer than it stays awake after work

    def wakeups() -> int:
        total = 0
        for task in (worker_tasks := list(_tasks(worker.process.pid))):
            total += int(
                next(line for line in task.splitlines() if line.startswith("voluntary_ctxt")).split()[1]
            )
        assert len(worker_tasks) >= 3, "loop, log and sentinel"
        return total

    before = wakeups()
    time.sleep(0.5)
    assert wakeups() - before <= 5, "a thread wakes up although there is nothing to do"


def _tasks(pid: int) -> Any:
    from pathlib import Path

    for folder in Path(f"/proc/{pid}/task").iterdir():
        yield (folder / "status").read_text()
