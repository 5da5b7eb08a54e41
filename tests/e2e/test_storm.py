"""More callers than there are places, half of whom leave: nothing runs beyond its limit, no place is lost, and the
access log knows of every request."""

from __future__ import annotations

import collections
import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.alone

CALLERS, EACH, PLACES = 40, 20, 3

SCRIPT = """
import json, threading, time
lock = threading.Lock()
now = most = 0
def init(): pass
def run(data):
    global now, most
    asked = json.loads(data)
    if asked == "stats":
        return {"now": now, "most": most}
    with lock:
        now += 1
        most = max(most, now)
    time.sleep(asked)
    with lock:
        now -= 1
    return asked
"""


class Storm:
    """Callers that ask one thing after the other, each with an id of its own."""

    def __init__(self, workspace: Any, key: str) -> None:
        self._address = ("127.0.0.1", workspace.port)
        self._key = key
        self._lock = threading.Lock()
        self.answers: dict[str, int] = {}
        """Request id of ours -> status."""
        self.left: set[str] = set()

    def run(self, caller: int) -> None:
        chance = random.Random(caller)
        for number in range(EACH):
            name = f"storm-{caller}-{number}"
            leaves = chance.random() < 0.5
            with socket.create_connection(self._address, timeout=20) as connection:
                connection.sendall(self._request(name, chance.choice((0.002, 0.01, 0.03))))
                if leaves:
                    time.sleep(chance.random() * 0.03)
                    with self._lock:
                        self.left.add(name)
                    continue
                status = int(connection.recv(65536).split(b" ", 2)[1])
            with self._lock:
                self.answers[name] = status

    def _request(self, name: str, seconds: float) -> bytes:
        body = json.dumps(seconds).encode()
        head = (
            f"POST /api/v1/endpoint/storm/score HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {self._key}\r\n"
            f"x-ms-client-request-id: {name}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def logged(path: Path, names: set[str]) -> dict[str, list[dict[str, Any]]]:
    """The access log's lines for these ids; it is flushed once a second."""
    deadline = time.monotonic() + 10
    while True:
        found = collections.defaultdict(list)
        for line in path.read_text().splitlines():
            if '"storm-' in line and line.endswith("}"):
                entry = json.loads(line)
                found[entry["client_request_id"]].append(entry)
        if found.keys() >= names or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def test_a_storm_of_callers_of_whom_half_leave(workspace: Any) -> None:
    workspace.endpoint("storm")
    code = workspace.script("storm", SCRIPT)
    settings = {"max_concurrent_requests_per_instance": PLACES, "request_timeout_ms": 20_000}
    workspace.deploy(workspace.spec("storm", "blue", code, request_settings=settings), "--all-traffic")
    storm = Storm(workspace, workspace.key("storm"))
    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(storm.run, range(CALLERS)))

    assert len(storm.answers) + len(storm.left) == CALLERS * EACH
    assert len(storm.left) > CALLERS * EACH / 3
    counted = collections.Counter(storm.answers.values())
    assert set(counted) == {200, 429}, counted

    deadline = time.monotonic() + 10
    while (stats := workspace.score("storm", "stats").json)["now"]:
        assert time.monotonic() < deadline, stats
        time.sleep(0.05)
    assert stats["most"] == PLACES

    with ThreadPoolExecutor(2 * PLACES) as callers:  # as many as may run and wait, at once
        again = list(callers.map(lambda _: workspace.score("storm", 0.2).status, range(2 * PLACES)))
    assert again == [200] * 2 * PLACES

    sent = set(storm.answers) | storm.left
    lines = logged(Path(workspace.home) / "gateway" / "access.log", sent)
    assert {name: len(lines[name]) for name in sent if len(lines[name]) != 1} == {}
    assert {name: lines[name][0]["code"] for name in storm.answers} == storm.answers


ASYNC_SCRIPT = """
import asyncio
running, most, cancelled = 0, 0, 0
def init(): pass
async def run(data):
    global running, most, cancelled
    running += 1
    most = max(most, running)
    try:
        if "long" in data:
            await asyncio.sleep(600)
    except asyncio.CancelledError:
        await asyncio.sleep(0.2)  # what it still has to do keeps its place
        cancelled += 1
        raise
    finally:
        running -= 1
    return {"most": most, "cancelled": cancelled}
"""


def test_async_work_ends_when_its_caller_leaves_the_gateway(workspace: Any) -> None:
    workspace.endpoint("leave")
    code = workspace.script("leave", ASYNC_SCRIPT)
    settings = {"max_concurrent_requests_per_instance": 1, "request_timeout_ms": 60_000}
    workspace.deploy(workspace.spec("leave", "blue", code, request_settings=settings), "--all-traffic")
    request = (
        "POST /api/v1/endpoint/leave/score HTTP/1.1\r\nHost: g\r\n"
        f'Authorization: Bearer {workspace.key("leave")}\r\nContent-Length: 6\r\n\r\n"long"'
    ).encode()
    for left in (1, 2):
        with socket.create_connection(("127.0.0.1", workspace.port), timeout=20) as connection:
            connection.sendall(request)
            time.sleep(0.5)
        answer = workspace.score("leave", "now")
        assert (answer.status, answer.json) == (200, {"most": 1, "cancelled": left})
