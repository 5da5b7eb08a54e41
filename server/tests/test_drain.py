"""SIGTERM: what runs and what waits is answered, idle connections close, and the process ends with 0."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

SCRIPT = """
    import time
    def init(): pass
    def run(data):
        time.sleep(float(data))
        return data
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_ends_at_once(start: Any, number: int) -> None:
    worker = start(SCRIPT).ready()
    idle = worker.connect()
    used = worker.connect()
    used.send(b"GET / HTTP/1.1\r\n\r\n").read()
    worker.process.send_signal(number)
    assert idle.at_end()
    assert used.at_end()
    assert worker.process.wait(5) == 0
    assert not worker.socket_path.exists()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("limit", [1, 2])
def test_running_and_queued_requests_are_finished(start: Any, make_post: Any, limit: int, loop: str) -> None:
    worker = start(SCRIPT, MOORINGS_MAX_CONCURRENT=str(limit), MOORINGS_SERVER_LOOP=loop).ready()
    wires = [worker.connect().send(make_post(b"0.3")) for _ in range(4)]
    pipelined = worker.connect().send(make_post(b"0") + make_post(b"0.1"))
    time.sleep(0.1)
    worker.terminate()
    time.sleep(0.1)
    late = (
        worker.connect().send(make_post(b"0")) if worker.socket_path.exists() else None
    )  # before the loop looked up
    for wire in wires:
        answer = wire.read()
        assert (answer.status, answer.header("Connection")) == (200, "close")
        assert wire.at_end()
    assert [pipelined.read().header("Connection"), pipelined.read().header("Connection")] == [None, "close"]
    if late is not None:
        assert late.read().status == 200
    assert worker.process.wait(10) == 0
    assert not worker.socket_path.exists()


def test_a_request_that_is_arriving_is_still_served(start: Any, make_post: Any) -> None:
    worker = start(SCRIPT).ready()
    data = make_post(b"0.0")
    wire = worker.connect().send(data[:30])
    time.sleep(0.1)
    worker.terminate()
    worker.wait_for_log("Stopping")
    answer = wire.send(data[30:]).read()
    assert (answer.json, answer.header("Connection")) == ("0.0", "close")
    assert worker.process.wait(5) == 0


@pytest.mark.parametrize("limit", [1, 2], ids=["inline", "threads"])
def test_a_drain_has_an_end(start: Any, make_post: Any, limit: int) -> None:
    worker = start(SCRIPT, MOORINGS_DRAIN_S="0.5", MOORINGS_MAX_CONCURRENT=str(limit)).ready()
    worker.connect().send(make_post(b"20"))
    time.sleep(0.2)
    worker.terminate()
    assert worker.process.wait(8) == 0


def test_work_whose_client_left_is_finished(start: Any, make_post: Any) -> None:
    script = """
        import time
        def init(): pass
        def run(data):
            time.sleep(0.4)
            open("done", "w").close()
    """
    worker = start(script, MOORINGS_MAX_CONCURRENT="2").ready()
    wire = worker.connect().send(make_post(b""))
    time.sleep(0.1)
    wire.close()
    worker.terminate()
    assert worker.process.wait(10) == 0
    assert (worker.app / "done").exists()


def test_threads_of_the_script_do_not_keep_the_process(start: Any) -> None:
    script = """
        import threading, time
        def init(): threading.Thread(target=time.sleep, args=(60,)).start()
        def run(data): pass
    """
    worker = start(script, MOORINGS_DRAIN_S="1").ready()
    worker.terminate()
    assert worker.process.wait(8) == 0
