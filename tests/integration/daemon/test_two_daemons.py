"""Two control processes of one workspace with its state in a real PostgreSQL: one leads, the other reads and takes over."""

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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from moorings.client.daemon_control import stop
from moorings.controller.leadership import TERM_S
from moorings.lib.processes import scan, send
from moorings.settings import Settings

PATIENCE_S = 60.0
# A connection that is refused because the daemon was killed leaves a socket to the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Pair:
    """One workspace folder, and the control processes of it by name."""

    def __init__(self, base: Path, postgres: Any) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.base, self.home, self.url = base, base / "home", postgres.new_url()
        self.postgres = postgres
        keep = {k: v for k, v in os.environ.items() if not k.startswith("MOORINGS_")}
        self.env = {
            **keep,
            "MOORINGS_HOME": str(self.home),
            "MOORINGS_GATEWAY_PORT": str(port),
            "MOORINGS_ROLE": "daemon",
            "MOORINGS_STATE_URL": self.url,
        }
        self.settings = Settings.load(self.env)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with (self.base / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "moorings.daemon"],
                env={**self.env, "MOORINGS_DAEMON": name},
                stdout=log,
                stderr=log,
            )
        self.eventually(lambda: self.facts(name) is not None, f"{name} to answer")

    def own_socket(self, name: str) -> Path:
        return Settings.load({**self.env, "MOORINGS_DAEMON": name}).own_socket

    def ask(
        self, path: Path, method: str, url: str, body: Any = None, timeout_s: float = 30
    ) -> httpx.Response | None:
        """None: nobody answers there."""
        transport = httpx.HTTPTransport(uds=str(path))
        where = f"http://local{self.settings.workspace.path}{url}"
        try:
            with httpx.Client(transport=transport, timeout=timeout_s) as client:
                return client.request(method, where, json=body)
        except httpx.TransportError:
            return None

    def facts(self, name: str | None) -> dict[str, Any] | None:
        """Of that daemon; None: of whoever leads."""
        path = self.settings.api_socket if name is None else self.own_socket(name)
        answer = self.ask(path, "GET", "", timeout_s=1)
        if answer is None or answer.status_code != 200:
            return None
        return dict(answer.json()["properties"]["moorings"])

    def leader(self) -> str | None:
        found = self.facts(None)
        return None if found is None else str(found["leader"])

    def put(self, name: str) -> httpx.Response | None:
        return self.ask(self.settings.api_socket, "PUT", f"/onlineEndpoints/{name}", {"properties": {}})

    def names(self, path: Path | None = None) -> set[str]:
        answer = self.ask(path or self.settings.api_socket, "GET", "/onlineEndpoints")
        assert answer is not None
        return {each["name"] for each in answer.json()["value"]}

    def log(self, name: str) -> str:
        return (self.base / f"{name}.log").read_text()

    def taken_over(self, name: str) -> None:
        began = time.monotonic()
        self.eventually(lambda: self.leader() == name, f"{name} to lead")
        print(f"{name} leads after {time.monotonic() - began:.1f} s (term {TERM_S:g} s)")

    def signal(self, name: str, signum: signal.Signals) -> None:
        self.processes[name].send_signal(signum)
        if signum in (signal.SIGKILL, signal.SIGTERM):
            self.processes[name].wait(PATIENCE_S)

    def eventually(self, check: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not check():
            for name, process in self.processes.items():
                log = (self.base / f"{name}.log").read_text()[-3000:]
                assert process.poll() in (None, -9, 0), log
            assert time.monotonic() < deadline, f"waited for {what}"
            time.sleep(0.05)

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait(PATIENCE_S)
        stop(self.settings, lambda _: None)
        for left in scan(self.home):
            send(left, signal.SIGKILL)


def accepted(answer: httpx.Response | None) -> bool:
    return answer is not None and answer.status_code == 201


@pytest.fixture
def pair(postgres: Any) -> Iterator[Pair]:
    base = Path(tempfile.mkdtemp(prefix="moor-pair-"))
    made = Pair(base, postgres)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(base, ignore_errors=True)


def test_the_second_reads_refuses_to_write_and_takes_over(pair: Pair) -> None:
    """After a kill, after a freeze, and at once where the lead is given away."""
    pair.start("first")
    pair.eventually(lambda: pair.leader() == "first", "the first to lead")
    assert accepted(pair.put("kept"))
    pair.start("second")
    standby = pair.own_socket("second")
    assert pair.names(standby) == {"kept"}
    facts = pair.facts("second")
    assert facts is not None and facts["leader"] == "first"
    refused = pair.ask(standby, "PUT", "/onlineEndpoints/never", {"properties": {}})
    assert refused is not None and (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"]["code"] == "NotLeader" and "first" in refused.json()["error"]["message"]

    pair.signal("first", signal.SIGKILL)
    pair.taken_over("second")
    assert pair.names() == {"kept"} and accepted(pair.put("after-kill"))
    pair.start("first")
    pair.signal("second", signal.SIGSTOP)
    pair.taken_over("first")
    assert accepted(pair.put("after-freeze"))
    with pair.postgres.connect(pair.url) as connection:
        assert connection.execute("SELECT holder, token FROM leases").fetchall() == [("first", 3)]
    pair.signal("second", signal.SIGCONT)

    def follows() -> bool:
        facts = pair.facts("second")
        return facts is not None and facts["leader"] == "first"

    pair.eventually(follows, "the second to follow")
    pair.eventually(lambda: "another daemon leads" in pair.log("second"), "the second to begin anew")
    pair.eventually(follows, "the second to follow again")
    assert pair.leader() == "first" and accepted(pair.put("later"))
    pair.signal("first", signal.SIGTERM)
    pair.taken_over("second")
    assert pair.names() == {"kept", "after-kill", "after-freeze", "later"}
    assert pair.postgres.password not in "".join(pair.log(name) for name in pair.processes)


def test_what_was_acknowledged_is_there_after_kills_and_another_database_is_refused(pair: Pair) -> None:
    acknowledged: set[str] = set()
    for n in range(2):
        pair.start("first")
        pair.eventually(lambda: pair.leader() == "first", "it to lead")  # at once: the name is its own
        assert pair.names() == acknowledged
        assert accepted(pair.put(f"kept-{n}"))
        pair.signal("first", signal.SIGKILL)
        acknowledged.add(f"kept-{n}")
    environments = [
        Path(f"/proc/{p.pid}/environ").read_bytes() for p in scan(pair.home) if p.role != "daemon"
    ]
    assert environments and not any(b"MOORINGS_STATE_URL" in each for each in environments)

    for home, url in (
        (pair.base / "other", pair.url),
        (pair.home, ""),
        (pair.home, pair.postgres.new_url()),  # empty: all that runs would be ended
    ):
        done = subprocess.run(
            [sys.executable, "-m", "moorings.daemon"],
            env={**pair.env, "MOORINGS_HOME": str(home), "MOORINGS_STATE_URL": url, "MOORINGS_DAEMON": "x"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 5 and "(StateElsewhere)" in done.stderr, done.stderr
        assert pair.postgres.password not in done.stderr and "Traceback" not in done.stderr


def test_the_command_line_starts_a_standby(pair: Pair) -> None:
    moor = Path(sys.executable).parent / "moor"

    def run(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        given = {**pair.env, **env}
        return subprocess.run(
            [str(moor), *argv], env=given, capture_output=True, text=True, timeout=120, check=False
        )

    with contextlib.closing(pair):
        done = run("workspace", "start", "--standby", "spare")
        assert done.returncode == 0, done.stderr
        assert pair.leader() == "first"
        facts = pair.facts("spare")
        assert facts is not None and facts["leader"] == "first"
        status = json.loads(run("workspace", "status", "-o", "json").stdout)
        assert sum(p["role"] == "daemon" for p in status["processes"]) == 2
        assert "***" not in status["facts"]["state"] and pair.postgres.password not in json.dumps(status)
        refused = run("workspace", "start", "--standby", "No Name")
        assert refused.returncode != 0 and "SettingsInvalid" in refused.stderr
        ended = run("workspace", "stop")
        assert ended.returncode == 0 and pair.facts("spare") is None
