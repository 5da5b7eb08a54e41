"""What the tests share: a real worker process around a script, and a client that shows the bytes of HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("moorings", deadline=None)  # a busy machine is no failure of a test
settings.load_profile("moorings")

SOURCES = Path(__file__).resolve().parents[1] / "src"


class Response:
    """One parsed answer; `headers` keeps order and case."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) <= 1, f"{name} is sent {len(found)} times"
        return found[0] if found else None

    @property
    def json(self) -> object:
        return json.loads(self.body)


class Wire:
    """A blocking connection that sends bytes and reads one answer at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._left = b""

    def send(self, data: bytes) -> Wire:
        self.sock.sendall(data)
        return self

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(self._left)
        self._left += data

    def read(self, *, head_only: bool = False) -> Response:
        while b"\r\n\r\n" not in self._left:
            self._more()
        head, _, self._left = self._left.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = [(line.split(": ", 1)[0], line.split(": ", 1)[1]) for line in lines]
        status = int(first.split(" ")[1])
        named = {name.lower(): value for name, value in headers}
        if named.get("transfer-encoding") == "chunked" and not head_only:
            return Response(status, headers, b"".join(iter(self.read_chunk, b"")))
        length = 0 if head_only or status in (100, 204, 304) else int(named["content-length"])
        while len(self._left) < length:
            self._more()
        body, self._left = self._left[:length], self._left[length:]
        return Response(status, headers, body)

    def read_head(self) -> str:
        """The head of an answer whose body is read in chunks."""
        while b"\r\n\r\n" not in self._left:
            self._more()
        head, _, self._left = self._left.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    def read_chunk(self) -> bytes:
        """The next chunk of a chunked body; b"" is its end. Raises EOFError when the body breaks off."""
        while b"\r\n" not in self._left:
            self._more()
        size, _, self._left = self._left.partition(b"\r\n")
        length = int(size, 16)
        while len(self._left) < length + 2:
            self._more()
        part, self._left = self._left[:length], self._left[length + 2 :]
        return part

    def at_end(self) -> bool:
        """Wait for the server to close; False when it sends something instead."""
        try:
            return not self._left and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.sock.close()


def post(body: bytes = b"", *lines: str, target: str = "/score", method: str = "POST") -> bytes:
    head = [f"{method} {target} HTTP/1.1", "Host: test", *lines]
    if body or method == "POST":
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


class RunningWorker:
    """A `--worker` process. Its socket, log and report lie in one short-named folder."""

    def __init__(
        self,
        folder: Path,
        script: str | None,
        environ: dict[str, str],
        python: str,
        files: dict[str, str | bytes],
    ) -> None:
        self.folder = folder
        self.app = folder / "app"
        self.app.mkdir()
        if script is not None:
            (self.app / "score.py").write_text(textwrap.dedent(script))
        for name, text in files.items():
            path = self.app / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        self.socket_path = folder / "w.sock"
        self.report_path = folder / "report.json"
        self.log_path = folder / "log"
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCES),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AML_APP_ROOT": str(self.app),
            "AZUREML_ENTRY_SCRIPT": "score.py",
            "MOORINGS_SOCKET": str(self.socket_path),
            "MOORINGS_BOOT_REPORT": str(self.report_path),
            "MOORINGS_DRAIN_S": "10",
            **environ,
        }
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [python, "-m", "moorings_server", "--worker"],
                env={key: value for key, value in variables.items() if value != ""},
                cwd=self.app,
                stdout=log,
                stderr=log,
            )
        self._open: list[Wire] = []

    def ready(self) -> RunningWorker:
        deadline = time.monotonic() + 20
        while not self.report_path.exists():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)
        assert self.report["outcome"] == "ready", self.log
        return self

    def failed(self) -> dict[str, object]:
        """Wait for a failed boot; the report."""
        assert self.process.wait(20) == 3, self.log
        assert not self.socket_path.exists()
        return self.report

    @property
    def report(self) -> dict[str, object]:
        found = json.loads(self.report_path.read_bytes())
        assert isinstance(found, dict)
        return found

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, text: str, seconds: float = 10) -> str:
        deadline = time.monotonic() + seconds
        while text not in self.log:
            assert time.monotonic() < deadline, f"{text!r} is not in the log:\n{self.log}"
            time.sleep(0.01)
        return self.log

    def connect(self) -> Wire:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(str(self.socket_path))
        wire = Wire(sock)
        self._open.append(wire)
        return wire

    def ask(self, request: bytes) -> Response:
        """One request on a connection of its own."""
        wire = self.connect().send(request)
        answer = wire.read(head_only=request.startswith(b"HEAD"))
        wire.close()
        return answer

    def score(self, body: bytes = b"", *lines: str) -> Response:
        return self.ask(post(body, *lines))

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        for wire in self._open:
            wire.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def _starter() -> Iterator[Callable[..., RunningWorker]]:
    with contextlib.ExitStack() as stack:

        def begin(
            script: str | None,
            *,
            python: str = sys.executable,
            files: dict[str, str | bytes] | None = None,
            **environ: str,
        ) -> RunningWorker:
            folder = tempfile.mkdtemp(prefix="ms-")
            stack.callback(shutil.rmtree, folder)
            worker = RunningWorker(Path(folder), script, environ, python, files or {})
            stack.callback(worker.close)
            return worker

        yield begin


@pytest.fixture
def start() -> Iterator[Callable[..., RunningWorker]]:
    """`start(script, files={}, NAME="value", ...)` starts a worker; it is ended with the test."""
    yield from _starter()


@pytest.fixture(scope="module")
def start_module() -> Iterator[Callable[..., RunningWorker]]:
    """Like `start`, for workers that serve all tests of a module."""
    yield from _starter()


@pytest.fixture(scope="session")
def make_post() -> Callable[..., bytes]:
    """`make_post(body, *header lines, target=, method=)`: the bytes of a request."""
    return post
