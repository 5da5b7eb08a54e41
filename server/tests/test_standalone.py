"""The command line: a parent, its workers on one TCP port, and what people are told."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moorings_server.parent import restart_delay_s

SOURCES = Path(__file__).resolve().parents[1] / "src"
PIDS = """
import os
def init(): pass
def run(data):
    if data == "die": os._exit(9)
    return [os.getpid(), os.environ.get("AZUREML_MODEL_DIR")]
"""


class Standalone:
    def __init__(self, folder: Path, arguments: tuple[str, ...], environ: dict[str, str]) -> None:
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moorings_server", *arguments],
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(SOURCES),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    **environ,
                },
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, text: str, times: int = 1) -> str:
        deadline = time.monotonic() + 20
        while self.text.count(text) < times:
            assert time.monotonic() < deadline, self.text
            time.sleep(0.01)
        return self.text

    @property
    def port(self) -> int:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/score", self.wait_for("/score\n"))
        assert found is not None
        return int(found[1])

    def score(self, body: str) -> bytes:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request("POST", "/score", body)
            return connection.getresponse().read()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Standalone]]:
    running: list[Standalone] = []

    def begin(*arguments: str, script: str = PIDS, **environ: str) -> Standalone:
        (tmp_path / "score.py").write_text(script)
        running.append(Standalone(tmp_path, arguments, environ))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.process.terminate()
            try:
                one.process.wait(15)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()


@pytest.mark.parametrize("spelling", ["--entry-script", "--entry_script"])
def test_it_serves(serve: Any, tmp_path: Path, spelling: str) -> None:
    (tmp_path / "m").mkdir()
    server = serve(spelling, "score.py", "--model-dir", "m", "--port", "0")
    server.wait_for("ready for serving traffic")
    assert str(tmp_path / "m").encode() in server.score("x")
    text = server.text
    assert f"http://127.0.0.1:{server.port}/swagger.json" in text
    assert "AZUREML_ENTRY_SCRIPT: score.py" in text
    server.process.terminate()
    assert server.process.wait(10) == 0


def test_workers_share_the_port_and_crashed_ones_come_back(serve: Any) -> None:
    server = serve("--entry-script", "score.py", "--port", "0", "--worker-count", "2")
    server.wait_for("ready for serving traffic", 2)
    pids = set(re.findall(r"Worker with pid (\d+) ready", server.text))
    assert len(pids) == 2
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        server.score("die")
    server.wait_for("exited with code 9; it is started again in 0.5 s")
    server.wait_for("ready for serving traffic", 3)
    assert server.score("x")
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(10) == 0
    for pid in re.findall(r"Worker with pid (\d+) ready", server.text):
        assert not os.path.exists(f"/proc/{pid}")


def test_a_worker_that_cannot_boot_ends_everything(serve: Any) -> None:
    server = serve(
        "--entry-script", "score.py", "--port", "0", "--worker-count", "2", script="import absent_module"
    )
    assert server.process.wait(20) == 3
    assert "No module named 'absent_module'" in server.text
    assert "failed to boot" in server.text


def test_the_port_opens_when_init_is_done(serve: Any) -> None:
    server = serve(
        "--entry-script",
        "score.py",
        "--port",
        "0",
        script="import time\ndef init(): time.sleep(0.7)\ndef run(d): return 1\n",
    )
    port = server.port
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 5):
        pass
    server.wait_for("ready for serving traffic")
    assert server.score("x") == b"1"


def test_a_port_that_is_taken(serve: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve("--entry-script", "score.py", "--port", str(port))
        assert server.process.wait(10) == 1
        assert f"cannot listen on 127.0.0.1 port {port}" in server.text
        assert "--port" in server.text
        assert "Traceback" not in server.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--entry-script"),
        (("--entry-script", "absent.py"), "absent.py does not exist"),
        (("--entry-script", "score.py", "--model-dir", "absent"), "absent does not exist"),
        (("--entry-script", "score.py", "--port", "many"), "--port"),
        (("--entry-script", "score.py", "--port", "70000"), "--port"),
        (("--entry-script", "score.py", "--worker-count", "-1"), "workers"),
        (("--nonsense",), "nonsense"),
    ],
)
def test_wrong_arguments(serve: Any, arguments: tuple[str, ...], said: str) -> None:
    server = serve(*arguments)
    assert server.process.wait(10) == 1
    assert said in server.text.splitlines()[-1]
    assert "usage: moorings-server" in server.text
    assert "Traceback" not in server.text


def test_help_shows_how_to_call(serve: Any) -> None:
    server = serve("--help")
    assert server.process.wait(10) == 0
    assert "moorings-server --entry-script score.py" in server.text
    assert "--listen-fd" not in server.text


def test_a_config_file_names_the_script(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(
        '{"AZUREML_ENTRY_SCRIPT": "score.py", "AZUREML_MODEL_DIR": "/from/file"}'
    )
    server = serve("--config-file", "c.json", "--port", "0")
    server.wait_for("ready for serving traffic")
    assert b"/from/file" in server.score("x")


PRELOADED = """
import os, json
made_by = 0
def init():
    global made_by
    made_by = os.getpid()
    print("init was called")
def run(data):
    if data == "die": os._exit(9)
    return [made_by, os.getpid(), os.environ.get("SERVER_PORT"), os.environ["MOORINGS_ROLE"]]
"""


def test_preload_calls_init_once_and_copies_the_process(serve: Any) -> None:
    arguments = ("--entry-script", "score.py", "--port", "0", "--worker-count", "2")
    server = serve(*arguments, script=PRELOADED, WORKER_PRELOAD="true")
    server.wait_for("ready for serving traffic", 2)
    made_by, pid, port, role = json.loads(server.score("x"))
    assert made_by == server.process.pid != pid
    assert port == str(server.port)
    assert role in ("worker-0", "worker-1")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        server.score("die")
    server.wait_for("exited with code 9; it is started again")
    server.wait_for("ready for serving traffic", 3)
    assert {json.loads(server.score("x"))[0] for _ in range(8)} == {made_by}
    assert server.text.count("init was called") == 1
    server.process.terminate()
    assert server.process.wait(10) == 0
    for pid_text in re.findall(r"Worker with pid (\d+) ready", server.text):
        assert not os.path.exists(f"/proc/{pid_text}")


def test_preload_of_a_script_that_fails(serve: Any) -> None:
    arguments = ("--entry-script", "score.py", "--port", "0")
    server = serve(*arguments, script="def init(): 1 / 0\ndef run(d): pass\n", WORKER_PRELOAD="true")
    assert server.process.wait(20) == 3
    assert "ZeroDivisionError" in server.text
    assert server.text.count("Encountered Exception") == 1


def test_a_second_port_for_probes(serve: Any) -> None:
    script = "import time, os\ndef init(): pass\ndef run(d): time.sleep(float(d)); return os.environ['HEALTH_PORT']\n"
    arguments = ("--entry-script", "score.py", "--port", "0", "--health-port", "0")
    server = serve(*arguments, script=script, SEPERATE_HEALTH_ENDPOINT="true")
    server.wait_for("ready for serving traffic")
    found = re.search(r"liveness: GET +http://127\.0\.0\.1:(\d+)/", server.text)
    assert found is not None
    health_port = int(found[1])
    assert health_port != server.port
    with contextlib.closing(socket.create_connection(("127.0.0.1", server.port), 20)) as busy:
        busy.sendall(b"POST /score HTTP/1.1\r\nContent-Length: 3\r\n\r\n1.5")
        time.sleep(0.3)
        began = time.monotonic()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", health_port, timeout=20)) as probe:
            probe.request("GET", "/")
            assert probe.getresponse().read() == b"Healthy"
        assert time.monotonic() - began < 1.0  # run() is still busy
        assert str(health_port).encode() in busy.recv(4096)


def test_without_the_setting_there_is_one_port(serve: Any) -> None:
    server = serve("--entry-script", "score.py", "--port", "0", "--health-port", "0")
    assert f"liveness: GET   http://127.0.0.1:{server.port}/" in server.wait_for("ready for serving traffic")


def test_a_worker_that_is_stuck_is_replaced(serve: Any) -> None:
    script = "import time\ndef init(): pass\ndef run(d): time.sleep(float(d)); return 1\n"
    server = serve("--entry-script", "score.py", "--port", "0", script=script, WORKER_TIMEOUT="1")
    server.wait_for("ready for serving traffic")
    assert b"Worker timeout after 1 s" in server.score("30")
    server.wait_for("exited with code 6; it is started again")
    server.wait_for("ready for serving traffic", 2)
    assert server.score("0") == b"1"


def test_flags_of_the_page_and_telemetry_settings(serve: Any) -> None:
    server = serve(
        "--entry-script",
        "score.py",
        "--port",
        "0",
        "--access_control_allow_origins",
        "http://a.com",
        "--appinsights_instrumentation_key",
        "k",
    )
    server.wait_for("exports nothing to Application Insights")
    server.wait_for("ready for serving traffic")
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", "/", headers={"Origin": "http://a.com"})
        answer = connection.getresponse()
        assert answer.getheader("Access-Control-Allow-Origin") == "http://a.com"


def test_restarts_are_spaced_out() -> None:
    delays = [restart_delay_s(crashes) for crashes in range(1, 200)]
    assert delays == sorted(delays)
    assert delays[0] < delays[1] < delays[-1] <= 30
