"""What a caller meets: addresses, keys, deployments, ids, bodies, limits."""

from __future__ import annotations

import asyncio
import re
import threading
import uuid

import httpx
import pytest


@pytest.fixture(scope="module")
def served(shared, kit):
    """Endpoint `shop` with blue (90 %) and green (10 %), endpoint `idle` without traffic."""
    blue, green = kit.backends.start("blue", gate=50), kit.backends.start("green", gate=50)
    shared.put(
        kit.endpoint(
            "shop",
            kit.route("blue", blue, mc=50),
            kit.route("green", green, mc=50, timeout_ms=300),
            traffic={"blue": 90, "green": 10},
        ),
        kit.endpoint("Idle", kit.route("blue", blue), traffic={}, keys=("idle-key",)),
    )
    return shared


def test_path_form_and_host_form_reach_the_model_at_its_own_path(served, kit):
    by_path = served.ask("/api/v1/endpoint/shop/score?a=1")
    by_host = served.ask("/score?a=1", host="shop.localhost")
    with_port = served.ask("/swagger.json", host=f"shop.localhost:{served.settings.port}", method="GET")
    assert [by_path.status, by_host.status, with_port.status] == [200, 200, 200]
    paths = {path for backend in kit.backends.all for path, _, _ in backend.seen}
    assert {"/score?a=1", "/swagger.json"} <= paths


def test_a_host_in_lower_case_finds_an_endpoint_with_capitals(served):
    assert served.ask("/score", "idle-key", host="idle.localhost").code == "NoTraffic"
    assert served.ask("/score", "idle-key", host="Idle.localhost").code == "NoTraffic"


@pytest.mark.parametrize("key", ["key-one", "key-two"])
def test_both_keys_are_valid(served, key):
    assert served.score("shop", key=key).status == 200


@pytest.mark.parametrize("key", [None, "", "wrong", "idle-key", "key-one "[:-2], "KEY-ONE"])
def test_anything_else_is_401_in_the_one_shape(served, key):
    answer = served.score("shop", key=key)
    assert (answer.status, answer.code) == (401, "Unauthorized")
    assert uuid.UUID(answer.json()["error"]["request_id"]) == uuid.UUID(answer.headers["x-request-id"])


def test_a_path_that_climbs_needs_the_key_of_where_it_ends(served):
    assert served.ask("/api/v1/endpoint/shop/../Idle/score", "key-one").status == 401
    assert served.ask("/api/v1/endpoint/Idle/../shop/score", "key-one").status == 200
    assert served.ask("/api/v1/endpoint/Idle%2f..%2fshop/score", "key-one").status == 400


def test_a_forged_scope_header_is_overwritten(served):
    answer = served.ask("/api/v1/endpoint/Idle/score", "key-one", x_moorings_scope="/////shop")
    assert answer.status == 401


def test_the_key_is_not_forwarded(served, kit):
    served.score("shop", x_marker="forward")
    headers = [h for b in kit.backends.all for _, h, _ in b.seen if h.get("x-marker") == "forward"]
    assert len(headers) == 1
    assert "authorization" not in headers[0]
    assert "x-moorings-scope" not in headers[0]


@pytest.mark.parametrize(
    ("path", "key", "headers", "code"),
    [
        ("/api/v1/endpoint/nowhere/score", "key-one", {}, "EndpointNotFound"),
        ("/score", "key-one", {}, "EndpointNotFound"),
        ("/api/v1/endpoint/shop/score", "key-one", {"azureml_model_deployment": "red"}, "DeploymentNotFound"),
        ("/api/v1/endpoint/Idle/score", "idle-key", {}, "NoTraffic"),
    ],
)
def test_each_404_says_which(served, path, key, headers, code):
    answer = served.ask(path, key, **headers)
    assert (answer.status, answer.code) == (404, code)
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
    assert answer.json()["error"]["message"]


def test_the_header_picks_a_deployment_and_the_answer_names_it(served):
    for name in ("blue", "green"):
        answer = served.score("shop", azureml_model_deployment=name)
        assert (answer.status, answer.body, answer.headers["azureml-model-deployment"]) == (
            200,
            name.encode(),
            name,
        )
    answer = served.ask("/api/v1/endpoint/Idle/score", "idle-key", azureml_model_deployment="blue")
    assert answer.status == 200


def test_the_split_is_as_asked(served):
    got = [served.score("shop").body for _ in range(400)]
    assert 15 <= got.count(b"green") <= 75
    assert got.count(b"blue") + got.count(b"green") == 400


def test_request_ids_are_ours_and_client_ids_are_cleaned_cut_and_echoed(served):
    answer = served.score("shop", x_request_id="evil", x_ms_client_request_id="a b/c;d_e-" + "f" * 60)
    uuid.UUID(answer.headers["x-request-id"])
    assert answer.headers["x-ms-client-request-id"] == "abcd_e-" + "f" * 33
    refused = served.score("shop", key="no", x_ms_client_request_id="mine")
    assert refused.headers["x-ms-client-request-id"] == "mine"
    assert "x-ms-client-request-id" not in served.score("shop").headers


def test_a_slow_model_is_408_and_the_caller_cannot_stretch_or_shrink_the_limit(served):
    answer = served.score(
        "shop",
        azureml_model_deployment="green",
        x_sleep_ms="1500",
        x_envoy_upstream_rq_timeout_ms="9000",
        x_ms_client_request_id="slow",
    )
    assert (answer.status, answer.code) == (408, "RequestTimeout")
    assert answer.headers["x-ms-client-request-id"] == "slow"
    fine = served.score(
        "shop", azureml_model_deployment="blue", x_sleep_ms="50", x_envoy_upstream_rq_timeout_ms="1"
    )
    assert fine.status == 200


def test_request_bodies_are_limited_to_the_byte_in_both_framings(served):
    limit = 1_572_864
    assert served.score("shop", body=b"x" * limit).status == 200
    answer = served.score("shop", body=b"x" * (limit + 1))
    assert (answer.status, answer.code) == (413, "RequestTooLarge")
    assert served.score("shop", body=iter([b"x" * limit])).status == 200
    assert served.score("shop", body=iter([b"x" * limit, b"y"])).status == 413


@pytest.mark.parametrize("chunked", [{}, {"x_chunked": "1"}])
def test_a_models_error_is_424_around_its_own_body(served, chunked):
    answer = served.score("shop", x_status="500", azureml_model_deployment="blue", **chunked)
    assert (answer.status, answer.body) == (424, b"blue")
    assert answer.headers["ms-azureml-model-error-statuscode"] == "500"
    assert answer.headers["ms-azureml-model-error-reason"] == "model_error"
    assert answer.headers["azureml-model-deployment"] == "blue"
    assert served.score("shop", x_status="201").headers["ms-azureml-model-error-statuscode"] == "201"


@pytest.mark.parametrize("chunked", [{}, {"x_chunked": "1"}])
def test_responses_are_limited_to_the_byte_but_streams_pass(served, chunked):
    limit = 1_572_864
    fine = served.score("shop", x_bytes=str(limit), x_type="application/json", **chunked)
    assert (fine.status, len(fine.body)) == (200, limit)
    answer = served.score("shop", x_bytes=str(limit + 1), x_type="application/json", **chunked)
    assert (answer.status, answer.code) == (424, "ResponseTooLarge")
    assert answer.headers["ms-azureml-model-error-reason"] == "response_too_large"
    stream = served.score("shop", x_bytes=str(2 * limit), x_type="text/event-stream", x_chunked="1")
    assert (stream.status, len(stream.body)) == (200, 2 * limit)


def test_more_than_twice_the_concurrency_is_429_at_once_and_a_new_count_changes_the_cap(shared, kit):
    workers = [kit.backends.start(f"capped{i}", gate=2) for i in range(2)]

    def burst(size: int) -> list[int]:
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(shared.score("capped", x_sleep_ms="400")))
            for _ in range(size)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for answer in answers:
            if answer.status == 429:
                assert answer.code == "TooManyPendingRequests"
                assert int(answer.headers["retry-after"]) >= 1
        return sorted(a.status for a in answers)

    shared.put(kit.endpoint("capped", kit.route("blue", *workers, count=2, mc=2, timeout_ms=9000)))
    assert burst(20) == [200] * 8 + [429] * 12
    assert [worker.peak for worker in workers] == [2, 2]
    shared.put(kit.endpoint("capped", kit.route("blue", *workers, count=1, mc=2, timeout_ms=9000)))
    assert burst(20) == [200] * 4 + [429] * 16
    shared.drop("capped")


def test_the_rate_of_an_endpoint_is_limited_across_its_address_forms(shared, kit):
    worker = kit.backends.start("rated", gate=50)
    shared.put(kit.endpoint("rated", kit.route("blue", worker, mc=100), rate=100))
    answers = []

    def client(form: int) -> None:
        for _ in range(75):
            more = {"host": "rated.localhost"} if form % 2 else {}
            answers.append(shared.ask("/score" if form % 2 else "/api/v1/endpoint/rated/score", **more))

    threads = [threading.Thread(target=client, args=(form,)) for form in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limited = [a for a in answers if a.status == 429]
    assert limited
    assert {a.code for a in limited} == {"RateLimited"}
    assert {a.headers["retry-after"] for a in limited} == {"1"}
    passed = len(answers) - len(limited)
    assert passed >= 100
    shared.drop("rated")


def test_mirrored_requests_reach_the_mirror_without_the_key_and_its_failures_do_not_show(shared, kit):
    main, mirror = kit.backends.start("main", gate=9), kit.backends.start("mirror", gate=9)
    shared.put(
        kit.endpoint(
            "mirrored", kit.route("blue", main, mc=9), kit.route("next", mirror, mc=9), mirror={"next": 50}
        )
    )
    assert {shared.score("mirrored").body for _ in range(100)} == {b"main"}
    kit.until(lambda: 20 <= len(mirror.seen) <= 80, limit_s=5, say=lambda: len(mirror.seen))
    assert all("authorization" not in headers for _, headers, _ in mirror.seen)
    kit.backends.stop(mirror)
    assert {shared.score("mirrored").status for _ in range(20)} == {200}
    shared.drop("mirrored")


def test_no_ready_worker_is_503_and_a_worker_that_dies_meanwhile_is_502(shared, kit):
    shared.put(kit.endpoint("dark", kit.route("blue")))
    assert (shared.score("dark").status, shared.score("dark").code) == (503, "NoHealthyInstance")
    worker = kit.backends.start("dying")
    shared.put(kit.endpoint("dark", kit.route("blue", worker)))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(shared.score("dark", x_sleep_ms="3000")))
    thread.start()
    kit.until(lambda: worker.running == 1)
    kit.backends.stop(worker)
    thread.join()
    assert (answers[0].status, answers[0].code) == (502, "InstanceLost")
    shared.drop("dark")


def test_a_worker_whose_socket_appears_later_becomes_healthy_by_itself(shared, kit):
    worker = kit.backends.start("late")
    kit.backends.stop(worker)
    shared.put(kit.endpoint("late", kit.route("blue", worker)), wait=False)
    kit.until(lambda: "late" in shared.status.accepted)
    assert shared.score("late").status == 503
    kit.backends.run(worker.open())
    kit.until(lambda: shared.status.healthy.get("late~blue") == (worker.path,))
    assert shared.score("late").status == 200
    shared.drop("late")


def test_the_access_log_names_everything_but_the_key(served, kit):
    served.score("shop", azureml_model_deployment="green", x_ms_client_request_id="logged", x_status="500")
    log = served.settings.access_log
    kit.until(lambda: '"logged"' in log.read_text())
    line = next(text for text in log.read_text().splitlines() if '"logged"' in text)
    for part in ('"endpoint":"shop"', '"deployment":"green"', '"code":424', '"model_code":"500"'):
        assert part in line.replace(": ", ":"), line
    assert re.search(r'"model_us": ?\d+', line)
    text = log.read_text() + served.settings.agent_log.read_text() + served.settings.envoy_log.read_text()
    assert not re.search("key-one|key-two|idle-key", text)
    assert log.stat().st_mode & 0o077 == 0


def test_http_2_callers_get_the_same_answers(served):
    """With prior knowledge, on one connection: many at once, and every kind of refusal in the one shape."""
    url = f"http://127.0.0.1:{served.settings.port}/api/v1/endpoint/shop/score"
    key = {"authorization": "Bearer key-one"}
    blue = {**key, "azureml-model-deployment": "blue"}
    with httpx.Client(http1=False, http2=True, timeout=20) as client:
        answer = client.post(url, headers=blue, content=b"{}")
        assert (answer.http_version, answer.status_code, answer.content) == ("HTTP/2", 200, b"blue")
        assert answer.headers["azureml-model-deployment"] == "blue"
        assert client.post(url, headers={**blue, "x-status": "500"}).status_code == 424
        refused = {
            "Unauthorized": client.post(url, content=b"{}"),
            "DeploymentNotFound": client.post(url, headers={**key, "azureml-model-deployment": "no"}),
            "RequestTooLarge": client.post(url, headers=blue, content=b"x" * 1_572_865),
            "RequestTimeout": client.post(
                url, headers={**key, "azureml-model-deployment": "green", "x-sleep-ms": "900"}
            ),
        }
        assert {code: answer.json()["error"]["code"] for code, answer in refused.items()} == {
            c: c for c in refused
        }
        assert [answer.status_code for answer in refused.values()] == [401, 404, 413, 408]
        assert all(uuid.UUID(answer.headers["x-request-id"]) for answer in refused.values())
    many = asyncio.run(_many_on_one_connection(url, blue, requests=1_000, at_once=20))
    assert {(answer.status_code, answer.content) for answer in many} == {(200, b"blue")}


async def _many_on_one_connection(
    url: str, headers: dict[str, str], *, requests: int, at_once: int
) -> list[httpx.Response]:
    """From one thread: httpx's HTTP/2 connections give two threads the same stream now and then."""
    room = asyncio.Semaphore(at_once)
    async with httpx.AsyncClient(http1=False, http2=True, timeout=20) as client:

        async def post(number: int) -> httpx.Response:
            async with room:
                return await client.post(url, headers=headers, content=b"%d" % number)

        return await asyncio.gather(*(post(number) for number in range(requests)))
