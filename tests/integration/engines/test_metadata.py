"""The metadata endpoint of an instance, with a daemon that answers, refuses, hangs, dies or is not there."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moorings.engines import metadata
from moorings.engines.metadata import Connection, Metadata


class Daemon:
    """A unix socket that answers each line with what `says` makes of it; None: closes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.says: Callable[[dict[str, Any]], bytes | None] = lambda _: None
        self.asked: list[dict[str, Any]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                wish = json.loads(client.makefile().readline())
                self.asked.append(wish)
                answer = self.says(wish)
                if answer is not None:
                    client.sendall(answer)

    def end(self) -> None:
        with contextlib.suppress(OSError):  # ended before
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink(missing_ok=True)


def token(wish: dict[str, Any], *, lives_s: float = 3600, fresh_s: float = 1800) -> bytes:
    now = time.time()
    body = {"access_token": f"for {wish['resource']}", "expires_on": str(int(now + lives_s))}
    body |= {"refresh_on": str(int(now + fresh_s)), "resource": wish["resource"], "token_type": "Bearer"}
    return json.dumps({"token": body}).encode() + b"\n"


class Served:
    def __init__(self, folder: Path) -> None:
        self.daemon = Daemon(folder / "d.sock")
        selector = selectors.DefaultSelector()
        identity = {"socket": str(self.daemon.path), "credential": "sealed"}
        self.metadata = Metadata(selector, {**identity, "client_id": "client", "principal_id": "principal"})
        self._selector = selector
        self._going = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._going:
            for key, _ in self._selector.select(0.01):
                if isinstance(key.data, Metadata | Connection):
                    key.data.step()
            self.metadata.expire(time.monotonic())

    def ask(
        self, query: str = "resource=r", header: str | None = None, path: str = ""
    ) -> tuple[int, dict[str, Any]]:
        url = self.metadata.variables()["IDENTITY_ENDPOINT"] + path + "?" + query
        shown = self.metadata.header if header is None else header
        request = urllib.request.Request(url, headers={"X-IDENTITY-HEADER": shown})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as problem:
            with problem:
                return problem.code, json.loads(problem.read())

    def end(self) -> None:
        self._going = False
        self._thread.join()
        self.metadata.close()
        self._selector.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.end()
    made.daemon.end()


def test_a_token_is_asked_for_once_and_kept(served: Served) -> None:
    served.daemon.says = token
    assert served.ask()[1]["access_token"] == "for r"
    assert served.ask()[1]["access_token"] == "for r"
    assert served.ask("resource=other")[1]["access_token"] == "for other"
    assert served.daemon.asked == [
        {"credential": "sealed", "resource": "r"},
        {"credential": "sealed", "resource": "other"},
    ]


def test_a_token_of_before_is_given_while_the_daemon_is_away_but_not_past_its_end(served: Served) -> None:
    served.daemon.says = lambda wish: token(wish, fresh_s=0)
    assert served.ask()[0] == 200
    served.daemon.says = lambda _: None
    assert served.ask()[1]["access_token"] == "for r"
    served.daemon.end()
    assert served.ask()[1]["access_token"] == "for r"
    served.metadata.kept["r"]["expires_on"] = str(time.time() + metadata.SPARE_S - 1)
    status, body = served.ask()
    assert status == 503
    assert "moor workspace start" in body["message"]


@pytest.mark.parametrize("said", [b"", b"nonsense\n", b"{}\n", b"[1]\n", b'{"token": '])
def test_a_daemon_that_says_nothing_of_use_is_as_one_that_is_away(served: Served, said: bytes) -> None:
    served.daemon.says = lambda _: said
    assert served.ask()[0] == 503


def test_a_refusal_is_passed_on_and_what_was_kept_is_forgotten(served: Served) -> None:
    served.daemon.says = lambda wish: token(wish, fresh_s=0)
    served.ask()
    served.daemon.says = lambda _: b'{"error": "the identity is no longer there"}\n'
    status, body = served.ask()
    assert (status, body["message"]) == (400, "the identity is no longer there")
    served.daemon.says = lambda _: None
    assert served.ask()[0] == 503


def test_a_daemon_that_hangs_is_not_waited_for_long(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "PATIENCE_S", 0.2)
    going_on = threading.Event()

    def hang(_wish: dict[str, Any]) -> None:
        going_on.wait(30)

    served.daemon.says = hang
    try:
        assert served.ask()[0] == 503
    finally:
        going_on.set()


@pytest.mark.parametrize(
    ("query", "header", "path", "status"),
    [
        ("resource=r", "wrong", "", 401),
        ("resource=r", "", "", 401),
        ("", None, "", 400),
        ("resource=r&client_id=other", None, "", 400),
        ("resource=r&client_id=client", None, "", 200),
        ("resource=r&principal_id=principal", None, "", 200),
        ("resource=r", None, "/x", 404),
    ],
)
def test_what_is_asked_wrongly(
    served: Served, query: str, header: str | None, path: str, status: int
) -> None:
    served.daemon.says = token
    assert served.ask(query, header, path)[0] == status
    assert bool(served.daemon.asked) == (status == 200)


@pytest.mark.parametrize(
    "line",
    [
        b"GET //[ HTTP/1.1",
        b"GET http://[::1 HTTP/1.1",
        b"GET /msi/token?resource=%ff&x=%5b HTTP/1.1",
        b"GET \xff\xfe HTTP/1.1",
        b"GET / / / HTTP/1.1",
        b"",
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_the_next_one_answered(
    served: Served, line: bytes
) -> None:
    """The one thread that serves it is the instance's supervisor: what ended it would end the instance."""
    served.daemon.says = token
    with socket.create_connection(address_of(served)) as client:
        client.settimeout(30)
        client.sendall(line + b"\r\nx-identity-header: \xff\r\n\r\n")
        assert client.recv(100).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 ", b"HTTP/1.1 404 "))
    assert served.ask()[0] == 200


def test_whoever_only_holds_connections_keeps_nobody_else_out(served: Served) -> None:
    served.daemon.says = token
    idle = [socket.create_connection(address_of(served)) for _ in range(metadata.MOST_CONNECTIONS + 8)]
    try:
        assert served.ask()[0] == 200
    finally:
        for each in idle:
            each.close()


def address_of(served: Served) -> tuple[str, int]:
    url = served.metadata.variables()["IDENTITY_ENDPOINT"]
    return "127.0.0.1", int(url.split(":")[2].split("/")[0])


def test_floods_and_half_requests_do_not_disturb(served: Served) -> None:
    served.daemon.says = token
    address = address_of(served)
    idle = [socket.create_connection(address) for _ in range(metadata.MOST_CONNECTIONS // 2)]
    with socket.create_connection(address) as big:
        big.sendall(b"GET /msi/token HTTP/1.1\r\nx: " + b"y" * (metadata.LONGEST_REQUEST + 10))
        big.settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            assert big.recv(10) == b""
    assert served.ask()[0] == 200
    for each in idle:
        each.close()
