"""Limits of an endpoint: any value is limited, each refusal names the limit, its value and the setting."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time

import pytest

pytestmark = pytest.mark.alone

LIMIT = 1_572_864


@pytest.fixture(scope="module")
def worker(kit):
    return kit.backends.start("limited", gate=50)


def _burst(served, name: str, count: int, clients: int = 4) -> tuple[dict[int, int], list]:
    answers = []

    def client() -> None:
        for _ in range(count // clients):
            answers.append(served.score(name))

    began_s = time.monotonic()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = sum(a.status == 200 for a in answers)
    return passed, time.monotonic() - began_s, [a for a in answers if a.status != 200]


@pytest.mark.parametrize("rate", [7, 137])
def test_any_rate_is_limited(shared, kit, worker, rate):
    shared.put(kit.endpoint(f"rate{rate}", kit.route("blue", worker, mc=50), rate=rate))
    passed, took_s, refused = _burst(shared, f"rate{rate}", 600)
    assert rate <= passed <= rate * (1 + took_s) + 1
    assert {(a.status, a.code) for a in refused} == {(429, "RateLimited")}
    limit = refused[0].json()["error"]["limit"]
    assert (limit["value"], limit["setting"]) == (
        rate,
        "properties.moorings.rate_limit_per_s of the endpoint",
    )
    assert str(rate) in refused[0].json()["error"]["message"]
    shared.drop(f"rate{rate}")


def test_an_update_of_the_endpoint_refills_no_bucket_and_a_new_rate_counts_at_once(shared, kit, worker):
    route = kit.endpoint("bucket", kit.route("blue", worker, mc=50), rate=20)
    shared.put(route)
    began_s = time.monotonic()
    passed = 0
    for turn in range(6):
        passed += _burst(shared, "bucket", 40)[0]
        shared.put(dataclasses.replace(route, keys=("key-one", f"key-{turn}")))
    assert passed <= 20 * (1 + time.monotonic() - began_s) + 1
    shared.put(dataclasses.replace(route, rate_limit_per_s=500))
    time.sleep(0.3)
    assert _burst(shared, "bucket", 60)[0] == 60
    shared.drop("bucket")


def test_pending_requests_over_the_cap_say_which_cap(shared, kit):
    slow = kit.backends.start("slow", gate=3)
    shared.put(kit.endpoint("pending", kit.route("blue", slow, mc=3, timeout_ms=9000)))
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(shared.score("pending", x_sleep_ms="300")))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [a for a in answers if a.status != 200]
    assert len(refused) == 6
    assert {(a.status, a.code, a.headers["retry-after"]) for a in refused} == {
        (429, "TooManyPendingRequests", "1")
    }
    assert {a.json()["error"]["limit"]["value"] for a in refused} == {6}
    assert "max_concurrent_requests_per_instance" in refused[0].json()["error"]["limit"]["setting"]
    shared.drop("pending")


def test_waiting_for_a_slot_counts_in_the_timeout_which_is_named(shared, kit):
    slow = kit.backends.start("busy", gate=1)
    shared.put(kit.endpoint("queued", kit.route("blue", slow, mc=2, timeout_ms=600)))
    first = threading.Thread(target=lambda: shared.score("queued", x_sleep_ms="500"))
    first.start()
    kit.until(lambda: slow.running == 1)
    answer = shared.score("queued", x_sleep_ms="300")
    first.join()
    assert (answer.status, answer.code) == (408, "RequestTimeout")
    assert answer.json()["error"]["limit"]["value"] == 600
    shared.drop("queued")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(
    ("max_request", "max_response"), [(LIMIT, 120_000), (1000, LIMIT), (1000, 3_000_000), (4_000_000, LIMIT)]
)
def test_bodies_are_limited_to_the_byte_whatever_the_two_limits(
    shared, kit, worker, framing, max_request, max_response
):
    chunked = framing == "chunked"
    shared.put(
        kit.endpoint(
            "sized",
            kit.route("blue", worker, mc=50),
            max_request_bytes=max_request,
            max_response_bytes=max_response,
        )
    )

    def ask(sent: int, answered: int):
        body = iter([b"x" * sent]) if chunked else b"x" * sent
        more = {"x_chunked": "1"} if chunked else {}
        return shared.score("sized", body=body, x_bytes=str(answered), x_type="application/json", **more)

    assert ask(max_request, 1).status == 200
    over = ask(max_request + 1, 1)
    assert (over.status, over.code, over.json()["error"]["limit"]["value"]) == (
        413,
        "RequestTooLarge",
        max_request,
    )
    fine = ask(1, max_response)
    assert (fine.status, len(fine.body)) == (200, max_response)
    long = ask(1, max_response + 1)
    assert (long.status, long.code) == (424, "ResponseTooLarge")
    assert long.headers["ms-azureml-model-error-reason"] == "response_too_large"
    assert "ms-azureml-model-error-statuscode" not in long.headers
    error = long.json()["error"]
    assert error["request_id"] == long.headers["x-request-id"]
    assert (error["limit"]["value"], str(max_response) in error["message"]) == (max_response, True)
    assert error["limit"]["setting"] == "properties.moorings.max_response_bytes of the endpoint"
    shared.drop("sized")


def test_a_body_that_is_too_long_is_401_first(shared, kit, worker):
    shared.put(kit.endpoint("first", kit.route("blue", worker, mc=50), max_request_bytes=10))
    assert shared.score("first", key="wrong", body=b"x" * 100).status == 401
    assert shared.score("first", body=b"x" * 100).status == 413
    shared.drop("first")


@pytest.mark.parametrize("status", [201, 202, 204, 206, 301, 304, 400, 401, 404, 418, 429, 500, 503, 504])
def test_every_other_status_of_the_model_is_424_and_keeps_its_body(shared, kit, worker, status):
    shared.put(kit.endpoint("statuses", kit.route("blue", worker, mc=50)))
    answer = shared.score("statuses", x_status=str(status))
    assert answer.status == 424
    assert answer.headers["ms-azureml-model-error-statuscode"] == str(status)
    assert answer.headers["ms-azureml-model-error-reason"] == "model_error"
    assert answer.headers["azureml-model-deployment"] == "blue"
    if status not in (204, 304):
        assert answer.body == b"limited"


def test_connections_over_the_limit_are_closed_and_the_others_served(gateway, kit, worker):
    gateway.settings = dataclasses.replace(gateway.settings, max_connections=8)
    gateway.control = type(gateway.control)(gateway.settings)
    gateway.control.ensure_agent()
    gateway.put(kit.endpoint("shop", kit.route("blue", worker, mc=50)))

    def closed_of(count: int) -> int:
        """How many of so many connections at once Envoy closes."""
        address = ("127.0.0.1", gateway.settings.port)
        held = [socket.create_connection(address, timeout=5) for _ in range(count)]
        closed = 0
        try:
            for connection in held:
                connection.settimeout(0.3)
                with contextlib.suppress(TimeoutError):
                    try:
                        closed += connection.recv(1) == b""
                    except ConnectionError:
                        closed += 1
        finally:
            for connection in held:
                connection.close()
        return closed

    # Envoy notices a moment later that connections of before are gone, and counts them until then.
    kit.until(lambda: closed_of(12) == 4)

    def served() -> bool:
        with contextlib.suppress(ConnectionError):
            return gateway.score("shop").status == 200
        return False

    # Envoy notices a moment later that they are gone.
    kit.until(served)
