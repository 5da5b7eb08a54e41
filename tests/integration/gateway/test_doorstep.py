"""Nobody who comes while Envoy is gone is turned away, and what they are told afterwards is what Envoy says."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from moorings.lib import procs

LISTEN = "0A"


def listening(port: int) -> int:
    """How many sockets of 127.0.0.1 listen on the port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1] == f"0100007F:{port:04X}" and line.split()[3] == LISTEN for line in lines)


def started(gateway, kit) -> int:
    worker = kit.backends.start("shop", gate=20)
    gateway.control.ensure_agent()
    gateway.put(kit.endpoint("shop", kit.route("blue", worker, mc=20)))
    kit.until(lambda: gateway.status.ready and listening(gateway.settings.port) == 2)
    return gateway.status.envoy_pid


def agent_of(gateway, kit) -> int:
    roles = {role: pid for pid, role in kit.processes_of(gateway.settings.home).items()}
    return roles.get("gateway-agent")


def end(envoy: int, gateway, kit) -> None:
    os.kill(envoy, signal.SIGKILL)
    kit.until(lambda: listening(gateway.settings.port) == 1)


@pytest.fixture
def without_envoy(gateway, kit):
    """Envoy is gone and cannot be started until `held.release()`."""
    envoy = started(gateway, kit)
    agent = agent_of(gateway, kit)
    os.kill(agent, signal.SIGSTOP)
    end(envoy, gateway, kit)
    held = procs.try_lock(gateway.settings.envoy_lock)  # whoever starts an Envoy needs it
    assert held is not None
    os.kill(agent, signal.SIGCONT)
    return held


def test_who_comes_while_envoy_is_gone_waits_and_is_answered(gateway, kit):
    for _ in range(3):
        envoy = started(gateway, kit)
        end(envoy, gateway, kit)
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: gateway.score("shop"), range(60)))
        assert [answer.status for answer in answers] == [200] * 60
        kit.until(lambda envoy=envoy: gateway.status.envoy_pid not in (None, envoy))


def test_a_connection_is_carried_for_one_request_whole_and_named_by_its_caller(without_envoy, gateway, kit):
    port, body = gateway.settings.port, b"b" * 1_000_000
    answers: list[tuple[int, int, str | None]] = []

    def score() -> None:
        wire = http.client.HTTPConnection("127.0.0.1", port, source_address=("127.9.9.9", 0), timeout=20)
        headers = {
            "Authorization": "Bearer key-one",
            "x-bytes": "1200000",
            "x-ms-client-request-id": "carried",
        }
        wire.request("POST", "/api/v1/endpoint/shop/score", body, headers)
        answer = wire.getresponse()
        answers.append((answer.status, len(answer.read()), answer.getheader("connection")))

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(score) for _ in range(8)]
        kit.until(lambda: _waiting(port) >= 8)
        without_envoy.release()
        for each in asked:
            each.result(20)
    assert answers == [(200, 1_200_000, "close")] * 8
    worker = kit.backends.all[-1]
    assert [len(said) for _, headers, said in worker.seen if "x-bytes" in headers] == [len(body)] * 8

    def logged() -> list[dict]:
        lines = map(json.loads, gateway.settings.access_log.read_text().splitlines())
        return [line for line in lines if line["client_request_id"] == "carried"]

    kit.until(lambda: len(logged()) == 8)
    assert {line["client"] for line in logged()} == {"127.9.9.9"}
    assert [gateway.score("shop").headers.get("connection") for _ in range(3)] == [None] * 3


def _waiting(port: int) -> int:
    """How many connections to the port are established, seen from its side."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines)


def test_who_waits_gets_the_answers_of_envoy_over_http_2_and_without_a_key_too(without_envoy, gateway, kit):
    url = f"http://127.0.0.1:{gateway.settings.port}/api/v1/endpoint/shop/score"
    told: list[int] = []

    def ask(key: str) -> None:
        with httpx.Client(http1=False, http2=True, timeout=20) as client:
            told.append(
                client.post(url, headers={"Authorization": f"Bearer {key}"}, content=b"{}").status_code
            )

    threads = [threading.Thread(target=ask, args=(key,)) for key in ("key-one", "wrong")]
    for thread in threads:
        thread.start()
    kit.until(lambda: _waiting(gateway.settings.port) >= 2)
    without_envoy.release()
    for thread in threads:
        thread.join()
    assert sorted(told) == [200, 401]


def test_nobody_waits_for_long_for_an_envoy_that_does_not_come(without_envoy, gateway, kit):
    for _ in range(2):  # the first waits, the second comes when patience has ended
        with pytest.raises(ConnectionError):
            gateway.score("shop")
    without_envoy.release()
    kit.until(lambda: gateway.status.ready)
    assert gateway.score("shop").status == 200


def test_callers_who_leave_or_say_nothing_keep_nobody_from_being_carried(without_envoy, gateway, kit):
    where = ("127.0.0.1", gateway.settings.port)
    silent = [socket.create_connection(where) for _ in range(40)]
    for left in silent[:20]:
        left.close()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(gateway.score, "shop") for _ in range(8)]
        without_envoy.release()
        assert [each.result(20).status for each in asked] == [200] * 8
    for wire in silent[20:]:
        wire.close()


def test_while_envoy_lives_it_gets_everybody(gateway, kit):
    """The agent is frozen: whoever came to its door would wait."""
    started(gateway, kit)
    agent = agent_of(gateway, kit)
    os.kill(agent, signal.SIGSTOP)
    try:
        assert [gateway.score("shop").status for _ in range(200)] == [200] * 200
    finally:
        os.kill(agent, signal.SIGCONT)


def test_an_agent_that_finds_an_envoy_listens_beside_it_too(gateway, kit):
    envoy, agent = started(gateway, kit), agent_of(gateway, kit)
    os.kill(agent, signal.SIGKILL)
    kit.until(lambda: agent_of(gateway, kit) not in (None, agent))
    kit.until(lambda: gateway.status.ready and listening(gateway.settings.port) == 2)
    assert gateway.status.envoy_pid == envoy
    os.kill(agent_of(gateway, kit), signal.SIGSTOP)
    assert [gateway.score("shop").status for _ in range(100)] == [200] * 100
    os.kill(agent_of(gateway, kit), signal.SIGCONT)
    end(envoy, gateway, kit)
    with ThreadPoolExecutor(8) as pool:
        assert [a.status for a in pool.map(lambda _: gateway.score("shop"), range(40))] == [200] * 40
