"""Waiting rooms at a real gateway: requests wait for the first worker, go on when it is there, and give up in time."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

from moorings.gateway.state import DeploymentRoute, EndpointRoute

from .conftest import FAST, Answer, Gateway, Kit, until


def cold(gateway: Gateway, name: str, *, hold_ms: int = 20_000, **changes: object) -> EndpointRoute:
    room = gateway.control.waiting_room(name, "blue")
    route = DeploymentRoute("blue", (), 1, 2, 5000, health_period_s=1.0, waiting_room=room, hold_ms=hold_ms)
    route = replace(route, **changes)  # type: ignore[arg-type]
    return EndpointRoute(name, ("key-one",), (route,), {"blue": 100}, rate_limit_per_s=FAST)


def warm(endpoint: EndpointRoute, *workers: str) -> EndpointRoute:
    route = replace(endpoint.deployments[0], addresses=tuple(sorted(workers)), hold_ms=0)
    return replace(endpoint, deployments=(route,))


def in_flight(gateway: Gateway, name: str, count: int) -> None:
    import asyncio

    def waiting() -> bool:
        loads = asyncio.run(gateway.control.loads()) or {}
        load = loads.get((name, "blue"))
        return load is not None and load.active == count

    until(waiting)


def ask(
    gateway: Gateway, name: str, count: int, body: bytes = b"{}"
) -> tuple[list[Answer], list[threading.Thread]]:
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(gateway.score(name, body=body))) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    return answers, threads


def test_requests_wait_for_the_first_worker_and_all_get_its_answer(shared: Gateway, kit: Kit) -> None:
    endpoint = cold(shared, "rooma")
    shared.put(endpoint)
    body = b"x" * 1_400_000
    answers, threads = ask(shared, "rooma", 4, body)
    in_flight(shared, "rooma", 4)
    extra = shared.score("rooma")
    assert (extra.status, extra.code, extra.headers["retry-after"]) == (429, "TooManyPendingRequests", "1")
    worker = kit.backends.start("rooma", gate=2)
    shared.put(warm(endpoint, worker.path))
    for thread in threads:
        thread.join(20)
    assert [(a.status, a.body) for a in answers] == [(200, b"rooma")] * 4
    assert [sent for _, _, sent in worker.seen] == [body] * 4
    assert shared.score("rooma").status == 200
    shared.put(endpoint)
    answers, threads = ask(shared, "rooma", 1)
    in_flight(shared, "rooma", 1)
    shared.put(warm(endpoint, worker.path))
    threads[0].join(20)
    assert answers[0].status == 200, "and again after the last worker has gone"


def test_who_waits_in_vain_is_told_in_time(shared: Gateway) -> None:
    shared.put(cold(shared, "roomb", hold_ms=700))
    started = time.monotonic()
    answer = shared.score("roomb")
    assert 0.6 < time.monotonic() - started < 4
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "ActivationTimeout", "5")
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["azureml-model-deployment"] == "blue"


def test_a_caller_who_leaves_is_gone_from_the_room(shared: Gateway) -> None:
    shared.put(cold(shared, "roomc"))
    with socket.create_connection(("127.0.0.1", shared.settings.port)) as caller:
        caller.sendall(
            b"GET /api/v1/endpoint/roomc/score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-one\r\n\r\n"
        )
        in_flight(shared, "roomc", 1)
    in_flight(shared, "roomc", 0)


def test_no_model_can_speak_for_a_room_where_there_is_none(shared: Gateway, kit: Kit) -> None:
    worker = kit.backends.start("roomd")
    plain = warm(cold(shared, "roomd", waiting_room=""), worker.path)
    shared.put(plain)
    assert shared.score("roomd", x_status="503").status == 424
    room = Path(shared.control.waiting_room("roomd", "blue"))
    assert not room.exists()
    shared.put(warm(cold(shared, "roomd"), worker.path))
    until(room.exists)
    assert shared.score("roomd").status == 200
