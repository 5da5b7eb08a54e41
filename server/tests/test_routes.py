"""`@routes`: the paths besides /score that a script answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from moorings_server.routing import is_routed, routes

SCRIPT = """
    from azureml.contrib.services.aml_request import rawhttp
    from azureml.contrib.services.aml_response import AMLResponse
    from moorings_server import routes

    def init(): pass

    @routes("/v2", "/metrics")
    @rawhttp
    def run(request):
        if request.path == "/v2/absent":
            return AMLResponse({"error": "no"}, 404, json_str=True)
        return [request.method, request.path, request.args.to_dict(), len(request.data)]
"""


@pytest.fixture(scope="module")
def worker(start_module: Any) -> Iterator[Any]:
    yield start_module(SCRIPT).ready()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/v2", "/v2/models/m/infer", "/metrics"])
def test_every_method_of_a_route_reaches_run(worker: Any, make_post: Any, method: str, path: str) -> None:
    answer = worker.ask(make_post(b"", target=f"{path}?a=1", method=method))
    assert (answer.status, answer.json) == (200, [method, path, {"a": "1"}, 0])


@pytest.mark.parametrize("path", ["/v20", "/v", "/metricsx", "/x/v2"])
def test_a_path_beside_a_route_is_not_found(worker: Any, make_post: Any, path: str) -> None:
    assert worker.ask(make_post(b"{}", target=path)).status == 404


def test_the_paths_of_the_server_stay(worker: Any, make_post: Any) -> None:
    assert worker.ask(make_post(target="/", method="GET")).body == b"Healthy"
    assert worker.ask(make_post(b"{}")).json == ["POST", "/score", {}, 2]
    assert worker.ask(make_post(b"x" * 9, target="/v2/absent")).status == 404
    assert "also for /v2, /metrics and below" in worker.log
    assert "POST /v2/absent 404" in worker.wait_for_log("POST /v2/absent 404")


def test_ids_are_the_same_as_for_scoring(worker: Any, make_post: Any) -> None:
    answer = worker.ask(make_post(b"{}", "x-request-id: abc", target="/v2/a"))
    assert answer.header("x-request-id") == "abc"
    assert worker.ask(make_post(b"{}", "x-request-id: " + "a" * 101, target="/v2/a")).status == 431


def test_routes_need_the_request_itself(start: Any) -> None:
    script = (
        "from moorings_server import routes\ndef init(): pass\n@routes('/v2')\ndef run(data): return data\n"
    )
    report = start(script).failed()
    assert report["kind"] == "bad_signature"
    assert "@rawhttp" in str(report["message"])


@pytest.mark.parametrize("prefix", ["v2", "/v2/", "/", "", "/a b", "/a?b", "/\u00e9", 5])
def test_what_is_no_path_is_refused(prefix: Any) -> None:
    with pytest.raises(ValueError, match="a route is a path"):
        routes(prefix)


def test_a_route_ends_at_a_slash() -> None:
    assert is_routed(b"/v2", (b"/v2",)) and is_routed(b"/v2/", (b"/v2",)) and is_routed(b"/v2/a", (b"/v2",))
    assert not is_routed(b"/v22", (b"/v2",)) and not is_routed(b"/v2", ())


BLAMES = """
    class SchemaError(Exception):
        def get_http_status_code(self): return {"bad": 400, "other": 404}[str(self)]

    def init(): pass
    def run(data): raise SchemaError(data)
"""


def test_an_exception_that_blames_the_request_is_told(start: Any) -> None:
    worker = start(BLAMES).ready()
    told = worker.score(b"bad")
    assert (told.status, told.json) == (400, {"message": "bad"})
    assert told.header("x-ms-run-function-failed") == "True"
    for body in (b"other", b"neither"):
        answer = worker.score(body)
        assert answer.status == 500
        assert body.decode() not in answer.json["message"]
