"""Settings around scoring: CORS, config files, `logging.json`, the debugger, App Insights, other results."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from moorings_server.cors import Cors

ECHO = "def init(): pass\ndef run(data): return data\n"


def cors_headers(answer: Any) -> dict[str, str]:
    return {n: v for n, v in answer.headers if n.startswith("Access-Control") or n == "Vary"}


@pytest.fixture(scope="module")
def paged(start_module: Any) -> Any:
    return start_module(ECHO, AML_CORS_ORIGINS="http://a.com, https://b.com:8080").ready()


@pytest.mark.parametrize("target", ["/score", "/", "/swagger.json", "/nothing"])
def test_a_page_that_is_named_may_read(paged: Any, make_post: Any, target: str) -> None:
    method = "POST" if target == "/score" else "GET"
    answer = paged.ask(make_post(b"", "Origin: https://b.com:8080", target=target, method=method))
    assert cors_headers(answer) == {"Access-Control-Allow-Origin": "https://b.com:8080", "Vary": "Origin"}


@pytest.mark.parametrize("origin", ["http://c.com", "https://a.com", "http://a.com.evil.org", "null", "*"])
def test_a_page_that_is_not_named_gets_its_answer_only(paged: Any, origin: str) -> None:
    answer = paged.score(b"x", f"Origin: {origin}")
    assert (answer.status, answer.json) == (200, "x")
    assert "Access-Control-Allow-Origin" not in cors_headers(answer)


def test_a_preflight(paged: Any, make_post: Any) -> None:
    lines = (
        "Origin: http://a.com",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: x-a, b",
    )
    answer = paged.ask(make_post(b"", *lines, method="OPTIONS"))
    assert (answer.status, answer.body) == (200, b"")
    assert cors_headers(answer) == {
        "Access-Control-Allow-Origin": "http://a.com",
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": "x-a, b",
        "Vary": "Origin",
    }


def test_without_the_setting_there_are_no_such_lines(start: Any) -> None:
    assert cors_headers(start(ECHO).ready().score(b"x", "Origin: http://a.com")) == {}


def test_cors_lines() -> None:
    assert Cors("*").lines(b"http://x", b"POST", b"", b"") == b"Access-Control-Allow-Origin: *\r\n"
    assert (
        Cors("http://A.com")
        .lines(b"http://a.COM", b"POST", b"", b"")
        .startswith(b"Access-Control-Allow-Origin: http://A.com\r\n")
    )
    assert b"Methods" not in Cors("*").lines(b"http://x", b"OPTIONS", b"DELETE", b"")
    assert b"evil" not in Cors("*").lines(b"http://x", b"OPTIONS", b"POST", b"a\r\nevil: b")


def test_keys_of_a_config_file_that_mean_nothing_are_named(start: Any) -> None:
    content = json.dumps({"SERVICE_NAME": "n", "AML_CORS_ORIGINS": "*", "model_type": "bert"})
    worker = start(ECHO, files={"config.json": content}).ready()
    assert "they are ignored: AML_CORS_ORIGINS, model_type" in worker.log
    assert cors_headers(worker.score(b"x", "Origin: http://a.com")) == {}


def test_the_app_roots_config_file_comes_before_the_scripts(start: Any) -> None:
    script = "import os\ndef init(): pass\ndef run(data): return [os.environ.get(n) for n in ('SERVICE_NAME', 'HOSTNAME')]\n"
    worker = start(
        None,
        files={
            "src/score.py": script,
            "src/config.json": '{"SERVICE_NAME": "script", "HOSTNAME": "script"}',
            "config.json": '{"SERVICE_NAME": "root"}',
        },
        AZUREML_ENTRY_SCRIPT="src/score.py",
    ).ready()
    assert worker.score(b"").json == ["root", None]


def test_a_logging_json_replaces_the_set_up(start: Any) -> None:
    config = {
        "version": 1,
        "formatters": {"f": {"format": "MINE %(name)s %(message)s"}},
        "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
        "root": {"handlers": ["h"], "level": "INFO"},
    }
    script = "import logging\ndef init(): logging.getLogger('mine').info('from the script')\ndef run(data): return data\n"
    worker = start(script, files={"logging.json": json.dumps(config)}).ready()
    worker.score(b"x")
    worker.wait_for_log("MINE azmlinfsrv POST /score 200")
    assert "MINE mine from the script" in worker.log


def test_a_debugger_that_is_not_installed(start: Any) -> None:
    worker = start(ECHO, AZUREML_DEBUG_PORT="5678")
    report = worker.failed()
    assert (report["kind"], report["missing"]) == ("bad_settings", "debugpy")
    assert "debugpy is not installed" in worker.log


DEBUGPY = """
    import socket
    def connect(address):
        socket.create_connection(address, 5).close()
        print("debugger connected")
    def wait_for_client():
        print("debugger attached")
"""


def test_a_debugger_is_connected_to_before_the_script_is_loaded(start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        worker = start(
            "print('the script')\n" + ECHO,
            files={"debugpy.py": DEBUGPY},
            AZUREML_DEBUG_PORT=port,
            PYTHONPATH=_path(),
        )
        worker.ready()
    log = worker.log
    assert log.index("debugger connected") < log.index("debugger attached") < log.index("the script")


def _path() -> str:
    from pathlib import Path

    return str(Path(__file__).resolve().parents[1] / "src") + ":."


def test_a_debugger_that_does_not_listen(start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    report = start(ECHO, files={"debugpy.py": DEBUGPY}, AZUREML_DEBUG_PORT=port, PYTHONPATH=_path()).failed()
    assert report["kind"] == "bad_settings"
    assert port in report["message"]


def test_app_insights_is_accepted_and_said_to_do_nothing(start: Any) -> None:
    worker = start(ECHO, AML_APP_INSIGHTS_ENABLED="true", AML_APP_INSIGHTS_KEY="no-uuid").ready()
    assert "exports nothing to Application Insights" in worker.log
    assert worker.score(b"x").json == "x"
    assert "Insights" not in start(ECHO).ready().log


@pytest.mark.parametrize(
    ("expression", "kind", "body"),
    [
        ("b'\\x00\\xff'", "application/octet-stream", b"\x00\xff"),
        ("bytearray(b'ab')", "application/octet-stream", b"ab"),
        ("np.array([[1, 2], [3, 4]])", "application/json", b"[[1, 2], [3, 4]]"),
        ("np.float32(0.5)", "application/json", b"0.5"),
        ("{'a': np.int64(3), 'b': [np.array([True])]}", "application/json", b'{"a": 3, "b": [[true]]}'),
        ("np.array([float('nan')])", "application/json", b"[NaN]"),
    ],
)
def test_results_beyond_json(
    start_module: Any, expression: str, kind: str, body: bytes, request: pytest.FixtureRequest
) -> None:
    worker = start_module(
        f"import numpy as np\ndef init(): pass\ndef run(data): return {expression}\n"
    ).ready()
    answer = worker.score(b"")
    assert (answer.status, answer.header("Content-Type"), answer.body) == (200, kind, body)
    worker.close()


@pytest.mark.parametrize("expression", ["{1}", "object()", "{'a': b'x'}", "[1, {2}]", "1j", "loop"])
def test_results_without_json_are_an_internal_error(start: Any, expression: str) -> None:
    script = f"loop = []\nloop.append(loop)\ndef init(): pass\ndef run(data): return {expression}\n"
    answer = start(script).ready().score(b"")
    assert (answer.status, answer.header("x-ms-run-function-failed")) == (500, "False")
    assert "internal error" in answer.json["message"]
