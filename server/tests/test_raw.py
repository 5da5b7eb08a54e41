"""`@rawhttp`: what the request shows, which answers a script can shape, and whose classes are imported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from moorings_server.aml import AMLResponse
from moorings_server.rawrequest import BadRequestData, RawRequest, multipart

RAW = """
    from azureml.contrib.services.aml_request import AMLRequest, rawhttp
    from azureml.contrib.services.aml_response import AMLResponse
    import azureml_inference_server_http.api.aml_request as other
    import azureml_inference_server_http.api.aml_response

    def init():
        assert other.rawhttp is rawhttp

    @rawhttp
    def run(request):
        assert isinstance(request, AMLRequest)
        kind = request.args.get("k")
        if kind == "shape": return AMLResponse({"a": 1}, 201, {"X-A": "1, 2", "x-request-id": "no"}, json_str=True)
        if kind == "csv": return AMLResponse("h\\u00e9", 200, {"Content-Type": "text/csv"})
        if kind == "none": return AMLResponse(None, 200)
        if kind == "busy": return AMLResponse("busy", 503)
        if kind == "failed": return AMLResponse("x", 409, run_function_failed=True)
        if kind == "empty": return AMLResponse("", 204)
        if kind == "bytes": return AMLResponse(b"\\xff\\x00", 200, {"Content-Type": "image/png"})
        if kind == "newline": return AMLResponse("x", 200, {"X": "a\\r\\nY: b"})
        if kind == "status": return AMLResponse("x", 99)
        if kind == "data": return [request.get_data(as_text=True), request.data.hex(), request.get_json(silent=True)]
        if kind == "json": return request.json
        if kind == "value": return {"a": [1, None]}
        if kind == "form":
            files = {n: [f.filename, f.content_type, f.read().hex()] for n, f in request.files.items()}
            return [request.form.to_dict(flat=False), files]
        return [request.method, request.path, request.full_path, request.url, request.host,
                request.headers["x-a"], request.headers.get("X-Absent", 5), request.args.getlist("b"),
                request.content_type, request.remote_addr, request.cookies, request.query_string.decode()]
"""


@pytest.fixture(scope="module")
def worker(start_module: Any) -> Iterator[Any]:
    yield start_module(RAW).ready()


def ask(worker: Any, make_post: Any, kind: str, body: bytes = b"", *lines: str, method: str = "POST") -> Any:
    return worker.ask(make_post(body, *lines, target=f"/score?k={kind}", method=method))


def test_what_a_request_shows(worker: Any, make_post: Any) -> None:
    request = make_post(
        b"x", "X-A: 1", "x-a: 2", "Cookie: c=d; e=f", "Content-Type: text/x", target="/score?b=1&b=%C3%A9"
    )
    assert worker.ask(request).json == [
        "POST",
        "/score",
        "/score?b=1&b=%C3%A9",
        "http://test/score?b=1&b=%C3%A9",
        "test",
        "1,2",
        5,
        ["1", "\u00e9"],
        "text/x",
        None,
        {"c": "d", "e": "f"},
        "b=1&b=%C3%A9",
    ]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
def test_every_method_of_the_route_reaches_run(worker: Any, make_post: Any, method: str) -> None:
    answer = ask(worker, make_post, "value", method=method)
    assert (answer.status, answer.header("Content-Length")) == (200, "16")
    assert answer.body == (b"" if method == "HEAD" else b'{"a": [1, null]}')


def test_other_methods_do_not(worker: Any, make_post: Any) -> None:
    assert ask(worker, make_post, "value", method="PUT").status == 405


def test_a_shaped_answer(worker: Any, make_post: Any) -> None:
    answer = ask(worker, make_post, "shape")
    assert (answer.status, answer.json) == (201, {"a": 1})
    assert [value for name, value in answer.headers if name == "X-A"] == ["1", "2"]
    assert answer.header("x-request-id") != "no"
    assert answer.header("Content-Type") == "application/json"
    assert answer.header("x-ms-run-function-failed") == "False"
    assert answer.header("x-ms-run-fn-exec-ms") is not None


@pytest.mark.parametrize(
    ("kind", "status", "content_type", "failed", "body"),
    [
        ("csv", 200, "text/csv", "False", "h\u00e9".encode()),
        ("none", 200, "application/json", "False", b"{}"),
        ("busy", 503, "text/html; charset=utf-8", "True", b"busy"),
        ("failed", 409, "text/html; charset=utf-8", "True", b"x"),
        ("empty", 204, "text/html; charset=utf-8", "False", b""),
        ("bytes", 200, "image/png", "False", b"\xff\x00"),
    ],
)
def test_answers(
    worker: Any, make_post: Any, kind: str, status: int, content_type: str, failed: str, body: bytes
) -> None:
    answer = ask(worker, make_post, kind)
    assert (answer.status, answer.body) == (status, body)
    assert answer.header("Content-Type") == content_type
    assert answer.header("x-ms-run-function-failed") == failed
    assert (answer.header("Content-Length") is None) == (status == 204)


@pytest.mark.parametrize("kind", ["newline", "status", "json"])
def test_what_cannot_be_sent_or_read_fails_the_script(worker: Any, make_post: Any, kind: str) -> None:
    answer = ask(worker, make_post, kind, b"{")
    assert (answer.status, answer.header("x-ms-run-function-failed")) == (500, "True")
    assert answer.header("Y") is None


def test_a_body_that_is_no_text(worker: Any, make_post: Any) -> None:
    assert ask(worker, make_post, "data", b"\xff1", "Content-Type: application/json").json == [
        "\ufffd1",
        "ff31",
        None,
    ]


def test_a_multipart_form(worker: Any, make_post: Any) -> None:
    content = bytes(range(256)) + b"\r\n--no\r\n"
    body = (
        b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--B\r\nContent-Disposition: form-data; name="a"'
        b'\r\n\r\ny\r\n--B\r\nContent-Disposition: form-data; name="f"; filename="q\\"\xc3\xa9;.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + content + b"\r\n--B--\r\n"
    )
    answer = ask(worker, make_post, "form", body, 'Content-Type: multipart/form-data; boundary="B"')
    assert answer.json == [{"a": ["x", "y"]}, {"f": ['q"\u00e9;.png', "image/png", content.hex()]}]


def test_a_urlencoded_form(worker: Any, make_post: Any) -> None:
    answer = ask(worker, make_post, "form", b"a=1&a=%20", "Content-Type: application/x-www-form-urlencoded")
    assert answer.json == [{"a": ["1", " "]}, {}]


@pytest.mark.parametrize(
    "body", [b"", b"--B", b"--B\r\n\r\n", b"--B\r\nno head", b"\r\n\r\n--B\r\nX: y\r\n\r\nz"]
)
def test_a_broken_multipart_body_has_no_parts(body: bytes) -> None:
    assert list(multipart(body, b"B")) == []


def test_json_of_a_request() -> None:
    lines = [(b"Content-Type", b"application/problem+json")]
    assert RawRequest(b"POST", b"/score", lines, b"[1]", None).json == [1]
    plain = RawRequest(b"POST", b"/score", [], b"[1]", None)
    assert plain.get_json(force=True) == [1]
    with pytest.raises(BadRequestData) as failure:
        RawRequest(b"POST", b"/score", [], b"[1]", None).get_json()
    assert failure.value.code == 415


@pytest.mark.parametrize("message", [5, object(), {"a": 1}])
def test_a_response_takes_text_bytes_or_a_stream(message: object) -> None:
    with pytest.raises(TypeError, match="json_str"):
        AMLResponse(message, 200)


INSTALLED = {
    "azureml_inference_server_http/__init__.py": "",
    "azureml_inference_server_http/api/__init__.py": "",
    "azureml_inference_server_http/api/aml_request.py": """
        _rawHttpRequested = False
        def rawhttp(function):
            global _rawHttpRequested
            _rawHttpRequested = True
            return function
    """,
    "azureml_inference_server_http/api/aml_response.py": """
        import flask
        class AMLResponse(flask.Response):
            def __init__(self, message, status):
                super().__init__(message, status=status)
                self.headers["x-ms-run-function-failed"] = False
                self.headers.add("A", "1")
                self.headers.add("A", "2")
    """,
}


def test_classes_that_are_installed_win_and_are_understood(start: Any, make_post: Any) -> None:
    script = """
        import flask
        from azureml_inference_server_http.api import aml_request, aml_response
        from azureml.contrib.services.aml_response import AMLResponse
        def init(): pass
        @aml_request.rawhttp
        def run(request):
            kind = request.args["k"]
            if kind == "flask": return flask.Response("f", status=202, headers={"B": "c"})
            if kind == "crash": return flask.Response("f", status=502)
            if kind == "stream": return flask.Response((c for c in ["a", "b"]), mimetype="text/event-stream")
            if kind == "ours": return AMLResponse("o", 203)
            return aml_response.AMLResponse(request.get_data(), 201)
    """
    worker = start(script, files=INSTALLED).ready()
    answer = ask(worker, make_post, "own", b"body")
    assert (answer.status, answer.body) == (201, b"body")
    assert [value for name, value in answer.headers if name == "A"] == ["1", "2"]
    assert answer.header("x-ms-run-function-failed") == "False"
    answer = ask(worker, make_post, "flask")
    assert (answer.status, answer.body, answer.header("B")) == (202, b"f", "c")
    assert answer.header("x-ms-run-function-failed") is None
    assert ask(worker, make_post, "crash").header("x-ms-run-function-failed") == "True"
    streamed = ask(worker, make_post, "stream")
    assert (streamed.header("Transfer-Encoding"), streamed.body) == ("chunked", b"ab")
    assert streamed.header("Content-Type").startswith("text/event-stream")
    assert ask(worker, make_post, "ours").status == 203


def test_other_azureml_modules_are_as_absent_as_they_are(start: Any) -> None:
    report = start("import azureml.core\ndef init(): pass\ndef run(d): pass\n").failed()
    assert report["kind"] == "import_error"
    assert "azureml.core" in report["message"]


def test_a_script_that_does_not_ask_for_it_gets_text(start: Any) -> None:
    script = """
        from azureml.contrib.services.aml_response import AMLResponse
        def init(): pass
        def run(data): return AMLResponse({"got": data}, 418, json_str=True)
    """
    answer = start(script).ready().score(b"x")
    assert (answer.status, json.loads(answer.body)) == (418, {"got": "x"})
