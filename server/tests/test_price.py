"""What a request costs in calls, not in time: the hot path must not grow unseen."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from moorings_server.http import HttpConnection
from moorings_server.logs import LineWriter, Log, RequestLines
from moorings_server.settings import read
from moorings_server.worker import Worker

CALLS_LIMIT = 60
BODY = b'{"data": [[1.0, 2.0]]}'
REQUEST = (
    b"POST /score HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    % (
        len(BODY),
        BODY,
    )
)


class Transport:
    """Counts writes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_extra_info(self, name: str) -> Any:
        return self

    def fileno(self) -> int:
        return -1

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def is_closing(self) -> bool:
        return False


@pytest.fixture
def connection(tmp_path: Path) -> Any:
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    before = sys.path[:], sys.meta_path[:]
    fd = os.open(os.devnull, os.O_WRONLY)
    worker = Worker(
        read({"AZUREML_ENTRY_SCRIPT": "score.py"}, str(tmp_path)), Log(LineWriter(fd, RequestLines()))
    )
    handler = signal.getsignal(signal.SIGALRM)
    thresholds = gc.get_threshold()
    worker.load()
    worker._build()
    yield HttpConnection(worker._service)
    worker._loop.close()
    asyncio.set_event_loop(None)
    os.close(fd)
    signal.signal(signal.SIGALRM, handler)
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    sys.path[:], sys.meta_path[:] = before
    sys.modules.pop("entry_script", None)


def test_a_usual_request_is_one_write_and_few_calls(connection: Any) -> None:
    transport = Transport()
    connection.connection_made(transport)
    for _ in range(3):
        connection.data_received(REQUEST)
    transport.written.clear()
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    connection._service.gate._suspect_turns = 0
    sys.setprofile(count)
    try:
        connection.data_received(REQUEST)
    finally:
        sys.setprofile(None)
    assert len(transport.written) == 1
    assert transport.written[0].endswith(b'\r\n\r\n"{\\"data\\": [[1.0, 2.0]]}"')
    assert calls <= CALLS_LIMIT, calls
